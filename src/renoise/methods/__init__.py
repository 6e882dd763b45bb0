"""The methods, one file each, by name. Adding a method is adding its file and a line here (docs/adding-a-method.md)."""

from importlib import import_module

from renoise.methods.method import Method

METHODS: dict[str, str] = {  # name: "module:class"; imported when it is first used, for most need torch
    "renoise": "renoise.methods.renoise:ReNoise",
    "sdedit": "renoise.methods.sdedit:SDEdit",
    "edit-friendly": "renoise.methods.edit_friendly:EditFriendly",
    "flowedit": "renoise.methods.flowedit:FlowEdit",
}


def method_class(name: str) -> type[Method]:
    """Return the class of a method. ValueError if there is no such method."""
    if name not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {name!r}")
    module, _, attribute = METHODS[name].partition(":")
    return getattr(import_module(module), attribute)


def get(method: "Method | str") -> Method:
    """Return a method, given itself or its name; ValueError for an unknown name, TypeError for anything else."""
    if isinstance(method, str):
        return method_class(method)()
    if not isinstance(method, Method):
        raise TypeError(
            f"method must be a name or a renoise.methods.Method such as ReNoise(), not {type(method).__name__}"
        )
    return method


__all__ = ["METHODS", "Method", "get", "method_class"]
