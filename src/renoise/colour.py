"""Colour conversion: any PIL picture to upright 8-bit sRGB, and any mask to 8-bit greys.

EXIF rotation, bit depth, colour profile and transparency are applied to the pixels and removed from `info`, so
converting a picture twice is the same as converting it once. The given picture is neither changed nor closed.
"""

import functools
import io
import warnings
from typing import TYPE_CHECKING

from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

if TYPE_CHECKING:
    from numpy import ndarray

_PHOTOMETRIC, _BITS = 262, 258
_SRGB_TOLERANCE = 2  # levels of 255, by which sRGB profiles differ due to the rounding of their tables

# Pillow reads 16-bit greys whose white is 0 in one byte order only. This adds the other.
TiffImagePlugin.OPEN_INFO.setdefault((TiffImagePlugin.MM, 0, (1,), 1, (16,), ()), ("I;16B", "I;16B"))


def srgb(image: Image.Image, name: object = "the picture") -> Image.Image:
    """Convert a picture to 8-bit sRGB as an image viewer shows it, with transparency composited on white.

    Args:
        image: the picture, in any mode.
        name: what warnings and errors call the picture.

    Raises:
        ValueError: if the picture has no pixels, or values outside the range of its mode.
    """
    image.load()
    _check_not_empty(image)
    if type(image) is Image.Image and image.mode == "RGB" and not image.info and not image.getexif():
        return image  # already converted, or created as plain RGB
    pixels, alpha = _split_alpha(image, name)
    found = _apply_profile(pixels, image.info.get("icc_profile"), name)
    if alpha is not None:
        if alpha.getextrema() != (255, 255):
            warnings.warn(f"{name} is transparent in places: it is laid on white", stacklevel=4)
        found.putalpha(alpha)
        found = Image.alpha_composite(Image.new("RGBA", found.size, "white"), found).convert("RGB")
    found.info = {}
    return found


def greys(image: Image.Image, name: object = "the mask") -> Image.Image:
    """Convert a mask to 8-bit greys. Transparent pixels become black, and colour profiles are ignored.

    Raises:
        ValueError: if the mask has no pixels, or values outside the range of its mode.
    """
    image.load()
    _check_not_empty(image)
    pixels, alpha = _split_alpha(image, name)
    grey = _to_eight_bits(pixels) if pixels.mode.startswith("I;16") else pixels.convert("RGB").convert("L")
    return grey if alpha is None else Image.composite(grey, Image.new("L", grey.size), alpha)


def _check_not_empty(image: Image.Image) -> None:
    if 0 in image.size:
        raise ValueError(f"it has no pixels, its size is {image.width}x{image.height}")


def _split_alpha(image: Image.Image, name: object) -> tuple[Image.Image, Image.Image | None]:
    """Return an upright copy of a picture without its transparency, and its alpha. Deep pictures become 16-bit grey."""
    upright = _rotate_upright(image, name)
    if upright.mode.startswith(("I", "F")):
        return _to_sixteen_bits(upright, image)
    if not upright.has_transparency_data:
        return upright, None
    colour = upright.info.get("transparency")
    if isinstance(colour, tuple) and max(colour) > 255:  # from a 16-bit PNG, of which Pillow reads the upper bytes
        upright.info["transparency"] = tuple(value >> 8 for value in colour)
    rgba = (upright.convert("LA") if upright.mode == "La" else upright).convert("RGBA")
    return rgba.convert("RGB"), rgba.getchannel("A")


def _rotate_upright(image: Image.Image, name: object) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF data do not affect the pixels
        warnings.warn(f"{name}: the EXIF data is damaged, the picture is not rotated", stacklevel=6)
        return image.copy()


