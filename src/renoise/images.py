"""Conversion of pictures to tensors, and back.

A picture is a file, a PIL image, a NumPy array or a tensor. All of them but tensors are scaled and cropped to the
requested size. Their aspect ratio does not change. Tensors must have the requested size already.
"""

import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from renoise.picture_files import SUFFIXES, open_image, open_mask, save, writable

if TYPE_CHECKING:
    from numpy import ndarray
    from torch import Tensor

__all__ = ["SUFFIXES", "batch", "fit", "masks", "open_image", "save", "to_images", "to_tensor", "writable"]

_VISIBLE_ENLARGEMENT = 2.0


def fit(image: Image.Image, width: int, height: int) -> Image.Image:
    """Scale a picture to cover width x height pixels, and crop it around its centre.

    Warns if the picture is enlarged visibly.

    Raises:
        ValueError: if the picture has no pixels.
    """
    if image.size == (width, height):
        return image
    if 0 in image.size:
        raise ValueError(f"the picture has no pixels, its size is {image.width}x{image.height}")
    scale = max(width / image.width, height / image.height)
    if scale >= _VISIBLE_ENLARGEMENT:
        size = f"{image.width}x{image.height} px"
        warnings.warn(f"the picture is only {size}: enlarged {scale:.3g} times to cover {width}x{height}", stacklevel=2)
    # ImageOps.fit crops before it scales, so a picture of 20,000 x 1 pixels needs little memory.
    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)


def to_tensor(images: "Image.Image | Tensor | Sequence[Image.Image | Tensor]") -> "Tensor":
    """Convert pictures of equal size to a float32 tensor (B, 3, H, W) in [0, 1].

    Raises:
        ValueError: if there is no picture, or if their sizes differ.
    """
    import numpy as np
    import torch

    if isinstance(images, torch.Tensor | Image.Image):
        images = [images]
    parts: list[torch.Tensor] = []
    for image in images:
        if isinstance(image, torch.Tensor):
            parts.append(image.float() if image.ndim == 4 else image.float()[None])
        else:
            array = np.array(open_image(image), dtype=np.float32) / 255
            parts.append(torch.from_numpy(array).permute(2, 0, 1)[None])
    if not parts:
        raise ValueError("no picture given")
    sizes = sorted({f"{part.shape[-1]}x{part.shape[-2]}" for part in parts})
    if len(sizes) > 1:
        raise ValueError(f"the pictures of a batch must have one size, these have {', '.join(sizes)}: fit() them first")
    return torch.cat(parts).contiguous()


def batch(images: Any, height: int, width: int) -> "Tensor":
    """Convert one or several pictures of any kind to a float32 tensor (B, 3, height, width) in [0, 1].

    Args:
        images: one picture or a list of pictures: files, PIL images, arrays and tensors. Arrays are (H, W), (H, W, 1),
            (H, W, 3), (H, W, 4) or (B, H, W, channels); boolean, uint8, uint16 or floating point in [0, 1]. Tensors are
            (3, height, width) or (B, 3, height, width); uint8 or floating point in [0, 1].
        height, width: size in pixels. Files, PIL images and arrays are scaled and cropped to it.

    Raises:
        ValueError: if a shape or a range of values is not supported, or if a picture cannot be read.
        TypeError: for anything that is not a picture.
    """
    import numpy as np
    import torch

    found = []
    for one in _as_list(images):
        if isinstance(one, np.ndarray):
            one = _from_array(one, "a picture", height, width)
        if isinstance(one, (str, os.PathLike, Image.Image)):
            one = fit(open_image(one), width, height)
        elif not isinstance(one, torch.Tensor):
            raise TypeError(f"a picture is a path, a PIL image, an array or a tensor, not {type(one).__name__}")
        elif one.shape != (3, height, width):
            size = f"(3, {height}, {width})"
            raise ValueError(f"an image tensor must be {size}, got {tuple(one.shape)}: pass height= and width=")
        else:
            one = one / 255 if one.dtype == torch.uint8 else one.float()
            if not 0 <= one.min() <= one.max() <= 1:
                raise ValueError(f"an image tensor must lie in [0, 1], got {one.min():.3g} … {one.max():.3g}")
        found.append(one)
    return to_tensor(found)


