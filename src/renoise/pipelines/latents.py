"""Pictures → latents, as a pipeline's own decoding undoes them:  x_0 = (mode of the posterior − shift) · scaling / std.

The factors come from the autoencoder, the layout from the pipeline's own `prepare_latents`: it is run with our latents in the
place of the noise that it would draw, so whatever it packs, patches or adds axes for, it does to them. The way back is the
pipeline's own decoding (driver.py).
"""

import inspect
import math
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from renoise.pipelines.arguments import FRAMES, accepted
from renoise.pipelines.finding import network
from renoise.pipelines.presets import Preset
from renoise.record import LARGEST_SIDE
from renoise.scalars import integer

_LENT = threading.Lock()


def encode(pipe: Any, pictures: Tensor) -> Tensor:
    """Encode pictures (B, 3, H, W) in [0, 1] as latents x_0 (B, ...) in float32, in the layout of the pipeline's loop.

    ValueError for a pipeline whose latents are not known how to make: pass `latents=` then.
    """
    vae = getattr(pipe, "vae", None)
    if vae is None or not hasattr(vae, "encode"):
        raise ValueError(
            f"{type(pipe).__name__} has no autoencoder (vae) to encode a picture with: pass latents= instead"
        )
    with torch.no_grad(), _safe_dtype(vae) as dtype:
        x = _with_alpha(vae, pictures * 2 - 1).to(pipe._execution_device, dtype)
        encoder = getattr(vae, "encoder", vae)
        video = any(p.ndim == 5 for p in encoder.parameters())
        try:
            encoded = vae.encode(x.unsqueeze(2) if video else x)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # what can go wrong in somebody else's autoencoder is not known here
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            size = f"{pictures.shape[-2]} x {pictures.shape[-1]} pixels"
            raise ValueError(
                f"{type(vae).__name__} cannot encode one picture of {size} ({why}): pass another height= and width=, or latents="
            ) from error
        z = _mode(encoded).float()
    return _in_layout(pipe, _normalise(vae, z), *pictures.shape[-2:])


