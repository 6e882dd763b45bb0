"""What `renoise info` and `renoise presets` print for people."""

import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from renoise.cli.console import quality
from renoise.cli.errors import escaped, one_line

if TYPE_CHECKING:
    from renoise.inversion import Inversion
    from renoise.pipelines.presets import Preset

_WIDTH = 80
_SMALL, _MEDIUM = 0.1, 2.0  # billions of parameters that a CPU runs in seconds, and in minutes


def print_info(name: object, found: "Inversion") -> None:
    """Print how an inversion was made and how good it is, in groups."""
    print(escaped(name))
    for label, text in _info(found):
        lines = textwrap.wrap(one_line(text), max(40, min(shutil.get_terminal_size().columns, 100) - 16)) or [""]
        print(f"  {label:<12}  {lines[0]}", *(f"{'':<16}{line}" for line in lines[1:]), sep="\n")


def print_presets(presets: Iterable["Preset"]) -> None:
    """Print presets for people, in lines of at most 80 characters."""
    row = "{:<16} {:>4} {:>5}  {:<8}  {}"
    print(row.format("name", "size", "steps", "settings", "settings of the paper"))
    for preset in presets:
        settings = "measured" if preset.settings else "rule"
        print(row.format(preset.name, preset.size, preset.steps, settings, preset.paper or "none"))
        for text in (preset.about, _needs(preset), f"license: {preset.license}"):
            print(textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent="  "))
    print(
        "\nsize: width and height in pixels"
        "\nsettings: measured for this model, or chosen by a rule for its sampler"
        "\nsettings of the paper: used by --settings paper"
        "\nmemory: of the weights, with 16 bits each on a GPU and 32 on a CPU; the picture"
        "\n  needs more, a large one several GB"
        "\ndownload: --variant fp16 halves that of sd15, sd-turbo, sdxl and what builds on"
        "\n  them"
        "\nAll fields, such as the repository: renoise presets --format json"
    )


def _needs(preset: "Preset") -> str:
    """Say what a preset needs: the download, the memory of its weights, and whether a CPU will do."""
    download = "comes with renoise" if preset.download_gb == 0 else f"download {_about(preset.download_gb)}"
    if preset.parameters is None:
        return f"{download}; memory unknown"
    if preset.parameters < _SMALL:
        return f"{download}; a CPU will do"
    gpu, cpu = preset.parameters * 2, preset.parameters * 4
    slow = "slow" if preset.parameters < _MEDIUM else "very slow"
    return f"{download}; memory {_about(gpu)} (GPU) or {cpu:.2g} GB (CPU: {slow})"


def _about(gigabytes: float | None) -> str:
    if gigabytes is None:
        return "unknown"
    return f"about {gigabytes:.2g} GB"


def _info(found: "Inversion") -> Iterator[tuple[str, str]]:
    from renoise.spectrum import BANDS

    record, metrics = found.record, found.record.metrics
    yield "prompt", record.prompt[0] or "none"
    if record.negative_prompt and record.negative_prompt[0]:
        yield "negative", record.negative_prompt[0]
    yield "model", record.model + (f", revision {record.revision}" if record.revision else "")
    if record.adapters:
        yield "LoRA", ", ".join(sorted({name for part in record.adapters.values() for name in part}))
    if record.required_arguments:
        yield "needs", f"{', '.join(record.required_arguments)}, which the file does not hold"
    yield "size", f"{record.width} x {record.height} pixels"
    guidance = "" if record.guidance_scale is None else f", guidance {record.guidance_scale:g}"
    yield (
        "steps",
        f"{record.num_inference_steps} of {record.sampler}, strength {record.strength:g}, seed {record.seed}{guidance}",
    )
    yield "method", f"{record.method}{_settings(record.settings)}"
    figures = {
        "psnr": metrics.psnr and metrics.psnr[0],
        "autoencoder_psnr": metrics.autoencoder_psnr and metrics.autoencoder_psnr[0],
    }
    yield "quality", quality(figures) or "not measured"
    residuals = [step[0] for step in metrics.residuals if step[0] is not None]
    if metrics.remainder and metrics.remainder[0] is not None:
        yield "remainder", f"the noise alone lacks {metrics.remainder[0]:.1%} of the photograph, which the file holds"
    if metrics.spectrum:
        yield "spectrum", "power by frequency (cycles per side), as a multiple of that of noised photographs:"
        for number, noise in enumerate(metrics.spectrum):
            name = "x_T" if number == 0 else f"noise {number}"
            yield "", f"{name}: {', '.join(_band(*one) for one in zip(BANDS, noise, strict=True))}"
    yield "cost", f"{metrics.evaluations:g} network calls, {metrics.seconds:.1f} s"
    if residuals:
        yield "residuals", f"at most {max(residuals):.2g}, {sum(step[0] for step in metrics.diverged)} steps diverged"
    for text in metrics.warnings:
        yield "warning", text
    yield "made with", ", ".join(f"{name} {version}" for name, version in record.versions.items())
    yield "", "All fields: renoise info FILE --format json"


def _band(band: tuple[int, int], power: list[float | None]) -> str:
    """Describe the power of the first image in a band of frequencies. The last band has no upper limit."""
    first, last = band
    name = f"{first}" if first == last else f"{first}+" if last > 1000 else f"{first}-{last}"
    return f"{name} {'–' if power[0] is None else f'{power[0]:.2g}'}"


def _settings(settings: Mapping[str, Any]) -> str:
    """Describe the settings of a method that are not off."""
    named = {name.replace("_", " "): value for name, value in settings.items() if name not in ("source", "boundary")}
    parts = [f"{name} {value}" for name, value in named.items() if value not in (None, False, 0, "")]
    source = [settings["source"]] if settings.get("source") else []
    return "".join(f", {part}" for part in [*parts, *source])
