"""The command line: how it fails, in one line and with which status."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import renoise
from renoise.cli import errors
from tests.cli.conftest import PROMPT, Run, fails


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("invert", "PHOTO"),
        ("invert missing.png", "missing.png: no such file"),
        ("invert text.jpg -o new.safetensors", "text.jpg cannot be read as a picture"),
        ("invert empty", "has no pictures"),
        (f"invert {os.devnull}", "no regular file"),
        ("edit apple.png", "--to"),
        ("nonsense", "invert, reconstruct, edit"),
        ("invert apple.png --stpes 3", "Did you mean --steps"),
        ("invert apple.png --steps 0", "--steps"),
        ("invert apple.png --strength 0", "--strength"),
        ("invert apple.png --strength 1.01", "--strength"),
        ("invert apple.png --strength nan", "--strength"),
        ("invert apple.png --seed -1", "--seed"),
        ("invert apple.png --iterations 1.5", "1.5 is not a whole number"),
        ("invert apple.png --steps 1e2", "1e2 is not a whole number"),
        ("invert apple.png --iterations 1001", "--iterations"),
        ("invert apple.png --tolerance inf", "--tolerance"),
        ("invert apple.png --tolerance nan", "--tolerance"),
        ("invert apple.png --guidance nan", "--guidance"),
        ("invert apple.png --width 0", "--width"),
        ("invert https://example.org/apple.png", "https://example.org/apple.png is an address: download"),
        ("edit HTTP://example.org/apple.png --to a", "is an address"),
        ("info s3://bucket/apple.safetensors", "is an address"),
        ("invert apple.png --steps 1000", "--steps 1000 is too many for DDIMScheduler, which has 1000 noise levels"),
        ("invert apple.png --model orchard-lcm --steps 101", "--steps 101 is too many for LCMScheduler"),
        ("invert apple.png --model orchard-turbo --steps 1001", "--steps 1001 is too many"),
        ("invert apple.png --seed 9223372036854775808", "--seed"),
        ("sweep apple.png --to a --rows steps=5,1000", "--steps 1000 is too many"),
        ("bench redrawing empty --iterations 1.5", "1.5 is not a whole number"),
        ("invert apple.png --dtype fp8", "fp32"),
        ("invert apple.png --format xml", "json"),
        ("invert apple.png --model sdxl-trubo", "did you mean sdxl-turbo"),
        ("invert apple.png --model .", "model_index.json"),
        ("invert apple.png --model nobody/nothing", "nobody/nothing cannot be loaded"),
        ("invert apple.png --model ./my-model", "no folder or file ./my-model"),
        ("invert apple.png --device nosuch", "--device nosuch cannot be used"),
        ("invert apple.png --device meta", "--device meta cannot be used"),
        ("invert apple.png --device cuda:99", "--device cuda:99 cannot be used"),
        ("invert apple.png -o apple.png", "written as .safetensors"),
        ("invert apple.png --guidance inf", "--guidance"),
        ("invert apple.png --revision v2", "one revision only"),
        ("edit apple.png --to a -o apple.png", "apple.png is the input"),
        ("edit apple.png --to a -o new/../apple.png", "apple.png is the input"),
        ("edit apple.png --to a -o b.gif", ".webp"),
        ("edit apple.png --to a -o text.png/b.png", "is no folder"),
        ("info missing.safetensors", "missing.safetensors: no such file"),
        ("edit inversions --to a", "inversions/*.safetensors"),
        ("info empty", "has no inversions"),
        ("info text.png", "no inversion of renoise"),
        ("reconstruct text.safetensors", "no inversion of renoise"),
    ],
)
def test_wrong_input_is_one_line_and_status_2(run: Run, argv: str, says: str):
    for name in ("text.png", "text.jpg"):
        Path(name).write_text("this is no picture, but it is long enough for a header")
    Path("text.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    Path("empty").mkdir()
    Path("inversions").mkdir()
    Path("inversions/a.safetensors").touch()
    before = sorted(os.listdir())
    fails(run(*argv.split()), says)
    assert sorted(os.listdir()) == before


def test_an_empty_name_is_not_the_current_folder(run: Run):
    for argv in (["invert", ""], ["invert", "apple.png", "-o", ""], ["info", ""], ["edit", "", "--to", "a"]):
        fails(run(*argv), "the name is empty")
    for option in ("--model", "--lora", "--device", "--mask"):
        fails(run("edit", "apple.png", "--to", "a", option, ""), option, "name is empty")


@pytest.mark.parametrize("command", ["invert", "edit", "reconstruct", "info", "sweep", "demo"])
def test_a_name_that_is_too_long(run: Run, command: str):
    more = ["--to", "a"] if command in ("edit", "sweep") else []
    for name in ("n" * 300 + ".safetensors", "n" * 300 + ".png", "d/" * 3000):
        fails(failed := run(command, name, *more), "")
        assert len(failed[2]) < 500
    fails(run("invert", "apple.png", "--model", "n" * 300), "n")


@pytest.mark.parametrize(
    ("command", "option"),
    [("invert", "--prompt"), ("invert", "--negative-prompt"), ("edit", "--to"), ("sweep", "--to"), ("demo", "--to")],
)
def test_a_text_that_is_no_utf_8(command: str, option: str):
    argv = [sys.executable, "-m", "renoise.cli", command, "apple.png", option, b"a\xff"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert option in done.stderr
    assert "not valid UTF-8" in done.stderr


def test_a_width_that_the_model_cannot_draw(run: Run, models: Path):
    fails(run("invert", "apple.png", "--model", models / "sd", "--width", "31", "--height", "32"), "multiple of 8")


def test_settings_that_would_have_no_effect_are_refused(run: Run, tiny: list[str], inverted: str):
    fails(run("invert", "apple.png", *tiny, "--noise-correction", "1", "--overwrite"), "noise_correction")
    fails(run("edit", inverted, "--to", "a", "--seed", "3", "--prompt", "b"), "leave out --prompt, which")


def test_plain_inversion_is_one_option_on_any_preset(run: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch):
    assert run("invert", "apple.png", *tiny, "--iterations", "0")[0] == 0
    assert renoise.Inversion.load("apple.safetensors").evaluations == 3
    assert (
        run("invert", "apple.png", "--model", "orchard", "--iterations", "0", "--steps", "3", "-o", "o.safetensors")[0]
        == 0
    )
    chosen = renoise.Inversion.load("o.safetensors").record.settings
    assert (chosen["first_guess"], chosen["anderson"], chosen["noise_correction"]) == ("latent", False, 0.0)


def test_the_default_model_can_be_compared_with_edit_friendly_inversion(run: Run):
    orchard = ("--model", "orchard", "--steps", "3", "--method", "edit-friendly")
    assert run("edit", "apple.png", "--prompt", PROMPT, "--to", "a lemon", *orchard, "-o", "edit.png")[0] == 0
    made = json.loads(Image.open("edit.png").info["renoise"])
    assert made["sampler"] == "DDIM(eta=1.0)"
    assert (made["guidance_scale"], made["mask"]) == (1.5, "none")  # what was decided, too, is in the picture


def test_offloading_needs_an_accelerator(run: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    fails(run("invert", "apple.png", *tiny, "--cpu-offload"), "--cpu-offload needs an accelerator")


def test_the_files_of_an_edit_are_different_ones(run: Run, tiny: list[str]):
    edit = ("edit", "apple.png", "--prompt", PROMPT, "--to", "a lemon", *tiny, "-o", "x.png")
    fails(run(*edit, "--strip", "x.png"), "two outputs would be the same file, x.png")
    Image.new("L", (32, 32)).save("x.png")
    fails(run(*edit, "--mask", "x.png"), "x.png is the input")


def test_the_demo_does_not_write_over_its_input(run: Run, tiny: list[str]):
    Path("edit-1.png").write_bytes(Path("apple.png").read_bytes())
    fails(run("demo", "edit-1.png", "-o", ".", *tiny), "edit-1.png is the input")


def test_another_model_than_the_inversions_is_refused_naming_both(run: Run, models: Path, inverted: str):
    fails(
        run("reconstruct", inverted, "--model", models / "sdxl_turbo"), str(models / "sd"), str(models / "sdxl_turbo")
    )
    fails(run("edit", inverted, "--to", "a", "--model", "orchard"), str(models / "sd"), "orchard")
    assert run("reconstruct", inverted, "--model", models / "sdxl_turbo" / ".." / "sd")[0] == 0


def test_a_model_may_have_moved(run: Run, models: Path, inverted: str, tmp_path: Path):
    shutil.copytree(models / "sd", tmp_path / "elsewhere" / "sd")
    assert run("reconstruct", inverted, "--model", tmp_path / "elsewhere" / "sd")[0] == 0


def test_an_inversion_finds_a_model_in_a_relative_folder_from_elsewhere(
    run: Run, models: Path, tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(models)
    photo, output = tmp_path / "apple.png", tmp_path / "apple.safetensors"
    assert run("invert", photo, "-o", output, "--model", "sd", *tiny[2:])[0] == 0
    monkeypatch.chdir(tmp_path)
    assert run("reconstruct", output)[0] == 0


def test_out_of_memory_says_what_to_lower(run: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch):
    gpu, cpu = "CUDA out of memory. Tried to allocate", "DefaultCPUAllocator: can't allocate memory: you tried"
    monkeypatch.setattr(errors, "has_accelerator", lambda: True)
    for error in (torch.OutOfMemoryError(gpu), RuntimeError(cpu), MemoryError()):

        def fail(*args: Any, error: BaseException = error, **kwargs: Any) -> None:
            raise error

        monkeypatch.setattr(renoise, "invert", fail)
        fails(failed := run("invert", "apple.png", *tiny), "--width", "--vae-tiling")
        # in bf16 a CPU is many times slower
        assert ("--dtype bf16" in failed[2]) == ("--cpu-offload" in failed[2]) == (gpu in str(error))


def test_a_full_disk_names_the_file(run: Run, inverted: str, monkeypatch: pytest.MonkeyPatch):
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    fails(run("reconstruct", inverted), "apple-reconstruction.png: No space left on device")


def test_an_interrupt_is_130_and_keeps_what_is_written(run: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch):
    def edit(pipe: Any, inversion: Any, prompt: str, edit: Any = renoise.edit, **call: Any) -> Any:
        if prompt == "stop":
            raise KeyboardInterrupt
        return edit(pipe, inversion, prompt, **call)

    monkeypatch.setattr(renoise, "edit", edit)
    status, out, err = run("edit", "apple.png", "--to", "a", "--to", "stop", *tiny)
    assert (status, out, err) == (130, "apple-edit-1.png\n", "renoise: interrupted\n")
    assert Path("apple-edit-1.png").exists()


def test_a_fault_of_ours_is_one_line_and_a_traceback_on_demand(
    run: Run, tiny: list[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(renoise, "invert", lambda *args, **kwargs: {}["lost"])
    status, _, err = run("invert", "apple.png", *tiny)
    assert (status, err) == (1, "renoise: KeyError: 'lost' (unexpected; RENOISE_DEBUG=1 shows where)\n")
    monkeypatch.setenv("RENOISE_DEBUG", "1")
    with pytest.raises(KeyError):
        run("invert", "apple.png", *tiny)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("GatedRepoError", "hf auth login"),
        ("RepositoryNotFoundError", "no such model on the Hugging Face Hub"),
        ("ConnectError", "cannot be reached"),
    ],
)
def test_trouble_with_the_hub_is_explained(name: str, says: str):
    try:
        try:
            raise type(name, (Exception,), {})("much\ntext")
        except Exception as cause:
            raise OSError("sdxl cannot be loaded from owner/sdxl: some text") from cause
    except OSError as error:
        status, text = errors.explain(error)
    assert status == 2
    assert text.startswith("sdxl cannot be loaded from owner/sdxl: ")
    assert says in text
