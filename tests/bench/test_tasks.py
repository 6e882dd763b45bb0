"""Scores of an edit, and the tasks that are composed from photographs."""

import numpy as np
import pytest
import torch
from PIL import Image

from renoise.bench import classifier, scenes
from renoise.bench.tasks import ColourChange, Label, Task, as_tensor, same_label, scores
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


def test_a_colour_is_judged_by_the_fruits_own_pixels():
    orange, red = np.array([1.0, 0.5, 0.0]), np.array([0.7, 0.0, 0.0])
    where = np.zeros((32, 32), np.float32)
    where[8:24, 8:24] = 1
    task = Task(
        "colour",
        Image.new("RGB", (32, 32)),
        "",
        "",
        1 - where,
        (("pepper",), "yellow"),
        ColourChange(orange, red, where),
    )
    for colour, success in ((red, 1.0), (orange, 0.0)):
        edited = np.where(where[..., None] > 0, colour, [1.0, 1.0, 0.0])
        scored = scores(task, torch.from_numpy(edited).permute(2, 0, 1), (("pepper",), "yellow"))
        assert scored["success"] == success


def test_a_composed_tasks_answer_is_right_and_its_source_is_not(data):
    chosen = scenes.tasks(data, 2)
    assert [task.edit for task in chosen] == [edit for edit in scenes.EDITS for _ in range(2)]
    for task in chosen:
        assert task.source != task.target
        assert 0 < task.preserved.mean() < 1
        untouched = scores(task, as_tensor(task.picture)[0], None)
        assert untouched["kept"] == 100
        if task.answer:
            right = scores(task, as_tensor(task.answer[0])[0], task.label)
            assert right["exact"] > 60
            assert right["success"] == 1
            ghost = as_tensor(task.answer[0])[0]
            ghost[:, :48] = as_tensor(task.picture)[0][:, :48]  # a part of the old background is left
            assert scores(task, ghost, task.label)["success"] == 0
            assert right["kept"] > 60
            assert untouched["exact"] < 25
    assert [t.source for t in scenes.tasks(data, 2)] == [t.source for t in chosen]


def test_tasks_are_those_whose_scene_and_target_the_judge_labels_right_on_real_photographs(data):
    judge, labels = classifier.load(), []

    def classify(pictures: torch.Tensor) -> list[Label]:
        labels.append(judge.classify(pictures))
        return labels[-1]

    chosen = scenes.tasks(data, 2, classify)
    assert all(len(pair) == 2 for pair in labels)
    assert len(labels) > len(chosen)  # some were refused
    for task in chosen:
        assert task.label is not None
        assert any(same_label(target, task.label) for _, target in labels)


def test_the_judge_names_real_scenes_mostly_right_and_not_their_targets(data):
    judge = classifier.load()
    chosen = [task for task in scenes.tasks(data, 12) if task.edit in ("background", "swap")]
    before = judge.classify(torch.cat([as_tensor(task.picture) for task in chosen]))
    answers = judge.classify(torch.cat([as_tensor(task.answer[0]) for task in chosen if task.answer]))
    wanted = [task.label for task in chosen if task.answer and task.label]
    assert not any(same_label(label, task.label) for label, task in zip(before, chosen, strict=True) if task.label)
    assert np.mean([same_label(*pair) for pair in zip(answers, wanted, strict=True)]) > 0.6


def test_tasks_are_of_scenes_that_the_judge_labels_right(data):
    judge = classifier.load()
    chosen = [task for task in scenes.tasks(data, 8, judge.classify) if task.answer and task.label]
    assert len(chosen) == 8
    for task in chosen:
        assert task.answer
        assert task.label
        asked = judge.classify(torch.cat([as_tensor(task.picture), as_tensor(task.answer[0])]))
        assert same_label(asked[1], task.label)
        assert same_label(asked[0], (task.label[0], asked[0][1]))
        assert asked[0][1] != task.label[1]
