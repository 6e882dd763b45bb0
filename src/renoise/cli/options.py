"""The options that subcommands share. Unset ones are None: the model's preset decides."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from renoise.cli.console import Format
from renoise.methods import METHODS

DEFAULT_MODEL = "orchard"


def _known_method(_: Any, name: str | None) -> None:
    if name is not None and name not in METHODS:
        raise ValueError(f"There is no method {name!r}, only {', '.join(METHODS)}.")


_LARGEST_SEED = 2**63 - 1
_POSITIVE, _NOT_NEGATIVE = Number(gte=1), Number(gte=0)
_MODEL, _METHOD = Group("Model", sort_key=2), Group("Inversion (unset: as the model's preset says)", sort_key=3)


@Parameter(name="*", group=_MODEL)
@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """Which model, and how it is loaded."""

    model: Annotated[
        str | None, Parameter(help="preset, local folder, .safetensors file or Hub id (default: orchard)")
    ] = None
    revision: Annotated[str | None, Parameter(help="branch, tag or commit on the Hub")] = None
    variant: Annotated[str | None, Parameter(help="of the weights, such as fp16 (default: plain ones, if any)")] = None
    config: Annotated[str | None, Parameter(help="of a .safetensors file: a model with the same parts")] = None
    dtype: Annotated[Literal["auto", "bf16", "fp16", "fp32"], Parameter(help="number format of the network")] = "auto"
    device: Annotated[str | None, Parameter(help="cpu, cuda, cuda:1, mps … (default: the fastest there is)")] = None
    cpu_offload: Annotated[bool, Parameter(help="keep idle parts in main memory", negative="")] = False
    vae_tiling: Annotated[bool, Parameter(help="encode and decode in tiles, to save memory", negative="")] = False
    lora: Annotated[str | None, Parameter(help="LoRA weights: file, folder or Hub id")] = None
    trust_remote_code: Annotated[bool, Parameter(help="run code that comes with the model", negative="")] = False


@Parameter(name="*", group=_METHOD)
@dataclasses.dataclass(frozen=True)
class InversionOptions:
    """How a photograph is inverted."""

    steps: Annotated[int | None, Parameter(help="sampler steps", validator=_POSITIVE)] = None
    strength: Annotated[float | None, Parameter(help="how far to noise: (0, 1]", validator=Number(gt=0, lte=1))] = None
    seed: Annotated[int | None, Parameter(help="of the random numbers", validator=Number(gte=0, lte=_LARGEST_SEED))] = (
        None
    )
    width: Annotated[int | None, Parameter(help="pixels", validator=_POSITIVE)] = None
    height: Annotated[int | None, Parameter(help="pixels", validator=_POSITIVE)] = None
    iterations: Annotated[int | None, Parameter(help="K of the paper; 0: plain DDIM", validator=_NOT_NEGATIVE)] = None
    tolerance: Annotated[float | None, Parameter(help="residual that is small enough", validator=_NOT_NEGATIVE)] = None
    lambda_pair: Annotated[float | None, Parameter(help="edit loss: uncorrelated noise", validator=_NOT_NEGATIVE)] = (
        None
    )
    lambda_kl: Annotated[float | None, Parameter(help="edit loss: normal noise", validator=_NOT_NEGATIVE)] = None
    noise_correction: Annotated[
        float | None, Parameter(help="how far noise may move, 0 to inf", validator=_NOT_NEGATIVE)
    ] = None
    anderson: Annotated[bool | None, Parameter(help="Anderson acceleration")] = None
    first_guess: Annotated[
        Literal["latent", "epsilon", "posterior"] | None, Parameter(help="where the iteration begins")
    ] = None

    settings: Annotated[
        Literal["default", "paper"], Parameter(help="start from the settings measured best, or from the paper's")
    ] = "default"
    method: Annotated[
        str | None, Parameter(help=f"{', '.join(METHODS)} (default: renoise)", validator=_known_method)
    ] = None

    def given(self) -> dict[str, Any]:
        """Return the options that were given."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {f.name: values[f.name] for f in dataclasses.fields(self) if values[f.name] != f.default}

    def fields(self) -> dict[str, Any]:
        """Return those of them that are fields of ReNoise."""
        return {name: value for name, value in self.given().items() if name not in _ARGUMENTS}


_ARGUMENTS = (
    "steps",
    "strength",
    "seed",
    "width",
    "height",
    "method",
    "settings",
)  # of renoise.invert; the others are fields of ReNoise
MODEL, INVERSION = ModelOptions(), InversionOptions()  # nothing given


def utf8(_: Any, texts: str | list[str] | None) -> None:
    """A shell passes on any bytes, and Python keeps those that are no UTF-8 as lone surrogates."""
    for text in [texts] if isinstance(texts, str) else texts or []:
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise ValueError("The text is not valid UTF-8.")


Output = Annotated[
    Path | None, Parameter(name=["--output", "-o"], help="default: named after the input, in this folder")
]
OutputFormat = Annotated[
    Format, Parameter(name="--format", help="json: one object on stdout, for programs (none on an error)")
]
Prompt = Annotated[str, Parameter(help="what the photograph shows", validator=utf8)]
Guidance = Annotated[
    float | None, Parameter(help="guidance scale (default: the preset's)", validator=Number(gte=0, lt=math.inf))
]
Negative = Annotated[str | None, Parameter(help="what the picture does not show", validator=utf8)]
SourceCorrection = Annotated[
    float | None,
    Parameter(help="0 to 1: how much of what an inexact inversion lacks is added", validator=Number(gte=0, lte=1)),
]
Mask = Annotated[
    str | None, Parameter(help="picture, white where it may change; auto: found; none (default: the preset's)")
]
KeepOutside = Annotated[bool, Parameter(help="put the photograph's own pixels back outside the mask", negative="")]
Strip = Annotated[Path | None, Parameter(help="also write source and edits side by side, labelled, to this picture")]
Page = Annotated[Path | None, Parameter(help="also write a page, .html, with sliders between source and edits")]
Targets = Annotated[
    list[str],
    Parameter(name="--to", help="what to make of it; repeat it for more pictures", negative="", validator=utf8),
]
