"""The command line: what it says, to whom, and of which day."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import renoise
from renoise.cli import main
from renoise.cli.errors import escaped, escaped_json
from renoise.cli.models import names_fruit
from renoise.inversion import Inversion
from tests.cli.conftest import PROMPT, Run, fails

ESCAPES = "\x1b[31mred\x07 \x9b2J\x7f \u202e"
INVERT = ("invert", "apple.png", "--prompt", PROMPT)


def changed(path: str, **fields: Any) -> str:
    """Change fields of the record of an inversion."""
    found = Inversion.load(path)
    dataclasses.replace(found, record=dataclasses.replace(found.record, **fields)).save(path)
    return path


def test_quiet_prints_outputs_and_errors_only(run: Run, tiny: list[str]):
    assert run(*INVERT, "-q", *tiny) == (0, "apple.safetensors\n", "")
    fails(run(*INVERT, "--quiet", *tiny), "exists already")
    status, out, err = run("invert", "nowhere.png", "apple.png", "--overwrite", "-q", *tiny)
    assert (status, out, err) == (2, "apple.safetensors\n", "renoise: nowhere.png: no such file\n")


def test_verbose_says_where_the_time_goes(run: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("renoise.pipelines.quiet.quiet", lambda: pytest.fail("the libraries were silenced"))
    _, out, err = run(*INVERT, "-v", *tiny)
    assert out == "apple.safetensors\n"
    (residuals,) = [line for line in err.splitlines() if line.startswith("residuals")]
    assert len(residuals.split()) == 1 + 3
    (time,) = [line for line in err.splitlines() if line.startswith("time")]
    assert "load " in time
    assert "invert " in time
    assert "edit " in run("edit", "apple.safetensors", "--to", "a", "-v")[2].splitlines()[-1]


def test_quiet_and_verbose_exclude_each_other(run: Run):
    fails(run(*INVERT, "-q", "-v"), "--quiet and --verbose")


def test_device_and_dtype_are_said(run: Run, tiny: list[str]):
    assert f"model           {tiny[1]} in float32 on cpu" in run(*INVERT, *tiny)[2]
    assert f"model           {tiny[1]} in bfloat16 on cpu" in run(*INVERT, *tiny, "--dtype", "bf16", "--overwrite")[2]


# --- figures of another day ----------------------------------------------------------------------------------------------


def test_figures_of_a_file_are_those_of_its_day(run: Run, inverted: str):
    old = {"psnr": [30.0], "autoencoder_psnr": [40.0], "warnings": ["an old one"]}
    metrics = dataclasses.replace(Inversion.load(inverted).record.metrics, **old)
    changed(inverted, metrics=metrics)
    for command, calls in (("reconstruct", "reconstruction"), ("edit", "edit")):
        more = ("--to", "a lemon") if command == "edit" else ()
        _, _, err = run(command, inverted, *more)
        assert "recorded        when it was inverted: 40.0 dB PSNR" in err
        assert "recorded        warning: an old one" in err
        assert f"{calls:<16}3 network calls" in err
        assert err.count("dB PSNR") == 1
        found = json.loads(run(command, inverted, *more, "--overwrite", "--format", "json")[1])
        assert {"psnr", "autoencoder_psnr", "evaluations", "residuals"}.isdisjoint(found)
        assert (found["recorded"]["psnr"], found["recorded"]["warnings"]) == (30, ["an old one"])
        assert found[f"{calls}_evaluations"] == 3
        assert "an old one" not in found["warnings"]


# --- captions and the default model --------------------------------------------------------------------------------------


def test_a_missing_prompt_is_said_once(run: Run, tiny: list[str]):
    assert run("invert", "apple.png", *tiny)[2].count("without --prompt") == 1
    assert "without --prompt" not in run("invert", "apple.png", *tiny, "--prompt", "", "--overwrite")[2]
    _, out, err = run("edit", "apple.png", "--to", "a", *tiny, "--format", "json")
    assert "without --prompt" in json.loads(out)["warnings"][0]
    assert err == ""


def test_the_default_model_says_what_it_knows(run: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("renoise.cli.models.DEFAULT_MODEL", tiny[1])
    few, says = [*tiny[2:], "-o", "x.safetensors", "--overwrite"], "knows only fruits and vegetables"
    assert run("invert", "apple.png", "--prompt", "a cat", *few)[2].count(says) == 1
    assert run("invert", "apple.png", *few)[2].count(says) == 1
    assert says not in run(*INVERT, *few)[2]
    assert says not in run("invert", "apple.png", "--prompt", "a cat", "--model", *tiny[1:2], *few)[2]
    example = Path(renoise.__file__).parent / "orchard" / "example.png"
    assert says not in run("invert", example, *few)[2]


@pytest.mark.parametrize(
    ("prompt", "names"),
    [
        ("a photo of two Apples", True), ("strawberries", True), ("a dragon fruit on a table", True), ("an orange", True),
        ("a cat on a sofa", False), ("an orange cat", False), ("a pearl", False), ("", False),
        ("an orange on a white background", True),
    ],
)  # fmt: skip
def test_prompts_that_name_fruits(prompt: str, names: bool):
    assert names_fruit(prompt) == names


# --- what comes from files -----------------------------------------------------------------------------------------------


def test_control_characters_are_written_out():
    assert escaped(ESCAPES) == r"\x1b[31mred\x07 \x9b2J\x7f \u202e"
    assert escaped("黄 é 👩‍🌾 \u2212") == "黄 é 👩‍🌾 \u2212"
    assert json.loads(escaped_json(json.dumps([ESCAPES, "黄\udcff\U000e0041"], ensure_ascii=False))) == [
        ESCAPES,
        "黄\udcff\U000e0041",
    ]


def test_a_record_cannot_control_the_terminal(run: Run, inverted: str, capsys: pytest.CaptureFixture[str]):
    metrics = dataclasses.replace(Inversion.load(inverted).record.metrics, warnings=[ESCAPES])
    changed(inverted, prompt=[ESCAPES], metrics=metrics, versions={ESCAPES: "1"})
    printed = ["".join(run("info", inverted)[1:]), "".join(run("info", inverted, "--format", "json")[1:])]
    printed += ["".join(run("reconstruct", inverted, "-v")[1:])]
    changed(inverted, model=ESCAPES)
    printed += ["".join(run("info", inverted)[1:]), run("reconstruct", inverted, "-o", "new.png")[2]]
    printed += [run("edit", inverted, "--to", "a", "--model", "orchard")[2]]
    for text in printed:
        assert not {"\x1b", "\x07", "\x9b", "\x7f", "\u202e"} & set(text)
        assert "red" in text
    Path("\x1b[2Jbad.png").write_text("no picture")
    assert main(["invert", "\x1b[2Jbad.png", "apple.png", "--model", "nowhere/"]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_a_caption_cannot_control_the_terminal(run: Run, tiny: list[str]):
    Path("metadata.jsonl").write_text(json.dumps({"file_name": "apple.png", "text": ESCAPES}))
    _, _, err = run("invert", "apple.png", *tiny)
    assert r"\x1b[31mred" in err
    assert "\x1b" not in err


# --- what the models need ------------------------------------------------------------------------------------------------


def test_presets_say_what_they_need(run: Run):
    out = run("presets")[1]
    assert out.count("comes with renoise; a CPU will do") == 3
    assert "download about 14 GB; memory about 7 GB (GPU) or 14 GB (CPU: very slow)" in out
    for preset in json.loads(run("presets", "--format", "json")[1])["presets"]:
        assert preset["parameters"] > 0
        assert preset["download_gb"] >= 0


def test_tiles(run: Run, tiny: list[str]):
    fails(run(*INVERT, "--vae-tiling", "--steps", "2"), "--vae-tiling", "orchard", "AutoencoderTiny")
    assert run(*INVERT, "--vae-tiling", *tiny)[0] == 0


def test_tiles_are_not_recommended_where_they_do_not_work(run: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch):
    def fail(*args: Any, **kwargs: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(renoise, "invert", fail)
    fails(failed := run(*INVERT), "out of memory: lower --width and --height")
    assert "--vae-tiling" not in failed[2]
    fails(run(*INVERT, *tiny), "--vae-tiling")
    fails(failed := run(*INVERT, *tiny, "--vae-tiling"), "--width")
    assert "--vae-tiling" not in failed[2]


def test_a_picture_in_a_folder_with_a_strange_name(run: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    Path("[red]").mkdir()
    Image.open("apple.png").save("[red]/[bold]b.png")
    status, out, err = run("invert", "[red]", *tiny)
    assert "[red]/[bold]b.png" in err
    assert (status, out) == (0, "[bold]b.safetensors\n"), err
