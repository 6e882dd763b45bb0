"""Scenes and captions to train on.

Scenes are composed once and kept as a memory-mapped uint8 array with a small table beside it (which photographs, which
background), and captions are written from that table at training time, so one picture meets many paraphrases.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from renoise.bench.fruits import NAMES, PREFIX, SIZE, Photos, Picker, compose, main_caption, read_photos
from renoise.bench.judge import Wanted


def build(root: Path, out: Path, count: int, seed: int, part: str = "fruits_train") -> None:
    """Compose `count` scenes into `out/scenes-{seed}.npy` and the table `out/scenes-{seed}.npz` (a, b or -1, background).

    One picture in twelve is an untouched photograph on its own white ground (background -1 in the table).
    """
    photos, rng = read_photos(root, part), np.random.default_rng(seed)
    pick, start = Picker(photos), time.time()
    out.mkdir(parents=True, exist_ok=True)
    table = np.full((count, 3), -1, np.int32)
    scratch = out / f"scenes-{seed}.part.npy"
    images = np.lib.format.open_memmap(scratch, "w+", np.uint8, (count, SIZE, SIZE, 3))
    for n in range(count):
        i = pick(rng)
        table[n, 0] = i
        if rng.random() < 1 / 12:
            images[n] = photos.images[i][:, ::-1] if rng.random() < 0.5 else photos.images[i]
            continue
        j = pick(rng) if rng.random() < 0.5 else None
        colour = int(rng.integers(len(NAMES)))
        table[n, 1:] = (-1 if j is None else j, colour)
        images[n] = compose(photos, i, j, NAMES[colour], rng, vary=1.5)
    images.flush()
    np.savez(out / f"scenes-{seed}.npz", table=table)
    scratch.rename(out / f"scenes-{seed}.npy")
    print(f"{count} scenes in {time.time() - start:.0f} s", flush=True)


def held_out(photos: Photos, count: int, seed: int = 7) -> tuple[np.ndarray, list[Wanted], list[str]]:
    """Compose scenes from held-out photographs like those of the data set; pictures, what they show, and captions."""
    pick, kinds, rng = Picker(photos), photos.kinds, np.random.default_rng(seed)
    images, shown, captions = [], [], []
    for _ in range(count):
        i, j = pick(rng), pick(rng) if rng.random() < 0.4 else None
        background = str(rng.choice(NAMES))
        images.append(compose(photos, i, j, background, rng))
        shown.append((tuple((kinds[k], None) for k in (i, j) if k is not None), background))
        captions.append(main_caption(photos.phrases[i][0], None if j is None else photos.phrases[j][0], background))
    return np.stack(images), shown, captions


def load_scenes(out: Path, seeds: list[int]) -> tuple[list[np.ndarray], np.ndarray]:
    """Memory-mapped pictures of each seed's set and their tables put end to end."""
    images = [np.load(out / f"scenes-{s}.npy", mmap_mode="r") for s in seeds]
    return images, np.concatenate([np.load(out / f"scenes-{s}.npz")["table"] for s in seeds])


class Captioner:
    """Writes captions for rows of a scene table: mostly the main form, some paraphrases, some empty."""

    def __init__(self, phrases: list[list[str]], captions: list[list[str]], empty: float = 0.1) -> None:
        self.phrases, self.captions, self.empty = phrases, captions, empty

    def __call__(self, row: np.ndarray, rng: np.random.Generator) -> str:
        a, b, background = (int(v) for v in row)
        chance = rng.random()
        if chance < self.empty:
            return ""
        if background < 0 or (b < 0 and NAMES[background] == "white"):  # the data set's own paraphrases hold here
            if chance < 0.4:
                return str(rng.choice(self.captions[a]))
            background = 0
        name = NAMES[background]
        loose = chance > 0.75
        nouns = [self._noun(k, rng if loose else None) for k in (a, b) if k >= 0]
        text = main_caption(nouns[0], nouns[1] if b >= 0 else None, name)
        if loose and rng.random() < 0.5:
            lead = rng.choice(["", "a picture of ", "a photograph of ", "a studio photo of "])
            text = str(lead) + text.removeprefix(PREFIX)
        if loose and rng.random() < 0.1:  # the background left open
            text = text.partition(" on a")[0]
        return text

    def _noun(self, k: int, rng: np.random.Generator | None) -> str:
        options = self.phrases[k]
        return options[0] if rng is None else options[int(rng.integers(len(options)))]


def main() -> None:
    """Compose training scenes."""
    p = argparse.ArgumentParser(description=main.__doc__)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--out", type=Path, default=Path("runs"))
    p.add_argument("--count", type=int, default=24000)
    p.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = p.parse_args()
    for seed in args.seeds:
        if not (args.out / f"scenes-{seed}.npy").exists():
            build(args.data, args.out, args.count, seed)


if __name__ == "__main__":
    main()
