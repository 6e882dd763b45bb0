"""The benchmark of edits: its figures, its tasks with known answers, the PIE-Bench reader, and a whole small run."""

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

import renoise
from renoise.bench import classifier, curve, pie, scenes
from renoise.bench.tasks import Naming, Task, as_tensor, same, scores
from renoise.bench.ways import ways
from renoise.cli import main
from renoise.metrics import psnr, ssim
from renoise.pipelines import perception
from tests.tiny import TINY

EXAMPLE = Path(renoise.__file__).parent / "orchard" / "example.png"


def picture() -> torch.Tensor:
    return as_tensor(Image.open(EXAMPLE))


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


def test_a_composed_tasks_answer_is_right_and_its_source_is_not(data):
    chosen = scenes.tasks(data, 2)
    assert [task.edit for task in chosen] == [edit for edit in scenes.EDITS for _ in range(2)]
    for task in chosen:
        assert task.source != task.target
        assert 0 < task.stays.mean() < 1
        untouched = scores(task, as_tensor(task.picture)[0], None)
        assert untouched["kept"] == 100
        if task.answer:
            right = scores(task, as_tensor(task.answer[0])[0], task.named)
            assert right["exact"] > 60
            assert right["success"] == 1
            ghost = as_tensor(task.answer[0])[0]
            ghost[:, :48] = as_tensor(task.picture)[0][:, :48]  # a part of the old background is left
            assert scores(task, ghost, task.named)["success"] == 0
            assert right["kept"] > 60
            assert untouched["exact"] < 25
    assert [t.source for t in scenes.tasks(data, 2)] == [t.source for t in chosen]


def test_tasks_are_those_whose_scene_and_target_the_judge_names_right_on_real_photographs(data):
    judge, seen = classifier.load(), []

    def namer(pictures: torch.Tensor) -> list[Naming]:
        seen.append(judge.name(pictures))
        return seen[-1]

    chosen = scenes.tasks(data, 2, namer)
    assert all(len(said) == 2 for said in seen)
    assert len(seen) > len(chosen)  # some were refused
    for task in chosen:
        assert task.named is not None
        assert any(same(target, task.named) for _, target in seen)


def test_the_judge_names_real_scenes_mostly_right_and_not_their_targets(data):
    judge = classifier.load()
    chosen = [task for task in scenes.tasks(data, 12) if task.edit in ("background", "swap")]
    before = judge.name(torch.cat([as_tensor(task.picture) for task in chosen]))
    answers = judge.name(torch.cat([as_tensor(task.answer[0]) for task in chosen if task.answer]))
    wanted = [task.named for task in chosen if task.answer and task.named]
    assert not any(same(said, task.named) for said, task in zip(before, chosen, strict=True) if task.named)
    assert np.mean([same(*pair) for pair in zip(answers, wanted, strict=True)]) > 0.6


def test_tasks_are_of_scenes_that_the_judge_names_right(data):
    judge = classifier.load()
    chosen = [task for task in scenes.tasks(data, 8, judge.name) if task.answer and task.named]
    assert len(chosen) == 8
    for task in chosen:
        assert task.answer
        assert task.named
        asked = judge.name(torch.cat([as_tensor(task.picture), as_tensor(task.answer[0])]))
        assert same(asked[1], task.named)
        assert same(asked[0], (task.named[0], asked[0][1]))
        assert asked[0][1] != task.named[1]


@pytest.mark.parametrize("name", ["orchard", "sdxl-turbo"])
def test_every_way_is_one_that_the_library_accepts(name):
    preset = renoise.PRESETS[name]
    names = [way.name for way in ways(preset)]
    assert names[0] == "default"
    assert len(names) == len(set(names))
    assert {"SDEdit 0.5", "the paper's settings"} <= set(names)


def pie_folder(tmp_path: Path, **changes: object) -> Path:
    """A folder as PIE-Bench has it, of one photograph."""
    (tmp_path / "annotation_images").mkdir()
    Image.open(EXAMPLE).resize((512, 512)).save(tmp_path / "annotation_images" / "a.png")
    entry = {
        "image_path": "a.png",
        "original_prompt": "a photo of a red tomato on a [green] background",
        "editing_prompt": "a photo of a red tomato on a [blue] background",
        "editing_type_id": "8",
        "mask": [512 * 100, 512 * 50],
    }
    entries = {"1": entry, "2": {**entry, **changes}} if changes else {"1": entry}
    (tmp_path / "mapping_file.json").write_text(json.dumps(entries))
    return tmp_path


def test_pie_bench_is_read(tmp_path):
    found, problems = pie.tasks(pie_folder(tmp_path))
    assert not problems
    (task,) = found
    assert (task.edit, task.target) == ("change background", "a photo of a red tomato on a blue background")
    assert task.picture.size == (512, 512)
    changes = 1 - task.stays
    assert changes[100:150].all()
    assert pie.decode([512 * 512 - 1024, 5000])[-2:].all()
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


