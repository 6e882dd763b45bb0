"""The command line: several files in one command share a model, and one bad file does not stop the others."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import renoise
from tests.cli.conftest import PROMPT, Run, fails


@pytest.fixture
def photos() -> Path:
    """A folder with three pictures, captions for two of them, a broken picture and other files."""
    folder = Path("photos")
    folder.mkdir()
    for name in ("a.png", "b.png", "c.jpg"):
        Image.open("apple.png").save(folder / name)
    (folder / "broken.png").write_text("no picture")
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_text("no picture")
    lines = [{"file_name": "a.png", "text": "a red apple"}, {"file_name": "c.jpg", "text": "a lemon"}]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the models that were loaded."""
    names = list[str]()

    def load(name: str, load: Any = renoise.load, **options: Any) -> Any:
        names.append(name)
        return load(name, **options)

    monkeypatch.setattr(renoise, "load", load)
    return names


def test_a_folder_is_inverted_reconstructed_and_edited(run: Run, tiny: list[str], photos: Path, loads: list[str]):
    status, out, err = run("invert", photos, "-o", "new/inversions", *tiny)
    files = [f"new/inversions/{name}.safetensors" for name in "abc"]
    assert (status, out.split()) == (2, files)
    assert err.count("photos/broken.png cannot be read as a picture") == 1
    assert "3 done, 1 failed" in err
    assert "b.png: without --prompt" in err
    assert [renoise.Inversion.load(file).prompt for file in files] == [["a red apple"], [""], ["a lemon"]]
    assert run("reconstruct", "new/inversions", "-o", "again")[:2] == (
        0,
        "".join(f"again/{name}-reconstruction.png\n" for name in "abc"),
    )
    status, out, _ = run("edit", *files[:2], photos / "c.jpg", "--to", "a lemon", "--to", "a plum", *tiny[:2])
    assert (status, out.split()) == (0, [f"{name}-edit-{number}.png" for name in "abc" for number in (1, 2)])
    assert len(loads) == 3


def test_several_results_are_one_object(run: Run, tiny: list[str], photos: Path):
    (photos / "b.png").unlink()
    status, out, err = run("invert", photos, "--prompt", PROMPT, "--format", "json", *tiny)
    found = json.loads(out)
    assert (status, err.count("\n")) == (2, 1)
    good, bad, last = found["results"]
    assert (good["input"], good["outputs"], good["prompt"]) == ("photos/a.png", ["a.safetensors"], PROMPT)
    assert good["psnr"] <= good["autoencoder_psnr"] + 1
    assert (bad["input"], bad["outputs"]) == ("photos/broken.png", [])
    assert "cannot be read" in bad["error"]
    assert last["outputs"] == ["c.safetensors"]
    assert (found["device"], found["dtype"]) == ("cpu", "float32")
    assert set(found) == {"results", "device", "dtype", "seconds", "timings", "warnings"}


def test_an_interrupted_command_goes_on_where_it_ended(
    run: Run, tiny: list[str], photos: Path, monkeypatch: pytest.MonkeyPatch
):
    (photos / "broken.png").unlink()
    invert, calls = renoise.invert, list[Any]()

    def interrupted(*args: Any, **call: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return invert(*args, **call)

    monkeypatch.setattr(renoise, "invert", interrupted)
    assert run("invert", photos, *tiny)[:2] == (130, "a.safetensors\n")
    before = Path("a.safetensors").stat().st_mtime_ns
    status, out, err = run("invert", photos, *tiny)
    assert (status, out) == (0, "b.safetensors\nc.safetensors\n")
    assert "2 done, 1 skipped" in err
    assert Path("a.safetensors").stat().st_mtime_ns == before
    status, out, err = run("invert", photos, "--format", "json")  # nothing is left to do, and nothing is loaded
    assert [result["skipped"] for result in json.loads(out)["results"]] == [True] * 3
    assert run("invert", photos, *tiny, "--overwrite")[1].count("\n") == 3


def test_edits_that_are_missing_are_drawn(run: Run, tiny: list[str], photos: Path):
    edit = ("edit", photos / "a.png", photos / "b.png", "--to", "a lemon", "--to", "a plum", *tiny)
    assert run(*edit)[0] == 0
    Path("b-edit-2.png").unlink()
    assert run(*edit)[:2] == (0, "b-edit-2.png\n")


def test_a_model_that_cannot_be_loaded_ends_the_command_at_once(run: Run, photos: Path):
    Path("model").mkdir()
    status, out, err = run("invert", photos, "--model", "model")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "model_index.json" in err


def test_a_full_disk_ends_the_command_at_once(run: Run, tiny: list[str], photos: Path, monkeypatch: pytest.MonkeyPatch):
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    fails(run("invert", photos, *tiny), "a.safetensors: No space left on device")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ("photos apple.png -o out.safetensors", "--output names a folder"),
        ("photos apple.png -o apple.png", "--output names a folder"),
        ("photos -o -", "standard output takes one output"),
        ("photos photos2", "two outputs would be the same file, a.safetensors"),
        ("empty photos", "empty has no pictures"),
    ],
)
def test_what_cannot_work_for_several(run: Run, photos: Path, argv: str, says: str):
    shutil.copytree(photos, "photos2")
    Path("empty").mkdir()
    fails(run("invert", *argv.split()), says)


