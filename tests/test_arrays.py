"""NumPy arrays are pictures like any other: scaled and cropped, of every common shape and kind, or refused in a line."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from renoise import images

PHOTO = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
GREY = PHOTO[..., 0]


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("size", [(16, 24), (12, 12), (8, 20)])
def test_an_array_is_read_as_the_pil_image_of_it(size: tuple[int, int]):
    for array in (PHOTO, GREY, GREY > 99, PHOTO[::-1, ::-1], np.asfortranarray(PHOTO)):
        same = Image.fromarray(np.ascontiguousarray(array))
        assert torch.equal(images.batch(array, *size), images.batch(same, *size))
    assert torch.equal(images.batch(GREY[..., None], *size), images.batch(GREY, *size))
    assert torch.equal(images.batch(np.stack([PHOTO, PHOTO]), *size), images.batch([PHOTO, PHOTO], *size))
    mixed = images.batch([PHOTO, Image.fromarray(PHOTO)], *size)
    assert torch.equal(mixed[0], mixed[1])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "uint16", ">u2"])
@pytest.mark.parametrize("size", [(16, 24), (12, 12)])
def test_other_kinds_of_numbers(dtype: str, size: tuple[int, int]):
    for array in (PHOTO, GREY, np.stack([PHOTO] * 2)):
        white = 65535 if "u" in dtype else 1
        found = images.batch((array / 255.0 * white).astype(dtype), *size)
        assert (found - images.batch(array, *size)).abs().max() < 1e-3 + (size != (16, 24)) / 100
    values = np.linspace(0, 1, 16 * 24, dtype=np.float32).reshape(16, 24)
    assert np.array_equal(images.batch(values, 16, 24)[0, 1].numpy(), values)  # all the bits of a picture of the size


def test_transparency_is_laid_on_white_in_a_picture_and_is_black_in_a_mask():
    cutout = np.zeros((8, 8, 4), np.uint8)
    cutout[:, :4, 3] = 255
    for array in (cutout, cutout / 255.0):
        with pytest.warns(UserWarning, match="the picture is transparent in places"):
            found = images.batch(array, 8, 8)
        assert found[0, :, 3].mean(1).tolist() == [0.5] * 3
    strokes = np.full((8, 8, 4), 255, np.uint8)
    strokes[:, 4:, 3] = 0
    for array in (strokes, strokes / 255.0):
        assert images.masks(array, 8, 8)[0, 0, 3].tolist() == [1] * 4 + [0] * 4


def test_a_mask_array_is_scaled_too():
    half = np.zeros((16, 24), bool)
    half[:, :12] = True
    for array in (half, half[..., None], half.astype(np.uint8) * 255, half.astype(float), half.astype(int), half[::-1]):
        for size in ((16, 24), (8, 12)):
            found = images.masks(array, *size)
            assert found.shape == (1, 1, *size)
            assert found[0, 0, 2, 1] == 1
            assert found[0, 0, 2, -1] == 0
    assert images.masks(np.stack([half[..., None]] * 2), 8, 12).shape == (2, 1, 8, 12)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (PHOTO.astype(float), r"a picture: an array of float64 must lie in \[0, 1\], got 0 … 255: .*astype\('uint8'\)"),
        (PHOTO.astype(int), r"must lie in \[0, 1\], got 0 … 255: .*astype\('uint8'\)"),
        (PHOTO / 127.5 - 1, r"got -1 … 1: .*\(array \+ 1\) / 2"),
        (np.full((8, 8), np.nan), r"must lie in \[0, 1\], got nan"),
        (np.full((8, 8), 1e9), "got 0?1e"),
        (PHOTO.transpose(2, 0, 1), r"got \(3, 16, 24\): put the channels last, array.transpose\(1, 2, 0\)"),
        (np.stack([PHOTO.transpose(2, 0, 1)] * 2), r"got \(3, 16, 24\): put the channels last"),
        (np.stack([GREY] * 5), r"got \(5, 16, 24\)"),
        (PHOTO[..., :2], r"must be \(H, W\), .* got \(16, 24, 2\)"),
        (GREY[0], r"got \(24,\)"),
        (np.zeros((2, 3, 8, 8, 3)), "must be"),
        (np.zeros((0, 8, 3), np.uint8), r"got \(0, 8, 3\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), "no picture"),
        (PHOTO.astype(complex), r"an array of complex128 holds no picture, convert it with .astype\('float32'\)"),
        (np.array([["a", "b"]]), "holds no picture"),
        (np.array([[None, None]]), "holds no picture"),
    ],
)
def test_what_is_no_picture_is_one_line_that_names_the_fix(array: np.ndarray, says: str):
    for read in (images.batch, images.masks):
        with pytest.raises(ValueError, match=says if read is images.batch else "mask|no picture") as error:
            read(array, 16, 24)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("given", [7, None, {"a": 1}, [PHOTO, 7]])
def test_anything_else_is_refused_by_its_type(given: Any):
    with pytest.raises(TypeError, match=r"a path, a PIL image, an array or a tensor, not (int|NoneType|dict)"):
        images.batch(given, 16, 24)


def test_tensors_of_eight_bits_are_read_and_their_size_is_theirs():
    tensor = torch.from_numpy(PHOTO).permute(2, 0, 1)
    assert torch.equal(images.batch(tensor, 16, 24), images.batch(PHOTO, 16, 24))
    assert torch.equal(images.batch(tensor[None], 16, 24), images.batch(PHOTO, 16, 24))
    with pytest.raises(ValueError, match=r"must be \(3, 8, 8\)"):
        images.batch(tensor, 8, 8)
