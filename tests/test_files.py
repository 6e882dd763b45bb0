"""Files are written whole or not at all: by threads at once, under long names, and after runs that were killed."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from renoise import files
from renoise.files import write

posix = pytest.mark.skipif(os.name != "posix", reason="locks and modes are those of POSIX")


def test_threads_may_write_the_same_file(tmp_path: Path):
    path, start = tmp_path / "a.png", threading.Barrier(16)

    def save(number: int) -> None:
        start.wait()
        for _ in range(15):
            write(path, bytes([number]) * 100_000)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(save, range(16)))
    found = path.read_bytes()
    assert len(found) == 100_000
    assert len(set(found)) == 1  # of one of them, whole
    assert os.listdir(tmp_path) == ["a.png"]


def test_processes_may_write_the_same_file(tmp_path: Path):
    code = "import sys, pathlib; from renoise.files import write\nfor _ in range(200): write(pathlib.Path('a'), b'x' * 9999)"
    runs = [subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path) for _ in range(4)]
    assert [run.wait() for run in runs] == [0] * 4
    assert os.listdir(tmp_path) == ["a"]


@posix
@pytest.mark.parametrize("letter", ["n", "é", "黄"])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path, letter: str):
    most = os.pathconf(tmp_path, "PC_NAME_MAX")
    name = letter * ((most - 4) // len(letter.encode())) + ".png"
    files.check_name(tmp_path / name)
    assert write(tmp_path / name, b"1").read_bytes() == b"1"
    with pytest.raises(ValueError, match=rf"the name {letter}+… is \d+ bytes long, .* takes {most}: name another"):
        files.check_name(tmp_path / (letter + name))
    with pytest.raises(ValueError, match="takes"):
        files.check_name(tmp_path / "new" / (letter + name) / "a.png")
    with pytest.raises(OSError, match="File name too long") as error:
        write(tmp_path / (letter + name), b"1")
    assert error.value.filename == str(tmp_path / (letter + name))


@posix
def test_a_path_may_be_as_long_as_the_system_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    most = os.pathconf(tmp_path, "PC_PATH_MAX")
    folder = Path(*["f" * 200] * ((most - 30) // 201))
    longest = folder / ("n" * (most - 2 - len(str(folder))))
    files.check_name(longest)
    assert write(longest, b"1").read_bytes() == b"1"
    for path in (folder / (longest.name + "n"), Path("f" * 200) / longest):
        with pytest.raises(ValueError, match=r"the path is \d+ bytes long, \d+ are possible: name another"):
            files.check_name(path)


@posix
def test_who_may_read_a_file_is_the_umasks_or_the_old_files(tmp_path: Path):
    before = os.umask(0o027)
    try:
        assert stat.S_IMODE(write(tmp_path / "a", b"1").stat().st_mode) == 0o640
        for mode in (0o600, 0o666, 0o444):
            (tmp_path / "a").chmod(mode)
            assert stat.S_IMODE(write(tmp_path / "a", b"2").stat().st_mode) == mode
    finally:
        os.umask(before)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), OSError(errno.EIO, "Input/output error")])
@pytest.mark.parametrize("at", ["write_bytes", "replace"])
def test_nothing_is_left_of_what_was_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, at: str
):
    write(tmp_path / "a", b"old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(*((Path, at) if at == "write_bytes" else (os, at)), fail)
    with pytest.raises(type(error)):
        write(tmp_path / "a", b"new")
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def _halfway(folder: Path) -> subprocess.Popen[str]:
    """A run that has written its temporary file and waits for a line before it moves it into place."""
    code = """
import os, pathlib, sys
from renoise.files import write
replace = os.replace
def wait(*paths):
    print("written", flush=True)
    sys.stdin.readline()
    replace(*paths)
os.replace = wait
write(pathlib.Path("a"), b"slow")
"""
    run = subprocess.Popen([sys.executable, "-c", code], cwd=folder, stdin=-1, stdout=-1, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "written\n"
    return run


@posix
def test_what_a_killed_run_left_is_removed_by_the_next_one_and_nothing_else(tmp_path: Path):
    others = [".a.part", "a.part", ".renoise-.part", ".renoise-mine.part", ".renoise-0123456789abcdef.part.txt"]
    for name in others:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".renoise-0123456789abcdef.part").mkdir()
    killed, live = _halfway(tmp_path), _halfway(tmp_path)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    kept = {*others, ".renoise-0123456789abcdef.part"}
    assert len(set(os.listdir(tmp_path)) - kept) == 2
    write(tmp_path / "b", b"quick")
    assert len(set(os.listdir(tmp_path)) - kept - {"b"}) == 1  # of the run that is still there
    live.communicate("\n")
    assert live.returncode == 0
    assert (tmp_path / "a").read_bytes() == b"slow"
    assert set(os.listdir(tmp_path)) == kept | {"a", "b"}


@posix
def test_a_file_system_without_locks_is_written_to_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    (tmp_path / ".renoise-0123456789abcdef.part").write_text("of a run nobody knows whether it lives")
    monkeypatch.setattr(fcntl, "flock", refuse)
    write(tmp_path / "a", b"1")
    assert sorted(os.listdir(tmp_path)) == [".renoise-0123456789abcdef.part", "a"]
    monkeypatch.setattr(files, "fcntl", None)  # as on Windows
    write(tmp_path / "a", b"2")
    assert (tmp_path / "a").read_bytes() == b"2"
