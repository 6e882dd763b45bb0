"""Functions that the commands share: invert, reconstruct, edit and write, with progress."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from renoise.cli.console import Report
from renoise.cli.errors import stopping
from renoise.cli.inputs import CAPTIONS, INVERSION_SUFFIX, Source
from renoise.cli.method import chosen_method
from renoise.cli.models import Models, warn_of_fruits
from renoise.cli.options import InversionOptions, ModelOptions
from renoise.cli.outputs import writing

if TYPE_CHECKING:
    from PIL.Image import Image

    from renoise.inversion import Inversion

_PICTURE_RECORD = (
    "model", "revision", "sampler", "num_inference_steps", "strength", "seed", "width", "height", "settings",
)  # fmt: skip


def check_mask(path: Path) -> None:
    """Raise an error if a file is not a readable mask."""
    from renoise import images

    images.masks(path, 8, 8)


def check_unused(source: object, options: Mapping[str, Any]) -> None:
    """Raise ValueError if an option is given that has no effect on an existing inversion. None marks the others."""
    idle = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is not None]
    if idle:
        raise ValueError(f"{source} is already inverted: leave out {', '.join(idle)}, which would have no effect")


def caption(report: Report, source: Source, prompt: str | None, model: ModelOptions) -> str:
    """Return the prompt of a photograph: the one given, or its caption. Warn if there is none."""
    with stopping():
        text = source.caption() if prompt is None else prompt
    if prompt is None and text is not None:
        report.say("prompt", f"{text} (from {CAPTIONS})")
    if text is None:
        report.warn("without --prompt the photograph has no description, and its edits turn out worse")
    warn_of_fruits(report, model, source, text or "")
    return text or ""


def edit_endings(count: int) -> list[str]:
    """Return the endings of the file names of several edits."""
    return [f"-edit-{number}.png" for number in range(1, count + 1)]


def invert(
    report: Report,
    pipe: Any,
    image: "Image",
    prompt: str,
    options: InversionOptions,
    **call: Any,
) -> "Inversion":
    """Invert one photograph."""
    import renoise

    with report.working("invert", "inverting") as progress:
        return renoise.invert(
            pipe,
            image,
            prompt,
            method=chosen_method(pipe, options),
            num_inference_steps=options.steps,
            strength=1.0 if options.strength is None else options.strength,
            seed=options.seed or 0,
            height=options.height,
            width=options.width,
            progress=progress,
            **call,
        )


def reconstruct(report: Report, pipe: Any, found: "Inversion", path: Path) -> "Image":
    """Reconstruct the photograph, write it to `path` and return it."""
    import renoise

    with report.working("reconstruct", "reconstructing") as progress:
        picture = renoise.reconstruct(pipe, found, progress=progress)[0]
    _save(picture, path, found, prompt=found.prompt[0])
    return picture


@dataclasses.dataclass(frozen=True)
class EditOptions:
    """Arguments of `renoise.edit`. None leaves the choice to the library."""

    editability: float | None = None
    seed: int | None = None
    guidance_scale: float | None = None
    negative_prompt: str | None = None
    source_correction: float | None = None
    mask: str | None = None

    def given(self) -> dict[str, Any]:
        """Return the arguments that are not None."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def edit(
    report: Report,
    pipe: Any,
    found: "Inversion",
    target: str,
    path: Path | None,
    options: EditOptions = EditOptions(),
) -> "Image":
    """Draw an edit with the prompt `target`, write it to `path` if given, and return it."""
    import renoise
    from renoise import drawing

    with report.working("edit", "editing") as progress:
        picture = renoise.edit(pipe, found, target, progress=progress, **options.given())[0]
    if path:
        made = options.given()
        made["guidance_scale"], made["mask"] = drawing.edit_defaults(pipe, found, options.guidance_scale, options.mask)
        _save(picture, path, found, prompt=target, source_prompt=found.prompt[0], **made)
    return picture


@dataclasses.dataclass(frozen=True)
class Drawing:
    """What edits are drawn from: a pipeline, an inversion, and the photograph if it is at hand."""

    pipe: Any
    found: "Inversion"
    image: "Image | None" = None


def from_photograph(
    report: Report, models: Models, source: Source, prompt: str | None, options: InversionOptions
) -> Drawing:
    """Invert a photograph to edit it."""
    image, text = source.picture(), caption(report, source, prompt, models.options)
    pipe = models.own()
    found = invert(report, pipe, image, text, options, measure=False)
    report.describe(found)
    return Drawing(pipe, found, image)


def from_inversion(report: Report, models: Models, source: Source) -> Drawing:
    """Read an inversion and load its model."""
    found = source.inversion()
    pipe = models.of(source, found)
    report.describe(found, recorded=True)
    return Drawing(pipe, found)


def draw_edits(
    report: Report,
    drawing: Drawing,
    targets: Sequence[tuple[str, Path]],
    options: EditOptions,
    strip: Path | None = None,
    page: Path | None = None,
) -> None:
    """Draw an edit for each target (prompt, path), write each when it is done, and the strip and the page last."""
    from renoise.pipelines.observing import counting

    pipe, found = drawing.pipe, drawing.found
    report.data["to"] = [target for target, _ in targets]
    tiles = []
    if strip or page:
        tiles.append(("source\n" + found.prompt[0], source_picture(pipe, found, drawing.image)))
    with counting() as calls:
        for target, path in targets:
            tiles.append((f"edit\n{target}", edit(report, pipe, found, target, path, options)))
            report.wrote(path)
    report.calls("edit", calls[0] / len(targets), each=len(targets) > 1)
    if strip:
        report.wrote(write_strip(tiles, strip))
    if page:
        report.wrote(write_page(tiles, page))


def source_picture(pipe: Any, found: "Inversion", image: "Image | None") -> "Image":
    """Return the photograph at the size of the inversion, or its reconstruction if `image` is None."""
    import renoise
    from renoise import images

    if image is None:
        return renoise.reconstruct(pipe, found)[0]
    return images.fit(image, found.record.width, found.record.height)


def write_strip(tiles: list[tuple[str, "Image"]], path: Path, columns: int | None = None) -> Path:
    """Write labelled pictures side by side as one picture, and return its path."""
    from renoise import images
    from renoise.strip import strip

    return images.save(strip(tiles, columns=columns), path)


def write_page(tiles: list[tuple[str, "Image"]], path: Path) -> Path:
    """Write an HTML page with a slider between the first picture and each of the others, and return its path."""
    from renoise.files import write
    from renoise.page import sliders

    (title, before), *edits = [(label.split("\n")[-1], picture) for label, picture in tiles]
    return write(path, sliders(title, before, edits).encode())


def save_inversion(found: "Inversion", path: Path) -> Path:
    """Write an inversion to its file or to standard output, and return the path."""
    with stopping(), writing(path, INVERSION_SUFFIX) as file:
        found.save(file)
    return path


def _save(picture: "Image", path: Path, found: "Inversion", **made: Any) -> None:
    from renoise import images

    with stopping(), writing(path, ".png") as file:
        images.save(picture, file, {name: getattr(found.record, name) for name in _PICTURE_RECORD} | made)