def test_pie_bench_runs_and_says_what_is_not_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = pie_folder(tmp_path, image_path="missing.png")
    assert main(["bench", "edit", str(folder), "--only", "default", "--format", "json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["rows"][0]["scores"]["change background"]["kept"] > 5
    assert any("missing.png" in warning for warning in out["warnings"])
    report = (tmp_path / "renoise-bench" / "report.md").read_text()
    assert "Not measured: LPIPS" in report
    assert "hf download openai/clip" in report
    assert "<table>" in (tmp_path / "renoise-bench" / "page.html").read_text()
    with (tmp_path / "renoise-bench" / "edits.csv").open() as file:
        (edit,) = csv.DictReader(file)
    assert float(edit["kept"]) == pytest.approx(out["rows"][0]["scores"]["all"]["kept"], abs=1e-3)


def test_a_model_that_has_no_preset_is_measured_too(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    TINY["sd"]().pipe.save_pretrained(tmp_path / "model")
    folder = pie_folder(tmp_path)
    assert main(["bench", "edit", str(folder), "--model", "model", "--only", "keep 1", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["way"] for row in rows] == ["plain inversion, keep 1", "plain inversion, keep 1, mask found"]


def test_what_networks_see_is_measured_where_their_weights_are(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    size = dict(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2)
    picture_size = dict(image_size=32, patch_size=8)
    tokenizer = transformers.CLIPTokenizer.from_pretrained(EXAMPLE.parent / "tokenizer")
    text = dict(**size, vocab_size=len(tokenizer), max_position_embeddings=16, eos_token_id=tokenizer.eos_token_id)
    tokenizer.save_pretrained("clip")
    both = transformers.CLIPConfig(text_config=text, vision_config={**size, **picture_size}, projection_dim=8)
    model = transformers.CLIPModel(both).eval()
    model.save_pretrained("clip")
    transformers.ViTModel(transformers.ViTConfig(**size, **picture_size)).save_pretrained("dino")
    monkeypatch.setattr(perception, "CLIP", "clip")
    monkeypatch.setattr(perception, "DINO", "dino")

    (clip, dino), missing = perception.load("cpu")
    assert missing == {}
    before = picture()[0]
    after, stays = before.flip(-1), torch.zeros(1, *before.shape[1:])
    seen = clip(before, after, stays, "a lemon")
    assert seen["clip"] == pytest.approx(seen["clip_edited"])  # nothing must stay: the whole picture is judged
    assert seen["clip"] != pytest.approx(clip(before, after, stays, "an apple")["clip"], abs=1e-3)
    with torch.no_grad():  # the model's own score, in which the cosine is scaled
        ids = tokenizer(["a lemon"], return_tensors="pt").input_ids
        own = model(ids, perception._seen(after[None], 32, perception.CLIP_COLOURS)).logits_per_text.item()
    assert seen["clip"] == pytest.approx(100 * own / model.logit_scale.exp().item(), abs=1e-3)
    assert dino(before, before, stays, "")["structure_distance"] < 1e-10
    assert dino(before, after, stays, "")["structure_distance"] > 1e-6

    folder = pie_folder(tmp_path)
    assert main(["bench", "edit", str(folder), "--only", "SDEdit 0.5", "--format", "json"]) == 0
    (row, _) = json.loads(capsys.readouterr().out)["rows"]
    assert {"clip", "clip_edited", "structure_distance"} <= set(row["scores"]["all"])
    assert "Not measured: CLIP" not in (tmp_path / "renoise-bench" / "report.md").read_text()


def test_a_colour_is_judged_by_the_fruits_own_pixels():
    orange, red = np.array([1.0, 0.5, 0.0]), np.array([0.7, 0.0, 0.0])
    where = np.zeros((32, 32), np.float32)
    where[8:24, 8:24] = 1
    task = Task("colour", Image.new("RGB", (32, 32)), "", "", 1 - where, (("pepper",), "yellow"), (orange, red, where))
    for colour, success in ((red, 1.0), (orange, 0.0)):
        edited = np.where(where[..., None] > 0, colour, [1.0, 1.0, 0.0])
        said = scores(task, torch.from_numpy(edited).permute(2, 0, 1), (("pepper",), "yellow"))
        assert said["success"] == success


def test_the_curve_has_a_dot_for_every_row_and_tells_baselines_by_their_colour():
    points = [("ours", False, 40.0, 0.9), ("ours", False, 35.0, 1.0), ("<SDEdit>", True, 20.0, 0.8)]
    rows = [
        {
            "way": way,
            "strength": "w 1",
            "baseline": base,
            "calls": 4.0,
            "scores": {"all": {"kept": kept, "success": good}},
        }
        for way, base, kept, good in points
    ]
    drawn = ElementTree.fromstring(curve.curve(rows))
    dots = drawn.findall(".//circle")
    assert [dot.findtext("title") for dot in dots] == ["ours w 1, 4 calls"] * 2 + ["<SDEdit> w 1, 4 calls"]
    at = [(float(dot.get("cx", 0)), float(dot.get("cy", 0))) for dot in dots]
    assert at[0][0] > at[1][0] > at[2][0]  # more kept: further right
    assert at[1][1] < at[0][1] < at[2][1]  # more successes: further up
    colours = [group.get("fill") for group in drawn.findall("g")]
    assert colours == [curve.OWN[0], curve.OTHER[0]]
    assert curve.curve([{**row, "scores": {"all": {"kept": 30.0}}} for row in rows]) == ""


def test_the_default_edit_succeeds_more_often_than_not_and_keeps_the_rest(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "edit", str(data), "--tasks", "3", "--only", "default", "--format", "json"]) == 0
    every = json.loads(capsys.readouterr().out)["rows"][0]["scores"]["all"]
    assert every["success"] > 0.5
    assert every["kept"] > 30


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["nowhere"], "neither"), ([".", "--only", "x"], "neither"), ([str(EXAMPLE)], "neither")],
)
def test_a_folder_that_is_no_benchmark_is_refused(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "edit", *arguments]) == 2
    assert says in capsys.readouterr().err
