"""What the subcommands share: look at the input before anything slow begins, load, invert, draw and write, with progress."""

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

_IN_THE_PICTURE = (
    "model",
    "revision",
    "sampler",
    "num_inference_steps",
    "strength",
    "seed",
    "width",
    "height",
    "settings",
)


def photograph(path: Path) -> "Image":
    """The photograph in a file."""
    from renoise import images

    return images.open_image(path)


def check_mask(path: Path) -> None:
    """Raises what is wrong with a mask's file, before a model is loaded for it."""
    from renoise import images

    images.masks(path, 8, 8)


def inversion(path: Path, without: Mapping[str, Any] | None = None) -> "Inversion":
    """The inversion in a file. ValueError if an option is given (not None) that can no longer have an effect on it."""
    from renoise.inversion import Inversion

    found = Inversion.load(path)
    idle = [f"--{name.replace('_', '-')}" for name, value in (without or {}).items() if value is not None]
    if idle:
        raise ValueError(f"{path} is inverted already: leave out {', '.join(idle)}, there is no effect any more")
    if len(found) != 1:
        raise ValueError(
            f"{path} holds {len(found)} pictures, the command line works on one: save inversion[i] by itself"
        )
    return found


def outputs(given: Path | None, source: Path, *endings: str) -> list[Path]:
    """Where the outputs go, one per ending. ValueError, before any work, for a path that cannot be written so."""
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
    """The endings of the pictures of several edits."""
    return [f"-edit-{number}.png" for number in range(1, count + 1)]


def load(options: ModelOptions, report: console.Report) -> Any:
    """The pipeline, as the options want it."""
    import renoise
    from renoise.pipelines.quiet import quiet

    if options.model is None:
        report.warn(_knows_fruits())
    name, dtype = _absolute(options.model or DEFAULT_MODEL), options.dtype
    if options.cpu_offload and not console.accelerated():
        raise ValueError("--cpu-offload needs an accelerator to run on, and there is none here: leave it out")
    if options.cpu_offload and dtype == "auto":
        dtype = "bf16"  # it is loaded on the CPU, but runs on the accelerator
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
    """The options with the model that an inversion was made with. ValueError if they name another."""
    from renoise.pipelines.finding import find

    own, wanted, revision = found.record.model, options.model, found.record.revision
    if wanted is not None and Path(wanted).exists():  # a folder or file may be the same model elsewhere
        return options
    if wanted is not None and wanted != own and (find(wanted) is None or find(wanted) is not find(own)):
        raise ValueError(f"{path} was made with {own}, not with {wanted}: leave --model out, or invert it again")
    return dataclasses.replace(options, model=wanted or own, revision=options.revision or revision)


def invert(
    pipe: Any, image: "Image", prompt: str, options: InversionOptions, *, to_edit: bool = False, **call: Any
) -> "Inversion":
    """Invert one photograph; with `to_edit` by the preset's settings for edits."""
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
    """The reconstruction, written to `path`."""
    import renoise

    with console.progress("reconstructing") as progress:
        picture = renoise.reconstruct(pipe, found, progress=progress)[0]
    _save(picture, path, found, prompt=found.prompt[0])
    return picture


@dataclasses.dataclass(frozen=True)
class EditOptions:
    """How an edit is drawn: arguments of `renoise.edit`, None where the library decides."""

    guidance_scale: float | None = None
    negative_prompt: str | None = None
    source_correction: float | None = None
    mask: str | None = None
    original: "Image | None" = None

    def given(self) -> dict[str, Any]:
        """Those that were given."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def edit(
    pipe: Any,
    found: "Inversion",
    target: str,
    path: Path | None,
    how: EditOptions = EditOptions(),
) -> "Image":
    """The picture drawn with another prompt, written to `path` if there is one."""
    import renoise
    from renoise import drawing

    with console.progress("editing") as progress:
        picture = renoise.edit(pipe, found, target, progress=progress, **how.given())[0]
    if path:
        made = {name: value for name, value in how.given().items() if name != "original"}
        made["guidance_scale"], made["mask"] = drawing.edit_defaults(pipe, found, how.guidance_scale, how.mask)
        _save(picture, path, found, prompt=target, source_prompt=found.prompt[0], **made)
    return picture


def source_picture(pipe: Any, found: "Inversion", image: "Image | None") -> "Image":
    """The photograph as the model sees it, or, where there is only its inversion, the reconstruction."""
    import renoise
    from renoise import images

    if image is None:
        return renoise.reconstruct(pipe, found)[0]
    return images.fit(image, found.record.width, found.record.height)


def write_strip(tiles: list[tuple[str, "Image"]], path: Path, columns: int | None = None) -> Path:
    """Labelled pictures side by side, in one picture."""
    from renoise import images
    from renoise.strip import strip

    return images.save(strip(tiles, columns=columns), path)


def write_page(tiles: list[tuple[str, "Image"]], path: Path) -> Path:
    """A page with a slider between the first picture and each of the others."""
    from renoise.files import write
    from renoise.page import sliders

    (title, before), *edits = [(label.split("\n")[-1], picture) for label, picture in tiles]
    return write(path, sliders(title, before, edits).encode())


def _save(picture: "Image", path: Path, found: "Inversion", **made: Any) -> None:
    from renoise import images

    images.save(picture, path, {name: getattr(found.record, name) for name in _IN_THE_PICTURE} | made)


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
    except Exception as error:  # diffusers and peft raise many kinds for weights that do not fit
        raise ValueError(f"--lora {lora} cannot be loaded: {str(error).splitlines()[0]}") from error


def _absolute(model: str) -> str:
    """Return a model's name; of a folder or file the absolute path, so that an inversion still finds it from elsewhere."""
    from renoise.pipelines.presets import PRESETS

    return str(Path(model).resolve()) if model not in PRESETS and Path(model).exists() else model


def check_output(path: Path, source: Path, suffix: str) -> None:
    """Raise ValueError unless an output of this kind (.safetensors, .html, .json, else a picture) can be written there."""
    from renoise import files, images

    kinds = {".safetensors": "an inversion", ".html": "a page", ".json": "a report"}
    if suffix in kinds and path.suffix != suffix:
        raise ValueError(f"{path}: {kinds[suffix]} is written as {suffix}")
    if suffix not in kinds:
        images.writable(path)
    files.check_name(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder")
    real = path.resolve()  # a folder of the path that is only made later may lead back to the input
    if real.exists() and source.exists() and real.samefile(source):
        raise ValueError(f"{path} is the input: name another output")
    parent = next(folder for folder in (path.absolute().parent, *path.absolute().parents) if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ValueError(f"{path} cannot be written: {parent} is no folder that you may write to")


def _knows_fruits() -> str:
    from renoise.pipelines.presets import PRESETS

    others = ", ".join(name for name in PRESETS if not name.startswith(DEFAULT_MODEL))
    return f"{DEFAULT_MODEL} knows fruits and vegetables only; for other photographs use --model with one of {others}"
