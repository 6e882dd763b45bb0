"""The options that several commands share. Options that are not given are None, and the preset of the model decides."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from renoise.cli.values import FILE, FILES, WHOLE, check_name, check_text
from renoise.methods import METHODS

DEFAULT_MODEL = "orchard"
Format = Literal["human", "json"]


def _check_method(_: Any, name: str | None) -> None:
    if name is not None and name not in METHODS:
        raise ValueError(f"There is no method {name!r}, only {', '.join(METHODS)}.")


_LARGEST_SEED = 2**63 - 1
_POSITIVE, _NOT_NEGATIVE = Number(gte=1), Number(gte=0, lt=math.inf)
_MOST_ITERATIONS = 1000
_MODEL, _METHOD = Group("Model", sort_key=2), Group("Inversion (default: from the model's preset)", sort_key=3)


@Parameter(name="*", group=_MODEL)
@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """The model and how to load it."""

    model: Annotated[
        str | None,
        Parameter(
            help="name of a preset, local folder, .safetensors file or Hugging Face Hub id (default: orchard)",
            validator=check_name,
        ),
    ] = None
    revision: Annotated[str | None, Parameter(help="branch, tag or commit of the model on the Hub")] = None
    variant: Annotated[
        str | None, Parameter(help="variant of the weights, such as fp16 (default: plain weights, if any)")
    ] = None
    config: Annotated[
        str | None, Parameter(help="for a .safetensors file: folder or Hub id of a model with the same parts")
    ] = None
    dtype: Annotated[Literal["auto", "bf16", "fp16", "fp32"], Parameter(help="floating-point type of the network")] = (
        "auto"
    )
    device: Annotated[
        str | None,
        Parameter(help="device: cpu, cuda, cuda:1, mps … (default: the fastest available)", validator=check_name),
    ] = None
    cpu_offload: Annotated[
        bool,
        Parameter(
            help="keep unused parts of the model in main memory, to save GPU memory", negative="", show_default=False
        ),
    ] = False
    vae_tiling: Annotated[
        bool, Parameter(help="encode and decode the picture in tiles, to save memory", negative="", show_default=False)
    ] = False
    lora: Annotated[
        str | None, Parameter(help="LoRA weights to load: file, folder or Hub id", validator=check_name)
    ] = None
    trust_remote_code: Annotated[
        bool, Parameter(help="allow running code that comes with the model", negative="", show_default=False)
    ] = False


@Parameter(name="*", group=_METHOD)
@dataclasses.dataclass(frozen=True)
class InversionOptions:
    """Settings of the inversion."""

    steps: Annotated[int | None, Parameter(help="number of sampler steps", validator=_POSITIVE), WHOLE] = None
    strength: Annotated[
        float | None,
        Parameter(
            help="how far to noise the photograph, from 0 to 1 (1: to pure noise)", validator=Number(gt=0, lte=1)
        ),
    ] = None
    seed: Annotated[
        int | None, Parameter(help="seed of the random numbers", validator=Number(gte=0, lte=_LARGEST_SEED)), WHOLE
    ] = None
    width: Annotated[
        int | None, Parameter(help="width in pixels; the photograph is cropped to it", validator=_POSITIVE), WHOLE
    ] = None
    height: Annotated[
        int | None, Parameter(help="height in pixels; the photograph is cropped to it", validator=_POSITIVE), WHOLE
    ] = None
    iterations: Annotated[
        int | None,
        Parameter(
            help="fixed-point iterations per step (K in the paper); 0 is plain DDIM inversion",
            validator=Number(gte=0, lte=_MOST_ITERATIONS),
        ),
        WHOLE,
    ] = None
    tolerance: Annotated[
        float | None,
        Parameter(
            help="stop iterating when the residual falls below this value; 0 runs all iterations",
            validator=_NOT_NEGATIVE,
        ),
    ] = None
    lambda_pair: Annotated[
        float | None,
        Parameter(help="weight of the edit loss that keeps the noise uncorrelated", validator=_NOT_NEGATIVE),
    ] = None
    lambda_kl: Annotated[
        float | None,
        Parameter(help="weight of the edit loss that keeps the noise normally distributed", validator=_NOT_NEGATIVE),
    ] = None
    noise_correction: Annotated[
        float | None,
        Parameter(
            help="how far the noise of stochastic samplers may change, from 0 to inf (inf: exact steps)",
            validator=Number(gte=0),
        ),
    ] = None
    anderson: Annotated[bool | None, Parameter(help="use Anderson acceleration, which needs fewer iterations")] = None
    first_guess: Annotated[
        Literal["latent", "epsilon", "posterior"] | None, Parameter(help="starting point of the iteration")
    ] = None

    noised_below: Annotated[
        float | None,
        Parameter(
            help="noise level, sigma / alpha, below which steps are noised instead of inverted; 0 inverts all steps",
            validator=_NOT_NEGATIVE,
        ),
    ] = None
    settings: Annotated[
        Literal["default", "paper"], Parameter(help="base settings: those of the preset, or those of the paper")
    ] = "default"
    method: Annotated[
        str | None,
        Parameter(help=f"inversion method: {', '.join(METHODS)} (default: renoise)", validator=_check_method),
    ] = None

    def given(self) -> dict[str, Any]:
        """Return the options that differ from their defaults."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {f.name: values[f.name] for f in dataclasses.fields(self) if values[f.name] != f.default}

    def fields(self) -> dict[str, Any]:
        """Return the given options that are fields of ReNoise."""
        return {name: value for name, value in self.given().items() if name not in _INVERT_ARGUMENTS}


