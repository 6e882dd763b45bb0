"""The commands. Each one calls a few functions of the library."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from renoise.cli import console, examples, tasks
from renoise.cli import sweep as grid
from renoise.cli.bench import app as bench
from renoise.cli.method import check_has_inversion
from renoise.cli.options import (
    DEFAULT_MODEL,
    INVERSION,
    MODEL,
    Guidance,
    InversionFile,
    InversionOptions,
    KeepOutside,
    Mask,
    ModelOptions,
    Negative,
    Output,
    OutputFormat,
    Page,
    Photo,
    Prompt,
    SourceCorrection,
    Strip,
    Targets,
    check_utf8,
)


def _version() -> str:
    import renoise

    return renoise.__version__


app = App(
    name="renoise",
    help="Invert real photographs with diffusion models (ReNoise, arXiv 2403.14602), reconstruct and edit them.\n\n"
    "First steps: renoise demo\n"
    "Tab completion: renoise --install-completion",
    help_format="plaintext",
    version=_version,
    suppress_keyboard_interrupt=False,
)
app.register_install_completion_command(help="Install tab completion for your shell.")


@app.command(help_epilogue=examples.INVERT)
def invert(
    photo: Photo,
    /,
    *,
    prompt: Prompt = "",
    output: Output = None,
    guidance: Guidance = None,
    negative_prompt: Negative = None,
    format: OutputFormat = "human",
    model: ModelOptions = MODEL,
    options: InversionOptions = INVERSION,
) -> None:
    """Invert a photograph: find the noise from which the model draws it, and write it to a .safetensors file."""
    with console.reporting(format) as report:
        check_has_inversion(options.method)
        image = tasks.photograph(photo)
        (path,) = tasks.outputs(output, photo, ".safetensors")
        pipe = tasks.load(model, report)
        inversion = tasks.invert(pipe, image, prompt, options, guidance_scale=guidance, negative_prompt=negative_prompt)
        report.describe(inversion)
        report.wrote(inversion.save(path))
        if model.lora:
            report.warn(f"the file does not store the LoRA: pass --lora {model.lora} again to reconstruct or edit")


@app.command(help_epilogue=examples.RECONSTRUCT)
def reconstruct(
    inversion: InversionFile,
    /,
    *,
    output: Output = None,
    format: OutputFormat = "human",
    model: ModelOptions = MODEL,
) -> None:
    """Reconstruct the photograph from an inversion."""
    with console.reporting(format) as report:
        found = tasks.inversion(inversion)
        (path,) = tasks.outputs(output, inversion, "-reconstruction.png")
        pipe = tasks.load(tasks.same_model(model, inversion, found), report)
        report.describe(found)
        tasks.reconstruct(pipe, found, path)
        report.wrote(path)


@app.command(help_epilogue=examples.EDIT)
def edit(
    source: Annotated[Path, Parameter(help="photograph, or an inversion (.safetensors) of one")],
    /,
    *,
    to: Targets,
    prompt: Prompt | None = None,
    output: Output = None,
    guidance: Guidance = None,
    negative_prompt: Negative = None,
    source_correction: SourceCorrection = None,
    mask: Mask = None,
    keep_outside: KeepOutside = False,
    strip: Strip = None,
    page: Page = None,
    format: OutputFormat = "human",
    model: ModelOptions = MODEL,
    options: InversionOptions = INVERSION,
) -> None:
    """Edit a photograph, or an inversion of one, with a new prompt. Several edits share one inversion."""
    from renoise.pipelines.observing import counting

    with console.reporting(format) as report:
        image = None
        mask = mask or ("auto" if keep_outside else None)
        if mask not in (None, "auto", "none"):
            tasks.check_mask(Path(mask))
        if keep_outside and mask == "none":
            raise ValueError("--keep-outside needs a mask: leave --mask none out")
        if strip:
            tasks.check_output(strip, source, ".png")
        if page:
            tasks.check_output(page, source, ".html")
        paths = tasks.outputs(output, source, *tasks.edit_endings(len(to)))
        files = [Path(file).absolute() for file in (*paths, strip, page, mask) if file]
        if len(set(files)) < len(files):
            raise ValueError("--output, --strip, --page and --mask must be different files")
        if source.suffix.lower() == ".safetensors":
            if keep_outside:
                raise ValueError(f"--keep-outside needs the photograph's pixels: edit it instead of {source}")
            found = tasks.inversion(source, without={"prompt": prompt, **options.given()})
            pipe = tasks.load(tasks.same_model(model, source, found), report)
        else:
            image = tasks.photograph(source)
            pipe = tasks.load(model, report)
            found = tasks.invert(pipe, image, prompt or "", options, to_edit=True)
        report.describe(found)
        report.data["to"] = to
        edit_options = tasks.EditOptions(
            guidance, negative_prompt, source_correction, mask, image if keep_outside else None
        )
        tiles = [("source\n" + found.prompt[0], tasks.source_picture(pipe, found, image))] if strip or page else []
        with counting() as calls:
            for target, path in zip(to, paths, strict=True):
                tiles.append((f"edit\n{target}", tasks.edit(pipe, found, target, path, edit_options)))
                report.wrote(path)
        report.edited(calls[0] / len(to))
        if strip:
            report.wrote(tasks.write_strip(tiles, strip))
        if page:
            report.wrote(tasks.write_page(tiles, page))


@app.command(help_epilogue=examples.SWEEP)
def sweep(
    photo: Photo,
    /,
    *,
    to: Annotated[str, Parameter(name="--to", help="prompt of the edited picture", validator=check_utf8)],
    prompt: Prompt = "",
    rows: Annotated[str, Parameter(help="setting to vary by row, and its values")] = "guidance=1,1.5,2",
    columns: Annotated[str, Parameter(help="setting to vary by column, and its values")] = "strength=0.5,0.75,1",
    output: Output = None,
    mask: Mask = None,
    format: OutputFormat = "human",
    model: ModelOptions = MODEL,
    options: InversionOptions = INVERSION,
) -> None:
    """Draw a grid of edits of one photograph, varying two settings.

    Settings: guidance, source-correction, strength, steps, iterations, tolerance,
    lambda-pair, lambda-kl, noise-correction.
    """
    with console.reporting(format) as report:
        image = tasks.photograph(photo)
        (path,) = tasks.outputs(output, photo, "-sweep.png")
        axes = [grid.parse_axis("--rows", rows), grid.parse_axis("--columns", columns)]
        if axes[0][0] == axes[1][0]:
            raise ValueError(f"--rows and --columns both vary {axes[0][0]}: name two settings")
        pipe = tasks.load(model, report)
        grid.draw(pipe, image, prompt, to, axes, options, mask, path)
        report.wrote(path)


app.command(bench)


@app.command(help_epilogue=examples.INFO)
def info(inversion: InversionFile, /, *, format: OutputFormat = "human") -> None:
    """Show how an inversion was made and how good it is. This does not load the model."""
    fields = {"file": str(inversion), **dataclasses.asdict(tasks.inversion(inversion).record)}
    if format == "json":
        console.print_json(fields)
    else:
        console.print_fields(fields)


@app.command(help_epilogue=examples.PRESETS)
def presets(*, format: OutputFormat = "human") -> None:
    """List the presets: models that can be used by name, with settings for inversion and editing."""
    from renoise.pipelines.presets import PRESETS

    if format == "json":
        console.print_json({"presets": [dataclasses.asdict(preset) for preset in PRESETS.values()]})
    else:
        console.print_presets(PRESETS.values())


@app.command(help_epilogue=examples.DEMO)
def demo(
    photo: Annotated[Path | None, Parameter(help="photograph (default: a bundled picture of fruits)")] = None,
    /,
    *,
    prompt: Prompt | None = None,
    to: Annotated[
        list[str] | None,
        Parameter(
            name="--to", help="prompt of an edit, instead of the built-in ones", negative="", validator=check_utf8
        ),
    ] = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="folder to write to")] = Path("renoise-demo"),
    format: OutputFormat = "human",
    model: ModelOptions = MODEL,
    options: InversionOptions = INVERSION,
) -> None:
    """Invert, reconstruct and edit one photograph, and write the pictures side by side as a labelled strip."""
    from renoise.cli.demo import edits, example, output_names, run

    with console.reporting(format) as report:
        title = "photograph"
        if photo is None:
            photo, caption = example()
            title, prompt = "drawn by orchard", caption if prompt is None else prompt
            model = dataclasses.replace(model, model=model.model or DEFAULT_MODEL)  # no warning for its own picture
        image = tasks.photograph(photo)
        prompt = prompt or ""
        targets = [("edit", text) for text in to] if to else edits(prompt)
        for name in output_names(len(targets)):
            tasks.outputs(output / name, photo, Path(name).suffix)
        run(tasks.load(model, report), image, title, prompt, targets, options, output, report)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 2 for invalid input, 1 for an internal error, 130 if interrupted."""
    tokens = list(sys.argv[1:] if argv is None else argv)
    try:
        app(tokens, exit_on_error=False, print_error=False, result_action="return_none")
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise the flush at exit fails
        return console.INTERNAL
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("RENOISE_DEBUG"):
            raise
        usage = isinstance(error, CycloptsError)
        status, text = (console.WRONG_INPUT, console.one_line(error)) if usage else console.explain(error)
        print(f"renoise: {text}", file=sys.stderr)
        return status
    return 0
