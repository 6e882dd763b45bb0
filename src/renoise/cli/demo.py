"""The command `renoise demo`: an example picture, three edits of its caption, and a strip that shows them."""

import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from PIL.Image import Image

from renoise import images
from renoise.cli import tasks
from renoise.cli.console import Report, quality
from renoise.cli.options import InversionOptions
from renoise.strip import strip

FOLDER = Path("renoise-demo")
_COLOURS = "red|green|yellow|orange|purple|brown|black|white|pink|blue|gray|beige"
_COLOUR = rf"(?:(?:light|dark) )?(?:{_COLOURS})"
_WORD = r"(?!(?:and|of|on)\b)[a-z-]+"
_KIND = rf"{_WORD}(?: {_WORD})?"
_CAPTION = re.compile(
    rf"(?P<head>(?:.* of )?)(?P<article>an?) (?:(?P<colour>{_COLOUR}(?: and {_COLOUR})?) )?(?P<kind>{_KIND})"
    rf"(?P<rest>(?: and .+)?) on an? (?P<ground>{_COLOURS}) background"
)


def example() -> tuple[Path, str]:
    """Return the bundled example picture, drawn by `orchard`, and its caption.

    Raises:
        FileNotFoundError: if the installation does not include the picture.
    """
    folder = files("renoise") / "orchard"
    picture = Path(str(folder / "example.png"))
    if not picture.exists():
        raise FileNotFoundError("this installation has no example picture: pass one with renoise demo PHOTO --prompt …")
    return picture, json.loads((folder / "example.json").read_text(encoding="utf-8"))["prompt"]


def edits(prompt: str) -> list[tuple[str, str]]:
    """Return three pairs (kind of edit, prompt) for a photograph with this prompt.

    For a caption of orchard's form they change the background, the kind of fruit and its colour. For other prompts they
    change the scene to night, snow and a painting.
    """
    if not prompt:
        return [
            ("edit", f"a photo of a {what} background")
            for what in ("yellow lemon on a white", "red apple on a blue", "green pear on a pink")
        ]
    caption = _CAPTION.fullmatch(prompt.strip())
    if not caption:
        return [
            ("night", f"{prompt}, at night"),
            ("snow", f"{prompt}, in the snow"),
            ("painting", f"{prompt}, oil painting"),
        ]
    head, kind, rest, ground = caption["head"], caption["kind"], caption["rest"], caption["ground"]
    fruit = f"{caption['article']} {caption['colour']} {kind}" if caption["colour"] else f"{caption['article']} {kind}"

    def text(fruit: str, ground: str) -> str:
        return f"{head}{fruit}{rest} on {_article(ground)} {ground} background"

    colour = (
        "green" if "yellow" in fruit or kind in ("lemon", "banana") else "red" if "green" in fruit else "light green"
    )
    return [
        ("background", text(fruit, "blue" if ground != "blue" else "orange")),
        ("kind", text("a yellow lemon" if "plum" in kind else "a purple plum", ground)),
        ("colour", text(f"a {colour} {kind}", ground)),
    ]


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def output_names(edits: int) -> list[str]:
    """Return the names of the files that `run` writes."""
    endings = [ending.removeprefix("-") for ending in tasks.edit_endings(edits)]
    return ["inversion.safetensors", "reconstruction.png", *endings, "strip.png"]


def run(
    pipe: Any,
    image: Image,
    title: str,
    prompt: str,
    targets: Sequence[tuple[str, str]],
    options: InversionOptions,
    folder: Path,
    report: Report,
) -> None:
    """Invert, reconstruct and edit a photograph. Write each output at once, and the strip of all pictures last."""
    inversion = tasks.invert(report, pipe, image, prompt, options)
    report.describe(inversion)
    report.wrote(tasks.save_inversion(inversion, folder / "inversion.safetensors"))
    source = images.fit(image, inversion.record.width, inversion.record.height)
    path = folder / "reconstruction.png"
    tiles = [
        (f"{title}\n{prompt}", source),
        (
            "reconstruction\n" + quality(report.data).replace(", ", "\n"),
            tasks.reconstruct(report, pipe, inversion, path),
        ),
    ]
    report.wrote(path)
    for (what, target), ending in zip(targets, tasks.edit_endings(len(targets)), strict=True):
        path = folder / ending.removeprefix("-")
        tiles.append((f"{what}\n{target}", tasks.edit(report, pipe, inversion, target, path)))
        report.wrote(path)
    report.data["to"] = [target for _, target in targets]
    report.wrote(images.save(strip(tiles), folder / "strip.png"))