_INVERT_ARGUMENTS = (
    "steps",
    "strength",
    "seed",
    "width",
    "height",
    "method",
    "settings",
)  # arguments of renoise.invert; all other options are fields of ReNoise


@Parameter(name="*")
@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """What a command prints."""

    format: Annotated[
        Format, Parameter(name="--format", help="format of the report; json prints one object to stdout")
    ] = "human"
    quiet: Annotated[
        bool,
        Parameter(
            name=["--quiet", "-q"],
            help="print errors and the names of the outputs only",
            negative="",
            show_default=False,
        ),
    ] = False
    verbose: Annotated[
        bool,
        Parameter(
            name=["--verbose", "-v"],
            help="also print where the time goes, the residual of each step and the libraries' log",
            negative="",
            show_default=False,
        ),
    ] = False

    def __post_init__(self) -> None:
        if self.quiet and self.verbose:
            raise ValueError("--quiet and --verbose exclude each other: leave one out")


MODEL, INVERSION, REPORT = ModelOptions(), InversionOptions(), ReportOptions()  # no option given


OutputFormat = Annotated[
    Format, Parameter(name="--format", help="format of the report; json prints one object to stdout")
]
Output = Annotated[
    Path | None,
    FILE,
    Parameter(
        name=["--output", "-o"],
        help="file or existing folder to write to, or - for stdout; for several inputs a folder, which is created "
        "(default: files in this folder, named after the inputs)",
    ),
]
OneOutput = Annotated[
    Path | None,
    FILE,
    Parameter(
        name=["--output", "-o"],
        help="file or existing folder to write to (default: a file in this folder, named after the input)",
    ),
]
Overwrite = Annotated[
    bool, Parameter(help="replace outputs that exist (default: keep them)", negative="", show_default=False)
]
_FORMATS = "PNG, JPEG, WebP, HEIC or another format of Pillow"
Photos = Annotated[
    list[Path], FILES, Parameter(name="PHOTO", help=f"photographs ({_FORMATS}), folders of them, or - for stdin")
]
Photo = Annotated[Path, FILE, Parameter(help=f"photograph ({_FORMATS}), or - for stdin")]
InversionFiles = Annotated[
    list[Path],
    FILES,
    Parameter(
        name="INVERSION", help="inversions (.safetensors files of renoise invert), folders of them, or - for stdin"
    ),
]
Sources = Annotated[
    list[Path],
    FILES,
    Parameter(name="SOURCE", help="photographs or inversions (.safetensors), folders of photographs, or - for stdin"),
]
Prompt = Annotated[
    str | None,
    Parameter(
        help="description of the photograph (default: from a metadata.jsonl beside it, with file_name and text)",
        validator=check_text,
    ),
]
Guidance = Annotated[
    float | None, Parameter(help="guidance scale (default: from the preset)", validator=Number(gte=0, lt=math.inf))
]
Negative = Annotated[
    str | None, Parameter(help="description of what the picture should not show", validator=check_text)
]
Editability = Annotated[
    float | None,
    Parameter(
        help="how freely the edit may depart from the photograph, from 0 (its own noise) to 1 (a new drawing)",
        validator=Number(gte=0, lte=1),
    ),
]
SourceCorrection = Annotated[
    float | None,
    Parameter(
        help="how much to correct errors of the inversion, from 0 to 1; costs one more evaluation per step",
        validator=Number(gte=0, lte=1),
    ),
]
Mask = Annotated[
    str | None,
    Parameter(
        help="where the picture may change: a picture file (white: may change), auto or none (default: from the preset)",
        validator=check_name,
    ),
]
Strip = Annotated[Path | None, FILE, Parameter(help="also write a picture with the source and all edits side by side")]
Page = Annotated[
    Path | None, FILE, Parameter(help="also write an .html page with a slider between the source and each edit")
]
Targets = Annotated[
    list[str],
    Parameter(
        name="--to",
        help="prompt of the edited picture; repeat the option for more pictures",
        negative="",
        validator=check_text,
    ),
]
