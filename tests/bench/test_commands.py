"""The other subcommands of `renoise bench`: small runs, and what they refuse."""

import json
from pathlib import Path

import pytest
import torch

from renoise.bench import photographs
from renoise.bench.redrawing import redraw
from renoise.bench.report import summarize
from renoise.cli import main
from renoise.prediction import EPSILON
from renoise.samplers import DDIM
from renoise.schedule import Level, Schedule
from renoise.step import plan
from tests.bench.conftest import EXAMPLE, Run
from tests.tiny import TINY


def test_reconstruction_counts_calls_and_renoising_brings_photographs_closer(data: Path, bench: Run):
    out = bench("reconstruction", data, "--photos", "2", "--only", "4/4", "--output", "new")
    assert out["outputs"] == ["new/reconstruction.json", "new/reconstruction.md"]
    plain, renoised = out["rows"]["4/4/0"], out["rows"]["4/4/9"]
    assert (plain["evaluations"], renoised["evaluations"]) == (8, 44)
    assert renoised["psnr_median"] > plain["psnr_median"] + 5
    assert renoised["latent_error"] < plain["latent_error"] / 3
    report = json.loads(Path("new/reconstruction.json").read_text())
    assert report["photographs"] == 2
    assert report["ceiling"]["median"] > renoised["psnr_median"]
    assert "| 4/4/9 | 44.0 |" in Path("new/reconstruction.md").read_text()


def test_few_steps_adds_parts_of_the_method(data: Path, bench: Run):
    command = ("few-steps", data, "--model", "orchard-turbo", "--photos", "2")
    rows = bench(*command, "--only", "plain", "--only", "closed", "--only", "own")["rows"]
    assert list(rows) == ["plain inversion", "+closed by noise", "own settings"]
    assert rows["plain inversion"]["psnr_median"] + 5 < rows["+closed by noise"]["psnr_median"]
    assert rows["own settings"]["std"] == pytest.approx(1, abs=0.1)
    assert Path("renoise-bench/few-steps-orchard-turbo.md").read_text().startswith("`orchard-turbo`, EulerAncestral")


def test_few_steps_without_noises_has_no_row_that_corrects_them(data: Path, bench: Run):
    sampler = ("--sampler", "DDIMScheduler", "--only", "noise", "--only", "plain")
    rows = bench("few-steps", data, "--model", "orchard-lcm", "--photos", "1", *sampler)["rows"]
    assert list(rows) == ["plain inversion", "posterior noises"]
    assert "DDIM, 4 steps; 1 photographs" in Path("renoise-bench/few-steps-orchard-lcm-ddim.md").read_text()


def test_the_search_varies_the_models_own_settings(data: Path, bench: Run):
    only = ("--only", "own", "--only", "tolerance 0.05")
    rows = bench("few-steps", data, "--model", "orchard-turbo", "--search", "--photos", "1", *only)["rows"]
    assert rows["tolerance 0.05"]["evaluations"] < rows["own settings"]["evaluations"]
    assert rows["tolerance 0.05"]["residual"][-1] > rows["own settings"]["residual"][-1]
    assert Path("renoise-bench/few-steps-orchard-turbo-search.json").is_file()


def test_tolerance_compares_guesses_and_mixing(data: Path, bench: Run):
    rows = bench("tolerance", data, "--photos", "1", "--tolerance", "0.05")["rows"]
    assert list(rows)[:2] == ["10/10/8", "0.05, Anderson, from epsilon"]
    assert len(rows) == 5
    assert rows["10/10/8"]["evaluations"] == 100
    assert all(row["evaluations"] < 60 for name, row in rows.items() if name != "10/10/8")


def test_redrawing_counts_calls_and_how_far_the_picture_moves(data: Path, bench: Run):
    rows = bench("redrawing", data, "--tasks", "1", "--iterations", "0")["rows"]
    assert [(name, row["calls"]) for name, row in rows.items()] == [("plain", 20), ("K = 0", 60)]
    assert rows["plain"]["moved"] == 0
    assert rows["K = 0"]["moved"] > 0.05


def test_a_step_that_is_renoised_until_it_converges_is_the_plain_step():
    levels = Schedule((Level(0.1, 0.995, 999.0), Level(0.6, 0.8, 500.0), Level(1.0, 0.0, 0.0)))
    steps = plan(levels, DDIM(), EPSILON)

    def draw(iterations: int | None) -> torch.Tensor:
        program, answer = redraw(steps, torch.ones(1, 4), iterations), None
        while True:
            try:
                x, _ = program.send(answer)
            except StopIteration as stop:
                return stop.value
            answer = 0.1 * torch.sin(x)

    plain = draw(None)
    torch.testing.assert_close(draw(60), plain, rtol=0, atol=1e-4)
    assert (draw(0) - plain).abs().max() > 1e-3


def test_other_photographs_are_not_in_the_evaluation_set(data: Path):
    evaluated, _ = photographs.load(data, 1000)
    others, captions = photographs.load_others(data, 8)
    assert others.shape == (8, 3, 128, 128)
    assert len(captions) == 8
    assert not any(torch.equal(other, one) for other in others for one in evaluated)


def test_the_worst_twentieth_is_rounded_up():
    assert summarize([float(n) for n in range(21)]) == {"median": 10, "mean": 10, "worst": 0.5}
    assert summarize([3.0])["worst"] == 3


def folder(tmp_path: Path, text: str) -> Path:
    """A folder of photographs with this list of them."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "metadata.jsonl").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no photographs"),
        ("{", "cannot be read"),
        ("[1]", "file_name"),
        ('{"file_name": "scene.png"}', "scene.png"),
    ],
)
def test_a_list_of_photographs_that_cannot_be_used_is_refused(text, says, here, capsys):
    assert main(["bench", "reconstruction", str(folder(here, text))]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert says in error


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["edit", "nowhere"], "neither"),
        (["edit", ".", "--only", "x"], "neither"),
        (["edit", str(EXAMPLE)], "neither"),
        (["reconstruction", "nowhere"], "no photos/metadata.jsonl"),
        (["reconstruction", "nowhere", "--only", "x"], "50/50/0; 25/25/2"),
        (["reconstruction", "nowhere", "--photos", "0"], "--photos"),
        (["few-steps", "nowhere"], "no photos/metadata.jsonl"),
        (["few-steps", "nowhere", "--search"], "no photos/metadata.jsonl"),
        (["few-steps", "nowhere", "--sampler", "DDIM"], "DDIMScheduler"),
        (["few-steps", "nowhere", "--output", str(EXAMPLE)], "no folder"),
        (["tolerance", "nowhere"], "no photos/metadata.jsonl"),
        (["tolerance", "nowhere", "--tolerance", "-1"], "tolerance"),
        (["redrawing", "nowhere"], "fruits_test_sequences.npz"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_line(arguments, says, here, capsys):
    assert main(["bench", *arguments]) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert says in error
    assert not list(here.iterdir())


def test_few_steps_refuses_a_model_of_another_size(data: Path, here: Path, capsys: pytest.CaptureFixture[str]):
    TINY["sd"]().pipe.save_pretrained("model")
    assert main(["bench", "few-steps", str(data), "--model", "model", "--photos", "1"]) == 2
    assert "128 x 128" in capsys.readouterr().err
