"""Registry of the inversion methods.

Each method has its own file. To add a method, add its file and a line to METHODS (see docs/adding-a-method.md).
"""

from importlib import import_module

from renoise.methods.method import Method

METHODS: dict[str, str] = {  # name: "module:class", imported on first use because most need torch
    "renoise": "renoise.methods.renoise:ReNoise",
    "sdedit": "renoise.methods.sdedit:SDEdit",
    "edit-friendly": "renoise.methods.edit_friendly:EditFriendly",
    "flowedit": "renoise.methods.flowedit:FlowEdit",
}


def method_class(name: str) -> type[Method]:
    """Return the class of a method by its name. Raise ValueError if the name is unknown."""
    if name not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {name!r}")
    module, _, attribute = METHODS[name].partition(":")
    return getattr(import_module(module), attribute)


def get(method: "Method | str") -> Method:
    """Return a method, given the method itself or its name.

    Raises:
        ValueError: if the name is unknown.
        TypeError: if it is neither a method nor a name.
    """
    if isinstance(method, str):
        return method_class(method)()
    if not isinstance(method, Method):
        raise TypeError(
            f"method must be a name or a renoise.methods.Method such as ReNoise(), not {type(method).__name__}"
        )
    return method


__all__ = ["METHODS", "Method", "get", "method_class"]
