"""Files are written whole or not at all."""

import contextlib
import os
from pathlib import Path


def write(path: Path, data: bytes) -> Path:
    """Write a file under a temporary name beside it and move it into place; parent folders are created."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:  # names the file the user asked for, not the temporary one
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        with contextlib.suppress(OSError):  # moved into place, or its folder could not even be made
            temporary.unlink()
    return path
