"""Photographs as people have them: rotated, animated, printed, cut out, damaged, tiny and enormous."""

import errno
import io
import json
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from renoise import images

RED, BLUE = (220, 30, 20), (20, 40, 200)


@pytest.fixture
def photo() -> Image.Image:
    """24 x 16, the left half red and the right half blue."""
    image = Image.new("RGB", (24, 16), RED)
    image.paste(BLUE, (12, 0, 24, 16))
    return image


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    """A picture in order is read without a word; a test of a warning says so with pytest.warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def _near(a: tuple[int, ...], b: tuple[int, ...], tolerance: int = 12) -> bool:
    return max(abs(x - y) for x, y in zip(a, b, strict=True)) <= tolerance


def _refusal(path: Path) -> str | None:
    try:
        images.open_image(path)
    except ValueError as error:
        return str(error)
    return None


def _png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""
    body = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + body
    idat = b"IDAT" + zlib.compress(b"")
    return (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(body)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", len(idat) - 4) + idat + struct.pack(">I", zlib.crc32(idat))
    )  # fmt: skip


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff"])
def test_a_plain_picture_is_read_as_it_is(tmp_path: Path, photo: Image.Image, suffix: str):
    photo.save(tmp_path / f"a.{suffix}")
    image = images.open_image(str(tmp_path / f"a.{suffix}"))
    assert (image.mode, image.size) == ("RGB", (24, 16))
    assert _near(image.getpixel((3, 8)), RED)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(tmp_path: Path, photo: Image.Image, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo.save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = images.open_image(tmp_path / "a.jpg")
    assert image.size == ((24, 16) if orientation < 5 else (16, 24))
    red_first = orientation in (1, 4, 5, 6)  # red at the left or the top edge
    assert _near(image.getpixel((1, 1)), RED if red_first else BLUE, 40)
    assert image.getexif().get(0x0112, 1) == 1  # or the next program turns it again


def test_damaged_exif_does_not_cost_the_picture(tmp_path: Path, photo: Image.Image):
    photo.save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff garbage")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert images.open_image(tmp_path / "a.jpg").size == (24, 16)


def test_cmyk(tmp_path: Path, photo: Image.Image):
    photo.convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    image = images.open_image(tmp_path / "a.jpg")
    assert image.mode == "RGB"
    assert _near(image.getpixel((3, 8)), RED, 30)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bit_grey_is_scaled_not_cut(tmp_path: Path, suffix: str):
    values = np.array([[0, 128, 257, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    image = images.open_image(tmp_path / f"a.{suffix}")
    assert [image.getpixel((x, 0))[0] for x in range(5)] == [0, 0, 1, 128, 255]


def test_float_pictures_in_0_1_are_read_and_others_refused(tmp_path: Path):
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)).save(tmp_path / "a.tiff")
    assert images.open_image(tmp_path / "a.tiff").getpixel((1, 0)) == (128, 128, 128)
    Image.fromarray(np.array([[-3.0, 700.0]], dtype=np.float32)).save(tmp_path / "b.tiff")
    with pytest.raises(ValueError, match=r"b\.tiff .*from -3 to 700, expected 0 to 1"):
        images.open_image(tmp_path / "b.tiff")


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_few_colours(tmp_path: Path, photo: Image.Image, mode: str):
    photo.convert(mode).save(tmp_path / "a.png")
    assert images.open_image(tmp_path / "a.png").mode == "RGB"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white_and_said(tmp_path: Path, mode: str):
    cutout = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    cutout.paste((0, 0, 0, 255), (0, 0, 4, 8))
    if mode == "P":
        indexed = Image.new("P", (8, 8), 1)
        indexed.paste(0, (0, 0, 4, 8))
        indexed.putpalette([0, 0, 0, 90, 90, 90])
        indexed.save(tmp_path / "a.png", transparency=1)
    else:
        cutout.convert(mode).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match=r"a\.png is transparent in places: it is laid on white"):
        image = images.open_image(tmp_path / "a.png")
    assert (image.getpixel((1, 1)), image.getpixel((6, 6))) == ((0, 0, 0), (255, 255, 255))


def test_an_opaque_alpha_channel_is_not_worth_a_word(tmp_path: Path, photo: Image.Image):
    photo.convert("RGBA").save(tmp_path / "a.png")
    assert images.open_image(tmp_path / "a.png").tobytes() == photo.tobytes()


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff", "avif"])
def test_an_animation_gives_its_first_frame(tmp_path: Path, photo: Image.Image, suffix: str):
    if suffix == "avif" and ".avif" not in Image.registered_extensions():
        pytest.skip("this Pillow reads no AVIF")
    frames = [Image.new("RGB", (24, 16), (0, value, 0)) for value in (90, 200)]
    lossless = {"lossless": True} if suffix == "webp" else {}
    photo.save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames, **lossless)
    with pytest.warns(UserWarning, match="has 3 frames: the first is used"):
        image = images.open_image(tmp_path / f"a.{suffix}")
    assert _near(image.getpixel((3, 8)), RED)


def _swapped_primaries(srgb: bytes) -> bytes:
    """The sRGB profile by another name and with red and green exchanged: what is red without it is green with it."""
    tags = {srgb[at : at + 4]: at + 4 for at in range(132, 132 + 12 * int.from_bytes(srgb[128:132], "big"), 12)}
    out = bytearray(srgb)
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    out[red : red + 8], out[green : green + 8] = srgb[green : green + 8], srgb[red : red + 8]
    return bytes(out).replace("sRGB".encode("utf-16-be"), "wide".encode("utf-16-be"))


def test_a_wide_gamut_profile_is_converted_and_srgb_left_alone(tmp_path: Path, photo: Image.Image):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo.save(tmp_path / "a.png", icc_profile=srgb)
    assert images.open_image(tmp_path / "a.png").tobytes() == photo.tobytes()
    swapped = _swapped_primaries(srgb)
    for mode in ("RGB", "RGBA"):
        photo.convert(mode).save(tmp_path / "wide.png", icc_profile=swapped)
        converted = images.open_image(tmp_path / "wide.png")
        assert _near(converted.getpixel((3, 8)), (RED[1], RED[0], RED[2]), 3)
    xyz = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    for name, profile in (("b", xyz), ("c", b"no profile at all")):
        photo.save(tmp_path / f"{name}.png", icc_profile=profile)
        with pytest.warns(UserWarning, match="colour profile is damaged"):
            assert images.open_image(tmp_path / f"{name}.png").tobytes() == photo.tobytes()


@pytest.mark.parametrize("name", ["nothing.png", "a\nb.png"])
def test_a_missing_file_is_named(tmp_path: Path, name: str):
    with pytest.raises(FileNotFoundError, match="no such file"):
        images.open_image(tmp_path / name)


def test_a_folder_is_no_picture(tmp_path: Path):
    with pytest.raises(IsADirectoryError, match="is a folder"):
        images.open_image(tmp_path)


FILLED_IN = {("webp", "zeroed")}  # what its decoder reads all the same


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tiff"])
def test_damaged_files_are_one_clear_error(tmp_path: Path, suffix: str):
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, {"jpg": "jpeg"}.get(suffix, suffix))
    whole = buffer.getvalue()
    for kind, data in {
        "truncated": whole[: len(whole) // 2],
        "head": whole[:12],
        "zeroed": whole[:40] + bytes(len(whole) - 40),
    }.items():
        path = tmp_path / f"{kind}.{suffix}"
        path.write_bytes(data)
        with warnings.catch_warnings():  # Pillow's own remarks on a damaged file
            warnings.simplefilter("ignore")
            error = _refusal(path)
        if (suffix, kind) in FILLED_IN:
            assert error is None
        else:
            assert error is not None
            assert str(path) in error
            assert "\n" not in error


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.png", b"", "the file is empty"),
        ("a.jpg", b"this is text", "unknown or damaged format"),
        ("a.heic", b"\0\0\0\x18ftypheic", "convert it to JPEG"),
    ],
)
def test_no_picture_at_all(tmp_path: Path, name: str, data: bytes, says: str):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=says):
        images.open_image(tmp_path / name)


def test_an_enormous_picture_is_refused_before_it_is_decoded(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(_png_header(20_000, 20_000))
    with pytest.raises(ValueError, match=r"a\.png .*too many pixels \(at most 178 million are read\): scale it down"):
        images.open_image(tmp_path / "a.png")


def test_what_pillow_checks_only_when_it_decodes_is_no_bomb_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.new("L", (40, 40), 90).save(tmp_path / "a.tiff")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_500)  # the file has 1,600
    assert images.open_image(tmp_path / "a.tiff").getpixel((0, 0)) == (90, 90, 90)
    image = Image.new("L", (40, 40), 90)
    assert images.open_image(image).getpixel((0, 0)) == (90, 90, 90)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 700)
    with pytest.raises(ValueError, match=r"a\.tiff .*too many pixels .*: scale it down"):
        images.open_image(tmp_path / "a.tiff")


def test_a_picture_as_large_as_telephones_make_them_is_no_bomb(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(_png_header(12_000, 9_000))
    with pytest.raises(ValueError, match="truncated"):  # it got as far as the pixels, which are not there
        images.open_image(tmp_path / "a.png")


@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (1, 20_000), (3, 2)])
def test_tiny_and_thin_pictures_are_enlarged_and_said(tmp_path: Path, size: tuple[int, int]):
    Image.new("RGB", size, RED).save(tmp_path / "a.png")
    image = images.open_image(tmp_path / "a.png")
    with pytest.warns(UserWarning, match=f"only {size[0]}x{size[1]} px: enlarged"):
        fitted = images.fit(image, 64, 48)
    assert fitted.size == (64, 48)
    assert fitted.getpixel((30, 20)) == RED


def test_fit_crops_the_centre_and_never_squashes():
    picture = Image.new("RGB", (400, 100), RED)
    picture.paste(BLUE, (150, 0, 250, 100))
    assert images.fit(picture, 100, 100).getcolors() == [(100 * 100, BLUE)]
    circle = np.hypot(*np.mgrid[-60:60, -100:100]) < 40
    fitted = images.fit(Image.fromarray(np.uint8(circle) * 255).convert("RGB"), 60, 60)
    inside = np.asarray(fitted)[..., 0] > 127
    assert abs(int(inside.any(0).sum()) - int(inside.any(1).sum())) <= 1  # round still
    assert 38 <= inside.any(0).sum() <= 41  # at half the size


def test_fit_leaves_a_picture_of_the_right_size_alone(photo: Image.Image):
    assert images.fit(photo, 24, 16) is photo


def test_tensors_and_pictures_are_the_same_to_the_bit(photo: Image.Image):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8))
    tensor = images.to_tensor([photo, noise, images.to_tensor(photo)[0], images.to_tensor(noise)])
    assert tensor.shape == (4, 3, 16, 24)
    assert tensor.dtype == torch.float32
    assert [image.tobytes() for image in images.to_images(tensor)] == [
        x.tobytes() for x in (photo, noise, photo, noise)
    ]


def test_a_batch_of_several_sizes_is_refused(photo: Image.Image):
    with pytest.raises(ValueError, match="one size, these have 24x16, 8x8"):
        images.to_tensor([photo, photo.resize((8, 8))])
    with pytest.raises(ValueError, match="no picture"):
        images.to_tensor([])


def test_to_images_clamps_and_refuses_what_is_no_number():
    assert images.to_images(torch.tensor([[-1.0, 0.5, 9.0]]).view(1, 3, 1, 1))[0].getpixel((0, 0)) == (0, 128, 255)
    with pytest.raises(ValueError, match="float32"):
        images.to_images(torch.full((1, 3, 2, 2), float("nan")))


RECORD = {
    "model": "orchard", "prompt": "a photo of a lemon, «très» 黄色", "negative_prompt": "a red apple", "seed": 7, "width": 24,
    "height": 16, "num_inference_steps": 4, "guidance_scale": 2.0, "sampler": "DDIM", "settings": {"iterations": 3},
}  # fmt: skip


def test_png_carries_how_it_was_made(tmp_path: Path, photo: Image.Image):
    path = images.save(photo, tmp_path / "new" / "folders" / "a.png", RECORD)
    with Image.open(path) as image:
        assert image.tobytes() == photo.tobytes()
        assert json.loads(image.text["renoise"]) == RECORD
        assert image.text["parameters"].splitlines() == [
            RECORD["prompt"],
            "Negative prompt: a red apple",
            "Steps: 4, Sampler: DDIM, CFG scale: 2.0, Seed: 7, Size: 24x16, Model: orchard",
        ]


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "webp"])
def test_jpeg_and_webp_carry_it_in_exif(tmp_path: Path, photo: Image.Image, suffix: str):
    path = images.save(photo, tmp_path / f"a.{suffix}", RECORD)
    with Image.open(path) as image:
        exif = image.getexif()
        assert json.loads(exif[0x010E]) == RECORD
        comment = exif.get_ifd(0x8769)[0x9286]
        assert comment[:8] == b"UNICODE\0"
        assert comment[8:].decode("utf-16-be").startswith(RECORD["prompt"])
    assert _near(images.open_image(path).getpixel((3, 8)), RED)


def test_a_record_too_long_for_jpeg_is_left_out_and_said(tmp_path: Path, photo: Image.Image):
    with pytest.warns(UserWarning, match="too long for a JPEG"):
        images.save(photo, tmp_path / "a.jpg", {"prompt": "very " * 20_000})
    assert images.open_image(tmp_path / "a.jpg").size == (24, 16)


def test_the_same_picture_and_record_give_the_same_bytes(tmp_path: Path, photo: Image.Image):
    a, b = (images.save(photo, tmp_path / name, RECORD) for name in ("a.png", "b.png"))
    assert a.read_bytes() == b.read_bytes()


@pytest.mark.parametrize("name", ["a", "a.gif", "a.safetensors"])
def test_unknown_suffixes_are_refused_with_the_known_ones(tmp_path: Path, photo: Image.Image, name: str):
    with pytest.raises(ValueError, match=r"\.png, \.jpg, \.jpeg, \.webp"):
        images.save(photo, tmp_path / name)


def test_a_full_disk_leaves_the_old_file_and_no_scraps(
    tmp_path: Path, photo: Image.Image, monkeypatch: pytest.MonkeyPatch
):
    path = images.save(photo, tmp_path / "a.png")
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        with open(self, "wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as error:
        images.save(photo.rotate(90), path)
    assert error.value.filename == str(path)
    assert (path.read_bytes(), os.listdir(tmp_path)) == (before, ["a.png"])


def test_a_folder_that_is_a_file_is_one_clear_error(tmp_path: Path, photo: Image.Image):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"a\.png"):
        images.save(photo, tmp_path / "file" / "a.png")
