"""What went wrong, in one line that a terminal can show safely, and the exit status for it."""

import re
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED, WRONG_INPUT, INTERNAL = 130, 2, 1
_OUT_OF_MAIN_MEMORY = ("can't allocate memory", "cannot allocate memory")
_OUT_OF_MEMORY = ("out of memory", *_OUT_OF_MAIN_MEMORY)
_UNREACHABLE = "the Hugging Face Hub cannot be reached, and the model is not in the local cache"
_HUB_HINTS = {  # by the class name of the error of huggingface_hub, the most specific first
    "GatedRepoError": "accept its license on its page at huggingface.co, then log in: hf auth login",
    "RepositoryNotFoundError": "there is no such model on the Hugging Face Hub, or it is private",
    "RevisionNotFoundError": "there is no such revision of this model",
    "OfflineModeIsEnabled": "it is not in the local cache, and HF_HUB_OFFLINE is set",
    "ConnectError": _UNREACHABLE,
    "ConnectTimeout": _UNREACHABLE,
    "ReadTimeout": _UNREACHABLE,
    "LocalEntryNotFoundError": _UNREACHABLE,
}
# Control and format characters, among them terminal escapes and marks that reverse the direction of a text.
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINER = "\u200d"  # joins emoji, and letters of some scripts


class Stop(Exception):
    """Ends a command that works on several files. Its cause concerns all of them."""


class SomeFailed(Exception):
    """Ends a command that worked on several files. Those that failed were reported already."""


@contextmanager
def stopping() -> Iterator[None]:
    """Mark invalid input as one that concerns all files of the command."""
    try:
        yield
    except (ValueError, OSError) as error:
        raise Stop from error


def escaped(text: object) -> str:
    """Return a text with its control characters written out, such as \\x1b, so that a terminal only shows them."""
    return "".join(_escape(letter) for letter in str(text))


def one_line(text: object) -> str:
    """Replace line breaks and repeated spaces of a text by single spaces, and escape it."""
    return escaped(" ".join(str(text).split()))


def escaped_json(text: str) -> str:
    """Escape a JSON text whose line breaks are its own. It stays the same JSON."""
    return re.sub(r"[^\n -~]", lambda found: _escape(found[0], json=True), text)


def explain(error: BaseException) -> tuple[int, str]:
    """Return the exit status and the one-line message of an error."""
    if isinstance(error, Stop) and error.__cause__:
        return explain(error.__cause__)
    text = one_line(error) or type(error).__name__
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED, "interrupted"
    if is_out_of_memory(error):
        # A CPU computes in bf16 many times slower, and offloading needs an accelerator.
        remedies = [] if _is_main_memory(error) or not has_accelerator() else ["--dtype bf16", "--cpu-offload"]
        remedies += ["--vae-tiling"] if getattr(error, "tiling_helps", True) else []
        more = f", or try {', '.join(remedies)}" if remedies else ""
        return WRONG_INPUT, f"out of memory: lower --width and --height{more}"
    if hint := _hub_hint(error):
        what = text.partition(": ")[0] if "cannot be loaded" in text else "a model cannot be loaded"
        return WRONG_INPUT, f"{what}: {hint}"
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return WRONG_INPUT, one_line(f"{_short(str(error.filename))}: {error.strerror}")
    if isinstance(error, OSError | ValueError):  # errors of the library and the operating system
        return WRONG_INPUT, text
    return INTERNAL, f"{type(error).__name__}: {text} (unexpected; RENOISE_DEBUG=1 shows where)"


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that there is not enough memory, of the machine or of its accelerator."""
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _OUT_OF_MEMORY)


def has_accelerator() -> bool:
    """Return whether there is an accelerator, such as a GPU."""
    import torch

    return torch.accelerator.is_available()


def _is_main_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or any(sign in str(error).lower() for sign in _OUT_OF_MAIN_MEMORY)


def _escape(letter: str, json: bool = False) -> str:
    if letter == _JOINER or unicodedata.category(letter) not in _UNPRINTABLE:
        return letter
    code = ord(letter)
    if json:
        return f"\\u{code:04x}" if code < 0x10000 else letter
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _short(name: str) -> str:
    return name if len(name) <= 200 else f"{name[:40]}…{name[-20:]}"


def _hub_hint(error: BaseException | None) -> str | None:
    """Return a hint for an error that the Hugging Face Hub caused, or None for any other error."""
    names = set[str]()
    while error is not None:
        names.add(type(error).__name__)
        error = error.__cause__ or error.__context__
    return next((hint for name, hint in _HUB_HINTS.items() if name in names), None)
