"""The result of an inversion, and its file: one .safetensors whose header holds one JSON string, `renoise`.

Two tensors: `latents` (x_T) and, for stochastic samplers, `noises`. Everything else that a reconstruction on another machine
needs is in the record. A file loads without the model, and nothing in it is executed.
"""

import json
import os
import re
from dataclasses import asdict, dataclass, field, fields, replace
from math import isclose, isfinite
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from renoise.algorithm import Trajectory
from renoise.files import write
from renoise.schedule import Schedule

FORMAT_VERSION = 1
LARGEST_HEADER = 16 * 2**20  # bytes of JSON that a file may ask us to read
LARGEST_SIDE = 16384  # pixels
DETERMINISTIC = "DDIM(eta=0.0)"


@dataclass(frozen=True)
class Record:
    """How an inversion was made: plain JSON values. Lists run over the images of the batch.

    levels      [[alpha, sigma, timestep], …] noisiest first, the last is the clean end; `start` is the first one that was used
    adapters    names of the LoRAs that were active
    weights     a few of the network's, to know it again (float16, hexadecimal); None if they could not be read
    call        extra arguments of the pipeline; `needs` names those that are no JSON and must be given again
    metrics     residuals, iterations, diverged: per step and image, noisiest first; evaluations, step_evaluations: network
                evaluations per image, in all and per step, guidance counted twice; psnr and ceiling_psnr: dB per image, if
                measured; std: standard deviation of x_T per image; seconds; warnings
    """

    model: str
    revision: str | None
    pipeline: str
    sampler: str
    prediction: str
    levels: list[list[float]]
    start: int
    prompt: list[str]
    negative_prompt: list[str] | None
    height: int
    width: int
    seed: int
    strength: float
    num_inference_steps: int
    guidance_scale: float | None
    settings: dict[str, Any]
    versions: dict[str, str]
    adapters: list[str] = field(default_factory=list)
    weights: str | None = None
    call: dict[str, Any] = field(default_factory=dict)
    needs: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def check(self, schedule: Schedule, start: int, sampler: str, prediction: str) -> None:
        """ValueError, with the fix, unless a scheduler read so can denoise from where the inversion ended."""
        theirs = [[level.alpha, level.sigma, level.time] for level in schedule.levels]
        if (sampler, prediction) != (self.sampler, self.prediction):
            now, then = f"{sampler} on {prediction}", f"{self.sampler} on {self.prediction}"
            raise ValueError(
                f"the pipeline samples with {now}, the inversion was made with {then}: set its scheduler so"
            )
        if len(theirs) == len(self.levels):
            if not all(_near(*pair) for pair in zip(theirs, self.levels, strict=True)):
                raise ValueError("the pipeline's scheduler has other noise levels than the inversion: set it as it was")
        elif sampler != DETERMINISTIC:
            count = len(self.levels) - 1
            raise ValueError(
                f"num_inference_steps must be that of the inversion: it holds the noises of its {count} steps"
            )
        elif not _near(theirs[start], self.levels[self.start], 1e-3):
            now, then = f"t = {theirs[start][2]:.0f}", f"t = {self.levels[self.start][2]:.0f}"
            raise ValueError(
                f"with so many num_inference_steps the pipeline starts at {now}, the inversion ended at {then}: keep its "
                'number, or give the scheduler timestep_spacing="trailing" and invert again'
            )


def _near(a: list[float], b: list[float], tolerance: float = 1e-5) -> bool:
    """Whether two levels are the same, up to another machine's rounding."""
    return all(isclose(x, y, rel_tol=tolerance, abs_tol=tolerance) for x, y in zip(a, b, strict=True))


def describe(found: Trajectory, evaluations: float) -> dict[str, Any]:
    """A trajectory as JSON: its record, and the network evaluations per image in all and per step."""
    columns = {name: getattr(found, name).tolist() for name in ("residuals", "iterations", "diverged")}
    columns["residuals"] = [[r if isfinite(r) else None for r in step] for step in columns["residuals"]]
    per_call = evaluations / max(sum(found.calls.tolist()), 1)  # 2 where guidance doubles the batch
    spent = {"evaluations": evaluations, "step_evaluations": [calls * per_call for calls in found.calls.tolist()]}
    return {**columns, **spent, "std": found.x_T.flatten(1).std(1).tolist()}


