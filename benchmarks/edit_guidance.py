"""How strongly to guide an edit: what `orchard` changes and what it keeps, as guidance varies.

    python -m benchmarks.edit_guidance --data ../shared/data

Held-out scenes that are not among the photographs of the other benchmarks are inverted with the defaults and drawn with another
background word. *Changed*: the classifier sees the background asked for; *named*: and the fruits, too. *Kept*: PSNR of the fruits
(where the source differs from its own background), which the edit should leave as they were.
"""

import argparse
import statistics
import warnings
from pathlib import Path

import renoise
from benchmarks.tolerance import unused
from renoise.bench import classifier
from renoise.bench.fruits import NAMES, kind_of, parse, read_words
from renoise.metrics import psnr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the photographs")
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 1.5, 2.0, 3.0, 5.0])
    options = parser.parse_args()

    warnings.simplefilter("ignore")
    pipe, judge = renoise.load("orchard"), classifier.load()
    kinds = sorted(
        {kind_of(phrases[1]) for phrases in read_words(options.data, "fruits_test_objects")[0]} | {*judge.kinds}
    )
    pictures, captions = unused(options.data, options.scenes)
    names = [parse(caption, kinds) for caption in captions]
    grounds = [NAMES[(NAMES.index(ground) + 5) % len(NAMES)] for _, ground in names]
    wishes = [
        f"{caption.rpartition(' on a')[0]} on {'an' if ground[0] in 'aeiou' else 'a'} {ground} background"
        for caption, ground in zip(captions, grounds, strict=True)
    ]
    fruit = ((pictures - pictures[..., :1]).abs().amax(1, keepdim=True) > 0.03).float()
    found = renoise.invert(pipe, pictures, captions, measure=False)
    print(f"{len(pictures)} scenes, the fruits of {sum(judged(judge, pictures, names))} named right before the edit.\n")
    print("| guidance | changed | named | kept, median | network calls |\n|---|---|---|---|---|")
    for guidance in options.guidance:
        edited = renoise.edit(pipe, found, wishes, guidance_scale=guidance, mask="none", output_type="pt")
        said = judge.name(edited)
        changed = [ground == asked for (_, ground), asked in zip(said, grounds, strict=True)]
        named = judged(judge, edited, [(fruits, ground) for (fruits, _), ground in zip(names, grounds, strict=True)])
        kept = psnr(edited, pictures, fruit).tolist()
        calls = len(found.residuals) * (2 if guidance > 1 else 1)
        shares = " | ".join(f"{statistics.mean(values):.2f}" for values in (changed, named))
        print(f"| {guidance:g} | {shares} | {statistics.median(kept):.2f} dB | {calls} |", flush=True)


def judged(judge: classifier.Classifier, pictures, names: list[classifier.Naming]) -> list[bool]:
    """Whether the classifier names each picture (N, 3, H, W) in [0, 1] so."""
    return [classifier.same(said, name) for said, name in zip(judge.name(pictures), names, strict=True)]


if __name__ == "__main__":
    main()
