"""The command line: what it writes and what it prints."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import renoise
from renoise import images
from renoise.cli.demo import edits, example
from renoise.cli.options import InversionOptions
from renoise.methods.renoise import ReNoise
from renoise.metrics import psnr
from tests.cli.conftest import PROMPT, Run, fails

# --- what it does ------------------------------------------------------------------------------------------------------


def test_invert_reconstruct_edit_by_their_default_names(run: Run, tiny: list[str]):
    status, out, err = run("invert", "apple.png", "--prompt", PROMPT, *tiny)
    assert (status, out) == (0, "apple.safetensors\n")
    assert "dB without the remainder" in err
    assert "network calls in 3 steps" in err
    assert " s\n" in err
    assert run("reconstruct", "apple.safetensors")[:2] == (0, "apple-reconstruction.png\n")
    assert run("edit", "apple.safetensors", "--to", "a lemon", "--to", "")[:2] == (
        0,
        "apple-edit-1.png\napple-edit-2.png\n",
    )
    assert sorted(os.listdir()) == sorted(
        ["apple.png", "apple.safetensors", "apple-reconstruction.png", "apple-edit-1.png", "apple-edit-2.png"]
    )


def test_json_is_one_object_with_everything(run: Run, tiny: list[str], models: Path):
    status, out, err = run("invert", "apple.png", "--prompt", PROMPT, "--format", "json", *tiny)
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert set(found) == {
        "outputs", "model", "prompt", "psnr", "autoencoder_psnr", "evaluations", "residuals", "seconds", "warnings", "method",
        "settings", "device", "dtype", "timings",
    }  # fmt: skip
    assert found["outputs"] == ["apple.safetensors"]
    assert (found["device"], found["dtype"]) == ("cpu", "float32")
    assert set(found["timings"]) == {"load", "invert"}
    assert (found["prompt"], found["model"]) == (PROMPT, str(models / "sd"))
    assert all(
        "times the power" in text or "remainder" in text for text in found["warnings"]
    )  # random weights draw no photographs
    assert found["psnr"] <= found["autoencoder_psnr"] + 1
    assert found["evaluations"] >= 3
    assert len(found["residuals"]) == 3
    assert ReNoise(**found["settings"])


def test_edits_of_a_photograph_share_one_inversion(run: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch):
    calls = []
    monkeypatch.setattr(renoise, "invert", lambda *a, invert=renoise.invert, **k: (calls.append(a), invert(*a, **k))[1])
    status, out, _ = run("edit", "apple.png", "--to", "a", "--to", "b", "-o", "new/b.jpg", "--format", "json", *tiny)
    assert (status, len(calls)) == (0, 1)
    assert json.loads(out)["outputs"] == ["new/b-1.jpg", "new/b-2.jpg"]
    assert json.loads(out)["to"] == ["a", "b"]
    assert json.loads(out)["edit_evaluations"] == 3  # one a step, of each edit
    with Image.open("new/b-2.jpg") as image:
        made = json.loads(image.getexif()[0x010E])
        assert (made["prompt"], made["seed"], image.size) == ("b", 0, (32, 32))


def test_output_may_be_a_folder_that_exists(run: Run, inverted: str):
    Path("pictures").mkdir()
    assert run("edit", inverted, "--to", "a", "-o", "pictures")[1] == "pictures/apple-edit-1.png\n"


def test_info_shows_the_record_without_a_model(run: Run, inverted: str):
    status, out, _ = run("info", inverted)
    assert status == 0
    assert PROMPT in out
    assert "dB without the remainder" in out
    assert "of the photograph, which the file holds" in " ".join(out.split())
    assert re.search(r"x_T: 0 [\d.e+-]+, 1 [\d.e+-]+, 2 ", out)
    assert max(map(len, out.splitlines())) <= 100
    found = json.loads(run("info", inverted, "--format", "json")[1])
    assert (found["file"], found["prompt"], found["width"]) == (inverted, [PROMPT], 32)


def test_presets(run: Run):
    status, out, _ = run("presets")
    assert status == 0
    assert all(name in out for name in renoise.PRESETS)
    assert max(map(len, out.splitlines())) <= 80
    found = json.loads(run("presets", "--format", "json")[1])["presets"]
    assert [preset["name"] for preset in found] == list(renoise.PRESETS)


def test_demo_of_a_named_photograph(run: Run, tiny: list[str]):
    status, out, err = run("demo", "apple.png", "--prompt", PROMPT, *tiny)
    names = ["inversion.safetensors", "reconstruction.png", "edit-1.png", "edit-2.png", "edit-3.png", "strip.png"]
    assert status == 0, err
    assert out.split() == [f"renoise-demo/{name}" for name in names]
    with Image.open("renoise-demo/strip.png") as strip:
        assert strip.width > 5 * 256


@pytest.mark.slow
def test_demo_without_any_argument(run: Run):
    status, out, err = run("demo", "--format", "json")
    assert status == 0, err
    found = json.loads(out)
    assert found["model"] == "orchard"
    assert len(found["to"]) == 3
    assert all(Path(path).exists() for path in found["outputs"])
    assert 20 < found["psnr"] < found["autoencoder_psnr"]
    photograph, again = (images.batch(path, 128, 128) for path in (example()[0], "renoise-demo/reconstruction.png"))
    assert psnr(again, photograph)[0].item() == pytest.approx(found["autoencoder_psnr"], abs=0.1)


@pytest.mark.parametrize(
    ("caption", "background", "kind", "colour"),
    [
        (PROMPT, "a red apple on a blue", "a purple plum on a white", "a light green apple on a white"),
        (
            "a photo of a light green pear and an onion on a blue background",
            "a light green pear and an onion on an orange",
            "a purple plum and an onion on a blue",
            "a red pear and an onion on a blue",
        ),
        (
            "a photo of a lemon on a red background",
            "a lemon on a blue",
            "a purple plum on a red",
            "a green lemon on a red",
        ),
    ],
)
def test_the_demo_edits_captions_in_words_that_orchard_knows(caption: str, background: str, kind: str, colour: str):
    assert [text for _, text in edits(caption)] == [f"a photo of {x} background" for x in (background, kind, colour)]


@pytest.mark.parametrize("prompt", ["", "a cat on a sofa", "on", "a [bracket", "  "])
def test_the_demo_has_three_edits_for_any_prompt(prompt: str):
    assert len({text for _, text in edits(prompt)}) == 3


def test_options_reach_the_inversion(run: Run, models: Path, tiny: list[str]):
    status, out, _ = run(
        "invert", "apple.png", "--format", "json", "--model", models / "sdxl_turbo", *tiny[2:], "--iterations", "2",
        "--tolerance", "0", "--noise-correction", "inf", "--lambda-kl", "0.05", "--seed", "9", "--strength", "0.7",
    )  # fmt: skip
    settings = json.loads(out)["settings"]
    assert status == 0
    assert (settings["iterations"], settings["tolerance"], settings["lambda_kl"]) == (2, 0, 0.05)
    assert settings["noise_correction"] == "inf"
    assert "iterations, tolerance, lambda_kl, noise_correction" in settings["source"]
    record = renoise.Inversion.load("apple.safetensors").record
    assert (record.seed, record.strength, record.prompt) == (9, 0.7, [""])


def test_every_inversion_option_is_an_argument_or_a_setting():
    every = InversionOptions(*range(1, 16))  # pyright: ignore[reportArgumentType]
    assert set(every.fields()) < set(ReNoise.__dataclass_fields__)
    assert len(every.given()) == len(InversionOptions.__dataclass_fields__)


# --- what it says ------------------------------------------------------------------------------------------------------


def test_warnings_are_in_the_report(run: Run, tiny: list[str]):
    Image.new("RGBA", (1, 1), (200, 0, 0, 128)).save("dot.png")
    long = "a very " * 90 + "red apple"
    found = json.loads(run("invert", "dot.png", "--prompt", long, "--format", "json", *tiny)[1])
    says = "\n".join(found["warnings"])
    assert "dot.png is transparent in places" in says
    assert "only 1x1 px: enlarged 32 times to cover 32x32" in says
    assert "the text encoder reads the first 77" in says
    assert len(set(found["warnings"])) == len(found["warnings"])


def test_progress_is_for_terminals_and_goes_to_stderr(run: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    _, out, err = run("invert", "apple.png", *tiny)
    assert "inverting" in err
    assert out == "apple.safetensors\n"


COMMANDS = ["invert", "reconstruct", "edit", "sweep", "info", "presets", "demo"]
BENCHMARKS = [f"bench {name}" for name in ("reconstruction", "few-steps", "tolerance", "redrawing", "edit", "eyes")]


@pytest.mark.parametrize("command", COMMANDS + BENCHMARKS)
def test_the_help_of_every_command_ends_with_an_example(run: Run, command: str):
    status, out, _ = run(*command.split(), "--help")
    assert status == 0
    examples = out.partition("\nExample")[2]
    assert f"\n  renoise {command}" in examples
    assert max(map(len, examples.splitlines())) <= 80


def test_help_is_quick_and_needs_no_torch():
    code = "import sys; from renoise.cli import main; main(['edit', '--help']); assert not {'torch', 'numpy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--lambda-kl" in done.stdout


def test_as_a_process(models: Path, tiny: list[str]):
    command = [sys.executable, "-m", "renoise.cli", "invert", "apple.png", "--format", "json", *tiny]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["outputs"] == ["apple.safetensors"]
    assert done.stderr == ""
    done = subprocess.run([*command, "--steps", "0"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_a_photograph_that_is_only_edited_is_not_measured(run: Run):
    few = ["--model", "orchard-turbo", "--prompt", PROMPT, "--to", "a photo of a lemon", "--format", "json"]
    for more, calls in (([], 3), (["--noised-below", "0"], 4), (["--strength", "0.25"], 0)):
        status, out, _ = run("edit", "apple.png", *few, *more, "--overwrite")
        assert status == 0
        made = json.loads(out)
        assert made["psnr"] is None
        assert made["evaluations"] >= calls
        assert (made["evaluations"] == calls) == (calls < 4)


def test_editability_and_seed_decide_how_an_edit_departs_from_an_inversion(run: Run, inverted: str):
    def edited(*options: str) -> bytes:
        assert run("edit", inverted, "--to", "a lemon", *options, "-o", "edit.png", "--overwrite")[0] == 0
        return Image.open("edit.png").tobytes()

    assert edited("--editability", "0", "--seed", "1") == edited("--editability", "0", "--seed", "2")
    assert edited("--editability", "0.5", "--seed", "1") != edited("--editability", "0.5", "--seed", "2")
    assert json.loads(Image.open("edit.png").info["renoise"])["editability"] == 0.5
    fails(run("edit", inverted, "--to", "a lemon", "--editability", "1.5"), "--editability")


def test_an_edit_in_a_mask_keeps_the_rest_and_says_how_it_was_made(run: Run, tiny: list[str]):
    mask = Image.new("L", (32, 32))
    mask.paste(255, (0, 0, 32, 16))
    mask.save("mask.png")
    how = [
        "--mask",
        "mask.png",
        "--source-correction",
        "0.5",
        "--guidance",
        "2",
        "--strip",
        "strip.png",
        "--page",
        "page.html",
    ]
    assert run("edit", "apple.png", "--prompt", PROMPT, "--to", "a lemon", *how, *tiny, "-o", "edit.png")[0] == 0
    before, after = images.open_image("apple.png"), Image.open("edit.png")
    kept = images.fit(before, 32, 32).crop((0, 17, 32, 32))
    assert after.crop((0, 17, 32, 32)).tobytes() == kept.tobytes()
    made = json.loads(after.info["renoise"])
    assert (made["mask"], made["source_correction"], made["guidance_scale"]) == ("mask.png", 0.5, 2.0)
    assert Image.open("strip.png").width > 2 * 256
    page = Path("page.html").read_text(encoding="utf-8")
    assert page.count("<img") == 2
    assert page.count("data:image/webp;base64,") == 2
    assert "a lemon" in page


def test_a_page_is_html(run: Run, tiny: list[str]):
    fails(run("edit", "apple.png", "--to", "a lemon", "--page", "page.png", *tiny), "page.png", ".html")


def test_a_sweep_is_a_grid_over_two_settings(run: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch):
    inversions = []
    invert = renoise.invert
    monkeypatch.setattr(renoise, "invert", lambda *a, **k: inversions.append(k["strength"]) or invert(*a, **k))
    axes = ["--rows", "guidance=1,2", "--columns", "strength=0.5,0.7,1"]
    assert run("sweep", "apple.png", "--prompt", PROMPT, "--to", "a lemon", *axes, *tiny)[0] == 0
    assert inversions == [0.5, 0.7, 1.0]
    width, height = Image.open("apple-sweep.png").size
    assert width > 3 * 256
    assert 2 * 256 < height < 3 * 300


def test_an_interrupted_sweep_leaves_its_finished_rows(run: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch):
    def edit(*args: Any, guidance_scale: float, edit: Any = renoise.edit, **call: Any) -> Any:
        if guidance_scale == 2:
            raise KeyboardInterrupt
        return edit(*args, guidance_scale=guidance_scale, **call)

    monkeypatch.setattr(renoise, "edit", edit)
    axes = ["--rows", "guidance=1,2", "--columns", "source_correction=0,1"]
    assert run("sweep", "apple.png", "--to", "a lemon", *axes, *tiny)[0] == 130
    width, height = Image.open("apple-sweep.png").size
    assert (width > 2 * 256, height < 2 * 256) == (True, True)


@pytest.mark.parametrize(
    "axis",
    [
        "guidance", "guidance=", "guidance=1,x", "guidance=1,,2", "guidance=nan", "guidance=1,inf", "guidance=-1",
        "guidance=1,1.0", "colour=1", "editability=1,2", "strength=0", "strength=1.1", "steps=0", "steps=inf", "steps=1.5",
        "iterations=-1", "iterations=1001", "tolerance=nan", "noise-correction=-1", "noise_correction=nan",
        "source-correction=2", "", "=1",
    ],
)  # fmt: skip
def test_a_sweep_over_nonsense_is_refused(run: Run, axis: str):
    fails(run("sweep", "apple.png", "--to", "a lemon", "--rows", axis), "--rows")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("edit apple.png --to x --mask nowhere.png", "nowhere.png"),
        ("invert apple.png --method flowedit", "flowedit"),
        ("sweep apple.png --to x --rows steps=4.5", "whole numbers"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_loaded(
    run: Run, argv: str, says: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(renoise, "load", lambda *a, **k: pytest.fail("it was loaded"))
    fails(run(*argv.split()), says)
