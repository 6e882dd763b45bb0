"""`renoise bench edit`: whole small runs, and what they write."""

import csv
import sys
from pathlib import Path

import pytest
import torch
import transformers

import renoise
from renoise.bench.controls import DRAWN, PHOTOGRAPHS, UNEDITED
from renoise.bench.ways import ways
from renoise.cli import main
from renoise.methods.renoise import FOR_DETERMINISTIC, FOR_STOCHASTIC, ReNoise
from renoise.pipelines import perception
from tests.bench.conftest import EXAMPLE, Run, picture, pie_folder
from tests.tiny import TINY


@pytest.mark.parametrize(("settings", "steps"), [(FOR_DETERMINISTIC, 10), (FOR_STOCHASTIC, 4)])
def test_the_ways_have_names_of_their_own_and_use_every_method(settings: ReNoise, steps: int):
    every = list(ways(settings, 1.2, steps))
    names = [way.name for way in every]
    assert names[0] == "default"
    assert len(names) == len(set(names))
    assert {"SDEdit", "FlowEdit", "the paper's settings"} <= set(names)
    used = {one.get("method", "renoise") for way in every for one in way.invert.values()}
    known = {method if isinstance(method, str) else method.name for method in used}
    assert known == set(renoise.METHODS) - (set() if settings is FOR_STOCHASTIC else {"edit-friendly"})


def test_pie_bench_runs_and_says_what_is_not_measured(here: Path, bench: Run):
    folder = pie_folder(here, image_path="missing.png")
    out = bench("edit", folder, "--only", "default")
    *unjudged, row = out["rows"]
    assert [one["way"] for one in unjudged] == [DRAWN, UNEDITED]  # no photographs of the targets are known
    assert row["scores"]["change background"]["kept"] > 5
    assert any("missing.png" in warning for warning in out["warnings"])
    report = (here / "renoise-bench" / "report.md").read_text()
    assert "Not measured: LPIPS" in report
    assert "hf download openai/clip" in report
    assert "<table>" in (here / "renoise-bench" / "page.html").read_text()
    with (here / "renoise-bench" / "edits.csv").open() as file:
        edit = list(csv.DictReader(file))[-1]
    assert float(edit["kept"]) == pytest.approx(row["scores"]["all"]["kept"], abs=1e-3)


def test_a_model_that_has_no_preset_is_measured_too(here: Path, bench: Run):
    TINY["sd"]().pipe.save_pretrained(here / "model")
    folder = pie_folder(here)
    rows = bench("edit", folder, "--model", "model", "--only", "SDEdit")["rows"]
    assert [(row["way"], row["strength"]) for row in rows if not row["control"]] == [
        ("SDEdit", strength) for strength in ("0.4", "0.55", "0.7", "0.85", "1")
    ]


def test_perceptual_metrics_are_measured_where_their_weights_are(
    here: Path, bench: Run, monkeypatch: pytest.MonkeyPatch
):
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
    after, preserved = before.flip(-1), torch.zeros(1, *before.shape[1:])
    measured = clip(before, after, preserved, "a lemon")
    assert measured["clip"] == pytest.approx(
        measured["clip_edited"]
    )  # nothing is preserved: the whole picture is judged
    assert measured["clip"] != pytest.approx(clip(before, after, preserved, "an apple")["clip"], abs=1e-3)
    with torch.no_grad():  # the model's own score, in which the cosine is scaled
        ids = tokenizer(["a lemon"], return_tensors="pt").input_ids
        own = model(ids, perception._preprocess(after[None], 32, perception.CLIP_COLOURS)).logits_per_text.item()
    assert measured["clip"] == pytest.approx(100 * own / model.logit_scale.exp().item(), abs=1e-3)
    assert dino(before, before, preserved, "")["structure_distance"] < 1e-10
    assert dino(before, after, preserved, "")["structure_distance"] > 1e-6

    folder = pie_folder(here)
    *_, row = bench("edit", folder, "--only", "plain inversion")["rows"]
    assert {"clip", "clip_edited", "structure_distance"} <= set(row["scores"]["all"])
    assert "Not measured: CLIP" not in (here / "renoise-bench" / "report.md").read_text()


def test_edits_are_read_against_photographs_of_the_targets_drawings_and_sources(data: Path, bench: Run):
    out = bench("edit", data, "--tasks", "4", "--only", "default", "--model", "orchard-turbo")
    rows = {row["way"]: row for row in out["rows"]}
    success = {way: row["scores"]["all"]["success"] for way, row in rows.items()}
    assert list(success) == [PHOTOGRAPHS, DRAWN, UNEDITED, "default"]
    assert [row["control"] for row in rows.values()] == [True, True, True, False]
    assert success[PHOTOGRAPHS] >= 0.85
    assert success[DRAWN] > 0.6
    assert success[UNEDITED] == 0
    assert 0 < success["default"] < success[PHOTOGRAPHS]
    assert rows["default"]["scores"]["all"]["kept"] > 25
    assert rows[UNEDITED]["scores"]["all"]["kept"] == 100
    assert {"kind", "near", "single", "scene"} <= set(rows["default"]["scores"])
    table = Path("renoise-bench/report.md").read_text()
    assert f"| *{DRAWN}* (control) |" in table
    assert "<svg" in Path("renoise-bench/page.html").read_text()


def test_without_matplotlib_the_extra_is_named_before_any_work(here, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["bench", "edit", str(pie_folder(here))]) == 2
    assert capsys.readouterr().err == (
        "renoise: renoise bench edit draws a chart with matplotlib: pip install 'renoise[bench]'\n"
    )
    assert not Path("renoise-bench").exists()
