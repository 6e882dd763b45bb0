"""The command line is run on a tiny Stable Diffusion, in a folder that holds a photograph."""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from renoise.cli import main
from tests.tiny import TINY

PROMPT = "a photo of a red apple on a white background"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two models."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("sd", "sdxl_turbo"):
        TINY[name](contractive=True).pipe.save_pretrained(folder / name)
    return folder


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty current folder with a photograph in it; no warning slips past the report."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RENOISE_DEBUG", raising=False)
    gradient = Image.linear_gradient("L").resize((40, 32))
    Image.merge("RGB", [gradient, gradient.rotate(180), gradient]).save("apple.png")
    with warnings.catch_warnings():
        yield


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command: exit status, stdout, stderr."""

    def run(*argv: str | Path) -> tuple[int, str, str]:
        status = main([str(token) for token in argv])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def tiny(models: Path) -> list[str]:
    """The options that make a run small."""
    return ["--model", str(models / "sd"), "--width", "32", "--height", "32", "--steps", "3"]


@pytest.fixture
def inverted(run: Run, tiny: list[str]) -> str:
    """A file with an inversion."""
    assert run("invert", "apple.png", "--prompt", PROMPT, *tiny)[0] == 0
    return "apple.safetensors"


def fails(result: tuple[int, str, str], *says: str) -> None:
    """Status 2, nothing on stdout, and one line that says what is wrong."""
    status, out, err = result
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("renoise: ")
    for text in says:
        assert text in err
