"""Train the judge of edits on photographs, whole and spoilt, in scenes that are composed as it goes."""

import argparse
import json
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from renoise.bench.fruits import NAMES, Photos, compose, read_photos
from renoise.bench.judge import SETTINGS, WEIGHTS, Judge, Network, Readings, load, succeeded
from renoise.bench.scenes import NAMED_BY_JUDGE, photographs

from .common import Clock, arguments, begin, fit
from .composer import SPOILT, Batch, Composer
from .data import held_out
from .optimizer import Optimizer


def loss_of_readings(read: Readings, batch: Batch) -> Tensor:
    """Sum of the losses of all outputs, each over what is known."""
    known = batch.phrases >= 0
    loss = F.cross_entropy(read.phrases[known].float(), batch.phrases[known], label_smoothing=0.05)
    for logits, truth, weight in (
        (read.fruit, batch.sound, 1.0),
        (read.two, batch.two, 0.5),
    ):
        some = truth >= 0
        loss = loss + weight * F.binary_cross_entropy_with_logits(logits[some].float(), truth[some])
    loss = loss + F.cross_entropy(read.picture.float(), batch.way, ignore_index=-1)
    some = batch.ground >= 0
    return loss + 0.5 * F.cross_entropy(read.ground[some].float(), batch.ground[some])


def train(args: argparse.Namespace) -> None:
    """Train the network, then set its threshold on held-out photographs."""
    where = begin(args)
    photos = read_photos(args.data, "fruits_train")
    kinds, phrases = sorted(set(photos.kinds)), sorted({p[0] for p in photos.phrases})
    composer = Composer(photos, phrases, kinds)
    network = Network(len(phrases), len(SPOILT)).to(where, memory_format=torch.channels_last).train()
    optimizer = Optimizer([network], args.rate)
    mean = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.98), use_buffers=True)

    last: list[Batch] = []

    def loss_of(rng: np.random.Generator, _: Clock) -> Tensor:
        if not last:  # every batch is read twice, as it is and mirrored: composing it takes as long as a step
            last.append(composer(rng, args.batch))
            batch = last[0]
        else:
            batch = last.pop().mirrored()
        x = (batch.scenes * 2 - 1).to(where, memory_format=torch.channels_last)
        with torch.autocast(where.type, torch.bfloat16):
            read = network(x)
        loss = loss_of_readings(read, batch)
        loss.backward()
        return loss.detach()

    def after(step: int) -> None:
        if step % 4 == 0:
            mean.update_parameters(network)

    modules = {"network": network, "mean": mean}
    if fit(args, "judge", modules, optimizer, loss_of, every=100, after=after):
        export(mean.module, composer, phrases, kinds)


@torch.no_grad()
def export(network: Network, composer: Composer, phrases: list[str], kinds: list[str]) -> None:
    """Write the weights with the features of real photographs, and the settings."""
    network.eval()
    rng, features, labels = np.random.default_rng(1), [], []
    for _ in range(60):
        batch = composer(rng, 128, spoil=0.0, soft=0.5)
        read, known = network(batch.scenes * 2 - 1), batch.phrases >= 0
        features.append(read.features[known])
        labels.append(batch.phrases[known])
    f, y = torch.cat(features), torch.cat(labels)
    centres = torch.stack([f[y == n].mean(0) for n in range(len(phrases))])
    spread = (f - centres[y]).square().mean(0).sqrt().clamp(min=0.05)
    state = {**network.state_dict(), "centres": centres, "spread": spread}
    save_file({k: v.half().contiguous() if v.is_floating_point() else v for k, v in state.items()}, WEIGHTS)
    WEIGHTS.chmod(0o644)
    settings = {
        "threshold": 0.5,
        "weights": [0.0] * 5,
        "kinds": kinds,
        "backgrounds": NAMES,
        "phrases": phrases,
        "ways": SPOILT,
    }
    settings["weights"] = weigh(Judge(network, settings, centres, spread), composer)
    SETTINGS.write_text(json.dumps(settings) + "\n", encoding="utf-8")


