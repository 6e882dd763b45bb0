"""The result of an inversion, and its file: one .safetensors whose header holds one JSON string, `renoise`.

Two tensors: `latents` (x_T) and, for stochastic samplers, `noises`. The record (record.py) holds everything else. A file loads
without the model, and nothing in it is executed.
"""

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from renoise.files import write
from renoise.record import Record

LARGEST_HEADER = 16 * 2**20  # bytes of JSON that a file may ask us to read


@dataclass(frozen=True)
class Inversion:
    """The noise of a photograph, and the record of how it was found.

    Args:
        latents: x_T (B, ...), float32.
        noises: fresh noise (m, B, ...) of the m stochastic steps, float32, or None.
        record: how the inversion was made.
        trajectory: latents (n, B, ...) after each of the n steps. Files do not hold it; `edit` finds it again if it must.
        arguments: the arguments of the pipeline that no file can hold, such as prompt embeddings or a ControlNet's picture.
    """

    latents: Tensor
    noises: Tensor | None
    record: Record
    trajectory: Tensor | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> list[str]:
        """The source prompt of each image."""
        return self.record.prompt

    @property
    def psnr(self) -> list[float | None] | None:
        """PSNR of the reconstruction against the photograph, in dB, per image; None if it was not measured."""
        return self.record.metrics.psnr

    @property
    def autoencoder_psnr(self) -> list[float | None] | None:
        """PSNR of the autoencoder alone, in dB, per image: no reconstruction can be closer."""
        return self.record.metrics.autoencoder_psnr

    @property
    def evaluations(self) -> float:
        """Network evaluations per image that the inversion took; guidance doubles them."""
        return self.record.metrics.evaluations

    @property
    def residuals(self) -> list[list[float | None]]:
        """‖z^(k) − z^(k−1)‖/√numel of every step (noisiest first) and image; None if it was not finite."""
        return self.record.metrics.residuals

    @property
    def warnings(self) -> list[str]:
        """What a user should know before trusting it."""
        return self.record.metrics.warnings

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, i: int) -> "Inversion":
        """Return one image of the batch, as a batch of one."""
        i = range(len(self))[i]
        noises, trajectory = (None if x is None else x[:, i : i + 1] for x in (self.noises, self.trajectory))
        arguments = {name: _of_image(value, i, len(self)) for name, value in self.arguments.items()}
        return Inversion(self.latents[i : i + 1], noises, self.record[i], trajectory, arguments)

    def with_arguments(self, **arguments: Any) -> "Inversion":
        """Return the same with arguments of the pipeline that its file could not hold, such as the source's prompt_embeds."""
        return replace(self, arguments={**self.arguments, **arguments})

    def save(self, path: str | os.PathLike[str], dtype: torch.dtype = torch.float32) -> Path:
        """Write the file, whole or not at all. `dtype` float16 halves its size. OSError if it cannot be written."""
        if not dtype.is_floating_point:
            raise ValueError(f"latents are saved in a floating point dtype, not in {dtype}")
        tensors = {"latents": self.latents, "noises": self.noises}
        tensors = {name: x.detach().to("cpu", dtype).contiguous() for name, x in tensors.items() if x is not None}
        record = replace(self.record, checksum=_checksum(tensors))
        # One key: with several, their order and so the bytes would differ from run to run.
        return write(Path(path), save(tensors, {"renoise": record.to_json()}))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Inversion":
        """Read a file, without its model. FileNotFoundError; ValueError for a foreign or damaged file or another format."""
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
                # Copies, because the tensors of a mapped file die with it.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OverflowError) as error:
            raise ValueError(f"{path} is no inversion of renoise, or damaged: {error}") from None
        try:
            record = Record.from_json(header)
            _check(tensors, record)
        except ValueError as error:
            raise ValueError(f"{path} is damaged or of another version: {error}") from None
        noises = tensors.get("noises")
        return cls(tensors["latents"].float(), None if noises is None else noises.float(), record)


def _of_image(value: Any, i: int, images: int) -> Any:
    """Return image i's part of an argument that has one for each image."""
    each = isinstance(value, Tensor | list) and getattr(value, "ndim", 1) > 0 and len(value) == images
    return value[i : i + 1] if each else value


def _check(tensors: dict[str, Tensor], record: Record) -> None:
    """Raise ValueError unless tensors and record fit together."""
    if not {"latents"} <= tensors.keys() <= {"latents", "noises"}:
        raise ValueError(f"it holds {sorted(tensors)} instead of latents and noises")
    latents, noises = tensors["latents"], tensors.get("noises")
    steps = len(record.levels) - 1 - record.start
    fit = latents.is_floating_point() and 3 <= latents.ndim <= 5 and len(latents) == len(record.prompt)
    if noises is not None:
        fit = fit and noises.is_floating_point() and noises.shape[1:] == latents.shape and len(noises) <= steps
    if not fit:
        raise ValueError("its tensors do not fit its record")
    if not all(bool(x.isfinite().all()) for x in tensors.values()):
        raise ValueError("its latents are not finite")
    if record.checksum != _checksum(tensors):
        raise ValueError("its numbers are not those that were saved")


def _checksum(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of the tensors' bytes, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
