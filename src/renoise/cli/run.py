"""Runs the command line, and turns errors into one line and an exit status."""

import io
import os
import sys
from collections.abc import Sequence

from cyclopts import CycloptsError

from renoise.cli import errors
from renoise.cli.commands import app
from renoise.cli.values import STREAM


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 2 for invalid input, 1 for an internal error, 130 if interrupted."""
    tokens = list(sys.argv[1:] if argv is None else argv)
    tokens = [str(STREAM) if token == "-" else token for token in tokens]  # cyclopts takes - for an unknown option
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files need not be valid UTF-8
            stream.reconfigure(errors="surrogateescape")
    try:
        app(tokens, exit_on_error=False, print_error=False, result_action="return_none")
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise the flush at exit fails
        return errors.INTERNAL
    except errors.SomeFailed:
        return errors.WRONG_INPUT
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("RENOISE_DEBUG"):
            raise
        usage = isinstance(error, CycloptsError)
        text = str(error).replace(repr(str(STREAM)), "-").replace(str(STREAM), "-") if usage else ""
        status, text = (errors.WRONG_INPUT, errors.one_line(text)) if usage else errors.explain(error)
        print(f"renoise: {text}", file=sys.stderr)
        return status
    return 0
