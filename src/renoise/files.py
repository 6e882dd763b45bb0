"""Atomic file writes.

A file is written completely or not at all. Several threads and processes may write to the same folder at once.
"""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows, where leftovers of killed processes are not removed
    fcntl = None

_TEMPORARY = re.compile(r"\.renoise-[0-9a-f]{16}\.part")


def write(path: Path, data: bytes) -> Path:
    """Write a file atomically and return its path.

    The data goes to a temporary file in the same folder, which is then moved into place. Parent folders are created. If
    several processes write the same file, the last one wins. Temporary files of killed processes are removed.

    Raises:
        OSError: if the file cannot be written. The error names `path`, not the temporary file.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path.parent)
        mode = path.stat().st_mode & 0o777 if path.exists() else None
        with _temporary_file(path.parent, 0o666 if mode is None else mode | 0o200) as temporary:
            temporary.write_bytes(data)
            if mode is not None:  # overwriting a file keeps its permissions
                os.chmod(temporary, mode)
            os.replace(temporary, path)
    except OSError as error:  # report the requested file, not the temporary one
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    return path


def check_name(path: Path) -> None:
    """Raise ValueError if a path, or a name in it, is too long for the file system."""
    folder = next(parent for parent in path.absolute().parents if _exists(parent))
    for name in path.absolute().relative_to(folder).parts:
        size, most = len(os.fsencode(name)), _path_limit(folder, "PC_NAME_MAX")
        if size > most:
            raise ValueError(f"{path}: the name {name[:16]}… is {size} bytes long, {folder} takes {most}: name another")
    size = max(len(os.fsencode(p)) for p in (path, _temporary_path(path.parent)))
    most = _path_limit(folder, "PC_PATH_MAX")
    if size >= most:  # the limit includes a terminating zero byte
        raise ValueError(f"{str(path)[:60]}…: the path is {size} bytes long, {most - 1} are possible: name another")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # the name is too long even for this question
        return False


def _path_limit(folder: Path, name: str) -> float:
    try:
        limit = os.pathconf(folder, name)
    except (AttributeError, OSError, ValueError):  # only POSIX systems report it
        limit = -1
    return limit if limit > 0 else float("inf")


def _temporary_path(folder: Path) -> Path:
    """Return a new temporary path. Its name is short, as the name of the file itself may be of maximum length."""
    return folder / f".renoise-{secrets.token_hex(8)}.part"


@contextlib.contextmanager
def _temporary_file(folder: Path, mode: int) -> Iterator[Path]:
    """Create a new temporary file, and remove it at the end unless it was moved.

    The file is locked while it is in use. The lock tells other processes that it is not a leftover.
    """
    while True:
        path = _temporary_path(folder)
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode)  # the umask applies
        try:
            if fcntl is None:
                os.close(handle)  # an open file cannot be moved
            else:
                with contextlib.suppress(OSError):  # without locks, as on some network drives, leftovers stay
                    fcntl.flock(handle, fcntl.LOCK_EX)
                if not path.exists():  # another process removed it as a leftover before it was locked
                    continue
            yield path
            return
        finally:
            with contextlib.suppress(OSError):
                path.unlink()
            if fcntl is not None:
                os.close(handle)


def _remove_leftovers(folder: Path) -> None:
    """Remove leftovers of killed processes: temporary files that nobody has locked."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for name in [entry.name for entry in entries if _TEMPORARY.fullmatch(entry.name)]:
            with contextlib.suppress(OSError):  # it is locked, already removed, or owned by another user
                handle = os.open(folder / name, os.O_RDWR)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(folder / name)
                finally:
                    os.close(handle)
