"""Edits with right answers: what each way to edit changes, and what it leaves as it was.

    python -m benchmarks.edit --data ../shared/data --model orchard --output benchmarks/edit-orchard

Scenes are composed from held-out photographs, so that it is known which pixels an edit may change:

    background   "… on a blue background" → "… on a yellow background"      the fruits must stay
    swap         "a lemon and a tomato …" → "a lemon and a plum …"          all but the swapped fruit's surroundings must stay
    kind         "a red apple …" → "a yellow lemon …"                       the background must stay

*Success*: a classifier trained on real photographs names all fruits and the background as the target prompt does. *Kept*: PSNR of
what must stay. *Colour*, for *background*: distance of the new background from the colour asked for, RMS in [0, 1], the fruits'
rims left out. Each way to edit is drawn at several strengths of its own knobs: success can always be bought with preservation,
and the curve shows the price.
"""

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter

import renoise
from benchmarks.photographs import publish, spread
from renoise import PRESETS, Inversion, ReNoise, images
from renoise.strip import strip
from training import classifier
from training.common import psnr
from training.data import BACKGROUNDS, NAMES, SIZE, Photos, Picker, main_caption, paste, plain_background, read_photos

RIM = 5  # pixels around a fruit that count for neither side


@dataclass
class Task:
    """One edit: the picture (H, W, 3), its prompts, what the classifier should say of the result, and which pixels must stay."""

    edit: str
    picture: np.ndarray
    source: str
    target: str
    named: classifier.Naming
    stays: np.ndarray


def tasks(data: Path, count: int, seed: int = 11) -> list[Task]:
    """`count` tasks of each kind of edit."""
    photos, rng = read_photos(data, "fruits_test_sequences"), np.random.default_rng(seed)
    pick = Picker(photos)
    return [_task(photos, pick, edit, rng) for edit in ("background", "swap", "kind") for _ in range(count)]


def _task(photos: Photos, pick: Picker, edit: str, rng: np.random.Generator) -> Task:
    pair = edit == "swap" or (edit == "background" and rng.random() < 0.5)
    chosen = [pick(rng) for _ in range(1 + pair)]
    ground, other = (str(name) for name in rng.choice(NAMES, 2, replace=False))
    canvas = plain_background(ground, rng)
    fruits = []
    for i, x in zip(chosen, (0.27, 0.73) if pair else (0.5,), strict=True):
        size = int(SIZE * (0.62 if pair else rng.uniform(0.7, 1.0)))
        shift = rng.uniform(-0.06, 0.06, 2) * SIZE
        place = (SIZE * x, SIZE / 2 + shift[1]) if pair else (SIZE * x + shift[0], SIZE / 2 + shift[1])
        fruits.append(paste(canvas, photos.images[i], photos.masks[i], size, *place, bool(rng.random() < 0.5)))
    named, phrases = [photos.kinds[i] for i in chosen], [photos.phrases[i][0] for i in chosen]
    source, every = _caption(phrases, ground), np.maximum.reduce(fruits)
    if edit == "background":
        stays, target, ground = _shrunk(every), _caption(phrases, other), other
    else:
        side = int(rng.integers(2)) if pair else 0
        i = next(i for i in iter(lambda: pick(rng), None) if photos.kinds[i] not in named)
        named[side], phrases[side] = photos.kinds[i], photos.phrases[i][0]
        stays, target = 1 - _grown(fruits[side]), _caption(phrases, ground)
    picture = np.clip(canvas + 0.5, 0, 255).astype(np.uint8)
    return Task(edit, picture, source, target, (tuple(named), ground), stays.astype(np.float32))


def _caption(phrases: list[str], ground: str) -> str:
    return main_caption(phrases[0], phrases[1] if len(phrases) > 1 else None, ground)


def _grown(mask: np.ndarray) -> np.ndarray:
    picture = Image.fromarray((mask > 0.02).astype(np.uint8) * 255)
    return np.asarray(picture.filter(ImageFilter.MaxFilter(2 * RIM + 1))) > 0


def _shrunk(mask: np.ndarray) -> np.ndarray:
    picture = Image.fromarray((mask > 0.98).astype(np.uint8) * 255)
    return np.asarray(picture.filter(ImageFilter.MinFilter(3))) > 0


