"""Colours are what a viewer shows: by what a profile does, at every depth, from a file and from a PIL image alike."""

import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from renoise import images
from tests.profiles import SWAPPED, gamma, ink, profile, srgb_curve

LINEAR = profile("GIMP built-in Linear sRGB", gamma(1.0))
GREY_LINEAR = profile("sRGB grey", gamma(1.0), b"GRAY")
SAME = profile("Camera RGB", srgb_curve())
COLOURS = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # of files that are left to be read lazily
        yield


def _first(image: Image.Image) -> tuple[int, ...]:
    found = images.open_image(image)
    assert (found.mode, found.info) == ("RGB", {})
    return found.getpixel((0, 0))


def _apart(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def _saved(folder: Path, image: Image.Image, **how: Any) -> Image.Image:
    """The picture as its file has it."""
    path = folder / f"{len(list(folder.iterdir()))}.tiff"
    image.save(path, **how)
    return Image.open(path)


def _png(depth: int, kind: int, row: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 2 x 1 pixels."""
    head = (b"IHDR", struct.pack(">IIBBBBB", 2, 1, depth, kind, 0, 0, 0))
    parts = [head, *chunks, (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    whole = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + whole


def _tiff(order: str, values: np.ndarray, photometric: int, bits: int, sample_format: int = 1) -> bytes:
    """A grey TIFF of one row, in either byte order."""
    data = values.tobytes()
    width = len(values) if bits != 12 else len(data) * 8 // 12
    tags = [(256, width), (257, 1), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, 1)]
    tags += [(279, len(data)), (339, sample_format)]
    pad = bytes(len(data) % 2)
    directory = struct.pack(order + "H", len(tags)) + b"".join(
        struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in tags
    )
    start = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + len(data + pad))
    return start + data + pad + directory + bytes(4)


def test_a_profile_is_judged_by_what_it_does_and_not_by_its_name(tmp_path: Path):
    grey = Image.new("RGB", (4, 4), (180, 180, 180))
    assert _first(_saved(tmp_path, grey, icc_profile=LINEAR)) == (219, 219, 219)
    colours = Image.fromarray(COLOURS)
    for points in (26, 256, 1024, 4096):  # as the makers of cameras, systems and programs tabulate it
        same = profile("Camera RGB", srgb_curve(points))
        assert images.open_image(_saved(tmp_path, colours, icc_profile=same)).tobytes() == colours.tobytes()
    assert _first(_saved(tmp_path, grey, icc_profile=profile("sRGB", gamma(2.2)))) != (180, 180, 180)
    red = Image.new("RGB", (4, 4), "red")
    swapped = profile("sRGB", srgb_curve(), primaries=SWAPPED)
    assert _apart(_first(_saved(tmp_path, red, icc_profile=swapped)), (0, 255, 0)) <= 2


@pytest.mark.parametrize("mode", ["P", "RGBA", "PA", "RGBX", "HSV", "YCbCr", "CMYK"])
def test_a_profile_of_rgb_holds_for_every_mode_that_means_rgb(mode: str):
    """Also for one that a program converted: it keeps the profile of what it was."""
    image = Image.new("RGB", (4, 4), (180, 180, 180)).convert({"PA": "LA", "P": "L"}.get(mode, "RGB")).convert(mode)
    image.info["icc_profile"] = LINEAR
    plain = image.convert("RGB").getpixel((0, 0))
    assert _apart(_first(image), (219, 219, 219)) <= (4 if mode in ("HSV", "YCbCr") else 0)
    image.info["icc_profile"] = SAME
    assert _first(image) == plain


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "1"])
def test_the_profiles_of_greys(mode: str):
    image = Image.new("L", (4, 4), 255 if mode == "1" else 180).convert(mode)
    for given in (GREY_LINEAR, LINEAR):  # the other one is left when a colour picture is made grey
        image.info["icc_profile"] = given
        assert _first(image) == ((255,) * 3 if mode == "1" else (219,) * 3)
    image.info["icc_profile"] = profile("gamma", srgb_curve(), b"GRAY")
    assert _first(image) == image.convert("RGB").getpixel((0, 0))


def test_a_print_is_read_through_the_profile_of_its_inks(tmp_path: Path):
    for inks, shown in (((0, 0, 0, 0), 0), ((255, 255, 255, 255), 255), ((255, 0, 0, 255), 119)):
        image = Image.new("CMYK", (4, 4), inks)
        image.save(tmp_path / "a.tiff", icc_profile=ink())
        assert _apart(_first(Image.open(tmp_path / "a.tiff")), (shown,) * 3) <= 2
        image.convert("RGB").save(tmp_path / "a.png", icc_profile=ink())  # a program has converted it by other rules
        with pytest.warns(UserWarning, match=r"a\.png: the colour profile is damaged or not one for such"):
            assert images.open_image(tmp_path / "a.png").getpixel((0, 0)) == image.convert("RGB").getpixel((0, 0))


def test_sixteen_bit_greys_keep_their_bits_through_a_profile():
    image = Image.fromarray(np.array([[0, 65, 257, 65535]], np.uint16))
    image.info["icc_profile"] = GREY_LINEAR
    assert np.asarray(images.open_image(image))[0, :, 0].tolist() == [0, 3, 13, 255]  # in 8 bits 65 would be 0
    image.info["icc_profile"] = profile("plain", srgb_curve(), b"GRAY")
    assert np.asarray(images.open_image(image))[0, :, 0].tolist() == [0, 0, 1, 255]


def test_a_profile_for_other_pictures_is_said_and_left_out():
    image = Image.fromarray(COLOURS)
    for given in (GREY_LINEAR, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(), b"none", "none"):
        image.info["icc_profile"] = given
        with pytest.warns(UserWarning, match="the picture: the colour profile is damaged or not one for such"):
            assert images.open_image(image).tobytes() == image.tobytes()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("dtype", "bits", "sample_format"), [("u1", 8, 1), ("u2", 16, 1), ("f4", 32, 3)], ids=["8", "16", "float"]
)
def test_white_is_zero(tmp_path: Path, order: str, dtype: str, bits: int, sample_format: int):
    white = {"u1": 255, "u2": 65535, "f4": 1}[dtype]
    values = np.array([0, 0.25 * white, white]).astype(order + dtype)
    for photometric, shown in ((0, [255, 191, 0]), (1, [0, 64, 255])):
        path = tmp_path / f"{photometric}.tiff"
        path.write_bytes(_tiff(order, values, photometric, bits, sample_format))
        for given in (path, Image.open(path)):
            found = np.asarray(images.open_image(given))[0, :, 0].astype(int)
            assert abs(found - shown).max() <= 1
            mask = images.masks(given, 1, 3)[0, 0, 0].numpy() * 255
            assert abs(mask - shown).max() <= 1


def test_twelve_bits_reach_white(tmp_path: Path):
    (tmp_path / "a.tiff").write_bytes(_tiff("<", np.array([0xFF, 0xF8, 0x00], np.uint8), 1, 12))
    assert np.asarray(images.open_image(tmp_path / "a.tiff"))[0, :, 0].tolist() == [255, 128]


def test_sixteen_bits_a_colour(tmp_path: Path):
    """Pillow reads the upper byte of each: the transparent colour of a PNG has to be read in the same way."""
    (tmp_path / "a.png").write_bytes(_png(16, 2, struct.pack(">6H", 65535, 0, 1000, 300, 0x1234, 65000)))
    assert np.asarray(images.open_image(tmp_path / "a.png"))[0].tolist() == [[255, 0, 3], [1, 18, 253]]
    colour = (b"tRNS", struct.pack(">3H", 300, 0x1234, 65000))
    (tmp_path / "b.png").write_bytes(_png(16, 2, struct.pack(">6H", 65535, 0, 1000, 300, 0x1234, 65000), colour))
    grey = (b"tRNS", struct.pack(">H", 1000))
    (tmp_path / "c.png").write_bytes(_png(16, 0, struct.pack(">2H", 50000, 1000), grey))
    for name, first in (("b.png", [255, 0, 3]), ("c.png", [195, 195, 195])):
        with pytest.warns(UserWarning, match="is transparent in places"):
            found = images.open_image(tmp_path / name)
        assert np.asarray(found)[0].tolist() == [first, [255, 255, 255]]
        assert images.masks(tmp_path / name, 1, 2)[0, 0, 0, 1] == 0


def _as_people_save_them(folder: Path) -> list[Path]:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = Image.fromarray(COLOURS)
    cutout = photo.copy()
    cutout.putalpha(Image.fromarray(COLOURS[..., 0]))
    photo.save(folder / "turned.jpg", exif=exif)
    photo.save(folder / "turned.tiff", exif=exif)
    photo.save(folder / "linear.png", icc_profile=LINEAR)
    cutout.save(folder / "cutout.png", exif=exif, icc_profile=LINEAR)
    cutout.convert("LA").save(folder / "grey.png")
    photo.convert("P").save(folder / "indexed.gif", transparency=3)
    photo.convert("CMYK").save(folder / "print.jpg")
    photo.save(folder / "plain.ppm")
    photo.convert("LAB").save(folder / "lab.tiff")
    photo.convert("1").save(folder / "bits.png")
    Image.fromarray(COLOURS[..., 0].astype(np.uint16) * 250).save(folder / "deep.png", exif=exif)
    Image.fromarray(COLOURS[..., 0].astype(np.uint16)).save(folder / "dark.png")
    Image.fromarray(COLOURS[..., 0].astype(np.uint16) * 250).save(folder / "deep.pgm")
    Image.fromarray(COLOURS[..., 0].astype(np.float32) / 255).save(folder / "float.tiff")
    photo.save(folder / "several.gif", save_all=True, append_images=[photo.rotate(180)])
    return sorted(folder.iterdir())


def test_an_image_object_is_read_as_its_file_is(tmp_path: Path):
    for path in _as_people_save_them(tmp_path):
        for read in (
            images.open_image,
            lambda given: images.masks(given, 24, 24),
            lambda given: images.batch(given, 24, 24),
        ):
            lazy, loaded = Image.open(path), Image.open(path)
            loaded.load()
            results = []
            for given in (path, lazy, loaded):
                with warnings.catch_warnings(record=True) as said:
                    warnings.simplefilter("always")
                    results.append((np.asarray(read(given)), [str(warning.message) for warning in said]))
            (from_file, said), (from_lazy, said_too), (from_loaded, _) = results
            assert np.array_equal(from_file, from_lazy), path.name
            assert np.array_equal(from_file, from_loaded), path.name
            assert [text.replace(str(path), "the picture") for text in said] == said_too


def test_a_picture_may_pass_twice(tmp_path: Path):
    for path in _as_people_save_them(tmp_path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            once = images.open_image(path)
        assert images.open_image(once) is once, path.name
        assert type(once) is Image.Image, path.name  # and not one that belongs to a closed file


def test_the_users_image_is_neither_changed_nor_closed(tmp_path: Path):
    for path in _as_people_save_them(tmp_path):
        image = Image.open(path)
        image.load()
        image.putpixel((0, 0), image.getpixel((1, 1)))  # drawn on: a GIF's frames must not be decoded again
        before = (image.mode, image.size, dict(image.info), image.tobytes(), dict(image.getexif()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(2):
                images.batch(image, 24, 24)
                images.masks(image, 24, 24)
                images.to_tensor(image)
        assert (image.mode, image.size, dict(image.info), image.tobytes(), dict(image.getexif())) == before, path.name


MODES = [
    "1",
    "L",
    "LA",
    "La",
    "P",
    "PA",
    "RGB",
    "RGBA",
    "RGBa",
    "RGBX",
    "CMYK",
    "YCbCr",
    "HSV",
    "LAB",
    "I",
    "F",
    "I;16",
    "I;16B",
]


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_that_pillow_converts_to_looks_as_before(mode: str):
    grey = Image.new("RGB", (8, 8), (86, 86, 86) if mode != "1" else "white")
    step = {"La": "LA", "RGBa": "RGBA", "PA": "LA", "P": "L"}.get(mode, "L" if mode.startswith("I;") else "RGB")
    image = grey.convert(step).convert(mode)
    expected = grey.getpixel((0, 0))
    assert _apart(_first(image), expected) <= 1
    assert abs(images.masks(image, 8, 8).mean().item() * 255 - expected[0]) <= 1
    assert abs(images.to_tensor([image]).mean().item() * 255 - expected[0]) <= 1


def test_an_animation_object_at_a_later_frame_is_that_frame(tmp_path: Path):
    frames = [Image.new("RGB", (8, 8), (0, value, 0)) for value in (90, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    image = Image.open(tmp_path / "a.gif")
    with pytest.warns(UserWarning, match="the picture has 2 frames: the first is used"):
        images.open_image(image)
    image.seek(1)
    assert _first(image) == (0, 200, 0)


def test_an_object_that_holds_no_picture_is_one_clear_error(tmp_path: Path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    closed = Image.open(tmp_path / "a.png")
    closed.close()
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:45])
    for image, says in (
        (closed, "losed"),
        (Image.open(tmp_path / "b.png"), "truncated"),
        (Image.new("RGB", (0, 8)), "no pixels, its size is 0x8"),
        (Image.new("I;16", (8, 0)), "no pixels, its size is 8x0"),
        (Image.fromarray(np.full((2, 2), np.nan, np.float32)), "reach from nan to nan, expected 0 to 1"),
        (Image.fromarray(np.full((2, 2), 1.2, np.float32)), "expected 0 to 1"),
    ):
        for read in (
            images.open_image,
            lambda image: images.batch(image, 8, 8),
            lambda image: images.masks(image, 8, 8),
        ):
            with pytest.raises(ValueError, match=rf"the (picture|mask) cannot be read as a picture: .*{says}") as error:
                read(image)
            assert "\n" not in str(error.value)
