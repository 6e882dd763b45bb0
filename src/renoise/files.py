"""Files are written whole or not at all, by any number of threads and programs at once."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows, where what a killed run left stays
    fcntl = None

_TEMPORARY = re.compile(r"\.renoise-[0-9a-f]{16}\.part")


def write(path: Path, data: bytes) -> Path:
    """Write a file under a temporary name beside it and move it into place; parent folders are created.

    The last to write wins. What killed runs have left in the folder is removed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _clean(path.parent)
        mode = path.stat().st_mode & 0o777 if path.exists() else None
        with _temporary(path.parent, 0o666 if mode is None else mode | 0o200) as temporary:
            temporary.write_bytes(data)
            if mode is not None:  # who may read the file is not changed by writing it again
                os.chmod(temporary, mode)
            os.replace(temporary, path)
    except OSError as error:  # names the file the user asked for, not the temporary one
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    return path


def check_name(path: Path) -> None:
    """Raise ValueError, before any work, if the file system has no room for the names in a path."""
    folder = next(parent for parent in path.absolute().parents if _exists(parent))
    for name in path.absolute().relative_to(folder).parts:
        size, most = len(os.fsencode(name)), _limit(folder, "PC_NAME_MAX")
        if size > most:
            raise ValueError(f"{path}: the name {name[:16]}… is {size} bytes long, {folder} takes {most}: name another")
    size, most = max(len(os.fsencode(p)) for p in (path, _name_in(path.parent))), _limit(folder, "PC_PATH_MAX")
    if size >= most:  # it ends in a zero
        raise ValueError(f"{str(path)[:60]}…: the path is {size} bytes long, {most - 1} are possible: name another")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # its name is too long even to ask
        return False


def _limit(folder: Path, name: str) -> float:
    try:
        limit = os.pathconf(folder, name)
    except (AttributeError, OSError, ValueError):  # it is known on POSIX systems only
        limit = -1
    return limit if limit > 0 else float("inf")


def _name_in(folder: Path) -> Path:
    """Make up a temporary name; it is short, for the name of the file itself may have any length."""
    return folder / f".renoise-{secrets.token_hex(8)}.part"


@contextlib.contextmanager
def _temporary(folder: Path, mode: int) -> Iterator[Path]:
    """Make a new file, locked while it is used, which is how others know it; removed at the end unless it was moved."""
    while True:
        path = _name_in(folder)
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode)  # less what the umask takes away
        try:
            if fcntl is None:
                os.close(handle)  # an open file cannot be moved
            else:
                with contextlib.suppress(OSError):  # some network file systems have no locks: nobody cleans up there
                    fcntl.flock(handle, fcntl.LOCK_EX)
                if not path.exists():  # it was taken for a killed run's before it was locked
                    continue
            yield path
            return
        finally:
            with contextlib.suppress(OSError):
                path.unlink()
            if fcntl is not None:
                os.close(handle)


def _clean(folder: Path) -> None:
    """Remove the temporary files whose lock nobody holds: their run was killed."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if _TEMPORARY.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):  # it is locked, gone by now, or somebody else's
                handle = os.open(folder / name, os.O_RDWR)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(folder / name)
                finally:
                    os.close(handle)
