"""What the training scripts share: device, clock, checkpoints without pickle, and a log of losses."""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import distributed, nn


def device(name: str | None = None) -> torch.device:
    """A GPU where there is one, the CPU otherwise."""
    return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))


def to_tensor(images: np.ndarray, where: torch.device) -> torch.Tensor:
    """uint8 (N, H, W, 3) -> float32 in [-1, 1], (N, 3, H, W) in channels-last memory (several times faster in bfloat16)."""
    pixels = torch.tensor(images).to(where)
    return pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last).div(127.5).sub(1)


def psnr(a: torch.Tensor, b: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """PSNR of each picture in dB; inputs in [-1, 1]. With a mask (N, 1, H, W) only its pixels count."""
    error = ((a.clamp(-1, 1) - b) / 2).square()
    if mask is None:
        mean = error.mean((1, 2, 3))
    else:
        mean = (error * mask).sum((1, 2, 3)) / (3 * mask.sum((1, 2, 3)))
    return -10 * torch.log10(mean)


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
            module = sys.modules["__main__"].__spec__.name  # type: ignore[union-attr]
            for rank in range(1, self.ranks):
                extra = ["--rank", str(rank), "--meeting", str(meeting)]
                subprocess.Popen([sys.executable, "-m", module, *sys.argv[1:], *extra])
        where = f"file://{meeting.resolve()}"
        distributed.init_process_group("gloo", init_method=where, rank=self.rank, world_size=self.ranks)

    @staticmethod
    def arguments(p: argparse.ArgumentParser) -> None:
        p.add_argument("--ranks", type=int, default=1, help="processes that train together (give each --threads 1)")
        p.add_argument("--rank", type=int, help=argparse.SUPPRESS)
        p.add_argument("--meeting", type=Path, help=argparse.SUPPRESS)

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

    def __init__(
        self, folder: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, clock: Clock
    ) -> None:
        self.folder, self.modules, self.optimizer, self.clock = folder, modules, optimizer, clock
        self.note: dict = {}
        folder.mkdir(parents=True, exist_ok=True)

    def save(self, **extra: object) -> None:
        tensors = {f"{n}.{k}": v.contiguous() for n, m in self.modules.items() for k, v in m.state_dict().items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{k}": torch.as_tensor(v).contiguous() for k, v in state.items()}
        tensors = {k: v.detach().cpu().clone() for k, v in tensors.items()}
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
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimizer."):
                _, i, name = key.split(".", 2)
                state.setdefault(int(i), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
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