def pictures_of(output: Any) -> Tensor:
    """Return the pictures (B, 3, H, W) of a pipeline's output, made with output_type "pt"; of a video its one frame.

    ValueError if it holds none.
    """
    found = next((getattr(output, n) for n in ("images", "image", "frames") if hasattr(output, n)), None)
    if isinstance(found, (list, tuple)) and found and all(isinstance(one, Tensor) for one in found):
        found = torch.stack(tuple(found))
    if not isinstance(found, Tensor) or found.ndim not in (4, 5) or (found.ndim == 5 and 1 not in found.shape[1:3]):
        raise ValueError(
            f'no pictures are in the pipeline\'s {type(output).__name__}: pass output_type="latent", and measure=False to invert'
        )
    if found.ndim == 5:  # (B, frames, 3, H, W)
        found = found[:, 0] if found.shape[1] == 1 else found[:, :, 0]
    return found[:, :3]  # a fourth channel is how opaque they are


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
    unit = math.lcm(8, (_scale(pipe) or 8) * _patch(pipe))
    for name, value in (("height", height), ("width", width)):
        if not unit <= value <= LARGEST_SIDE or value % unit:
            near = min(max(unit, round(value / unit) * unit), LARGEST_SIDE // unit * unit)
            raise ValueError(f"{name} must be a multiple of {unit} in {unit} … {LARGEST_SIDE}, got {value}: try {near}")
    return height, width


def default_size(pipe: Any) -> tuple[int, int]:
    """Return the (height, width) that the pipeline draws by default. Raise ValueError if it has no default."""
    call, config, factor = accepted(pipe), getattr(network(pipe), "config", None), _scale(pipe)
    height, width = (getattr(call.get(name), "default", None) for name in ("height", "width"))
    if isinstance(height, int) and isinstance(width, int):
        return height, width
    cells: Any = getattr(pipe, "default_sample_size", None) or getattr(config, "sample_size", None)
    sides = [getattr(config, name, None) for name in ("sample_height", "sample_width")]
    if all(isinstance(side, int) for side in sides):
        cells = sides
    if not cells or not factor:
        raise ValueError(f"{type(pipe).__name__} has no default size: pass height= and width=")
    rows, columns = (cells, cells) if isinstance(cells, int) else tuple(cells)[-2:]
    return rows * factor, columns * factor


def _scale(pipe: Any) -> int | None:
    """Return the number of pixels per latent cell, under whichever name the pipeline stores it."""
    names = ("vae_scale_factor", "vae_scale_factor_spatial", "vae_spatial_compression_ratio")
    return next((value for name in names if (value := getattr(pipe, name, None))), None)


def _patch(pipe: Any) -> int:
    """Return the side of a patch of latent cells. Sizes must be multiples of it."""
    packer = getattr(pipe, "_pack_latents", None)
    if packer is not None and "patch_size" not in inspect.signature(packer).parameters:
        return 2
    size = getattr(getattr(network(pipe), "config", None), "patch_size", None)
    size = size[-1] if isinstance(size, (list, tuple)) and size else size
    return size if isinstance(size, int) else 1


def _with_alpha(vae: Any, x: Tensor) -> Tensor:
    """Return the pictures (B, 3, H, W), with an opaque fourth channel for an autoencoder that reads four."""
    config = vae.config
    channels = getattr(config, "in_channels", None) or getattr(config, "input_channels", None) or 3
    patch = getattr(config, "patch_size", None)
    if isinstance(patch, int) and channels % patch**2 == 0:
        channels //= patch**2
    return torch.cat([x, torch.ones_like(x[:, :1])], dim=1) if channels == 4 else x


def _mode(encoded: Any) -> Tensor:
    """Return the posterior's mode. KL autoencoders have a distribution, AutoencoderTiny `latents`, AutoencoderDC `latent`."""
    if hasattr(encoded, "latent_dist"):
        return encoded.latent_dist.mode()
    for name in ("latents", "latent"):
        if hasattr(encoded, name):
            return getattr(encoded, name)
    raise ValueError(f"no latents in the autoencoder's {type(encoded).__name__}: pass latents= instead")


def _normalise(vae: Any, z: Tensor) -> Tensor:
    """(z − mean − shift) · scaling / std, for whichever of these the autoencoder has, in its config or as buffers."""
    config, buffers = vae.config, dict(vae.named_buffers())

    def channels(name: str, default: float) -> Tensor:
        values = getattr(config, name, None)
        values = buffers.get(name) if values is None else values
        values = torch.as_tensor(default if values is None else values, dtype=z.dtype, device=z.device)
        return values.reshape(1, -1, *(1,) * (z.ndim - 2))

    scaling = getattr(config, "scaling_factor", None)
    shift = getattr(config, "shift_factor", None) or 0.0
    return (
        (z - channels("latents_mean", 0.0) - shift)
        * (1.0 if scaling is None else scaling)
        / channels("latents_std", 1.0)
    )


def _in_layout(pipe: Any, z: Tensor, height: int, width: int) -> Tensor:
    """Return latents (B, C, [1,] h, w) in the layout of the pipeline's loop, for pictures of this size."""
    if hasattr(pipe, "_patchify_latents") and hasattr(pipe, "_pack_latents"):
        norm = pipe.vae.bn  # FLUX.2: 2x2 patches into channels, normalised there, then a sequence
        z = pipe._patchify_latents(z)
        mean, variance = (v.float().reshape(1, -1, 1, 1).to(z.device) for v in (norm.running_mean, norm.running_var))
        return pipe._pack_latents((z - mean) / torch.sqrt(variance + pipe.vae.config.batch_norm_eps))
    z = z[:, :, 0] if z.ndim == 5 and z.shape[2] == 1 else z
    layout = _layout(pipe, z, height, width)
    if layout is None:  # driver.py compares the shapes
        return pipe._pack_latents(z, *z.shape) if hasattr(pipe, "_pack_latents") else z
    noise = layout(z)

    def prepared(values: Tensor) -> Tensor:
        def instead_of_noise(shape: Any, *_: Any, **__: Any) -> Tensor:
            if tuple(shape) != values.shape:
                raise ValueError(
                    f"{type(pipe).__name__} draws latents of shape {tuple(shape)}, its autoencoder makes {tuple(values.shape)} "
                    "of this picture: pass another height= and width=, or latents="
                )
            return values.clone()

        return _prepared(pipe, z, height, width, instead_of_noise)

    laid_out = prepared(noise)
    if laid_out.shape == noise.shape:
        return noise
    return laid_out / prepared(
        torch.ones_like(noise)
    )  # some pipelines scale their noise, which is for the scheduler to undo


class _Asked(Exception):
    """Stops prepare_latents when it asks for noise. args[0] is the shape."""


# where the channels and a single frame may be, for latents (B, C, h, w)
_LAYOUTS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda z: z,
    lambda z: z.unsqueeze(2),
    lambda z: z.unsqueeze(1),
    lambda z: z.movedim(1, -1),
    lambda z: z.movedim(1, -1).unsqueeze(1),
    lambda z: z.movedim(1, -1).unsqueeze(3),
)


