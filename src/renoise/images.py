"""File ↔ PIL picture ↔ tensor. A photograph is cropped, never squashed; a written picture carries how it was made.

What is unusual about a file but readable (animated, transparent, tiny) is said with `warnings.warn`; what is not
readable is a ValueError of one line that names the file.
"""

import io
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from renoise.files import write

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_USER_COMMENT, _IMAGE_DESCRIPTION, _EXIF_IFD = 0x9286, 0x010E, 0x8769
_JPEG_EXIF_LIMIT = 65_000  # a JPEG segment has a 16-bit length
_ENLARGED_VISIBLY = 2.0


def open_image(path: str | os.PathLike[str]) -> Image.Image:
    """The picture in a file as upright sRGB: EXIF-rotated, the first frame, 8 bits, transparency on white."""
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a picture")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path} is no regular file: save the picture to one first")
    try:
        with _open(path) as image:
            _say_if_animated(path, image)
            image.load()
            return _srgb(path, _upright(path, image))
    except (MemoryError, PermissionError):
        raise
    except Exception as error:  # the decoders of some fifty formats raise anything when a file is damaged
        raise ValueError(f"{path} cannot be read as a picture: {error}") from error


def fit(image: Image.Image, width: int, height: int) -> Image.Image:
    """The picture scaled to cover width x height, its centre kept: cropped, never squashed."""
    if image.size == (width, height):
        return image
    scale = max(width / image.width, height / image.height)
    if scale >= _ENLARGED_VISIBLY:
        size = f"{image.width}x{image.height} px"
        warnings.warn(f"the picture is only {size}: enlarged {scale:.3g} times to cover {width}x{height}", stacklevel=2)
    # ImageOps.fit scales the crop, not the whole: a picture of 20,000 x 1 px never becomes one 512 times as large.
    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)


def to_tensor(images: "Image.Image | Tensor | Sequence[Image.Image | Tensor]") -> "Tensor":
    """Pictures as one float32 tensor in [0, 1] with shape (B, 3, H, W). ValueError when their sizes differ."""
    import numpy as np
    import torch

    if isinstance(images, torch.Tensor | Image.Image):
        images = [images]
    parts: list[torch.Tensor] = []
    for image in images:
        if isinstance(image, torch.Tensor):
            parts.append(image.float() if image.ndim == 4 else image.float()[None])
        else:
            array = np.array(image.convert("RGB"), dtype=np.float32) / 255
            parts.append(torch.from_numpy(array).permute(2, 0, 1)[None])
    if not parts:
        raise ValueError("no picture given")
    sizes = sorted({f"{part.shape[-1]}x{part.shape[-2]}" for part in parts})
    if len(sizes) > 1:
        raise ValueError(f"the pictures of a batch must have one size, these have {', '.join(sizes)}: fit() them first")
    return torch.cat(parts).contiguous()


def batch(images: Any, height: int, width: int) -> "Tensor":
    """Pictures of any kind as one tensor (B, 3, height, width) in [0, 1]: one or a list of files, PIL pictures and tensors.

    Files and PIL pictures are scaled and cropped to the size. ValueError for a tensor of another size or range, or no picture.
    """
    import torch

    several = list(images) if isinstance(images, (list, tuple)) or getattr(images, "ndim", 3) == 4 else [images]
    opened = [open_image(one) if isinstance(one, (str, os.PathLike)) else one for one in several]
    for one in opened:
        if not isinstance(one, (torch.Tensor, Image.Image)):
            raise TypeError(
                f"a picture is a path, a PIL image or a tensor, not {type(one).__name__} (Image.fromarray?)"
            )
    for one in opened:
        if isinstance(one, torch.Tensor) and one.shape != (3, height, width):
            size = f"(3, {height}, {width})"
            raise ValueError(f"an image tensor must be {size}, got {tuple(one.shape)}: pass height= and width=")
        if isinstance(one, torch.Tensor) and not 0 <= one.min() <= one.max() <= 1:
            raise ValueError(f"an image tensor must lie in [0, 1], got {one.min():.3g} … {one.max():.3g}")
    return to_tensor([one if isinstance(one, torch.Tensor) else fit(one, width, height) for one in opened])


