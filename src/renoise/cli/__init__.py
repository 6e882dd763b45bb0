"""The command line `renoise`. It contains no algorithm, and no other part of the package imports it.

Commands import torch and diffusers only when they need them, so `renoise --help` is fast.
"""

from renoise.cli.commands import app
from renoise.cli.run import main

__all__ = ["app", "main"]