@torch.no_grad()
def weigh(judge: Judge, composer: Composer, batches: int = 40) -> list[float]:
    """Fit the weights of the judge's evidence, and a constant, to training scenes by logistic regression."""
    rng, found = np.random.default_rng(2), []
    for _ in range(batches):
        batch = composer(rng, 128)
        found.append((judge.evidence(judge.read(batch.scenes)), batch.picture))
    x, y = (torch.cat(part).double() for part in zip(*found, strict=True))
    x, y = x[y >= 0], y[y >= 0]
    mean, spread = x.mean(0), x.std(0)
    design = torch.cat([(x - mean) / spread, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    w = torch.zeros(design.shape[1], dtype=x.dtype)
    for _ in range(20):  # Newton's method, slightly damped
        p = (design @ w).sigmoid()
        curvature = design.T @ (design * (p * (1 - p))[:, None]) + 1e-3 * torch.eye(len(w), dtype=x.dtype)
        w = w + torch.linalg.solve(curvature, design.T @ (y - p))
    slopes = w[:-1] / spread
    return [round(v, 4) for v in (*slopes.tolist(), (w[-1] - (slopes * mean).sum()).item())]


def calibrate(args: argparse.Namespace, share: float = 0.95) -> None:
    """Set the threshold so that a share of real scenes is accepted, and print how often the judge is right.

    The scenes are of the held-out photographs that are in no task, of the fruits that the tasks ask for.
    """
    judge, photos = load(), photographs(args.data, "calibration")
    print(json.dumps({"named": named_by_fruit(judge, photos)}))
    photos = photos.select(np.array([n for n, p in enumerate(photos.phrases) if p[0] in NAMED_BY_JUDGE]))
    images, shown, _ = held_out(photos, 1000)
    judge.threshold = round(float(np.quantile([v.sound for v in judge.judge(images)], 1 - share)), 4)
    settings = json.loads(SETTINGS.read_text(encoding="utf-8")) | {"threshold": judge.threshold}
    SETTINGS.write_text(json.dumps(settings) + "\n", encoding="utf-8")
    pairs = list(zip(judge.judge(images), shown, strict=True))
    right = {
        "named": [succeeded(replace(v, accepted=True), w) for v, w in pairs],
        "accepted and named": [succeeded(v, w) for v, w in pairs],
        "background": [v.background == w[1] for v, w in pairs],
    }
    print(json.dumps({"threshold": judge.threshold} | {name: _share(values) for name, values in right.items()}))
    composer, rng, rejected = Composer(photos, settings["phrases"], settings["kinds"]), np.random.default_rng(3), {}
    torch.manual_seed(3)
    for way in SPOILT:
        batch = composer(rng, 400, spoil=1.0, way=way)
        rejected[way] = _share([not v.accepted for v in judge.judge(batch.scenes[batch.picture == 0])])
    print(json.dumps({"rejected": rejected}))


def named_by_fruit(judge: Judge, photos: Photos) -> dict[str, float]:
    """Shares of scenes with each fruit alone in which its kind is named right, three of each photograph."""
    rng, right = np.random.default_rng(4), {}
    for n, (phrases, kind) in enumerate(zip(photos.phrases, photos.kinds, strict=True)):
        verdicts = judge.judge(np.stack([compose(photos, n, None, str(rng.choice(NAMES)), rng) for _ in range(3)]))
        right.setdefault(phrases[0], []).extend([fruit for fruit, _ in v.fruits] == [kind] for v in verdicts)
    return {phrase: _share(values) for phrase, values in sorted(right.items())}


def _share(values: list[bool]) -> float:
    return round(float(np.mean(values)), 3)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments(p, minutes=14, batch=128, rate=2e-3)
    args = p.parse_args()
    train(args)
    calibrate(args)


if __name__ == "__main__":
    main()
