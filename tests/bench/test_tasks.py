"""Scores of an edit, and the tasks that are composed from photographs."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from renoise.bench import scenes
from renoise.bench.fruits import SIZE
from renoise.bench.judge import Verdict, Wanted
from renoise.bench.tasks import Task, as_tensor, scores
from renoise.metrics import psnr, ssim
from tests.bench.conftest import picture


def test_psnr_in_a_mask_counts_its_pixels_alone():
    a, mask = picture(), torch.zeros(1, 1, 128, 128)
    b = a.clone()
    b[..., :64] = 1 - b[..., :64]
    mask[..., 64:] = 1
    assert psnr(a, b, mask).isinf()
    assert psnr(a, b, 1 - mask).item() == pytest.approx(psnr(a[..., :64], b[..., :64]).item(), abs=1e-4)
    assert psnr(a, a, mask * 0).isnan()


def test_ssim_is_that_of_its_definition():
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(1, 1, 7, 7, generator=generator)
    b = (a + 0.2 * torch.rand(a.shape, generator=generator)).clamp(0, 1)
    x, y = a.double().flatten().numpy(), b.double().flatten().numpy()
    covariance = np.cov(x, y)
    wanted = (2 * x.mean() * y.mean() + 1e-4) * (2 * covariance[0, 1] + 9e-4)
    wanted /= (x.mean() ** 2 + y.mean() ** 2 + 1e-4) * (covariance[0, 0] + covariance[1, 1] + 9e-4)
    assert ssim(a, b).item() == pytest.approx(wanted, abs=1e-6)  # one window of 7 x 7
    assert ssim(picture(), picture()).item() == pytest.approx(1)


@pytest.fixture(scope="module")
def chosen(data) -> list[Task]:
    return scenes.tasks(data, 16)


def verdict(wanted: Wanted | None) -> Verdict:
    """A verdict that a picture shows what is wanted."""
    assert wanted
    return Verdict(*wanted, sound=1.0, accepted=True, features=torch.zeros(len(wanted[0]), 1))


def test_tasks_are_of_every_kind_distance_and_setting_and_the_same_every_time(data, chosen):
    assert Counter(task.edit for task in chosen) == dict.fromkeys(scenes.EDITS, 16)
    assert {(t.edit, t.distance) for t in chosen if t.distance} == {
        (edit, distance) for edit in ("kind", "swap", "both") for distance in ("near", "far")
    }
    assert {t.setting for t in chosen if t.edit == "kind"} == {"single", "scene"}
    for task in chosen:
        assert task.source != task.target
        assert all(colour for _, colour in task.wanted[0]) or task.edit != "colour"
    named = [all(colour for _, colour in task.wanted[0]) for task in chosen if task.edit != "colour"]
    assert np.mean(named) == 0.5
    assert [t.source for t in scenes.tasks(data, 2)] == [t.source for a in range(0, 80, 16) for t in chosen[a : a + 2]]


def test_the_final_tasks_are_of_other_photographs(data):
    axes = [scenes.photographs(data, part) for part in scenes.PARTS]
    pictures = [{image.tobytes() for image in photos.images} for photos in axes]
    assert sum(map(len, pictures)) == len(set.union(*pictures))
    shown = [{task.picture.tobytes() for task in scenes.tasks(data, 2, final=final)} for final in (False, True)]
    assert not shown[0] & shown[1]


def test_near_fruits_are_nearer_than_far_ones(data):
    held = scenes.held_out(data)
    for fruit in held.fruits:
        row = held.distances[held.fruits.index(fruit)]
        near, far = ([row[held.fruits.index(f)] for f in held.partners(fruit, n, False)] for n in (True, False))
        assert max(near) <= min(far)


def test_a_composed_tasks_answer_is_right_and_its_source_is_not(chosen):
    for task in chosen:
        assert (task.preserved.mean() == 0) == (task.edit == "both")
        untouched = scores(task, as_tensor(task.picture)[0], None)
        assert untouched.get("kept", 100) == 100
        assert "success" not in untouched
        if not task.answer:
            continue
        right = scores(task, as_tensor(task.answer[0])[0], verdict(task.wanted))
        assert right["exact"] > 60
        assert right["success"] == 1
        assert right["kept"] > 60
        assert untouched["exact"] < 25
        ghost = as_tensor(task.answer[0])[0]
        ghost[:, :48] = as_tensor(task.picture)[0][:, :48]  # a part of the old background is left
        assert scores(task, ghost, verdict(task.wanted))["success"] == 0


def test_an_edit_fails_if_it_is_rejected_or_shows_something_else(chosen):
    task = next(task for task in chosen if task.edit == "swap" and all(colour for _, colour in task.wanted[0]))
    control, right = as_tensor(task.control)[0], verdict(task.wanted)
    (kind, colour), other = right.fruits
    assert scores(task, control, right)["success"] == 1
    assert scores(task, control, replace(right, fruits=(other, (kind, colour))))["success"] == 1
    for wrong in (
        replace(right, accepted=False),
        replace(right, background="magenta"),
        replace(right, fruits=(other,)),
        replace(right, fruits=(other, ("fig", colour))),
        replace(right, fruits=(other, (kind, "pale blue"))),
    ):
        assert scores(task, control, wrong)["success"] == 0


def test_the_real_target_lies_in_the_pixels_that_may_change(chosen):
    for task in chosen:
        if task.edit in ("kind", "swap", "colour"):
            assert scores(task, as_tensor(task.control)[0], None)["kept"] > 45


def test_elongation_is_that_of_the_mask():
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[20:40, 10:90] = 1
    assert scenes._measure(np.zeros((SIZE, SIZE, 3)), mask)[1] == pytest.approx(np.log(4), abs=0.01)