def masks(mask: Any, height: int, width: int) -> "Tensor":
    """Convert one or several masks of any kind to a tensor (B, 1, height, width) in [0, 1].

    Transparent pixels become black.

    Args:
        mask: one mask or a list of masks: files, PIL images, arrays and tensors. Arrays are as in `batch`. Tensors are
            (height, width), (1, height, width), (3, height, width) or a batch (B, channels, height, width).
        height, width: size in pixels. Files, PIL images and arrays are scaled and cropped to it.

    Raises:
        ValueError: if a size or a range of values is not supported, or if a mask cannot be read.
        TypeError: for anything that is not a mask.
    """
    import numpy as np
    import torch

    found = list[torch.Tensor]()
    for one in _as_list(mask[None] if isinstance(mask, torch.Tensor) and mask.ndim == 2 else mask):
        if isinstance(one, np.ndarray):
            values = _to_unit_range(_with_channels(one, "mask"), "mask")
            alpha = values[..., 3:] if values.shape[-1] == 4 else 1
            one = _from_array(values[..., :3].mean(-1, keepdims=True) * alpha, "mask", height, width)
        if isinstance(one, (str, os.PathLike, Image.Image)):
            found.append(to_tensor(fit(open_mask(one), width, height))[0, :1])
        elif isinstance(one, torch.Tensor):
            one = one[None] if one.ndim == 2 else one
            if one.ndim != 3 or one.shape[0] not in (1, 3):
                raise ValueError(
                    f"mask: a tensor must be (H, W), (1, H, W), (3, H, W) or (B, channels, H, W), got {tuple(one.shape)}"
                )
            one = (one / 255 if one.dtype == torch.uint8 else one.float()).mean(0, keepdim=True)
            if not 0 <= one.min() <= one.max() <= 1:
                raise ValueError(f"mask: a tensor must lie in [0, 1], got {one.min():.3g} … {one.max():.3g}")
            if one.shape[1:] != (height, width):
                raise ValueError(f"mask: a tensor must be of {height} x {width} pixels, got {tuple(one.shape[1:])}")
            found.append(one)
        else:
            raise TypeError(f"a mask is a path, a PIL image, an array or a tensor, not {type(one).__name__}")
    if not found:
        raise ValueError("mask: no picture given")
    return torch.stack(found)


def to_images(tensor: "Tensor") -> list[Image.Image]:
    """Convert a tensor (B, 3, H, W) in [0, 1] to B pictures.

    Raises:
        ValueError: if a value is not finite.
    """
    if not bool(tensor.isfinite().all()):
        raise ValueError(
            "the picture has values that are not finite: the model overflowed, load it in float32 (--dtype fp32)"
        )
    array = (tensor.detach().float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(row) for row in array]


def _as_list(images: Any) -> list[Any]:
    return list(images) if isinstance(images, (list, tuple)) or getattr(images, "ndim", 3) == 4 else [images]


def _from_array(array: "ndarray", what: str, height: int, width: int) -> "Image.Image | Tensor":
    """Convert an array to a PIL image that can be scaled.

    An array of the right size with more than 8 bits becomes a tensor (3, H, W), which keeps its precision.
    """
    import numpy as np
    import torch

    array = _with_channels(array, what)
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype != np.uint8:
        array = _to_unit_range(array, what)
        if array.shape[:2] == (height, width) and array.shape[2] != 4:
            return torch.from_numpy(array).movedim(-1, 0).expand(3, -1, -1)
        array = (array * 255).round().astype(np.uint8)
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def _with_channels(array: "ndarray", what: str) -> "ndarray":
    """Return an array as (H, W, channels). Raise ValueError if it is not a picture."""
    shape = array.shape
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or 0 in shape:
        fix = ": put the channels last, array.transpose(1, 2, 0)" if array.ndim == 3 and shape[0] in (1, 3, 4) else ""
        raise ValueError(f"{what}: an array must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), got {shape}{fix}")
    if array.dtype.kind not in "buif":
        raise ValueError(f"{what}: an array of {array.dtype} holds no picture, convert it with .astype('float32')")
    return array


def _to_unit_range(array: "ndarray", what: str) -> "ndarray":
    """Convert the values of an array to float32 in [0, 1]. Raise ValueError if they are outside."""
    import numpy as np

    white = {"uint8": 255, "uint16": 65535}.get(array.dtype.name, 1)
    values = array.astype(np.float32) / white
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 1:
        fix = ""
        if 0 <= low <= high <= 255:
            fix = ": if white is 255, convert it with .astype('uint8')"
        elif -1 <= low <= high <= 1:
            fix = ": if black is -1, pass (array + 1) / 2"
        raise ValueError(f"{what}: an array of {array.dtype} must lie in [0, 1], got {low:.3g} … {high:.3g}{fix}")
    return values
