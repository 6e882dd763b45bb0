"""The command line: outputs are not lost by accident, and standard input and output are files like others."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import renoise
from tests.cli.conftest import PROMPT, Run, fails

EDIT = ("edit", "apple.png", "--prompt", PROMPT, "--to", "a lemon")


@pytest.mark.parametrize(
    ("argv", "output"),
    [
        ("invert apple.png", "apple.safetensors"),
        ("invert apple.png -o x.safetensors", "x.safetensors"),
        ("edit apple.png --to a --to b", "apple-edit-2.png"),
        ("edit apple.png --to a --strip strip.png", "strip.png"),
        ("edit apple.png --to a --page page.html", "page.html"),
        ("sweep apple.png --to a", "apple-sweep.png"),
        ("demo apple.png -o folder", "folder/strip.png"),
    ],
)
def test_an_output_that_exists_is_kept(run: Run, argv: str, output: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(renoise, "load", lambda *a, **k: pytest.fail("it was loaded"))
    Path(output).parent.mkdir(exist_ok=True)
    Path(output).write_text("mine")
    fails(run(*argv.split()), f"{output} exists already", "--overwrite")
    assert Path(output).read_text() == "mine"


def test_overwrite(run: Run, tiny: list[str], inverted: str):
    Path("apple-reconstruction.png").write_text("old")
    fails(run("reconstruct", inverted), "exists already")
    assert run("reconstruct", inverted, "--overwrite")[0] == 0
    with Image.open("apple-reconstruction.png") as image:
        assert image.size == (32, 32)


def test_the_demo_overwrites_its_own_folder(run: Run, tiny: list[str]):
    demo = ("demo", "apple.png", "--prompt", PROMPT, "--to", "a lemon", *tiny)
    assert run(*demo)[0] == run(*demo)[0] == 0
    fails(run(*demo, "-o", "renoise-demo"), "exist already")
    assert run(*demo, "-o", "renoise-demo", "--overwrite")[0] == 0
    fails(run(*demo, "-o", "apple.png"), "apple.png is no folder")
    fails(run(*demo, "-o", "-"), "name a folder")


@pytest.mark.parametrize("other", ["new/../x.png", "link/x.png"])
def test_two_names_of_one_output(run: Run, other: str):
    Path("link").symlink_to(".", target_is_directory=True)
    fails(run(*EDIT, "-o", "x.png", "--strip", other), "two outputs would be the same file", "x.png")


@pytest.mark.parametrize("kind", ["symlink_to", "hardlink_to"])
def test_an_output_that_leads_to_the_input(run: Run, kind: str):
    getattr(Path("x.png"), kind)("apple.png")
    before = Path("apple.png").read_bytes()
    for more in ([], ["--overwrite"]):
        fails(run(*EDIT, "-o", "x.png", *more), "x.png is the input apple.png")
    assert Path("apple.png").read_bytes() == before


def test_an_output_that_leads_nowhere_is_kept(run: Run):
    Path("x.png").symlink_to("nowhere.png")
    fails(run(*EDIT, "-o", "x.png"), "x.png exists already")


# --- standard input and output -------------------------------------------------------------------------------------------


def renoise_process(*argv: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run([sys.executable, "-m", "renoise.cli", *argv], input=stdin, capture_output=True, check=False)


def test_a_pipe_from_a_photograph_to_an_edit(tiny: list[str]):
    done = renoise_process("invert", "-", "-o", "-", "--prompt", PROMPT, *tiny, stdin=Path("apple.png").read_bytes())
    assert done.returncode == 0, done.stderr
    assert b"network calls in 3 steps" in done.stderr
    inversion = done.stdout
    Path("x.safetensors").write_bytes(inversion)
    assert renoise.Inversion.load("x.safetensors").prompt == [PROMPT]
    for command in (["reconstruct", "-"], ["edit", "-", "--to", "a lemon"]):
        done = renoise_process(*command, "-o", "-", stdin=inversion)
        assert done.returncode == 0, done.stderr
        with Image.open(io.BytesIO(done.stdout)) as image:
            assert (image.format, image.size) == ("PNG", (32, 32))
            assert json.loads(image.info["renoise"])["seed"] == 0
    done = renoise_process("info", "-", "--format", "json", stdin=inversion)
    assert json.loads(done.stdout)["file"] == "standard input"


@pytest.mark.parametrize(
    ("argv", "stdin", "says"),
    [
        ("invert - -o x.safetensors", b"", "standard input is empty"),
        ("invert - -o x.safetensors", b"no picture", "standard input cannot be read as a picture"),
        ("reconstruct - -o x.png", b"no inversion", "standard input is no inversion of renoise"),
        ("invert -", b"any", "-o FILE"),
        ("invert apple.png -o - --format json", b"", "--format json"),
        ("edit apple.png --to a --to b -o -", b"", "standard output takes one output"),
        ("sweep apple.png --to a -o -", b"", "name a file instead of -"),
        ("edit apple.png --to a --strip -", b"", "name a file instead of -"),
        ("edit apple.png --to -", b"", "--to"),
        ("presets -", b"", "[-]"),
    ],
)
def test_what_standard_input_and_output_cannot_do(argv: str, stdin: bytes, says: str):
    done = renoise_process(*argv.split(), stdin=stdin)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1), done.stderr
    assert says in done.stderr.decode()


def test_a_terminal_is_no_file(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    fails(run("invert", "apple.png", "-o", "-"), "standard output is a terminal")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    fails(run("invert", "-", "-o", "x.safetensors"), "standard input is a terminal")


def test_a_file_that_is_called_minus(run: Run, tiny: list[str]):
    os.rename("apple.png", "-")
    status, out, err = run("invert", "./-", "-o", "x.safetensors", *tiny)
    assert (status, out) == (0, "x.safetensors\n"), err
