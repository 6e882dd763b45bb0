"""The blind test for the eye: what is laid out, and how the answers are counted."""

import json

import numpy as np
import pytest
from PIL import Image

from renoise.bench.fruits import read_photos
from training.blind import photographs, sheets, table

CAPTIONS = [
    "a photo of an orange on a white background",
    "a photo of a brown walnut and a red pepper on a black background",
    "a photo of a black plum on an orange background",
]
KINDS = ["avocado", "orange", "pepper", "plum", "walnut"]


def test_answers_are_counted(tmp_path):
    (tmp_path / "key.json").write_text(
        json.dumps({"kinds": KINDS, "sets": {"A": {"what": "drawings", "captions": CAPTIONS}}})
    )
    (tmp_path / "A").mkdir()
    answers = tmp_path / "A" / "answers1.txt"
    answers.write_text("1 | Orange | plum | yes\n2 | pepper and walnut | x | no\n3 | avocado | plum | yes\n")
    assert table(tmp_path).splitlines()[-1] == "| drawings A | 1 | 2 | 3 | 2 |"
    answers.write_text("1 | orange | plum | yes\n")
    with pytest.raises(SystemExit, match="from 1 to 3"):
        table(tmp_path)


def test_photographs_are_of_what_the_captions_say(data, tmp_path):
    photos = read_photos(data, "fruits_train")
    made = photographs(photos, CAPTIONS, 5)
    assert made.shape == (3, 128, 128, 3)
    red, _, blue = made[0][48:80, 48:80].reshape(-1, 3).mean(0)
    assert red > 2 * blue  # an orange in the middle
    assert (made[0][0] > 240).all()  # on white
    assert (made[1][0] < 60).all()  # on black
    assert (made == photographs(photos, CAPTIONS, 5)).all()
    assert (made != photographs(photos, CAPTIONS, 6)).any()
    sheets(np.concatenate([made] * 12), tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"sheet1.png", "sheet2.png"}
    assert Image.open(tmp_path / "sheet2.png").size == Image.open(tmp_path / "sheet1.png").size
