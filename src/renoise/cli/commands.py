"""The commands. Each one calls a few functions of the library."""

import dataclasses
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from renoise.cli import batch, console, examples, inputs, outputs, tasks
from renoise.cli import sweep as grid
from renoise.cli.bench import app as bench
from renoise.cli.console import Report
from renoise.cli.method import check_has_inversion
from renoise.cli.models import Models
from renoise.cli.options import (
    INVERSION,
    MODEL,
    REPORT,
    Editability,
    Guidance,
    InversionFiles,
    InversionOptions,
    Mask,
    ModelOptions,
    Negative,
    OneOutput,
    Output,
    OutputFormat,
    Overwrite,
    Page,
    Photo,
    Photos,
    Prompt,
    ReportOptions,
    SourceCorrection,
    Sources,
    Strip,
    Targets,
)
from renoise.cli.outputs import Job
from renoise.cli.values import FILE, check_text


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
    photos: Photos,
    /,
    *,
    prompt: Prompt = None,
    output: Output = None,
    overwrite: Overwrite = False,
    guidance: Guidance = None,
    negative_prompt: Negative = None,
    printed: ReportOptions = REPORT,
    model: ModelOptions = MODEL,
    options: InversionOptions = INVERSION,
) -> None:
    """Invert photographs: find the noise from which the model draws each, and write it to a .safetensors file."""
    with console.reporting(printed) as report:
        check_has_inversion(options.method)
        many = inputs.are_many(photos)
        jobs = outputs.jobs(
            inputs.photographs(photos), output, [inputs.INVERSION_SUFFIX],
            many=many, overwrite=overwrite, json=not report.human,
        )  # fmt: skip
        models = Models(model, report, [options.steps])

        def work(job: Job, report: Report) -> None:
            image, text = job.source.picture(), tasks.caption(report, job.source, prompt, model)
            inversion = tasks.invert(
                report, models.own(), image, text, options, guidance_scale=guidance, negative_prompt=negative_prompt
            )
            report.describe(inversion)
            report.wrote(tasks.save_inversion(inversion, job.paths[0]))

        batch.each(report, jobs, many, overwrite, work)
        if model.lora:
            report.warn(f"the files do not store the LoRA: pass --lora {model.lora} again to reconstruct or edit")


@app.command(help_epilogue=examples.RECONSTRUCT)
def reconstruct(
    inversions: InversionFiles,
    /,
    *,
    output: Output = None,
    overwrite: Overwrite = False,
    printed: ReportOptions = REPORT,
    model: ModelOptions = MODEL,
) -> None:
    """Reconstruct photographs from their inversions."""
    from renoise.pipelines.observing import counting

    with console.reporting(printed) as report:
        many = inputs.are_many(inversions)
        jobs = outputs.jobs(
            inputs.inversions(inversions), output, ["-reconstruction.png"],
            many=many, overwrite=overwrite, json=not report.human,
        )  # fmt: skip
        models = Models(model, report)

        def work(job: Job, report: Report) -> None:
            found = job.source.inversion()
            pipe = models.of(job.source, found)
            report.describe(found, recorded=True)
            with counting() as calls:
                tasks.reconstruct(report, pipe, found, job.paths[0])
            report.calls("reconstruction", calls[0])
            report.wrote(job.paths[0])

        batch.each(report, jobs, many, overwrite, work)


@app.command(help_epilogue=examples.EDIT)
def edit(
    sources: Sources,
    /,
    *,
    to: Targets,
    prompt: Prompt = None,
    output: Output = None,
    overwrite: Overwrite = False,
    editability: Editability = None,
    guidance: Guidance = None,
    negative_prompt: Negative = None,
    source_correction: SourceCorrection = None,
    mask: Mask = None,
    strip: Strip = None,
    page: Page = None,
    printed: ReportOptions = REPORT,
    model: ModelOptions = MODEL,
    options: InversionOptions = INVERSION,
) -> None:
    """Edit photographs, or inversions of them, with a new prompt. Several edits of one share its inversion."""
    with console.reporting(printed) as report:
        many = inputs.are_many(sources)
        mask_file = Path(mask) if mask not in (None, "auto", "none") else None
        if mask_file:
            tasks.check_mask(mask_file)
        if many and (strip or page):
            raise ValueError("--strip and --page show one photograph: leave them out, or name one")
        jobs = outputs.jobs(
            inputs.photographs(sources), output, tasks.edit_endings(len(to)),
            many=many, overwrite=overwrite, json=not report.human,
            also=[(strip, ".png"), (page, ".html")], inputs=[mask_file] if mask_file else [],
        )  # fmt: skip
        models = Models(model, report, [options.steps])
        how = tasks.EditOptions(editability, options.seed, guidance, negative_prompt, source_correction, mask)

        def work(job: Job, report: Report) -> None:
            wanted = [
                pair for pair in zip(to, job.paths, strict=True) if not many or overwrite or pair[1] in job.missing
            ]
            if job.source.is_inversion:
                tasks.check_unused(job.source, {"prompt": prompt, **options.given(), "seed": None})
                drawing = tasks.from_inversion(report, models, job.source)
            else:
                drawing = tasks.from_photograph(report, models, job.source, prompt, options)
            tasks.draw_edits(report, drawing, wanted, how, strip, page)

        batch.each(report, jobs, many, overwrite, work)


