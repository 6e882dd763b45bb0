"""Reading and writing of picture files.

Pictures are read as an image viewer shows them, and written with a record of how they were made. Unusual pictures
(animated or transparent) cause a warning. Unreadable ones cause a ValueError of one line that names the file.
"""

import io
import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from renoise import colour
from renoise.files import write

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_HEIF_SUFFIXES = (".heic", ".heif", ".hif")
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
_USER_COMMENT, _IMAGE_DESCRIPTION, _EXIF_IFD = 0x9286, 0x010E, 0x8769
_JPEG_EXIF_LIMIT = 65_000  # a JPEG segment has a 16-bit length


def open_image(source: str | os.PathLike[str] | Image.Image) -> Image.Image:
    """Read a picture from a file or a PIL image as upright 8-bit sRGB.

    EXIF rotation and colour profile are applied, and transparency is composited on white. Of several frames the first
    is used. A PIL image is treated like a file, and is neither changed nor closed.

    Raises:
        OSError: if there is no such file, or no permission to read it.
        ValueError: if it is not a readable picture.
    """
    return _convert(source, "the picture", colour.srgb)


def open_mask(source: str | os.PathLike[str] | Image.Image) -> Image.Image:
    """Read a mask from a file or a PIL image as upright 8-bit greys. Transparent pixels become black.

    Raises the same errors as `open_image`, and no warnings.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _convert(source, "the mask", colour.greys)


def save(image: Image.Image, path: str | os.PathLike[str], record: Mapping[str, Any] | None = None) -> Path:
    """Write a picture atomically, with a record of how it was made, and return its path.

    PNG files hold the record as text chunks: `renoise` (JSON) and `parameters` (the text form that other programs
    show). JPEG and WebP files hold the same as EXIF ImageDescription and UserComment.

    Args:
        image: the picture.
        path: its file, with one of SUFFIXES.
        record: names and JSON values. None writes no record.

    Raises:
        ValueError: if the suffix is not one of SUFFIXES.
        OSError: if the file cannot be written.
    """
    path = writable(path)
    return write(path, _encode(image, path.suffix.lower(), dict(record) if record else None))


def writable(path: str | os.PathLike[str]) -> Path:
    """Return the path of a picture file. Raise ValueError if its suffix is not one of SUFFIXES."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: pictures are written as {', '.join(SUFFIXES)}")
    return path


def parameters(record: Mapping[str, Any]) -> str:
    """Format a record as the text of AUTOMATIC1111's web UI, which most programs read."""
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


def _convert(
    source: str | os.PathLike[str] | Image.Image, what: str, convert: Callable[[Image.Image, object], Image.Image]
) -> Image.Image:
    name = what if isinstance(source, Image.Image) else _check_exists(Path(source))
    try:
        with warnings.catch_warnings():
            # Pillow warns above 90 megapixels, which phones exceed. Above 179 it raises before it decodes.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if isinstance(source, Image.Image):
                _warn_if_animated(what, source)
                return convert(source, what)
            with _open(Path(source)) as image:
                _warn_if_animated(name, image)
                return convert(image, name)
    except (MemoryError, PermissionError):
        raise
    except Image.DecompressionBombError as error:
        limit = (Image.MAX_IMAGE_PIXELS or 0) * 2 // 1_000_000
        fix = f"it has too many pixels (at most {limit} million are read): scale it down first"
        raise ValueError(f"{name} cannot be read as a picture: {fix}") from error
    except Exception as error:  # decoders of damaged files may raise any exception
        raise ValueError(f"{name} cannot be read as a picture: {' '.join(str(error).split())}") from error


def _check_exists(path: Path) -> Path:
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, not a picture")
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path} is no regular file: save the picture to one first")
    return path


def _open(path: Path) -> Image.Image:
    try:
        try:
            return Image.open(path)
        except UnidentifiedImageError:
            if not _is_heif(path):
                raise
            _register_heif()
            return Image.open(path)
    except UnidentifiedImageError as error:
        if not path.stat().st_size:
            raise ValueError("the file is empty") from error
        fix = ", convert it to JPEG" if _is_heif(path) else ""
        raise ValueError(f"unknown or damaged format{fix}") from error


def _is_heif(path: Path) -> bool:
    """Return whether a file is HEIC, the format of many phones. Its suffix is often .jpg."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[4:8] == b"ftyp" and (head[8:] in _HEIF_BRANDS or path.suffix.lower() in _HEIF_SUFFIXES)


def _register_heif() -> None:
    """Enable HEIC in Pillow. Raise ValueError if the extra for it is not installed."""
    try:
        import pillow_heif  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ValueError("HEIC needs an extra: pip install 'renoise[heic]', or convert it to JPEG") from error
    pillow_heif.register_heif_opener()


def _warn_if_animated(name: object, image: Image.Image) -> None:
    # Counting the frames of a GIF or TIFF reads them all, and would discard changes to a decoded picture.
    if not ("n_frames" in vars(image) or getattr(image, "tile", None)):
        return
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.tell() == 0 and image.format != "MPO":  # an MPO holds previews and depth maps
        warnings.warn(f"{name} has {frames} frames: the first is used", stacklevel=4)


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
            warnings.warn(
                "the record of how the picture was made is too long for a JPEG and was left out", stacklevel=3
            )
            exif = b""
        image.convert("RGB").save(buffer, "JPEG", quality=95, subsampling=0, exif=exif)
    return buffer.getvalue()


def _exif(record: dict[str, Any] | None) -> bytes:
    if not record:
        return b""
    exif = Image.Exif()
    exif[_IMAGE_DESCRIPTION] = json.dumps(record, sort_keys=True)  # this tag must be ASCII
    exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"UNICODE\0" + parameters(record).encode("utf-16-be", "replace")
    return exif.tobytes()
