"""What a command works on: photographs and inversions from files, folders and standard input, and their captions."""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from renoise.cli.values import STREAM

if TYPE_CHECKING:
    from PIL.Image import Image

    from renoise.inversion import Inversion

CAPTIONS = "metadata.jsonl"  # the ImageFolder format of Hugging Face: one object a line, with file_name and text
INVERSION_SUFFIX = ".safetensors"
_LARGEST_HEADER = 16 * 2**20
_HEIF_SUFFIXES = {".heic", ".heif", ".hif"}  # which Pillow names only with an extra


@dataclass(frozen=True)
class Source:
    """A photograph or an inversion.

    Args:
        path: its file, or STREAM.
        content: what came from standard input.
    """

    path: Path
    content: bytes = b""

    def __str__(self) -> str:
        return "standard input" if self.path == STREAM else str(self.path)

    @property
    def stem(self) -> str:
        """Return the name that outputs are named after."""
        return "stdin" if self.path == STREAM else self.path.stem

    @property
    def is_inversion(self) -> bool:
        """Return whether this is an inversion: by its name, or for standard input by its first bytes."""
        if self.path != STREAM:
            return self.path.suffix.lower() == INVERSION_SUFFIX
        return int.from_bytes(self.content[:8], "little") <= _LARGEST_HEADER and self.content[8:9] == b"{"

    def picture(self) -> "Image":
        """Read the photograph. Raise ValueError or OSError if it cannot be read."""
        from renoise import images

        with self._file() as path:
            return images.open_image(path)

    def inversion(self) -> "Inversion":
        """Read the inversion. Raise ValueError or OSError if it cannot be read, or if it holds several pictures."""
        from renoise.inversion import Inversion

        with self._file() as path:
            found = Inversion.load(path)
        if len(found) != 1:
            raise ValueError(
                f"{self} holds {len(found)} pictures, the command line works on one: save inversion[i] to its own file"
            )
        return found

    def caption(self) -> str | None:
        """Return the text of the photograph in metadata.jsonl beside it, or None if there is none.

        Raises:
            ValueError: if the file is malformed.
        """
        path = self.path.parent / CAPTIONS
        if self.path == STREAM or not path.is_file():
            return None
        return _captions(path.absolute(), path.stat().st_mtime_ns).get(self.path.name)

    @contextmanager
    def _file(self) -> Iterator[Path]:
        """Yield a file with the content of standard input, or the source's own file."""
        if self.path != STREAM:
            yield self.path
            return
        with tempfile.TemporaryDirectory(prefix="renoise-") as folder:
            path = Path(folder) / "stdin"
            path.write_bytes(self.content)
            try:
                yield path
            except (ValueError, OSError) as error:
                raise ValueError(str(error).replace(str(path), str(self))) from error


def photographs(paths: Sequence[Path]) -> list[Source]:
    """Return the photographs that were named. A folder stands for its pictures. Raise ValueError if it has none."""
    return _sources(paths, "pictures", _is_picture)


def inversions(paths: Sequence[Path]) -> list[Source]:
    """Return the inversions that were named. A folder stands for its inversions. Raise ValueError if it has none."""
    return _sources(paths, "inversions", lambda path: path.suffix.lower() == INVERSION_SUFFIX)


def one_photograph(path: Path) -> Source:
    """Return the photograph that was named, which must not be a folder."""
    return photographs([path])[0] if path == STREAM or not path.is_dir() else Source(path)


def are_many(paths: Sequence[Path]) -> bool:
    """Return whether these arguments stand for several files: several were named, or a folder."""
    return len(paths) > 1 or any(_is_folder(path) for path in paths)


def _sources(paths: Sequence[Path], what: str, wanted: Callable[[Path], bool]) -> list[Source]:
    found: dict[Any, Source] = {}  # a file that is named twice is read once
    for path in paths:
        members = [path]
        if _is_folder(path):
            members = sorted(file for file in path.iterdir() if wanted(file) and not file.name.startswith("."))
            if not members:
                others = [file for file in path.iterdir() if file.suffix.lower() == INVERSION_SUFFIX]
                hint = f": for its inversions, name {path}/*{INVERSION_SUFFIX}" if others else ""
                raise ValueError(f"{path} has no {what}{hint}")
        elif len(paths) == 1 and path != STREAM and not path.exists():
            raise FileNotFoundError(f"{path}: no such file")
        for member in members:
            if member == STREAM:
                found.setdefault(STREAM, Source(STREAM, _standard_input()) if STREAM not in found else found[STREAM])
            else:
                found.setdefault(member.absolute(), Source(member))
    return list(found.values())


def _is_folder(path: Path) -> bool:
    try:
        return path != STREAM and path.is_dir()
    except OSError:  # the name is too long even for this question
        return False


def _is_picture(path: Path) -> bool:
    from PIL import Image

    suffixes = {suffix for suffix, name in Image.registered_extensions().items() if name in Image.OPEN}
    return path.suffix.lower() in suffixes - {".pdf", ".eps", ".ps", ".mpg", ".mpeg"} | _HEIF_SUFFIXES


def _standard_input() -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise ValueError("standard input is a terminal: pass a file, or pipe one into renoise")
    if content := sys.stdin.buffer.read():
        return content
    raise ValueError("standard input is empty")


@lru_cache(maxsize=4)
def _captions(path: Path, _changed: int) -> dict[str, str]:
    """Return the captions of a folder by the names of its files. The time of the last change is for the cache."""
    found = dict[str, str]()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8: mend it, or pass --prompt") from None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            name, caption = entry["file_name"], entry.get("text")
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            raise ValueError(
                f"{path}, line {number} is no JSON object with file_name and text: mend it, or pass --prompt"
            ) from None
        if caption is None:
            continue
        if not isinstance(name, str) or not isinstance(caption, str):
            raise ValueError(f"{path}, line {number}: file_name and text must be texts: mend it, or pass --prompt")
        found[name.removeprefix("./")] = caption
    return found
