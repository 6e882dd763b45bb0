"""Registry of the inversion methods.

Each method has its own file. To add a method, add its file and a line to METHODS (see docs/adding-a-method.md).
"""

from importlib import import_module

from renoise.methods.method import Method

METHODS: dict[str, str | type[Method]] = {  # name: "module:class", imported on first use because most need torch
    "renoise": "renoise.methods.renoise:ReNoise",
    "sdedit": "renoise.methods.sdedit:SDEdit",
    "edit-friendly": "renoise.methods.edit_friendly:EditFriendly",
    "flowedit": "renoise.methods.flowedit:FlowEdit",
}


def method_class(name: str) -> type[Method]:
    """Return the class of a method by its name. Raise ValueError if the name is unknown."""
    if name not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {name!r}")
    found = METHODS[name]
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        found = getattr(import_module(module), attribute)
    if found.name != name:
        raise ValueError(f"METHODS has {found.__name__} as {name!r}, but its own name is {found.name!r}: use that one")
    return found


def get(method: "Method | str") -> Method:
    """Return a method, given the method itself or its name.

    Raises:
        ValueError: if the name is unknown, or the method is not in METHODS.
        TypeError: if it is neither a method nor a name.
    """
    if isinstance(method, str):
        return method_class(method)()
    if not isinstance(method, Method):
        raise TypeError(
            f"method must be a name or a renoise.methods.Method such as ReNoise(), not {type(method).__name__}"
        )
    if METHODS.get(method.name) is None:  # its files could not be read
        raise ValueError(f"register the method first: renoise.METHODS[{method.name!r}] = {type(method).__name__}")
    return method


__all__ = ["METHODS", "Method", "get", "method_class"]