def masks(mask: Any, height: int, width: int) -> "Tensor":
    """Masks of any kind as one tensor (B, 1, height, width) in [0, 1]: one or a list of files, PIL pictures, arrays and tensors.

    What is transparent is black. Tensors are (H, W), (1, H, W), (3, H, W) or a batch of these last, arrays (H, W) or (H, W, 3);
    both boolean, floating-point in [0, 1] or 8-bit. ValueError for another size or range, TypeError for anything else.
    """
    import numpy as np
    import torch

    if isinstance(mask, torch.Tensor) and mask.ndim == 2:
        mask = mask[None]
    several = list(mask) if isinstance(mask, (list, tuple)) or getattr(mask, "ndim", 3) == 4 else [mask]
    found = []
    for one in several:
        if isinstance(one, np.ndarray):
            one = torch.from_numpy(one if one.ndim == 3 else one[..., None]).movedim(-1, 0)
        if isinstance(one, (str, os.PathLike)):
            one = _drawn_mask(Path(one))
        elif isinstance(one, Image.Image):
            one = _on_black(one)
        if isinstance(one, torch.Tensor):
            one = (one / 255 if one.dtype == torch.uint8 else one.float()).mean(0, keepdim=True)
            if not 0 <= one.min() <= one.max() <= 1:
                raise ValueError(f"mask: a tensor must lie in [0, 1], got {one.min():.3g} … {one.max():.3g}")
            if one.shape[1:] != (height, width):
                raise ValueError(f"mask: a tensor must be of {height} x {width} pixels, got {tuple(one.shape[1:])}")
            found.append(one)
        elif isinstance(one, Image.Image):
            found.append(to_tensor([fit(one.convert("RGB"), width, height)])[0, :1])
        else:
            raise TypeError(f"a mask is a path, a PIL image, an array or a tensor, not {type(one).__name__}")
    return torch.stack(found)


def _drawn_mask(path: Path) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transparency, which is black in a mask
        open_image(path)  # says what is wrong with the file
    with _open(path) as image:
        return _on_black(_upright(path, image))


def _on_black(image: Image.Image) -> Image.Image:
    """A mask as greys; strokes on a transparent layer are its white."""
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    rgba = image.convert("RGBA")
    return Image.composite(rgba.convert("L"), Image.new("L", rgba.size), rgba.getchannel("A"))


def to_images(tensor: "Tensor") -> list[Image.Image]:
    """The rows of a tensor in [0, 1] with shape (B, 3, H, W) as pictures."""
    if not bool(tensor.isfinite().all()):
        raise ValueError("the picture is not made of numbers: the model overflowed, load it in float32 (--dtype fp32)")
    array = (tensor.detach().float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(row) for row in array]


def save(image: Image.Image, path: str | os.PathLike[str], record: Mapping[str, Any] | None = None) -> Path:
    """Write a picture and how it was made: all of it or nothing, never half a file.

    PNG: `renoise` (JSON) and `parameters` (the text other programs show). JPEG, WebP: the same two as EXIF
    ImageDescription and UserComment.
    """
    path = writable(path)
    return write(path, _encode(image, path.suffix.lower(), dict(record) if record else None))


def writable(path: str | os.PathLike[str]) -> Path:
    """The path, if a picture can be called so. ValueError for a suffix that is none of SUFFIXES."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: pictures are written as {', '.join(SUFFIXES)}")
    return path


def parameters(record: Mapping[str, Any]) -> str:
    """A record in the text form that AUTOMATIC1111's web UI began and most programs read."""
    names = {"num_inference_steps": "Steps", "sampler": "Sampler", "guidance_scale": "CFG scale", "seed": "Seed"}
    values = [f"{name}: {record[key]}" for key, name in names.items() if record.get(key) is not None]
    if record.get("width") and record.get("height"):
        values.append(f"Size: {record['width']}x{record['height']}")
    if record.get("model"):
        values.append(f"Model: {record['model']}")
    lines = [str(record.get("prompt") or "")]
    if record.get("negative_prompt"):
        lines.append(f"Negative prompt: {record['negative_prompt']}")
    return "\n".join([*lines, ", ".join(values)])


