"""The result of an inversion and its file format.

The file is a .safetensors file with up to three tensors: `latents` (x_T), `noises` for stochastic samplers, and the
`remainder`, which the noise does not draw. Everything else is in the record (record.py), a JSON string in the entry
`renoise` of the file's header. Loading a file needs no model and executes no code from it.
"""

import hashlib
import os
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from renoise.files import write
from renoise.record import Record

DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
UNSIGNED = "0" * 64  # stands for the checksum while it is computed
LARGEST_HEADER = 16 * 2**20  # bytes; protects from files that claim a huge header


@dataclass(frozen=True, eq=False, repr=False)
class Inversion:
    """The noise of a photograph, and the record of how it was found.

    Args:
        latents: x_T (B, ...), float32.
        noises: fresh noise (m, B, ...) of the m stochastic steps, float32. None for a deterministic sampler.
        record: how the inversion was made.
        trajectory: latents (n, B, ...) after each of the n steps, noisiest first. Files do not contain it; `edit`
            recomputes it if necessary.
        remainder: r = x_0 − (what the noise draws) (B, ...), float32, so that the photograph comes back exactly. None if it is
            not known, as after `invert(..., measure=False)`.
        photographs: pixels (B, 3, H, W) in [0, 1] of the photographs, which surround an edit. Files do not contain them; `edit`
            then decodes the clean latents.
        arguments: arguments of the pipeline that a file cannot store, such as prompt embeddings or a ControlNet's
            picture.
    """

    latents: Tensor
    noises: Tensor | None
    record: Record
    trajectory: Tensor | None = None
    remainder: Tensor | None = None
    photographs: Tensor | None = None
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> list[str]:
        """Return the source prompt of each image."""
        return self.record.prompt

    @property
    def psnr(self) -> list[float | None] | None:
        """Return the PSNR in dB of what the noise alone draws of each image, or None if it was not measured."""
        return self.record.metrics.psnr

    @property
    def autoencoder_psnr(self) -> list[float | None] | None:
        """Return the PSNR in dB of the autoencoder alone for each image. A reconstruction with the remainder has it too."""
        return self.record.metrics.autoencoder_psnr

    @property
    def evaluations(self) -> float:
        """Return the number of network evaluations per image. Guidance doubles it."""
        return self.record.metrics.evaluations

    @property
    def residuals(self) -> list[list[float | None]]:
        """Return ‖x^(k) − x^(k−1)‖/√numel of each step (noisiest first) and image, None where it is not finite."""
        return self.record.metrics.residuals

    @property
    def warnings(self) -> list[str]:
        """Return the warnings that the inversion caused."""
        return self.record.metrics.warnings

    def __repr__(self) -> str:
        quality = "not measured" if self.psnr is None else f"psnr={self.psnr}"
        return f"Inversion({len(self)} images, {self.record.method}, {self.record.model}, {quality})"

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, i: int) -> "Inversion":
        """Return the inversion of one image, as a batch of one."""
        i = range(len(self))[i]
        noises, trajectory = (None if x is None else x[:, i : i + 1] for x in (self.noises, self.trajectory))
        arguments = {name: _of_image(value, i, len(self)) for name, value in self.arguments.items()}
        remainder, photographs = (None if x is None else x[i : i + 1] for x in (self.remainder, self.photographs))
        return Inversion(self.latents[i : i + 1], noises, self.record[i], trajectory, remainder, photographs, arguments)

    def with_arguments(self, **arguments: Any) -> "Inversion":
        """Return a copy with arguments of the pipeline that its file cannot store, such as prompt_embeds."""
        return replace(self, arguments={**self.arguments, **arguments})

    def save(self, path: str | os.PathLike[str], dtype: torch.dtype = torch.float32) -> Path:
        """Write the inversion to a .safetensors file atomically, and return its path.

        Args:
            path: the file.
            dtype: floating-point dtype of the tensors in the file. float16 halves its size.

        Raises:
            ValueError: if `dtype` is not a floating-point dtype.
            OSError: if the file cannot be written.

        Warns:
            UserWarning: if the remainder is not known, though the inversion has left part of the photograph to it.
        """
        if dtype not in DTYPES:
            raise ValueError(f"latents are saved in {', '.join(map(str, DTYPES))}, not in {dtype}")
        if self.remainder is None and self.record.settings.get("noised_below"):
            warnings.warn(
                "without its remainder this file cannot bring the photograph back exactly: invert with measure=True",
                stacklevel=2,
            )
        tensors = {"latents": self.latents, "noises": self.noises, "remainder": self.remainder}
        tensors = {name: x.detach().to("cpu", dtype).contiguous() for name, x in tensors.items() if x is not None}
        text = replace(self.record, checksum=UNSIGNED).to_json()
        # A single key, because the order of several keys, and so the bytes of the file, would vary between runs.
        return write(Path(path), save(tensors, {"renoise": text.replace(UNSIGNED, checksum(text, tensors))}))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Inversion":
        """Read an inversion from its file. This does not load the model.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is damaged, not an inversion, or of another format version.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no such file: {path}" if not path.exists() else f"{path} is not a file")
        with path.open("rb") as file:
            if int.from_bytes(file.read(8), "little") > LARGEST_HEADER:
                raise ValueError(f"{path} is no inversion of renoise, or damaged: its header is too large")
        try:
            with safe_open(path, framework="pt") as file:
                header = (file.metadata() or {}).get("renoise")
                if header is None:
                    raise ValueError(f"{path} is a .safetensors file, but no inversion of renoise")
                names = file.keys()
                # The tensors of a memory-mapped file are invalid after it is closed, so they are copied.
                tensors = {name: file.get_tensor(name).clone() for name in names}
        except (SafetensorError, OverflowError) as error:
            raise ValueError(f"{path} is no inversion of renoise, or damaged: {error}") from None
        try:
            record = Record.from_json(header)
            _check(tensors, record, header)
        except ValueError as error:
            raise ValueError(f"{path} is damaged or of another version: {error}") from None
        tensors = {name: x.float() for name, x in tensors.items()}
        return cls(tensors["latents"], tensors.get("noises"), record, remainder=tensors.get("remainder"))


def _of_image(value: Any, i: int, images: int) -> Any:
    """Return the value of image i if an argument has one value per image, else the whole argument."""
    if isinstance(value, list) and value and all(isinstance(one, Tensor) for one in value):
        return [_of_image(one, i, images) for one in value]  # one tensor for each IP-Adapter
    each = isinstance(value, Tensor | list) and getattr(value, "ndim", 1) > 0 and len(value) == images
    return value[i : i + 1] if each else value


def _check(tensors: dict[str, Tensor], record: Record, text: str) -> None:
    """Raise ValueError unless the tensors match the record and both are as they were saved."""
    if not {"latents"} <= tensors.keys() <= {"latents", "noises", "remainder"}:
        raise ValueError(f"it holds {sorted(tensors)} instead of latents, noises and remainder")
    latents, noises, remainder = tensors["latents"], tensors.get("noises"), tensors.get("remainder")
    steps = len(record.levels) - 1 - record.start
    fit = latents.is_floating_point() and 3 <= latents.ndim <= 5 and len(latents) == len(record.prompt)
    if noises is not None:
        fit = fit and noises.is_floating_point() and noises.shape[1:] == latents.shape and len(noises) <= steps
    if remainder is not None:
        fit = fit and remainder.is_floating_point() and remainder.shape == latents.shape
    if not fit:
        raise ValueError("its tensors do not fit its record")
    if not all(bool(x.isfinite().all()) for x in tensors.values()):
        raise ValueError("its latents are not finite")
    if not record.checksum or record.checksum != checksum(text.replace(record.checksum, UNSIGNED), tensors):
        raise ValueError("its numbers or its record are not those that were saved")


def checksum(text: str, tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of a record whose checksum is UNSIGNED, and of the tensors' bytes in the order of their names."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
