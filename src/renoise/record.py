"""The record of an inversion: a JSON object with everything but the tensors that a reconstruction needs.

When a record is read, msgspec checks types and ranges, and `Record.validate` checks that its parts are consistent.
"""

import math
from dataclasses import dataclass, field, fields
from math import isclose
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from renoise import methods
from renoise.methods import Method
from renoise.programs import Inverted
from renoise.schedule import Level, Schedule

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 3
LARGEST_SIDE = 16384  # pixels
MOST_STEPS = 10_000
# What a file may hold of the pipeline's arguments: they must not allocate without bound.
LARGEST_NUMBER, LONGEST_LIST, LONGEST_TEXT = 16384, 4096, 65536
NAMED = {
    "prompt",
    "negative_prompt",
    "height",
    "width",
    "num_inference_steps",
    "guidance_scale",
}  # fields of the record
OURS = {
    "latents",
    "generator",
    "num_images_per_prompt",
    "return_dict",
    "output_type",
    "timesteps",
    "sigmas",
}  # set by renoise
TUPLE = "tuple"  # how a file writes a tuple, which JSON does not have
DETERMINISTIC = "DDIM(eta=0.0)"

Count = Annotated[int, Meta(ge=0)]
Side = Annotated[int, Meta(ge=1, le=LARGEST_SIDE)]
Fingerprint = Annotated[str, Meta(pattern="^(?:[0-9a-f]{4})+$")]


@dataclass(frozen=True)
class Metrics:
    """Cost and quality of an inversion. Nested lists are indexed by step, noisiest first, then by image.

    Args:
        residuals: ‖x^(k) − x^(k−1)‖/√numel, None where it is not finite.
        iterations: network evaluations that the image needed in the fixed-point iteration.
        diverged: whether the iteration diverged and an earlier iterate was used.
        evaluations: total number of network evaluations per image. Guidance doubles it.
        step_evaluations: the same for each step.
        seconds: wall-clock time of the whole call, for the batch.
        spectrum: power of x_T and then of the noises, noisiest first, as a multiple of that of noised photographs: for
            each, of each band of `spectrum.BANDS`, per image. None if the layout of the latents is not known.
        psnr: PSNR in dB of what the noise alone draws, per image. None if it was not measured.
        autoencoder_psnr: PSNR in dB of the autoencoder alone, which a reconstruction with the remainder reaches.
        remainder: ‖r‖/‖x_0‖ of the remainder r, per image. None if it is not known.
        warnings: messages for the user, such as steps that did not converge.
    """

    residuals: list[list[float | None]]
    iterations: list[list[Count]]
    diverged: list[list[bool]]
    evaluations: float
    step_evaluations: list[float]
    seconds: float
    spectrum: list[list[list[float | None]]] | None = None
    psnr: list[float | None] | None = None
    autoencoder_psnr: list[float | None] | None = None
    remainder: list[float | None] | None = None
    warnings: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls, found: Inverted, spectrum: "Tensor | None", evaluations: float, seconds: float, warnings: list[str]
    ) -> "Metrics":
        """Collect the metrics of an inversion with this spectrum (1 + m, bands, B) and network evaluations per image."""
        per_call = evaluations / max(sum(found.calls.tolist()), 1)  # 2 if guidance doubles the batch
        return cls(
            residuals=[_finite(step) for step in found.residuals.tolist()],
            iterations=found.iterations.tolist(),
            diverged=found.diverged.tolist(),
            evaluations=evaluations,
            step_evaluations=[calls * per_call for calls in found.calls.tolist()],
            spectrum=None if spectrum is None else [[_finite(b) for b in one] for one in spectrum.tolist()],
            seconds=seconds,
            warnings=warnings,
        )

    def __getitem__(self, i: int) -> "Metrics":
        """Return the metrics of one image."""
        per_step = {
            name: [[step[i]] for step in getattr(self, name)] for name in ("residuals", "iterations", "diverged")
        }
        per_image = {name: getattr(self, name) and [getattr(self, name)[i]] for name in _PER_IMAGE}
        spectrum = self.spectrum and [[[band[i]] for band in one] for one in self.spectrum]
        own = {**per_step, **per_image, "spectrum": spectrum}
        return Metrics(**{**{f.name: getattr(self, f.name) for f in fields(self)}, **own})