def test_a_file_named_twice_is_inverted_once(run: Run, tiny: list[str], photos: Path):
    (photos / "broken.png").unlink()
    assert run("invert", photos, photos / "a.png", *tiny)[1].count("a.safetensors") == 1


def test_a_missing_file_among_others(run: Run, tiny: list[str]):
    status, out, err = run("invert", "nowhere.png", "apple.png", "n" * 300 + ".png", *tiny)
    assert (status, out) == (2, "")  # the last one's output could not be named
    status, out, err = run("invert", "nowhere.png", "apple.png", *tiny)
    assert (status, out) == (2, "apple.safetensors\n")
    assert "renoise: nowhere.png: no such file" in err


def test_the_caption_of_one_photograph_and_a_prompt_that_replaces_it(run: Run, tiny: list[str], photos: Path):
    _, _, err = run("invert", photos / "a.png", *tiny)
    assert "a red apple (from metadata.jsonl)" in err
    assert renoise.Inversion.load("a.safetensors").prompt == ["a red apple"]
    run("invert", photos / "a.png", "--prompt", "mine", "--overwrite", *tiny)
    assert renoise.Inversion.load("a.safetensors").prompt == ["mine"]


@pytest.mark.parametrize(
    "line",
    ["no json", "[1]", '{"text": "a"}', '{"file_name": 1, "text": "a"}', '{"file_name": "a.png", "text": 1}', "\xff"],
)
def test_captions_that_cannot_be_read(run: Run, tiny: list[str], photos: Path, line: str):
    (photos / "metadata.jsonl").write_bytes(line.encode("latin-1"))
    fails(run("invert", photos / "a.png", *tiny), "photos/metadata.jsonl", "--prompt")
    fails(run("invert", photos, *tiny), "photos/metadata.jsonl", "--prompt")
    assert run("invert", photos / "a.png", "--prompt", "a", *tiny)[0] == 0


def test_info_of_several(run: Run, inverted: str):
    shutil.copy(inverted, "b.safetensors")
    out = run("info", inverted, "b.safetensors")[1]
    assert out.count(PROMPT) == 2
    found = json.loads(run("info", ".", "--format", "json")[1])
    assert [result["file"] for result in found["results"]] == sorted([inverted, "b.safetensors"])


@pytest.mark.skipif(os.name == "nt", reason="names of files are texts there")
def test_a_name_that_is_no_utf_8(tiny: list[str]):
    import subprocess
    import sys

    os.rename(b"apple.png", b"\xff.png")
    argv = [sys.executable, "-m", "renoise.cli", "invert", b"\xff.png", "--prompt", "a", *tiny]
    done = subprocess.run(argv, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"\xff.safetensors\n"), done.stderr
    done = subprocess.run([*argv, "--overwrite", "--format", "json"], capture_output=True, check=False)
    assert json.loads(done.stdout)["outputs"] == ["\udcff.safetensors"]