@dataclass
class Way:
    """A way to edit: how it inverts, and the strengths at which it is drawn, name → arguments of `renoise.edit`."""

    name: str
    invert: dict[str, Any]
    edits: dict[str, dict[str, Any]]


def ways(model: str) -> Iterator[Way]:
    """The library's ways and the baselines, for a model of many steps or of few."""
    few = PRESETS[model].steps <= 4
    guided = {f"w {w:g}": {"guidance_scale": w} for w in (1.0, 1.5, 2.0, 3.0)}
    kept = {f"w {w:g}, keep {k:g}": {"guidance_scale": w, "keep": k} for k in (0.5, 0.8, 1.0) for w in (1.0, 1.5, 2.0)}
    yield Way("prompt and guidance", {}, guided)
    yield Way("with keep", {}, kept)
    masked = {"w 1.5": dict(guidance_scale=1.5), "w 2, keep 0.5": dict(guidance_scale=2.0, keep=0.5)}
    yield Way("with a mask found", {}, {k: {**v, "mask": "auto"} for k, v in masked.items()})
    for strength in (0.5, 0.75):
        edits = {"w 1.5": dict(guidance_scale=1.5), "w 2, keep 0.5": dict(guidance_scale=2.0, keep=0.5)}
        yield Way(f"strength {strength:g}", {"strength": strength}, edits)
    steps = {} if few else {"num_inference_steps": 20}
    for strength in (0.5, 0.75, 1.0):
        yield Way(
            f"SDEdit {strength:g}",
            {**steps, "method": "sdedit", "strength": strength},
            {"w 3": {"guidance_scale": 3.0}},
        )
    if few:
        yield Way("edit-friendly DDPM", {"method": "edit-friendly"}, guided)
        yield Way(
            "the paper's settings", {"settings": PRESETS["sdxl-turbo"].settings}, {"w 1": {"guidance_scale": 1.0}}
        )
    else:
        yield Way(
            "plain DDIM, 50 steps", {"settings": ReNoise(iterations=0, tolerance=0), "num_inference_steps": 50}, guided
        )
        for strength in (0.5, 0.75):
            name, invert = (
                f"edit-friendly DDPM {strength:g}",
                {**steps, "method": "edit-friendly", "strength": strength},
            )
            yield Way(name, {**invert, "eta": 1.0}, {"w 3": {"guidance_scale": 3.0}})
        yield Way("the paper's settings", {"settings": PRESETS["sd15"].settings, "num_inference_steps": 50}, guided)


def run(pipe: Any, way: Way, chosen: list[Task], batch: int) -> dict[str, tuple[torch.Tensor, float, float]]:
    """The edited pictures (N, 3, H, W) in [0, 1], network evaluations and seconds per picture, for each strength of a way."""
    found: list[Inversion] = []
    began = time.perf_counter()
    for n in range(0, len(chosen), batch):
        part = chosen[n : n + batch]
        pictures = torch.stack([torch.from_numpy(t.picture).permute(2, 0, 1) / 255 for t in part])
        found.append(renoise.invert(pipe, pictures, [t.source for t in part], measure=False, **way.invert))
    seconds = (time.perf_counter() - began) / len(chosen)
    made = {}
    for name, arguments in way.edits.items():
        began, out, calls = time.perf_counter(), [], 0.0
        for n, inversion in enumerate(found):
            rows = _counted(pipe)
            targets = [t.target for t in chosen[n * batch : (n + 1) * batch]]
            out.append(renoise.edit(pipe, inversion, targets, output_type="pt", **arguments).cpu())
            calls += rows() + inversion.evaluations * len(inversion)
        made[name] = torch.cat(out), calls / len(chosen), seconds + (time.perf_counter() - began) / len(chosen)
    return made


def _counted(pipe: Any) -> Callable[[], float]:
    """Count the rows that the network sees until the count is asked for."""
    rows = [0]
    handle = pipe.unet.register_forward_pre_hook(lambda _, args: rows.__setitem__(0, rows[0] + len(args[0])))

    def end() -> float:
        handle.remove()
        return rows[0]

    return end


