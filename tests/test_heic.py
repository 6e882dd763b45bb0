"""HEIC, what telephones write, is read where the extra for it is installed, and the extra is named where it is not."""

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from renoise import images
from tests.profiles import gamma, profile


@pytest.fixture
def heic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A photograph of 48 x 64, red at its left; afterwards Pillow knows no HEIC, as in a new process."""
    heif = pytest.importorskip("pillow_heif")
    photo = Image.new("RGB", (48, 64), (200, 40, 40))
    photo.paste((40, 40, 200), (24, 0, 48, 64))
    heif.from_pillow(photo).save(tmp_path / "a.heic", quality=95)
    _forget(monkeypatch)
    return tmp_path / "a.heic"


def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name != "HEIF"])


@pytest.mark.parametrize("name", ["a.heic", "a.HEIC", "a.heif", "a.jpg", "a"])
def test_a_heic_is_read_by_whatever_name_it_comes(heic: Path, name: str):
    path = heic.rename(heic.with_name(name))
    image = images.open_image(path)
    assert (image.mode, image.size) == ("RGB", (48, 64))
    left, right = np.array(image.getpixel((4, 4))), np.array(image.getpixel((44, 4)))
    assert abs(left - (200, 40, 40)).max() < 12
    assert abs(right - (40, 40, 200)).max() < 12
    assert images.masks(path, 64, 48).shape == (1, 1, 64, 48)
    assert images.batch(path, 32, 32).shape == (1, 3, 32, 32)


def test_its_rotation_and_its_profile_are_applied(heic: Path):
    heif = importlib.import_module("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = 6
    grey = Image.new("RGB", (64, 48), (180, 180, 180))
    grey.info["icc_profile"] = profile("sRGB", gamma(1.0))
    heif.register_heif_opener()
    grey.save(heic, quality=95, exif=exif.tobytes())
    for given in (heic, Image.open(heic)):
        image = images.open_image(given)
        assert image.size == (48, 64)
        assert abs(np.array(image.getpixel((9, 9))) - 219).max() <= 3


def test_a_damaged_one_is_one_clear_error(heic: Path):
    whole = heic.read_bytes()
    for size in (60, len(whole) // 2, len(whole) - 40):
        heic.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"a\.heic cannot be read as a picture") as error:
            images.open_image(heic)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a.heic", "a.jpg"])
def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    _forget(monkeypatch)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))
    for read in (images.open_image, lambda path: images.masks(path, 8, 8)):
        with pytest.raises(
            ValueError, match=r"HEIC needs an extra: pip install 'renoise\[heic\]', or convert it to JPEG"
        ):
            read(tmp_path / name)


def test_reading_other_pictures_does_not_import_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for suffix in ("png", "jpg", "avif"):
        if suffix == "avif" and "AVIF" not in Image.registered_extensions().values():
            continue
        Image.new("RGB", (8, 8)).save(tmp_path / f"a.{suffix}")
        assert images.open_image(tmp_path / f"a.{suffix}").size == (8, 8)
    (tmp_path / "a.txt").write_text("no picture at all")
    with pytest.raises(ValueError, match="unknown or damaged format"):
        images.open_image(tmp_path / "a.txt")
