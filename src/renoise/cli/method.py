"""The inversion method that the options select."""

import dataclasses
from typing import TYPE_CHECKING, Any

from renoise.cli.options import InversionOptions

if TYPE_CHECKING:
    from renoise.methods import Method


def check_has_inversion(method: str | None) -> None:
    """Raise ValueError for a method that edits from the photograph itself, and so has no inversion to save."""
    from renoise import methods
    from renoise.methods.method import PHOTOGRAPH

    if method is not None and PHOTOGRAPH in methods.method_class(method).needs:
        raise ValueError(f"--method {method} has no inversion to save: use renoise edit")


def chosen_method(pipe: Any, options: InversionOptions) -> "Method | str":
    """Return the method that the options select, with the given fields.

    Args:
        pipe: the pipeline, whose preset has default settings.
        options: options of the inversion.

    Raises:
        ValueError: if options do not apply to the method, or if the paper has no settings for the model.
    """
    import renoise
    from renoise.methods.renoise import PLAIN, ReNoise
    from renoise.pipelines.finding import find

    given = options.fields()
    if options.method not in (None, ReNoise.name):
        if given or options.settings != "default":
            names = [f"--{name.replace('_', '-')}" for name in (given or ["settings"])]
            raise ValueError(
                f"{', '.join(names)} apply to --method renoise only: leave them out with --method {options.method}"
            )
        return options.method
    if options.settings == "paper":
        preset = find(pipe)
        if preset is None or preset.paper is None:
            raise ValueError("--settings paper: the paper has no settings for this model (renoise presets lists them)")
        chosen = ReNoise.paper(preset.paper)
    else:
        # Options of the fixed-point iteration ask for it, while DDIM that draws noise needs none.
        call = {"eta": 0.0} if given.keys() - {"noise_correction", "noised_below"} else {}
        chosen = renoise.default_method(pipe, options.steps, **call)
    if not given:
        return chosen
    if given.get("iterations") == 0:  # plain inversion, without the other settings of the preset
        chosen = PLAIN
    if given.get("iterations", chosen.iterations) != chosen.iterations:
        given |= {"weights_low": None, "weights_high": None}  # these weights are for another number of iterates
    if given.get("iterations", chosen.iterations) < 2 and "anderson" not in given:
        given["anderson"] = False  # it needs two iterates
    return dataclasses.replace(chosen, **given, source=f"{chosen.source}; changed: {', '.join(options.fields())}")
