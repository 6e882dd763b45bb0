"""Pictures → latents, as a pipeline's own decoding undoes them:  x_0 = (mode of the posterior − shift) · scaling / std.

The shapes and factors come from the autoencoder's config and the pipeline's own packing methods, so a new family of a known kind
needs nothing here. The way back is the pipeline's own decoding (driver.py).
"""

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from renoise.pipelines.finding import network
from renoise.pipelines.presets import Preset
from renoise.record import LARGEST_SIDE
from renoise.scalars import integer

_LENT = threading.Lock()


def encode(pipe: Any, pictures: Tensor) -> Tensor:
    """Latents x_0 (B, ...) in float32, in the layout that the pipeline's loop runs on, of pictures (B, 3, H, W) in [0, 1].

    ValueError for a pipeline whose latents are not known how to make: pass `latents=` then.
    """
    vae = getattr(pipe, "vae", None)
    if vae is None or not hasattr(vae, "encode"):
        raise ValueError(
            f"{type(pipe).__name__} has no autoencoder (vae) to encode a picture with: pass latents= instead"
        )
    with torch.no_grad(), _safe_dtype(vae) as dtype:
        x = (pictures * 2 - 1).to(pipe._execution_device, dtype)
        video = next(p.ndim for p in vae.parameters() if p.ndim >= 4) == 5
        encoded = vae.encode(x.unsqueeze(2) if video else x)
        z = _mode(encoded).float()
    return _pack(pipe, _normalise(vae.config, z))


def clean_latents(pipe: Any, pictures: Tensor | None, latents: Tensor | None) -> Tensor:
    """Return x_0 (B, ...) in float32: the latents given, or those of the pictures. ValueError if they are not finite."""
    if latents is not None:
        x_0 = latents.to(pipe._execution_device, torch.float32)
    else:
        assert pictures is not None
        x_0 = encode(pipe, pictures)
    if not x_0.isfinite().all():
        raise ValueError("the clean latents are not finite: load the pipeline in another dtype, or check latents=")
    return x_0


def picture_size(pipe: Any, preset: Preset | None, height: int | None, width: int | None) -> tuple[int, int]:
    """Return the height and width to invert at: the user's, the preset's or the pipeline's own.

    Raises:
        ValueError: the pipeline names no size, or its latents cannot have this one.
    """
    if height is None or width is None:
        own = (preset.size, preset.size) if preset else default_size(pipe)
        height, width = own[0] if height is None else height, own[1] if width is None else width
    height, width = integer("height", height), integer("width", width)
    unit = math.lcm(8, getattr(pipe, "vae_scale_factor", 8) * (2 if hasattr(pipe, "_pack_latents") else 1))
    for name, value in (("height", height), ("width", width)):
        if not unit <= value <= LARGEST_SIDE or value % unit:
            near = min(max(unit, round(value / unit) * unit), LARGEST_SIDE // unit * unit)
            raise ValueError(f"{name} must be a multiple of {unit} in {unit} … {LARGEST_SIDE}, got {value}: try {near}")
    return height, width


def default_size(pipe: Any) -> tuple[int, int]:
    """The (height, width) that the pipeline itself would draw. ValueError if it does not say."""
    cells = getattr(pipe, "default_sample_size", None)
    cells = cells or getattr(getattr(network(pipe), "config", None), "sample_size", None)
    factor = getattr(pipe, "vae_scale_factor", None)
    if not cells or not factor:
        raise ValueError(f"{type(pipe).__name__} has no default size: pass height= and width=")
    height, width = (cells, cells) if isinstance(cells, int) else tuple(cells)[-2:]
    return height * factor, width * factor


def _mode(encoded: Any) -> Tensor:
    """The posterior's mode: KL autoencoders have a distribution, AutoencoderTiny `latents`, AutoencoderDC `latent`."""
    if hasattr(encoded, "latent_dist"):
        return encoded.latent_dist.mode()
    for name in ("latents", "latent"):
        if hasattr(encoded, name):
            return getattr(encoded, name)
    raise ValueError(f"no latents in the autoencoder's {type(encoded).__name__}: pass latents= instead")


def _normalise(config: Any, z: Tensor) -> Tensor:
    """(z − mean − shift) · scaling / std, for whichever of these the autoencoder's config has."""

    def channels(name: str, default: float) -> Tensor:
        values = getattr(config, name, None)
        values = torch.as_tensor(default if values is None else values, dtype=z.dtype, device=z.device)
        return values.reshape(1, -1, *(1,) * (z.ndim - 2))

    scaling = getattr(config, "scaling_factor", None)
    shift = getattr(config, "shift_factor", None) or 0.0
    return (
        (z - channels("latents_mean", 0.0) - shift)
        * (1.0 if scaling is None else scaling)
        / channels("latents_std", 1.0)
    )


def _pack(pipe: Any, z: Tensor) -> Tensor:
    """Latents as the pipeline packs them for its loop."""
    batch, channels, height, width = z.shape[0], z.shape[1], z.shape[-2], z.shape[-1]
    if hasattr(pipe, "_patchify_latents"):  # FLUX.2: 2x2 patches into channels, normalised there, then a sequence
        norm = pipe.vae.bn
        z = pipe._patchify_latents(z)
        mean, variance = (v.float().reshape(1, -1, 1, 1).to(z.device) for v in (norm.running_mean, norm.running_var))
        return pipe._pack_latents((z - mean) / torch.sqrt(variance + pipe.vae.config.batch_norm_eps))
    if hasattr(pipe, "_pack_latents"):  # FLUX, Qwen-Image: a sequence of 2x2 patches
        return pipe._pack_latents(z, batch, channels, height, width)
    return z


@contextmanager
def _safe_dtype(vae: Any) -> Iterator[torch.dtype]:
    """The dtype to encode in: float32 for autoencoders that overflow in float16 (SDXL), which are put back afterwards."""
    with _LENT:
        dtype = next(vae.parameters()).dtype
    if dtype != torch.float16 or not getattr(vae.config, "force_upcast", False):
        yield dtype
        return
    with _LENT:  # threads may share the autoencoder
        vae.to(torch.float32)
        try:
            yield torch.float32
        finally:
            vae.to(dtype)