def _open(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Pillow warns from 90 megapixels on, which phones take, and refuses from 179 on, before it decodes.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(path)
    except Image.DecompressionBombError as error:
        limit = (Image.MAX_IMAGE_PIXELS or 0) * 2 // 1_000_000
        raise ValueError(f"it has too many pixels (at most {limit} million are read): scale it down first") from error
    except UnidentifiedImageError as error:
        if path.suffix.lower() in (".heic", ".heif"):
            raise ValueError("HEIC is not supported, convert it to JPEG or PNG") from error
        raise ValueError("unknown or damaged format" if path.stat().st_size else "the file is empty") from error


def _say_if_animated(path: Path, image: Image.Image) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # the further pictures of a camera's MPO are previews and depth maps
        warnings.warn(f"{path} has {frames} frames: the first is used", stacklevel=3)


def _upright(path: Path, image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block is no reason to refuse the pixels
        warnings.warn(f"{path}: the EXIF data is damaged, the picture is taken as it lies", stacklevel=3)
        return image


def _srgb(path: Path, image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    image = _colour_managed(path, image)
    if not image.has_transparency_data:
        return image.convert("RGB")
    rgba = image.convert("RGBA")
    if rgba.getchannel("A").getextrema() != (255, 255):
        warnings.warn(f"{path} is transparent in places: it is laid on white", stacklevel=3)
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey (Pillow's own conversion cuts at 255), and the integer and float modes when their range is clear."""
    import numpy as np

    array = np.asarray(image)
    low, high = float(array.min()), float(array.max())
    white = 65535 if image.mode.startswith("I") else 1
    if not (low >= 0 and high <= white):
        raise ValueError(f"its values reach from {low:g} to {high:g}, expected 0 to {white}")
    return Image.fromarray((array.astype(np.float32) * (255 / white)).round().astype(np.uint8))


def _colour_managed(path: Path, image: Image.Image) -> Image.Image:
    """Through the embedded colour profile to sRGB (phones write Display P3, printers CMYK); sRGB stays bit for bit."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "CMYK"):
        return image
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        source = ImageCms.getOpenProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError):
        warnings.warn(f"{path}: the colour profile is damaged, colours are taken as sRGB", stacklevel=4)
        return image
    return converted or image


def _encode(image: Image.Image, suffix: str, record: dict[str, Any] | None) -> bytes:
    buffer = io.BytesIO()
    if suffix == ".png":
        info = PngInfo()
        if record:
            info.add_itxt("renoise", json.dumps(record, sort_keys=True, ensure_ascii=False))
            info.add_itxt("parameters", parameters(record))
        image.save(buffer, "PNG", pnginfo=info)
    elif suffix == ".webp":
        image.save(buffer, "WEBP", lossless=True, exif=_exif(record))
    else:
        exif = _exif(record)
        if len(exif) > _JPEG_EXIF_LIMIT:
            warnings.warn("the record of how the picture was made is too long for a JPEG and left out", stacklevel=3)
            exif = b""
        image.convert("RGB").save(buffer, "JPEG", quality=95, subsampling=0, exif=exif)
    return buffer.getvalue()


def _exif(record: dict[str, Any] | None) -> bytes:
    if not record:
        return b""
    exif = Image.Exif()
    exif[_IMAGE_DESCRIPTION] = json.dumps(record, sort_keys=True)  # ASCII, as the tag wants it
    exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"UNICODE\0" + parameters(record).encode("utf-16-be", "replace")
    return exif.tobytes()
