"""Picture strips: everything is on the page, nothing is squashed, no label runs into its neighbour."""

import random
import time

import numpy as np
import pytest
from PIL import Image

from renoise.strip import _font, _wrap, strip

RED, BLUE = (220, 30, 20), (20, 40, 200)


def _area(page: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, width and height of a colour on a page."""
    rows, columns = np.nonzero((np.asarray(page) == colour).all(-1))
    return int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


def test_small_pictures_are_enlarged_by_a_whole_factor_and_large_ones_scaled_down():
    page = strip([("a", Image.new("RGB", (100, 50), RED)), ("b", Image.new("RGB", (2048, 1024), BLUE))])
    assert _area(page, RED)[2:] == (300, 150)
    assert _area(page, BLUE)[2:] == (512, 256)


def test_pictures_stand_side_by_side_in_order_and_begin_a_new_row_after_columns():
    pictures = [(text, Image.new("RGB", (64, 64), colour)) for text, colour in (("a", RED), ("b", BLUE))]
    red, blue = (_area(strip(pictures), colour) for colour in (RED, BLUE))
    assert red[0] + red[2] < blue[0]
    assert red[1] == blue[1]
    red, blue = (_area(strip(pictures, columns=1), colour) for colour in (RED, BLUE))
    assert red[0] == blue[0]
    assert red[1] + red[3] < blue[1]


@pytest.mark.parametrize("label", ["", "one\ntwo", "word " * 40, "w" * 300, "ж" * 80, "\n\n", "黄色いレモン"])
def test_labels_of_any_length_stay_below_their_own_picture(label: str):
    tile = Image.new("RGB", (256, 256), RED)
    page = strip([(label, tile), ("", tile)])
    first_left, top, *_ = _area(page, RED)
    below = np.asarray(page)[top + 256 + 1 :]
    inked = np.nonzero((below < 200).any(-1))[1]
    assert inked.size == 0 or first_left - 1 <= inked.min()
    assert inked.size == 0 or inked.max() <= first_left + 256


def test_a_longer_label_makes_a_higher_page():
    tile = Image.new("RGB", (256, 256), RED)
    heights = [strip([("a\n" + "word " * words, tile)]).height for words in (1, 30, 90)]
    assert heights == sorted(set(heights))


def test_pictures_of_other_modes_and_extreme_shapes():
    page = strip([("grey", Image.new("L", (1, 900), 90)), ("alpha", Image.new("RGBA", (900, 1), RED))])
    assert page.mode == "RGB"
    assert page.height < 700


def test_an_empty_strip_is_refused():
    with pytest.raises(ValueError, match="at least one picture"):
        strip([])


@pytest.mark.parametrize(
    "label", ["a word of ten thousand letters\n" + "w" * 10_000, "ж" * 10_000, "word " * 2_000, "a\n" * 500]
)
def test_long_labels_take_no_time(label: str):
    start = time.perf_counter()
    strip([(label, Image.new("RGB", (256, 256), RED))])
    assert time.perf_counter() - start < 5  # by measuring every beginning of the word it would be an hour


def test_words_are_broken_where_the_next_letter_does_not_fit():
    """As by measuring every beginning of the word."""
    letters = random.Random(0)
    for width, size in ((256, 16), (100, 13), (5, 14)):
        for length in (1, 2, 3, 30, 200):
            word = "".join(letters.choice("ilmwWAVTo.,-fié×") for _ in range(length))
            font, lines, rest = _font(size, word), list[str](), word
            while font.getlength(rest) > width:
                cut = max(1, sum(font.getlength(rest[:n]) <= width for n in range(1, len(rest) + 1)))
                lines, rest = [*lines, rest[:cut]], rest[cut:]
            assert _wrap(word, width, size) == [line for line in [*lines, rest] if line]


def test_a_picture_is_shown_as_it_is_read():
    deep = Image.fromarray(np.full((256, 256), 32896, np.uint16))  # Pillow's own conversion makes it white
    assert _area(strip([("", deep)]), (128, 128, 128))[2:] == (256, 256)
    with pytest.raises(ValueError, match="no pixels"):
        strip([("", Image.new("RGB", (0, 0)))])