@dataclass(frozen=True)
class Inversion:
    """Latents x_T (B, ...), the noises (m, B, ...) of the m stochastic steps or None, both float32, and their record.

    `course` (n, B, ...), the latents after each of the n steps, is not kept in files; a file's `edit` finds it again if it must.
    """

    latents: Tensor
    noises: Tensor | None
    record: Record
    course: Tensor | None = None

    @property
    def prompt(self) -> list[str]:
        return self.record.prompt

    @property
    def psnr(self) -> list[float] | None:
        """Of the reconstruction against the photograph, in dB, per image; None if it was not measured."""
        return self.record.metrics.get("psnr")

    @property
    def ceiling_psnr(self) -> list[float] | None:
        """Of the autoencoder alone, in dB, per image: no reconstruction can be closer."""
        return self.record.metrics.get("ceiling_psnr")

    @property
    def evaluations(self) -> float:
        """Network evaluations per image that the inversion took; guidance doubles them."""
        return self.record.metrics["evaluations"]

    @property
    def residuals(self) -> list[list[float | None]]:
        """‖z^(k) − z^(k−1)‖/√numel of every step (noisiest first) and image; None if it was not finite."""
        return self.record.metrics["residuals"]

    @property
    def warnings(self) -> list[str]:
        """What a user should know before trusting it."""
        return self.record.metrics.get("warnings", [])

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, i: int) -> "Inversion":
        """One image of the batch, as a batch of one."""
        i = range(len(self))[i]
        record, metrics = self.record, dict(self.record.metrics)
        for name in ("residuals", "iterations", "diverged"):
            metrics[name] = [[step[i]] for step in metrics[name]]
        for name in ("psnr", "ceiling_psnr", "std"):
            if metrics.get(name) is not None:
                metrics[name] = [metrics[name][i]]
        many = len(self)
        texts = {k: v for k, v in record.call.items() if isinstance(v, list) and all(isinstance(x, str) for x in v)}
        call = record.call | {k: v[i : i + 1] for k, v in texts.items() if len(v) == many}
        negative = record.negative_prompt and [record.negative_prompt[i]]
        record = replace(record, prompt=[record.prompt[i]], negative_prompt=negative, call=call, metrics=metrics)
        noises, course = (None if x is None else x[:, i : i + 1] for x in (self.noises, self.course))
        return Inversion(self.latents[i : i + 1], noises, record, course)

    def save(self, path: str | os.PathLike[str], dtype: torch.dtype = torch.float32) -> Path:
        """Write the file, whole or not at all; `dtype` float16 halves its size. OSError if it cannot be written."""
        if not dtype.is_floating_point:
            raise ValueError(f"latents are saved in a floating point dtype, not in {dtype}")
        tensors = {"latents": self.latents, "noises": self.noises}
        tensors = {name: x.detach().to("cpu", dtype).contiguous() for name, x in tensors.items() if x is not None}
        # one key: with several, their order and so the bytes would differ from run to run
        return write(Path(path), save(tensors, {"renoise": json.dumps(asdict(self.record), sort_keys=True)}))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Inversion":
        """Read a file, without its model. FileNotFoundError; ValueError for a foreign, damaged or newer file."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no such file: {path}" if not path.exists() else f"{path} is not a file")
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > LARGEST_HEADER:
                raise ValueError(f"{path} is no inversion of renoise, or damaged: it claims an absurd header")
        try:
            with safe_open(path, framework="pt") as file:
                header = (file.metadata() or {}).get("renoise")
                if header is None:
                    raise ValueError(f"{path} is a .safetensors file, but no inversion of renoise")
                record = _record(path, header)
                names = set(file.keys())
                if not {"latents"} <= names <= {"latents", "noises"}:
                    raise ValueError(f"{path} is damaged: it holds {sorted(names)} instead of latents and noises")
                latents, noises = file.get_tensor("latents"), file.get_tensor("noises") if "noises" in names else None
        except (SafetensorError, OverflowError) as error:
            raise ValueError(f"{path} is no inversion of renoise, or damaged: {error}") from None
        _check(path, latents, noises, record)
        return cls(latents.float(), None if noises is None else noises.float(), record)


def _record(path: Path, header: str) -> Record:
    """The record of a header; ValueError if it is newer, or not of the types that it should be."""
    try:
        values = json.loads(header)
        version = values["format_version"]
        if version > FORMAT_VERSION:
            raise ValueError(
                f"{path} was written by a newer renoise (format {version}, this reads {FORMAT_VERSION}): update"
            )
        record = Record(**{f.name: values[f.name] for f in fields(Record) if f.name in values or f.name != "weights"})
        numbers = (record.height, record.width, record.num_inference_steps, record.start, record.seed)
        sound = (
            all(isinstance(number, int) for number in numbers)
            and all(1 <= side <= LARGEST_SIDE for side in (record.height, record.width))
            and isinstance(record.prompt, list)
            and all(isinstance(prompt, str) for prompt in record.prompt)
            and 0 < record.strength <= 1
            and (record.guidance_scale is None or isfinite(record.guidance_scale))
            and (record.weights is None or re.fullmatch("(?:[0-9a-f]{4})+", record.weights) is not None)
            and isinstance(record.levels, list)
            and 0 <= record.start < len(record.levels) - 1
            and all(isinstance(level, list) and list(map(type, level)) == [float] * 3 for level in record.levels)
            and all(isinstance(part, dict) for part in (record.settings, record.call, record.metrics))
            and isfinite(record.metrics["evaluations"])
            and all(isinstance(record.metrics[name], list) for name in ("residuals", "iterations", "diverged"))
        )
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: its record cannot be read ({error})") from None
    if not sound:
        raise ValueError(f"{path} is damaged: its record does not make sense")
    return record


def _check(path: Path, latents: Tensor, noises: Tensor | None, record: Record) -> None:
    """ValueError unless tensors and record fit together."""
    steps = len(record.levels) - 1 - record.start
    fit = latents.is_floating_point() and 3 <= latents.ndim <= 5 and len(latents) == len(record.prompt)
    if noises is not None:
        fit = fit and noises.is_floating_point() and noises.shape[1:] == latents.shape and len(noises) <= steps
    if not fit:
        raise ValueError(f"{path} is damaged: its tensors do not fit its record")
    if not all(bool(x.isfinite().all()) for x in (latents, noises) if x is not None):
        raise ValueError(f"{path} holds latents that are not finite")
