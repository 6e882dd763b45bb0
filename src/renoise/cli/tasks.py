"""Functions that the commands share: check the input, load the model, invert, edit and write, with progress.

Checks run before anything slow, such as loading a model.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from renoise.cli import console
from renoise.cli.method import chosen_method
from renoise.cli.options import DEFAULT_MODEL, InversionOptions, ModelOptions

if TYPE_CHECKING:
    from PIL.Image import Image

    from renoise.inversion import Inversion

_PICTURE_RECORD = (
    "model", "revision", "sampler", "num_inference_steps", "strength", "seed", "width", "height", "settings",
)  # fmt: skip


def photograph(path: Path) -> "Image":
    """Read a photograph from a file."""
    from renoise import images

    return images.open_image(path)


def check_mask(path: Path) -> None:
    """Raise an error if a file is not a readable mask."""
    from renoise import images

    images.masks(path, 8, 8)


def inversion(path: Path, without: Mapping[str, Any] | None = None) -> "Inversion":
    """Read an inversion from a file.

    Args:
        path: the file.
        without: options that have no effect on an existing inversion. None marks options that were not given.

    Raises:
        ValueError: if one of these options was given, or if the file holds several pictures.
    """
    from renoise.inversion import Inversion

    found = Inversion.load(path)
    idle = [f"--{name.replace('_', '-')}" for name, value in (without or {}).items() if value is not None]
    if idle:
        raise ValueError(f"{path} is already inverted: leave out {', '.join(idle)}, which would have no effect")
    if len(found) != 1:
        raise ValueError(
            f"{path} holds {len(found)} pictures, the command line works on one: save inversion[i] to its own file"
        )
    return found


def outputs(given: Path | None, source: Path, *endings: str) -> list[Path]:
    """Return the paths of the outputs, one for each ending.

    Args:
        given: file or existing folder that the user named, or None for the current folder.
        source: the input file, which gives the outputs their names.
        endings: endings of the names, such as "-edit-1.png".

    Raises:
        ValueError: if a path cannot be written.
    """
    names = [source.stem + ending for ending in endings]
    if given is None:
        paths = [Path(name) for name in names]
    elif given.is_dir():
        paths = [given / name for name in names]
    elif len(endings) == 1:
        paths = [given]
    else:
        paths = [given.with_name(f"{given.stem}-{number}{given.suffix}") for number in range(1, len(endings) + 1)]
    for path, ending in zip(paths, endings, strict=True):
        check_output(path, source, Path("x" + ending).suffix)
    return paths


def edit_endings(count: int) -> list[str]:
    """Return the endings of the file names of several edits."""
    return [f"-edit-{number}.png" for number in range(1, count + 1)]


def load(options: ModelOptions, report: console.Report) -> Any:
    """Load the pipeline that the options select. Warn if the default model was not chosen explicitly."""
    import renoise
    from renoise.pipelines.quiet import quiet

    if options.model is None:
        report.warn(_default_model_warning())
    name, dtype = _absolute(options.model or DEFAULT_MODEL), options.dtype
    if options.cpu_offload and not console.has_accelerator():
        raise ValueError("--cpu-offload needs an accelerator, such as a GPU, but there is none: leave it out")
    if options.cpu_offload and dtype == "auto":
        dtype = "bf16"  # the model is loaded on the CPU but runs on the accelerator
    _check_device(options.device)
    quiet()
    console.note(f"loading {name} …")
    pipe = renoise.load(
        name,
        dtype=dtype,
        device="cpu" if options.cpu_offload else options.device,
        revision=options.revision,
        variant=options.variant,
        config=options.config,
        trust_remote_code=options.trust_remote_code,
    )
    if options.lora:
        _add_lora(pipe, options.lora)
    if options.vae_tiling:
        pipe.vae.enable_tiling()
    if options.cpu_offload:
        pipe.enable_model_cpu_offload(device=options.device)
    return pipe


def same_model(options: ModelOptions, path: Path, found: "Inversion") -> ModelOptions:
    """Return the options with the model of an inversion. Raise ValueError if they name another model."""
    from renoise.pipelines.finding import find

    own, wanted, revision = found.record.model, options.model, found.record.revision
    if wanted is not None and Path(wanted).exists():  # a folder or file may be a copy of the same model
        return options
    if wanted is not None and wanted != own and (find(wanted) is None or find(wanted) is not find(own)):
        raise ValueError(f"{path} was made with {own}, not with {wanted}: leave --model out, or invert it again")
    return dataclasses.replace(options, model=wanted or own, revision=options.revision or revision)


def invert(
    pipe: Any, image: "Image", prompt: str, options: InversionOptions, *, to_edit: bool = False, **call: Any
) -> "Inversion":
    """Invert one photograph. `to_edit` uses the settings of the preset for edits."""
    import renoise

    with console.progress("inverting") as progress:
        return renoise.invert(
            pipe,
            image,
            prompt,
            method=chosen_method(pipe, options, to_edit),
            num_inference_steps=options.steps,
            strength=1.0 if options.strength is None else options.strength,
            seed=options.seed or 0,
            height=options.height,
            width=options.width,
            progress=progress,
            **call,
        )


def reconstruct(pipe: Any, found: "Inversion", path: Path) -> "Image":
    """Reconstruct the photograph, write it to `path` and return it."""
    import renoise

    with console.progress("reconstructing") as progress:
        picture = renoise.reconstruct(pipe, found, progress=progress)[0]
    _save(picture, path, found, prompt=found.prompt[0])
    return picture


@dataclasses.dataclass(frozen=True)
class EditOptions:
    """Arguments of `renoise.edit`. None leaves the choice to the library."""

    guidance_scale: float | None = None
    negative_prompt: str | None = None
    source_correction: float | None = None
    mask: str | None = None
    original: "Image | None" = None

    def given(self) -> dict[str, Any]:
        """Return the arguments that are not None."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def edit(
    pipe: Any,
    found: "Inversion",
    target: str,
    path: Path | None,
    options: EditOptions = EditOptions(),
) -> "Image":
    """Draw an edit with the prompt `target`, write it to `path` if given, and return it."""
    import renoise
    from renoise import drawing

    with console.progress("editing") as progress:
        picture = renoise.edit(pipe, found, target, progress=progress, **options.given())[0]
    if path:
        made = {name: value for name, value in options.given().items() if name != "original"}
        made["guidance_scale"], made["mask"] = drawing.edit_defaults(pipe, found, options.guidance_scale, options.mask)
        _save(picture, path, found, prompt=target, source_prompt=found.prompt[0], **made)
    return picture


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


