"""Any PIL picture as upright sRGB of 8 bits, or, if it is a mask, as greys.

Rotation, depth, colour profile and transparency are applied and then forgotten: the pictures returned carry no `info`,
so that a picture may pass twice and is the same the second time. What is given is neither changed nor closed.
"""

import functools
import io
import warnings
from typing import TYPE_CHECKING

from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

if TYPE_CHECKING:
    from numpy import ndarray

_PHOTOMETRIC, _BITS = 262, 258
_SAME = 2  # levels of 255: what profiles that all mean sRGB differ by, in the rounding of their tables

# Pillow reads 16-bit greys whose white is zero in one byte order only.
TiffImagePlugin.OPEN_INFO.setdefault((TiffImagePlugin.MM, 0, (1,), 1, (16,), ()), ("I;16B", "I;16B"))


def srgb(image: Image.Image, name: object = "the picture") -> Image.Image:
    """Show a picture as RGB, as a viewer does; transparency is laid on white. `name` stands in warnings and errors."""
    image.load()
    _refuse_empty(image)
    if type(image) is Image.Image and image.mode == "RGB" and not image.info and not image.getexif():
        return image  # it has passed here before, or was made so
    pixels, alpha = _pixels(image, name)
    found = _managed(pixels, image.info.get("icc_profile"), name)
    if alpha is not None:
        if alpha.getextrema() != (255, 255):
            warnings.warn(f"{name} is transparent in places: it is laid on white", stacklevel=4)
        found.putalpha(alpha)
        found = Image.alpha_composite(Image.new("RGBA", found.size, "white"), found).convert("RGB")
    found.info = {}
    return found


def greys(image: Image.Image, name: object = "the mask") -> Image.Image:
    """Show a mask as greys; what is transparent is black, and the numbers count, not the colours of a profile."""
    image.load()
    _refuse_empty(image)
    pixels, alpha = _pixels(image, name)
    grey = _eight_bits(pixels) if pixels.mode.startswith("I;16") else pixels.convert("RGB").convert("L")
    return grey if alpha is None else Image.composite(grey, Image.new("L", grey.size), alpha)


def _refuse_empty(image: Image.Image) -> None:
    if 0 in image.size:
        raise ValueError(f"it has no pixels, its size is {image.width}x{image.height}")


def _pixels(image: Image.Image, name: object) -> tuple[Image.Image, Image.Image | None]:
    """Turn a picture upright and take it apart: a copy without transparency, 16-bit grey if it is deep, and its alpha."""
    upright = _upright(image, name)
    if upright.mode.startswith(("I", "F")):
        return _sixteen_bits(upright, image)
    if not upright.has_transparency_data:
        return upright, None
    colour = upright.info.get("transparency")
    if isinstance(colour, tuple) and max(colour) > 255:  # of a 16-bit PNG, of which Pillow reads the upper bytes
        upright.info["transparency"] = tuple(value >> 8 for value in colour)
    rgba = (upright.convert("LA") if upright.mode == "La" else upright).convert("RGBA")
    return rgba.convert("RGB"), rgba.getchannel("A")


def _upright(image: Image.Image, name: object) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block is no reason to refuse the pixels
        warnings.warn(f"{name}: the EXIF data is damaged, the picture is taken as it lies", stacklevel=6)
        return image.copy()


def _sixteen_bits(upright: Image.Image, source: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """Scale integers and floats to white at 65535 (Pillow's own conversion cuts at 255); the alpha, if one value has it."""
    import numpy as np

    array = np.asarray(upright)
    low, high = float(array.min()), float(array.max())
    white = _white(source, high)
    if not (low >= 0 and high <= white):
        raise ValueError(f"its values reach from {low:g} to {high:g}, expected 0 to {white}")
    key, alpha = upright.info.get("transparency"), None
    if isinstance(key, int):
        alpha = Image.fromarray(np.where(array == key, 0, 255).astype(np.uint8))
    values = array.astype(np.float32)
    if _tag(source, _PHOTOMETRIC, 1) == 0:  # white is zero, which Pillow undoes up to 8 bits only
        values = white - values
    return Image.fromarray((values * (65535 / white)).round().astype(np.uint16)), alpha


def _white(source: Image.Image, high: float) -> int:
    """Say which value is white. Pictures that Pillow made in memory, by `convert("F")` and the like, go to 255."""
    least = 2 if source.mode == "F" else 0
    if source.format is None and least <= high <= 255:
        return 255
    if source.mode.startswith("I;16"):
        bits = _tag(source, _BITS, 16)
        return 2 ** (bits[0] if isinstance(bits, tuple) else bits) - 1  # of 12 bits in a TIFF 4095
    return 1 if source.mode == "F" else 65535


def _tag(source: Image.Image, number: int, default: int) -> int | tuple[int, ...]:
    return source.tag_v2.get(number, default) if isinstance(source, TiffImagePlugin.TiffImageFile) else default


def _eight_bits(deep: Image.Image) -> Image.Image:
    import numpy as np

    return Image.fromarray((np.asarray(deep).astype(np.float32) / 257).round().astype(np.uint8))


def _managed(image: Image.Image, profile: bytes | None, name: object) -> Image.Image:
    """Apply the colour profile (phones write Display P3, printers CMYK); what it leaves alone stays bit for bit."""
    import numpy as np

    if profile and image.mode != "LAB":  # which says itself what its colours are
        try:
            fitting = _in_space(image, profile[16:20])
            change = _change(profile, fitting.mode)
            if isinstance(change, np.ndarray):
                return Image.fromarray(change[np.asarray(fitting)])
            if change is not None:
                return change.apply(fitting)
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
            text = "the colour profile is damaged or not one for such a picture, colours are taken as sRGB"
            warnings.warn(f"{name}: {text}", stacklevel=5)
    image = _eight_bits(image) if image.mode.startswith("I;16") else image
    return image if image.mode == "RGB" else image.convert("RGB")


@functools.lru_cache(16)
def _change(profile: bytes, mode: str) -> "ImageCms.ImageCmsTransform | ndarray | None":
    """Make what changes the colours of a profile to sRGB, of greys a table; None if the profile means sRGB.

    What becomes of a range of colours says what a profile means. Its name does not.
    """
    import numpy as np

    grey = mode not in ("RGB", "CMYK")
    # The tables that would make the conversion of greys faster miss the dark end of a steep curve by ten levels.
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
    if np.abs(after - before.astype(float)).max() <= _SAME:
        return None
    return after[0] if grey else transform


def _in_space(image: Image.Image, space: bytes) -> Image.Image:
    """Put the picture in the mode that a profile is for; ValueError if it has none such.

    A converted picture keeps the profile of what it was: a grey one may have that of its colours, and the other way round.
    """
    if space == b"CMYK" and image.mode == "CMYK":
        return image
    if space == b"RGB ":
        deep = image.mode.startswith("I;16")
        return (_eight_bits(image) if deep else image).convert("RGB")
    if space == b"GRAY" and image.mode.startswith(("1", "L", "I;16")):
        return image.convert("L") if image.mode == "1" else image
    if space == b"GRAY" and image.mode != "CMYK":
        red, green, blue = image.convert("RGB").split()
        if red.tobytes() == green.tobytes() == blue.tobytes():
            return red
    raise ValueError(f"no profile for {image.mode}")
