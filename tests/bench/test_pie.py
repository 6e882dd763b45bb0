"""The reader of PIE-Bench."""

import pytest

from renoise.bench import pie
from tests.bench.conftest import pie_folder


def test_pie_bench_is_read(tmp_path):
    found, problems = pie.tasks(pie_folder(tmp_path))
    assert not problems
    (task,) = found
    assert (task.edit, task.target) == ("change background", "a photo of a red tomato on a blue background")
    assert task.picture.size == (512, 512)
    changes = 1 - task.preserved
    assert changes[100:150].all()
    assert pie.decode_mask([512 * 512 - 1024, 5000])[-2:].all()
    assert changes[[0, -1]].all()
    assert changes[:, [0, -1]].all()
    assert changes[1:100, 1:-1].sum() == changes[150:-1, 1:-1].sum() == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (dict(image_path="b.png"), "no such file"),
        (dict(image_path="../../secret.png"), "outside"),
        (dict(mask=[5, -1]), "negative"),
        (dict(mask=[1, 2, 3]), "2"),
        (dict(editing_type_id="99"), "2"),
        (dict(editing_prompt=None), "2"),
    ],
)
def test_a_bad_entry_of_pie_bench_is_reported_and_skipped(tmp_path, changes, says):
    found, problems = pie.tasks(pie_folder(tmp_path, **changes))
    assert len(found) == 1
    assert len(problems) == 1
    assert says in problems[0]


def test_a_mapping_that_is_no_mapping_is_an_error(tmp_path):
    (tmp_path / "mapping_file.json").write_text("[1, 2")
    with pytest.raises(ValueError, match="mapping_file"):
        pie.tasks(tmp_path)
