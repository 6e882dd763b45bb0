"""The command line: names that the file system has no room for are refused before any work."""

import os
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import PROMPT, Run, fails

pytestmark = pytest.mark.skipif(not hasattr(os, "pathconf"), reason="the limits of names are asked of POSIX systems")


@pytest.mark.parametrize("letter", ["n", "黄"])
def test_a_name_that_is_too_long_is_refused_before_any_work(run: Run, tiny: list[str], letter: str):
    most = os.pathconf(".", "PC_NAME_MAX")
    stem = letter * (most // len(letter.encode()))
    long = stem + ".png"
    edit = ("edit", "apple.png", "--prompt", PROMPT, "--to", "a lemon", *tiny)
    for name in (long, f"new/{long}", f"{stem}x/a.png"):
        fails(run(*edit, "-o", name), "long")
        fails(run(*edit, "--strip", name), "bytes long")
    fails(run(*edit, "-o", "d/" * (os.pathconf(".", "PC_PATH_MAX") // 2) + "a.png"), "long")
    photo = stem[: (most - 4) // len(letter.encode())] + ".png"  # its name has no room for another ending
    shutil.copy("apple.png", photo)
    fails(run("invert", photo, *tiny), "bytes long")
    assert not list(Path().glob("*.safetensors"))


def test_the_longest_name_is_written(run: Run, tiny: list[str]):
    name = "n" * (os.pathconf(".", "PC_NAME_MAX") - len(".safetensors")) + ".safetensors"
    status, _, err = run("invert", "apple.png", *tiny, "-o", name)
    assert (status, Path(name).exists()) == (0, True), err
