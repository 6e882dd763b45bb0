"""Python numbers, of those that NumPy and PyTorch hand out and that no file can hold."""

import math
from typing import Any


def plain(value: Any) -> Any:
    """Return the Python number of a NumPy or PyTorch scalar, and anything else as it is."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def real(name: str, value: Any) -> float:
    """Return an argument as a float. ValueError, which names it, for anything that is no number."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {value!r}")
    return float(value)


def integer(name: str, value: Any) -> int:
    """Return an argument as an int. ValueError, which names it, for anything that is no whole number."""
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value != int(value):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    return int(value)
