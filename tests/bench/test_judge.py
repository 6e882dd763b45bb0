"""The judge: what it says of real photographs, whole and spoilt."""

import numpy as np
import pytest
import torch

from renoise.bench import judge as judges
from renoise.bench import scenes
from renoise.bench.fruits import colour_and_kind, shades
from renoise.bench.judge import Judge, Verdict, succeeded
from renoise.bench.tasks import Task, as_tensor

SPOILT = {
    "burnt": lambda x: (0.5 + 4 * (x - 0.5)).clamp(0, 1),
    "dark": lambda x: 0.1 * x,
    "tinted": lambda x: x[[2, 0, 1]],
    "foggy": lambda x: 0.25 * x + 0.75,
    "halved": lambda x: torch.cat([x[:, :64], torch.ones_like(x[:, 64:])], 1),
    "missing": torch.ones_like,
}


@pytest.fixture(scope="module")
def judge() -> Judge:
    return judges.load()


@pytest.fixture(scope="module")
def chosen(data) -> list[Task]:
    return scenes.tasks(data, 24, final=True)


def test_the_judge_names_and_accepts_real_photographs_and_not_sources_as_targets(judge, chosen):
    controls = judge.judge(torch.cat([as_tensor(task.control) for task in chosen]))
    sources = judge.judge(torch.cat([as_tensor(task.picture) for task in chosen]))
    assert np.mean([succeeded(v, task.wanted) for v, task in zip(controls, chosen, strict=True)]) > 0.88
    assert not any(succeeded(v, task.wanted) for v, task in zip(sources, chosen, strict=True))
    assert np.median([judge.naturalness(v) for v in controls]) == pytest.approx(1, abs=0.6)


@pytest.mark.parametrize("way", SPOILT)
def test_the_judge_rejects_spoilt_photographs(judge, chosen, way):
    single = [task for task in chosen if task.setting == "single" and task.edit in ("kind", "background")]
    x = torch.stack([SPOILT[way](as_tensor(task.picture)[0]) for task in single])
    assert np.mean([v.accepted for v in judge.judge(x)]) < 0.35


def test_pictures_may_be_bytes_and_of_any_size(judge, chosen):
    x = torch.cat([as_tensor(task.control) for task in chosen[:4]])
    large = torch.nn.functional.interpolate(x, scale_factor=2)
    bytes_ = (255 * x).byte().permute(0, 2, 3, 1).numpy()
    named = [[(v.fruits, v.background) for v in judge.judge(pictures)] for pictures in (x, large, bytes_)]
    assert named[0] == named[1] == named[2]


def test_a_verdict_fits_in_any_order_and_colours_by_any_shared_word():
    verdict = Verdict((("apple", "red and yellow"), ("orange", None)), "blue", 1.0, True, torch.zeros(2, 1))
    assert succeeded(verdict, ((("orange", None), ("apple", "dark red")), "blue"))
    assert succeeded(verdict, ((("apple", None), ("orange", "orange")), "blue"))
    assert not succeeded(verdict, ((("apple", "green"), ("orange", None)), "blue"))
    assert not succeeded(verdict, ((("apple", None), ("apple", None)), "blue"))


def test_phrases_are_split_into_colour_and_kind():
    kinds = ["melon", "pepino melon", "orange", "apple"]
    assert colour_and_kind("a beige pepino melon", *kinds) == ("beige", "pepino melon")
    assert colour_and_kind("an orange", *kinds) == (None, "orange")
    assert colour_and_kind("a red and yellow apple", *kinds) == ("red and yellow", "apple")
    assert shades("dark red and light green") == {"red", "green"}
