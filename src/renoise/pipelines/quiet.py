"""Silence where the libraries' remarks help nobody: on the command line, and while a model of ours is loaded."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_LIBRARIES = ("diffusers", "transformers", "huggingface_hub")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_MISSING = re.compile(r"^(\S+)\s*\|\s*MISSING", re.MULTILINE)  # a row of the report that transformers logs


def quiet() -> None:
    """Silence the libraries' logs and progress bars in this process, except those of downloads.

    What diffusers logs as an error it also raises, or gets over by itself.
    """
    import diffusers
    import transformers
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
    from huggingface_hub.utils.logging import set_verbosity_error

    set_verbosity_error()
    downloads = not are_progress_bars_disabled()
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    diffusers.utils.logging.set_verbosity(logging.CRITICAL)
    if downloads:
        enable_progress_bars()  # transformers' switch turned them off too


@contextmanager
def silenced() -> Iterator[None]:
    """Silence all logs, warnings and progress bars of the libraries, and restore the settings afterwards."""
    import diffusers
    import transformers
    from huggingface_hub.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    levels = {logger: logger.level for logger in map(logging.getLogger, _LIBRARIES)}
    bars = [lib.utils.logging for lib in (diffusers, transformers) if lib.utils.logging.is_progress_bar_enabled()]
    downloads = not are_progress_bars_disabled()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in levels:
                logger.setLevel(logging.CRITICAL)
            for bar in bars:
                bar.disable_progress_bar()
            yield
        finally:
            for logger, level in levels.items():
                logger.setLevel(level)
            for bar in bars:
                bar.enable_progress_bar()
            if downloads != (not are_progress_bars_disabled()):  # transformers' switch is theirs too
                (enable_progress_bars if downloads else disable_progress_bars)()


@contextmanager
def missing_weights() -> Iterator[list[tuple[str, list[str]]]]:
    """Listen, however quiet it is, for the classes of transformers that found no weights for some names: these are random."""
    import transformers  # noqa: F401  # sets its own level when it is first imported

    heard: list[tuple[str, list[str]]] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = _COLOURS.sub("", record.getMessage())
            if names := _MISSING.findall(text):
                heard.append((text.split()[0], names))

    logger, ear = logging.getLogger("transformers"), Ear()
    level, propagate = logger.level, logger.propagate
    others = {handler: handler.level for handler in logger.handlers}
    try:
        for handler, own in others.items():
            handler.setLevel(max(own, level))  # what was not shown is not shown now
        logger.propagate = propagate and level <= logging.WARNING
        logger.setLevel(min(level, logging.WARNING))
        logger.addHandler(ear)
        yield heard
    finally:
        logger.removeHandler(ear)
        logger.setLevel(level)
        logger.propagate = propagate
        for handler, own in others.items():
            handler.setLevel(own)
