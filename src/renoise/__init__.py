"""ReNoise: real image inversion through iterative noising (arXiv 2403.14602), for any text-to-image pipeline of diffusers.

    import renoise

    pipe = renoise.load("orchard")
    inversion = renoise.invert(pipe, image, "a photo of a red apple")
    renoise.edit(pipe, inversion, "a photo of a lemon")

Nothing heavy is imported before it is used: `import renoise` takes milliseconds, torch comes with the first name.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from renoise.api import default_method, edit, invert, load, reconstruct
    from renoise.inversion import Inversion
    from renoise.methods import METHODS
    from renoise.methods.renoise import ReNoise
    from renoise.pipelines.presets import PRESETS

    __version__: str

__all__ = [
    "METHODS",
    "PRESETS",
    "Inversion",
    "ReNoise",
    "__version__",
    "default_method",
    "edit",
    "invert",
    "load",
    "reconstruct",
]

_HOME = {
    "METHODS": "renoise.methods",
    "PRESETS": "renoise.pipelines.presets",
    "Inversion": "renoise.inversion",
    "ReNoise": "renoise.methods.renoise",
    "default_method": "renoise.api",
    "edit": "renoise.api",
    "invert": "renoise.api",
    "load": "renoise.api",
    "reconstruct": "renoise.api",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("renoise")
    elif name in _HOME:
        value = getattr(import_module(_HOME[name]), name)
    else:
        raise AttributeError(f"module 'renoise' has no attribute {name!r}")
    globals()[name] = value  # the next access finds it without asking
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