def _layout(pipe: Any, z: Tensor, height: int, width: int) -> Callable[[Tensor], Tensor] | None:
    """Return how the pipeline orders the axes of latents (B, C, h, w), or None if that is unknown.

    It is asked about a picture so much wider that no order looks like another: the channels may be as many as the rows.
    """
    times = 2 if z.shape[-1] * 2 != z.shape[-2] else 3
    wide = z[..., :1].expand(*z.shape[:-1], z.shape[-1] * times)

    def ask(shape: Any, *_: Any, **__: Any) -> Tensor:
        raise _Asked(tuple(shape))

    try:
        _prepared(pipe, wide, height, width * times, ask)
    except _Asked as asked:
        for layout in _LAYOUTS:
            if layout(wide).shape == asked.args[0]:
                return layout
        shapes = f"{asked.args[0]}, its autoencoder makes {tuple(wide.shape)} of such a picture"
        raise ValueError(f"{type(pipe).__name__} draws latents of shape {shapes}: pass latents= instead") from None
    except (TypeError, ValueError, AttributeError, LookupError):  # it wants more than a size
        return None
    return None


def _prepared(pipe: Any, z: Tensor, height: int, width: int, instead_of_noise: Callable[..., Tensor]) -> Tensor:
    """Run the pipeline's prepare_latents with `instead_of_noise`. Raise TypeError if it needs unknown arguments."""
    function = inspect.unwrap(type(pipe).prepare_latents)
    config = getattr(network(pipe), "config", None)
    known: dict[str, Any] = dict.fromkeys(("num_channels_latents", "num_latents_channels", "num_channels"), z.shape[1])
    known |= dict.fromkeys(FRAMES, 1) | dict.fromkeys(("latents", "image", "images", "video", "conditions"))
    known |= dict(batch_size=len(z), height=height, width=width, dtype=z.dtype, device=z.device)
    known |= dict(generator=torch.Generator().manual_seed(0), patch_size=getattr(config, "patch_size", None))
    given = {name: known[name] for name in inspect.signature(function).parameters if name in known}
    # a private copy, as of the loop in driver.py: nothing is patched that others see
    space = {**function.__globals__, "randn_tensor": instead_of_noise}
    private = types.FunctionType(
        function.__code__, space, function.__name__, function.__defaults__, function.__closure__
    )
    private.__kwdefaults__ = function.__kwdefaults__
    made = private(pipe, **given)
    return made[0] if isinstance(made, tuple) else made


@contextmanager
def _safe_dtype(vae: Any) -> Iterator[torch.dtype]:
    """Yield the dtype to encode in. Autoencoders that overflow in float16 (SDXL) are float32 meanwhile."""
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
