"""What the training scripts share: arguments, the loop, clock, checkpoints without pickle, and a log of losses."""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import distributed, nn

from renoise import metrics

from .optimizer import Optimizer


def device(name: str | None = None) -> torch.device:
    """A GPU where there is one, the CPU otherwise."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def to_tensor(images: np.ndarray, where: torch.device) -> torch.Tensor:
    """uint8 (N, H, W, 3) -> float32 in [-1, 1], (N, 3, H, W) in channels-last memory (several times faster in bfloat16)."""
    pixels = torch.tensor(images).to(where)
    return pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last).div(127.5).sub(1)


def psnr(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """PSNR of each picture in dB; inputs in [-1, 1]. With a mask (N, 1, H, W) only its pixels count."""
    return metrics.psnr(a.clamp(-1, 1) / 2, b / 2, mask)


def arguments(p: argparse.ArgumentParser, *, minutes: float, batch: int, rate: float) -> None:
    """The arguments of every training script, with its own defaults."""
    p.add_argument("--data", type=Path, required=True, help="the data folder (only read)")
    p.add_argument("--out", type=Path, default=Path("runs"), help="for scenes, latents, checkpoints and logs")
    p.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="sets of scenes (training.data)")
    p.add_argument("--minutes", type=float, default=minutes)
    p.add_argument("--steps", type=int, help="train for so many steps instead of minutes")
    p.add_argument("--batch", type=int, default=batch, help="in each process")
    p.add_argument("--rate", type=float, default=rate)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device")
    p.add_argument("--threads", type=int)
    p.add_argument("--ranks", type=int, default=1, help="processes that train together (give each --threads 1)")
    p.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    p.add_argument("--meeting", type=Path, help=argparse.SUPPRESS)


def begin(args: argparse.Namespace) -> torch.device:
    """Seed torch, set its threads, and choose the device."""
    torch.manual_seed(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)
    return device(args.device)


def fit(
    args: argparse.Namespace,
    name: str,
    modules: dict[str, nn.Module],
    optimizer: Optimizer,
    loss_of: "Callable[[np.random.Generator, Clock], torch.Tensor]",
    *,
    every: int,
    warmup: int = 50,
    hold: float = 0.0,
    period: float = 8.0,
    after: Callable[[int], None] = lambda step: None,
    extra: Callable[[], dict[str, float]] = dict,
) -> bool:
    """Train until the clock runs out, from the last checkpoint on; True for the process that holds the result.

    `loss_of` draws a batch, computes the gradients and gives the loss, detached. `every` so many steps the mean loss and what
    `extra` measures go to `out/name.jsonl`; the checkpoint of `modules` is `out/name`. `after` is called with the number of
    steps made.
    """
    clock, log = Clock(args.minutes, args.steps), Log(args.out / f"{name}.jsonl")
    checkpoint = Checkpoint(args.out / name, modules, optimizer, clock)
    checkpoint.load()
    seen, peers = checkpoint.note.get("seen", 0), Peers(args, period)
    rng = np.random.default_rng([args.seed, clock.step, peers.rank])
    torch.manual_seed(args.seed + 1000 * clock.step + peers.rank)
    total, saved, over = 0.0, time.time(), clock.progress >= 1
    while not over:
        loss = loss_of(rng, clock)
        optimizer.step(clock.rate(warmup, hold))
        clock.step += 1
        over = peers.meet(optimizer.parameters, clock.progress >= 1 or clock.stopped)
        after(clock.step)
        total = total + loss
        if peers.rank:
            continue
        images = seen + peers.total * args.batch
        if clock.step % every == 0:
            log(step=clock.step, images=images, minutes=clock.elapsed / 60, loss=float(total) / every, **extra())
            total = 0.0
        if time.time() - saved > 240 or over:
            checkpoint.save(seen=images)
            saved = time.time()
    return peers.rank == 0


class Clock:
    """Share of the planned training time that has passed, counting earlier runs: schedules follow it, not the steps.

    A machine's speed is not known beforehand (and may change under way), the time one has usually is. `steps`, where
    given, replaces the time, which makes a run repeatable to the batch.
    """

    def __init__(self, minutes: float, steps: int | None = None) -> None:
        self.seconds, self.steps, self.before, self.start, self.step = minutes * 60, steps, 0.0, time.time(), 0
        self.stopped = False  # by SIGTERM: the loop then saves and ends, to be taken up again later
        signal.signal(signal.SIGTERM, self._stop)

    def _stop(self, *_: object) -> None:
        self.stopped = True

    @property
    def elapsed(self) -> float:
        return self.before + time.time() - self.start

    @property
    def progress(self) -> float:
        return min(1.0, self.step / self.steps if self.steps else self.elapsed / self.seconds)

    def rate(self, warmup: int = 200, hold: float = 0.0) -> float:
        """Learning rate factor: linear warm-up, then level for the `hold` share, then a cosine to nothing."""
        p = max(0.0, (self.progress - hold) / (1 - hold))
        return min(1.0, (self.step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * p))


class Peers:
    """Several one-thread processes that train the same weights and average them every few seconds.

    On a few CPU cores that others use too this beats one process with several threads: threads wait for one another at
    every operation, so any load on one core stalls them all. Processes only wait at a meeting, which the wall clock calls,
    and each counts for the steps it has made since the last. Each keeps its own optimiser state.
    """

    def __init__(self, args: argparse.Namespace, period: float) -> None:
        self.ranks, self.rank, self.period, self.done, self.total = args.ranks, args.rank or 0, period, 0, 0
        self.tick = int(time.time() / period)
        if self.ranks == 1:
            return
        meeting = args.meeting or args.out / f"meeting-{os.getpid()}"
        if args.rank is None:
            module = sys.modules["__main__"].__spec__.name
            for rank in range(1, self.ranks):
                extra = ["--rank", str(rank), "--meeting", str(meeting)]
                subprocess.Popen([sys.executable, "-m", module, *sys.argv[1:], *extra])
        where = f"file://{meeting.resolve()}"
        distributed.init_process_group("gloo", init_method=where, rank=self.rank, world_size=self.ranks)

    @torch.no_grad()
    def meet(self, parameters: list[torch.Tensor], over: bool) -> bool:
        """After every step: at a meeting average the weights in place; True for all as soon as one wants to end."""
        self.done += 1
        if self.ranks == 1:
            self.total += 1
            return over
        if int(time.time() / self.period) == self.tick:
            return False
        flat = torch.cat([p.detach().flatten() for p in parameters]) * self.done
        counts = torch.tensor([float(self.done), float(over)])
        distributed.all_reduce(counts)
        distributed.all_reduce(flat)
        flat /= counts[0]
        for p, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            p.copy_(part.view_as(p))
        self.total += int(counts[0])
        self.done, self.tick = 0, int(time.time() / self.period)
        return counts[1].item() > 0


class Checkpoint:
    """Weights, optimiser state and counters of a run as safetensors and JSON; written aside, then moved into place."""

    def __init__(self, folder: Path, modules: dict[str, nn.Module], optimizer: Optimizer, clock: Clock) -> None:
        self.folder, self.modules, self.optimizer, self.clock = folder, modules, optimizer, clock
        self.note: dict = {}
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, **extra: object) -> None:
        tensors = {f"{n}.{k}": v.contiguous() for n, m in self.modules.items() for k, v in m.state_dict().items()}
        tensors |= {f"optimizer.{k}": v for k, v in self.optimizer.state().items()}
        tensors = {k: v.detach().cpu().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
        save_file(tensors, self.folder / "state.part")
        note = {"step": self.clock.step, "elapsed": self.clock.elapsed, **extra}
        (self.folder / "state.json").write_text(json.dumps(note))
        os.replace(self.folder / "state.part", self.folder / "state.safetensors")

    def load(self) -> bool:
        """Take a former run up again; False where there is none."""
        if not (self.folder / "state.safetensors").exists():
            return False
        tensors = load_file(self.folder / "state.safetensors")
        for name, module in self.modules.items():
            prefix = name + "."
            module.load_state_dict({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
        prefix = "optimizer."
        self.optimizer.load_state({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
        self.note = json.loads((self.folder / "state.json").read_text())
        self.clock.step, self.clock.before = self.note["step"], self.note["elapsed"]
        return True


class Log:
    """One JSON line per entry, also printed."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path

    def __call__(self, **entry: float | int | str) -> None:
        line = json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in entry.items()})
        with self.path.open("a") as f:
            f.write(line + "\n")
        print(line, flush=True)