@app.command(help_epilogue=examples.SWEEP)
def sweep(
    photo: Photo,
    /,
    *,
    to: Annotated[str, Parameter(name="--to", help="prompt of the edited picture", validator=check_text)],
    prompt: Prompt = None,
    rows: Annotated[str, Parameter(help="setting to vary by row, and its values")] = "guidance=1,1.5,2",
    columns: Annotated[
        str, Parameter(help="setting to vary by column, and its values")
    ] = "editability=0,0.25,0.5,0.75,1",
    output: OneOutput = None,
    overwrite: Overwrite = False,
    mask: Mask = None,
    printed: ReportOptions = REPORT,
    model: ModelOptions = MODEL,
    options: InversionOptions = INVERSION,
) -> None:
    """Draw a grid of edits of one photograph, varying two settings.

    Settings: editability, guidance, source-correction, strength, steps, iterations,
    tolerance, lambda-pair, lambda-kl, noise-correction, noised-below.
    """
    with console.reporting(printed) as report:
        axes = [grid.parse_axis("--rows", rows), grid.parse_axis("--columns", columns)]
        if axes[0][0] == axes[1][0]:
            raise ValueError(f"--rows and --columns both vary {axes[0][0]}: name two settings")
        mask_file = Path(mask) if mask not in (None, "auto", "none") else None
        if mask_file:
            tasks.check_mask(mask_file)
        source = inputs.one_photograph(photo)
        (job,) = outputs.jobs(
            [source], output, ["-sweep.png"], many=False, overwrite=overwrite, inputs=[mask_file] if mask_file else []
        )
        outputs.check(job.paths[0], ".png")
        image, text = source.picture(), tasks.caption(report, source, prompt, model)
        pipe = Models(model, report, [options.steps, *grid.steps(axes)]).own()
        grid.draw(report, pipe, image, text, to, axes, options, mask, job.paths[0])
        report.wrote(job.paths[0])


app.command(bench)


@app.command(help_epilogue=examples.INFO)
def info(inversions: InversionFiles, /, *, format: OutputFormat = "human") -> None:
    """Show how inversions were made and how good they are. This does not load the model."""
    from renoise.cli.show import print_info

    many, results = inputs.are_many(inversions), []
    for source in inputs.inversions(inversions):
        found = source.inversion()
        if format == "json":
            results.append({"file": str(source), **dataclasses.asdict(found.record)})
        else:
            print_info(source, found)
    if format == "json":
        console.print_json({"results": results} if many else results[0])


@app.command(help_epilogue=examples.PRESETS)
def presets(*, format: OutputFormat = "human") -> None:
    """List the presets: models that can be used by name, with what they need and their settings."""
    from renoise.cli.show import print_presets
    from renoise.pipelines.presets import PRESETS

    if format == "json":
        console.print_json({"presets": [dataclasses.asdict(preset) for preset in PRESETS.values()]})
    else:
        print_presets(PRESETS.values())


@app.command(help_epilogue=examples.DEMO)
def demo(
    photo: Annotated[
        Path | None, FILE, Parameter(help="photograph, or - for stdin (default: a bundled picture of fruits)")
    ] = None,
    /,
    *,
    prompt: Prompt = None,
    to: Annotated[
        list[str] | None,
        Parameter(
            name="--to", help="prompt of an edit, instead of the built-in ones", negative="", validator=check_text
        ),
    ] = None,
    output: Annotated[
        Path | None,
        FILE,
        Parameter(name=["--output", "-o"], help="folder to write to (default: renoise-demo, which is overwritten)"),
    ] = None,
    overwrite: Overwrite = False,
    printed: ReportOptions = REPORT,
    model: ModelOptions = MODEL,
    options: InversionOptions = INVERSION,
) -> None:
    """Invert, reconstruct and edit one photograph, and write the pictures side by side as a labelled strip."""
    from renoise.cli.demo import FOLDER, edits, example, output_names, run

    with console.reporting(printed) as report:
        title = "photograph"
        if photo is None:
            photo, caption = example()
            title, prompt = "drawn by orchard", caption if prompt is None else prompt
        source = inputs.one_photograph(photo)
        image, text = source.picture(), tasks.caption(report, source, prompt, model)
        targets = [("edit", target) for target in to] if to else edits(text)
        folder = FOLDER if output is None else output
        outputs.check_folder(folder, output_names(len(targets)), source, overwrite or output is None)
        run(Models(model, report, [options.steps]).own(), image, title, text, targets, options, folder, report)