_PER_IMAGE = "psnr", "autoencoder_psnr", "remainder"


def _finite(values: list[float]) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in values]


@dataclass(frozen=True)
class Record:
    """How an inversion was made. Lists are indexed by image.

    Args:
        model: name, folder or Hub id of the model.
        revision: its commit on the Hub.
        pipeline: class name of the pipeline.
        adapters: the LoRAs that were enabled, as part of the pipeline -> name -> [weight, root mean square of its
            values].
        fingerprint: a few weights of the network (float16, hexadecimal) that identify it. None if they could not be
            read.
        sampler: the sampler that corresponds to the scheduler.
        prediction: prediction type of the network.
        levels: [alpha, sigma, timestep] of each noise level, noisiest first. The last one is the clean end.
        start: index of the first level that was used. It is above 0 if `strength` is below 1.
        method: name of the method.
        settings: fields of the method.
        call: further arguments of the pipeline.
        required_arguments: names of arguments that a file cannot store. They must be passed again.
        checksum: SHA-256 of the tensors in the file, None before it is saved.
    """

    model: str
    revision: str | None
    pipeline: str
    sampler: str
    prediction: str
    levels: list[tuple[float, float, float]]
    start: Count
    prompt: list[str]
    negative_prompt: list[str] | None
    height: Side
    width: Side
    seed: int
    strength: Annotated[float, Meta(gt=0, le=1)]
    num_inference_steps: Annotated[int, Meta(ge=1, le=MOST_STEPS)]
    guidance_scale: float | None
    method: str
    settings: dict[str, Any]
    versions: dict[str, str]
    metrics: Metrics
    adapters: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    fingerprint: Fingerprint | None = None
    call: dict[str, Any] = field(default_factory=dict)
    required_arguments: list[str] = field(default_factory=list)
    checksum: str | None = None
    format_version: int = FORMAT_VERSION

    def __getitem__(self, i: int) -> "Record":
        """Return the record of one image."""
        many = len(self.prompt)
        texts = {k: v for k, v in self.call.items() if isinstance(v, list) and all(isinstance(x, str) for x in v)}
        one = {
            "prompt": [self.prompt[i]],
            "negative_prompt": self.negative_prompt and [self.negative_prompt[i]],
            "call": self.call | {k: v[i : i + 1] for k, v in texts.items() if len(v) == many},
            "metrics": self.metrics[i],
        }
        return Record(**{**{f.name: getattr(self, f.name) for f in fields(self)}, **one})

    def to_json(self) -> str:
        """Return the record as JSON. Its keys are sorted, so the same inversion gives the same bytes."""
        return msgspec.json.encode(self, order="sorted").decode()

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Read a record from JSON. Raise ValueError if it is invalid or of another format version."""
        try:
            version = msgspec.json.decode(text, type=_Version).format_version
            if version != FORMAT_VERSION:
                advice = "update renoise" if version > FORMAT_VERSION else "invert the photograph again"
                raise ValueError(f"its format is {version}, this renoise reads {FORMAT_VERSION}: {advice}")
            record = msgspec.json.decode(text, type=cls)
            record.validate()
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError(f"its record cannot be read ({error})") from None
        return record

    def validate(self) -> None:
        """Raise ValueError unless the parts of the record are consistent."""
        images, steps = len(self.prompt), len(self.levels) - 1 - self.start
        Schedule(tuple(Level(*level) for level in self.levels))  # raises unless the noise decreases
        self.restored_method()
        check_call(self.call)
        metrics = self.metrics
        per_step = (metrics.residuals, metrics.iterations, metrics.diverged)
        lists = (self.negative_prompt, *(getattr(metrics, name) for name in _PER_IMAGE))
        lists += tuple(band for one in metrics.spectrum or [] for band in one)
        fit = (
            images > 0
            and steps > 0
            and all(len(part) == steps and all(len(step) == images for step in part) for part in per_step)
            and len(metrics.step_evaluations) == steps
            and all(part is None or len(part) == images for part in lists)
        )
        if not fit:
            raise ValueError("the parts of its record do not fit together")

    def restored_method(self) -> Method:
        """Return the method of the inversion. Raise ValueError if the method or its settings are unknown."""
        try:
            values = {name: math.inf if value == "inf" else value for name, value in self.settings.items()}
            if self.method not in methods.METHODS:
                name = self.method
                raise ValueError(
                    f"it was made by the method {name!r}, which is not known here: set renoise.METHODS[{name!r}]"
                )
            return msgspec.convert(values, methods.method_class(self.method))
        except msgspec.ValidationError as error:
            raise ValueError(f"its settings are not those of {self.method} ({error})") from None

    def check(self, schedule: Schedule, start: int, sampler: str, prediction: str) -> None:
        """Raise ValueError unless the pipeline's scheduler can denoise from the noise of the inversion.

        Args:
            schedule: the noise levels of the pipeline's scheduler.
            start: index of the level from which the pipeline denoises.
            sampler: the sampler that corresponds to the scheduler.
            prediction: prediction type of the network.
        """
        theirs = [(level.alpha, level.sigma, level.time) for level in schedule.levels]
        if len(theirs) != len(self.levels) and self.sampler != DETERMINISTIC:
            count = len(self.levels) - 1
            raise ValueError(
                f"num_inference_steps must be that of the inversion: it holds the noises of its {count} steps, "
                f"and the pipeline takes {len(theirs) - 1}"
            )
        if (sampler, prediction) != (self.sampler, self.prediction):
            now, then = f"{sampler} on {prediction}", f"{self.sampler} on {self.prediction}"
            raise ValueError(
                f"the pipeline samples with {now}, the inversion was made with {then}: use the same scheduler"
            )
        if len(theirs) == len(self.levels):
            if not all(_near(*pair) for pair in zip(theirs, self.levels, strict=True)):
                raise ValueError(
                    "the pipeline's scheduler has other noise levels than the inversion: restore its configuration"
                )
        elif not _near(theirs[start], self.levels[self.start], 1e-3):
            now, then = f"t = {theirs[start][2]:.0f}", f"t = {self.levels[self.start][2]:.0f}"
            raise ValueError(
                f"with this num_inference_steps the pipeline starts at {now}, but the inversion ended at {then}: keep "
                'the number of the inversion, or give the scheduler timestep_spacing="trailing" and invert again'
            )


class _Version(msgspec.Struct):
    format_version: int


def check_call(call: dict[str, Any]) -> None:
    """Raise ValueError for stored arguments that are too large, set by renoise itself, or malformed."""
    if set_here := sorted((NAMED | OURS) & call.keys()):
        raise ValueError(f"the pipeline's arguments hold {', '.join(set_here)}, which renoise sets")
    values = list[Any](call.values())
    while values:
        value = values.pop()
        if isinstance(value, int | float) and not abs(value) <= LARGEST_NUMBER:
            raise ValueError(f"the pipeline's arguments hold {value}, which is too large a number")
        limit = LONGEST_TEXT if isinstance(value, str) else LONGEST_LIST
        if isinstance(value, list | str) and len(value) > limit:
            raise ValueError(f"the pipeline's arguments hold {len(value)} values, which is too many")
        if isinstance(value, dict) and TUPLE in value and not (len(value) == 1 and isinstance(value[TUPLE], list)):
            raise ValueError("the pipeline's arguments hold a malformed tuple")
        values += value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []


def plain_settings(method: Method) -> dict[str, Any]:
    """Return the fields of a method as JSON values. Infinity becomes the string `inf`."""
    values = msgspec.to_builtins(method)
    return {name: "inf" if value == math.inf else value for name, value in values.items()}


def _near(a: tuple[float, ...], b: tuple[float, ...], tolerance: float = 1e-5) -> bool:
    """Return whether two levels are equal up to rounding errors."""
    return all(isclose(x, y, rel_tol=tolerance, abs_tol=tolerance) for x, y in zip(a, b, strict=True))