def judge(model: classifier.Classifier, chosen: list[Task], pictures: torch.Tensor) -> list[dict[str, float]]:
    """Success, what was kept and the background's distance, for each picture."""
    said, out = model.name(pictures * 2 - 1), []
    for task, naming, picture in zip(chosen, said, pictures, strict=True):
        before = torch.from_numpy(task.picture).permute(2, 0, 1) / 255
        stays = torch.from_numpy(task.stays)[None, None]
        result = {"success": float(classifier.same(naming, task.named))}
        result["kept"] = psnr(picture[None] * 2 - 1, before[None] * 2 - 1, stays).item()
        if task.edit == "background":
            wanted = torch.tensor(BACKGROUNDS[task.named[1]]).view(3, 1, 1) / 255
            free = torch.from_numpy(1 - _grown(task.stays).astype(np.float32))
            result["colour"] = (((picture - wanted) ** 2 * free).sum() / (3 * free.sum())).sqrt().item()
        out.append(result)
    return out


def summary(chosen: list[Task], scores: list[dict[str, float]]) -> dict[str, Any]:
    """Success and what was kept, of all edits and of each kind."""
    out: dict[str, Any] = {}
    for edit in ("all", *dict.fromkeys(task.edit for task in chosen)):
        part = [score for task, score in zip(chosen, scores, strict=True) if edit in ("all", task.edit)]
        kept = spread([score["kept"] for score in part])
        out[edit] = {
            "success": statistics.mean(s["success"] for s in part),
            "kept": kept["median"],
            "worst": kept["worst"],
        }
        if colours := [s["colour"] for s in part if "colour" in s and edit == "background"]:
            out[edit]["colour"] = statistics.median(colours)
    return out


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    edits = list(report["rows"][0]["scores"])
    lines = [
        f"`{report['model']}`, {report['tasks']} tasks of each kind. Success · PSNR of what must stay, dB: median (worst 5 %).",
        f"Real scenes of the kind that is asked for are named right {report['ceiling']:.2f} of the time.",
        "",
        "| way | strength | calls | s | " + " | ".join(edits) + " |",
        "|---|---|---|---|" + "---|" * len(edits),
    ]
    for row in report["rows"]:
        cells = [f"{s['success']:.2f} · {s['kept']:.1f} ({s['worst']:.1f})" for s in row["scores"].values()]
        lines.append(
            f"| {row['way']} | {row['strength']} | {row['calls']:.0f} | {row['seconds']:.1f} | "
            + " | ".join(cells)
            + " |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the photographs")
    parser.add_argument("--model", default="orchard", choices=[name for name in PRESETS if name.startswith("orchard")])
    parser.add_argument("--tasks", type=int, default=24, help="of each kind")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--only", nargs="+", help="only the ways whose names contain one of these")
    parser.add_argument(
        "--output", type=Path, help="write the report here too, as .json and .md, and a page of pictures as .png"
    )
    options = parser.parse_args()

    warnings.simplefilter("ignore")  # baselines do not converge, and are here to show it
    pipe, model, chosen = renoise.load(options.model), classifier.load(), tasks(options.data, options.tasks)
    real, names, _ = classifier.held_out(options.data, "fruits_test_sequences", 200)
    ceiling = statistics.mean(classifier.same(a, b) for a, b in zip(model.name(real), names, strict=True))
    report: dict[str, Any] = {
        "model": options.model,
        "tasks": options.tasks,
        "batch": options.batch,
        "ceiling": ceiling,
        "rows": [],
    }
    shown = [n for n, task in enumerate(chosen) if n % options.tasks < 4]
    tiles = [
        (f"source\n{chosen[n].target.removeprefix('a photo of ')}", Image.fromarray(chosen[n].picture)) for n in shown
    ]
    for way in ways(options.model):
        if options.only and not any(name in way.name for name in options.only):
            continue
        for strength, (pictures, calls, seconds) in run(pipe, way, chosen, options.batch).items():
            scores = summary(chosen, judge(model, chosen, pictures))
            row = {"way": way.name, "strength": strength, "calls": calls, "seconds": seconds, "scores": scores}
            report["rows"].append(row)
            print(json.dumps(row), file=sys.stderr)
            tiles += [(f"{way.name}\n{strength}", picture) for picture in images.to_images(pictures[shown])]
    publish(report, table(report), options.output)
    if options.output:
        strip(tiles, columns=len(shown), side=128).save(options.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
