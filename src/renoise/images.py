"""Pictures of any kind → tensors, and back. A photograph is cropped, never squashed.

A picture is a file, a PIL image, a NumPy array or a tensor. All but tensors, which have their size already, are scaled and
cropped to the size that is wanted.
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

_ENLARGED_VISIBLY = 2.0


def fit(image: Image.Image, width: int, height: int) -> Image.Image:
    """Scale the picture to cover width x height, its centre kept: cropped, never squashed."""
    if image.size == (width, height):
        return image
    if 0 in image.size:
        raise ValueError(f"the picture has no pixels, its size is {image.width}x{image.height}")
    scale = max(width / image.width, height / image.height)
    if scale >= _ENLARGED_VISIBLY:
        size = f"{image.width}x{image.height} px"
        warnings.warn(f"the picture is only {size}: enlarged {scale:.3g} times to cover {width}x{height}", stacklevel=2)
    # ImageOps.fit scales the crop, not the whole: a picture of 20,000 x 1 px never becomes one 512 times as large.
    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)


def to_tensor(images: "Image.Image | Tensor | Sequence[Image.Image | Tensor]") -> "Tensor":
    """Put pictures in one float32 tensor in [0, 1] with shape (B, 3, H, W). ValueError when their sizes differ."""
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
    """Put pictures in one tensor (B, 3, height, width) in [0, 1]: one or a list of files, PIL images, arrays and tensors.

    Arrays are (H, W), (H, W, 1), (H, W, 3), (H, W, 4) or a batch of these last, tensors (3, height, width) or a batch;
    both boolean, 8-bit or floating-point in [0, 1], arrays also of 16 bits. ValueError for another shape or range.
    """
    import numpy as np
    import torch

    found = []
    for one in _several(images):
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
    """Put masks in one tensor (B, 1, height, width) in [0, 1]: one or a list of files, PIL images, arrays and tensors.

    What is transparent is black. Tensors are (H, W), (1, H, W), (3, H, W) or a batch of these last, arrays as those of
    pictures. ValueError for another size or range, TypeError for anything else.
    """
    import numpy as np
    import torch

    found = list[torch.Tensor]()
    for one in _several(mask[None] if isinstance(mask, torch.Tensor) and mask.ndim == 2 else mask):
        if isinstance(one, np.ndarray):
            values = _values(_shaped(one, "mask"), "mask")
            alpha = values[..., 3:] if values.shape[-1] == 4 else 1
            one = _from_array(values[..., :3].mean(-1, keepdims=True) * alpha, "mask", height, width)
        if isinstance(one, (str, os.PathLike, Image.Image)):
            found.append(to_tensor(fit(open_mask(one), width, height))[0, :1])
        elif isinstance(one, torch.Tensor):
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
    """Make pictures of the rows of a tensor in [0, 1] with shape (B, 3, H, W)."""
    if not bool(tensor.isfinite().all()):
        raise ValueError("the picture is not made of numbers: the model overflowed, load it in float32 (--dtype fp32)")
    array = (tensor.detach().float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(row) for row in array]


def _several(images: Any) -> list[Any]:
    return list(images) if isinstance(images, (list, tuple)) or getattr(images, "ndim", 3) == 4 else [images]


def _from_array(array: "ndarray", what: str, height: int, width: int) -> "Image.Image | Tensor":
    """Make a PIL image, to be scaled, of an array; of one that has its size and more than 8 bits a tensor, to keep them."""
    import numpy as np
    import torch

    array = _shaped(array, what)
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif array.dtype != np.uint8:
        array = _values(array, what)
        if array.shape[:2] == (height, width) and array.shape[2] != 4:
            return torch.from_numpy(array).movedim(-1, 0).expand(3, -1, -1)
        array = (array * 255).round().astype(np.uint8)
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def _shaped(array: "ndarray", what: str) -> "ndarray":
    """Give an array as (H, W, channels). ValueError if it holds no picture."""
    shape = array.shape
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or 0 in shape:
        fix = ": put the channels last, array.transpose(1, 2, 0)" if array.ndim == 3 and shape[0] in (1, 3, 4) else ""
        raise ValueError(f"{what}: an array must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), got {shape}{fix}")
    if array.dtype.kind not in "buif":
        raise ValueError(f"{what}: an array of {array.dtype} holds no picture, convert it with .astype('float32')")
    return array


def _values(array: "ndarray", what: str) -> "ndarray":
    """Give the numbers of an array as float32 in [0, 1]. ValueError if they lie elsewhere."""
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
