"""Where a command writes: names of outputs, checked before the work, and standard output."""

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from renoise.cli.inputs import Source
from renoise.cli.values import STREAM

_KINDS = {".safetensors": "an inversion", ".html": "a page", ".json": "a report"}


@dataclass(frozen=True)
class Job:
    """A source, and where its outputs go."""

    source: Source
    paths: list[Path]

    @property
    def missing(self) -> list[Path]:
        """Return the outputs that do not exist yet."""
        return [path for path in self.paths if path == STREAM or not os.path.lexists(path)]


def jobs(
    sources: Sequence[Source],
    given: Path | None,
    endings: Sequence[str],
    *,
    many: bool,
    overwrite: bool,
    json: bool = False,
    also: Iterable[tuple[Path | None, str]] = (),
    inputs: Iterable[Path] = (),
) -> list[Job]:
    """Name the outputs of each source, and check them before the work.

    Args:
        given: file or folder that the user named, STREAM, or None for the current folder.
        endings: endings of the outputs' names, such as "-edit-1.png".
        many: whether the outputs of several sources go to a folder.
        overwrite: whether outputs may exist. Those of several sources may: their sources are skipped.
        json: whether standard output is taken by the report.
        also: further outputs of the command, with their suffixes.
        inputs: further inputs of the command, which no output may replace.

    Raises:
        ValueError: if an output cannot be written, exists, is an input, or if two are the same file.
    """
    check_stream(given, len(endings), many, json)
    if (
        many
        and given is not None
        and ((given.exists() and not given.is_dir()) or given.suffix in (*_KINDS, *_suffixes()))
    ):
        raise ValueError(f"{given}: for several inputs, --output names a folder")
    found = [Job(source, _named(source, given, endings, many)) for source in sources]
    outputs = [
        (path, Path("x" + ending).suffix) for job in found for path, ending in zip(job.paths, endings, strict=True)
    ]
    extra = [(path, suffix) for path, suffix in also if path is not None]
    for path, suffix in [*((path, suffix) for path, suffix in outputs if path != STREAM), *extra]:
        check(path, suffix)
    outputs += extra
    _check_distinct([path for path, _ in outputs], [*(source.path for source in sources), *inputs])
    if not overwrite and not many:
        check_new(path for path, _ in outputs)
    return found


def check_stream(given: Path | None, count: int, many: bool, json: bool) -> None:
    """Raise ValueError if the output is standard output, and that cannot take it."""
    if given != STREAM:
        return
    if many or count > 1:
        raise ValueError("standard output takes one output: name a folder instead of -")
    if json:
        raise ValueError("standard output takes the output or the report: leave --format json out, or name a file")
    if sys.stdout.isatty():
        raise ValueError("standard output is a terminal: name a file instead of -, or pipe it on")


def check(path: Path, suffix: str) -> None:
    """Raise ValueError if an output file cannot be written.

    Args:
        path: the output.
        suffix: required suffix: .safetensors, .html or .json. Any other one stands for a picture of any format.
    """
    from renoise import files, images

    if path == STREAM:
        raise ValueError("this output cannot go to standard output: name a file instead of -")
    if suffix in _KINDS and path.suffix != suffix:
        raise ValueError(f"{path}: {_KINDS[suffix]} is written as {suffix}")
    if suffix not in _KINDS:
        images.writable(path)
    files.check_name(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder")
    parent = next(folder for folder in (path.absolute().parent, *path.absolute().parents) if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise ValueError(f"{path} cannot be written: {parent} is no folder with write permission")


def check_new(paths: Iterable[Path]) -> None:
    """Raise ValueError if one of these outputs exists."""
    if existing := [path for path in paths if path != STREAM and os.path.lexists(path)]:
        more = f", and {len(existing) - 1} other outputs" if len(existing) > 1 else ""
        exist = "exist" if more else "exists"
        raise ValueError(f"{existing[0]}{more} {exist} already: pass --overwrite, or name another output with -o")


def check_folder(folder: Path, names: Sequence[str], source: Source, overwrite: bool) -> None:
    """Raise ValueError if files with these names cannot be written to a folder."""
    if folder == STREAM:
        raise ValueError("several files cannot go to standard output: name a folder instead of -")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is no folder")
    paths = [folder / name for name in names]
    for path in paths:
        check(path, path.suffix)
    _check_distinct(paths, [source.path])
    if not overwrite:
        check_new(paths)


@contextmanager
def writing(path: Path, suffix: str) -> Iterator[Path]:
    """Yield the file to write. What is written to the file that stands for standard output goes there afterwards."""
    if path != STREAM:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="renoise-") as folder:
        file = Path(folder) / f"stdout{suffix}"
        yield file
        sys.stdout.flush()
        sys.stdout.buffer.write(file.read_bytes())
        sys.stdout.buffer.flush()


def _suffixes() -> tuple[str, ...]:
    from renoise import images

    return images.SUFFIXES


def _named(source: Source, given: Path | None, endings: Sequence[str], many: bool) -> list[Path]:
    names = [source.stem + ending for ending in endings]
    if given == STREAM:
        return [STREAM]
    if given is None and source.path == STREAM:
        raise ValueError("standard input has no name: name the output with -o FILE, or -o - for standard output")
    if given is None:
        return [Path(name) for name in names]
    if many or given.is_dir():
        return [given / name for name in names]
    if len(endings) == 1:
        return [given]
    return [given.with_name(f"{given.stem}-{number}{given.suffix}") for number in range(1, len(endings) + 1)]


def _check_distinct(outputs: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Raise ValueError if an output is an input or another output, also through links or a path such as x/../y."""
    read = {key: path for path in inputs if path != STREAM for key in _identities(path)}
    written: dict[Any, Path] = {}
    for path in outputs:
        if path == STREAM:
            continue
        for key in _identities(path):
            if key in read:
                raise ValueError(f"{path} is the input{_if_named_otherwise(read[key], path)}: name another output")
            if key in written:
                raise ValueError(
                    f"two outputs would be the same file, {path}{_if_named_otherwise(written[key], path)}: "
                    "name different files"
                )
        written |= dict.fromkeys(_identities(path), path)


def _identities(path: Path) -> list[Any]:
    """Return what identifies a file: its path without links, and if it exists its place on the disk."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return [_resolved(path)]
    return [_resolved(path), (status.st_dev, status.st_ino)]


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a loop of links
        return path.absolute()


def _if_named_otherwise(one: Path, other: Path) -> str:
    return f" {one}" if one != other else ""