def _save(picture: "Image", path: Path, found: "Inversion", **made: Any) -> None:
    from renoise import images

    images.save(picture, path, {name: getattr(found.record, name) for name in _PICTURE_RECORD} | made)


def _check_device(device: str | None) -> None:
    from renoise.pipelines.loading import usable

    if device is not None:
        try:
            usable(device)
        except ValueError as error:
            raise ValueError(f"--{error}") from error


def _add_lora(pipe: Any, lora: str) -> None:
    if not hasattr(pipe, "load_lora_weights"):
        raise ValueError(f"{type(pipe).__name__} takes no --lora")
    try:
        pipe.load_lora_weights(lora, use_safetensors=True)
    except Exception as error:  # diffusers and peft raise errors of many types for weights that do not fit
        raise ValueError(f"--lora {lora} cannot be loaded: {str(error).splitlines()[0]}") from error


def _absolute(model: str) -> str:
    """Return the name of a model. Paths become absolute, so that an inversion finds its model from any folder."""
    from renoise.pipelines.presets import PRESETS

    return str(Path(model).resolve()) if model not in PRESETS and Path(model).exists() else model


def check_output(path: Path, source: Path, suffix: str) -> None:
    """Raise ValueError if an output file cannot be written.

    Args:
        path: the output.
        source: the input, which must be another file.
        suffix: required suffix: .safetensors, .html or .json. Any other one stands for a picture of any format.
    """
    from renoise import files, images

    kinds = {".safetensors": "an inversion", ".html": "a page", ".json": "a report"}
    if suffix in kinds and path.suffix != suffix:
        raise ValueError(f"{path}: {kinds[suffix]} is written as {suffix}")
    if suffix not in kinds:
        images.writable(path)
    files.check_name(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder")
    real = path.resolve()  # resolved, because a path like new/../input leads back to the input
    if real.exists() and source.exists() and real.samefile(source):
        raise ValueError(f"{path} is the input: name another output")
    parent = next(folder for folder in (path.absolute().parent, *path.absolute().parents) if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ValueError(f"{path} cannot be written: {parent} is no folder with write permission")


def _default_model_warning() -> str:
    from renoise.pipelines.presets import PRESETS

    others = ", ".join(name for name in PRESETS if not name.startswith(DEFAULT_MODEL))
    return f"{DEFAULT_MODEL} knows fruits and vegetables only; for other photographs use --model with one of {others}"
