"""The command line, `renoise`: options, what the subcommands share, what is printed. It holds no algorithm; nothing imports it.

Torch and diffusers are imported by the commands that need them, so `renoise --help` answers at once.
"""

from renoise.cli.commands import app, main

__all__ = ["app", "main"]