def _to_sixteen_bits(upright: Image.Image, source: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Scale integers and floats so that white is 65535, and return the alpha if one value is marked as transparent.

    Pillow's own conversion clips at 255 instead.
    """
    import numpy as np

    array = np.asarray(upright)
    low, high = float(array.min()), float(array.max())
    white = _white_value(source, high)
    if not (low >= 0 and high <= white):
        raise ValueError(f"its values reach from {low:g} to {high:g}, expected 0 to {white}")
    key, alpha = upright.info.get("transparency"), None
    if isinstance(key, int):
        alpha = Image.fromarray(np.where(array == key, 0, 255).astype(np.uint8))
    values = array.astype(np.float32)
    if _tiff_tag(source, _PHOTOMETRIC, 1) == 0:  # white is 0, which Pillow inverts only for up to 8 bits
        values = white - values
    return Image.fromarray((values * (65535 / white)).round().astype(np.uint16)), alpha


def _white_value(source: Image.Image, high: float) -> int:
    """Return the value of white. It is 255 for pictures that Pillow created in memory, as by `convert("F")`."""
    least = 2 if source.mode == "F" else 0
    if source.format is None and least <= high <= 255:
        return 255
    if source.mode.startswith("I;16"):
        bits = _tiff_tag(source, _BITS, 16)
        return 2 ** (bits[0] if isinstance(bits, tuple) else bits) - 1  # 4095 for a 12-bit TIFF
    return 1 if source.mode == "F" else 65535


def _tiff_tag(source: Image.Image, number: int, default: int) -> int | tuple[int, ...]:
    return source.tag_v2.get(number, default) if isinstance(source, TiffImagePlugin.TiffImageFile) else default


def _to_eight_bits(deep: Image.Image) -> Image.Image:
    import numpy as np

    return Image.fromarray((np.asarray(deep).astype(np.float32) / 257).round().astype(np.uint8))


def _apply_profile(image: Image.Image, profile: bytes | None, name: object) -> Image.Image:
    """Convert a picture to 8-bit RGB by its colour profile (phones write Display P3, printers CMYK).

    Pixels of an sRGB profile do not change at all.
    """
    import numpy as np

    if profile and image.mode != "LAB":  # LAB colours need no profile
        try:
            matching = _to_profile_mode(image, profile[16:20])
            change = _profile_transform(profile, matching.mode)
            if isinstance(change, np.ndarray):
                return Image.fromarray(change[np.asarray(matching)])
            if change is not None:
                return change.apply(matching)
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
            text = "the colour profile is damaged or not one for such a picture, so its colours are read as sRGB"
            warnings.warn(f"{name}: {text}", stacklevel=5)
    image = _to_eight_bits(image) if image.mode.startswith("I;16") else image
    return image if image.mode == "RGB" else image.convert("RGB")


@functools.lru_cache(16)
def _profile_transform(profile: bytes, mode: str) -> "ImageCms.ImageCmsTransform | ndarray | None":
    """Return the transform from a colour profile to sRGB: a lookup table for greys, None if the profile is sRGB.

    A profile counts as sRGB if it leaves a range of test colours unchanged, whatever its name is.
    """
    import numpy as np

    grey = mode not in ("RGB", "CMYK")
    # The optimized tables for greys are wrong by up to ten levels at the dark end of a steep curve.
    flags = ImageCms.Flags.NOOPTIMIZE if grey else ImageCms.Flags.NONE
    source, target = ImageCms.getOpenProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    transform = ImageCms.buildTransform(source, target, mode, "RGB", flags=flags)
    if mode == "CMYK":
        return transform
    if mode == "RGB":
        levels = np.arange(0, 256, 17, dtype=np.uint8)
        before = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
        after = np.asarray(transform.apply(Image.fromarray(before)))
    else:
        values = np.arange(256, dtype=np.uint8) if mode == "L" else np.arange(65536, dtype=np.uint16)
        before = (values / values[-1] * 255)[None, :, None]
        after = np.asarray(transform.apply(Image.fromarray(values[None])))
    if np.abs(after - before.astype(float)).max() <= _SRGB_TOLERANCE:
        return None
    return after[0] if grey else transform


def _to_profile_mode(image: Image.Image, space: bytes) -> Image.Image:
    """Convert a picture to the mode that a profile applies to. Raise ValueError if that is impossible.

    The modes may differ, because a converted picture keeps its old profile: a grey picture may have an RGB profile, and
    an RGB picture a grey one.
    """
    if space == b"CMYK" and image.mode == "CMYK":
        return image
    if space == b"RGB ":
        deep = image.mode.startswith("I;16")
        return (_to_eight_bits(image) if deep else image).convert("RGB")
    if space == b"GRAY" and image.mode.startswith(("1", "L", "I;16")):
        return image.convert("L") if image.mode == "1" else image
    if space == b"GRAY" and image.mode != "CMYK":
        red, green, blue = image.convert("RGB").split()
        if red.tobytes() == green.tobytes() == blue.tobytes():
            return red
    raise ValueError(f"the profile is not for {image.mode}")
