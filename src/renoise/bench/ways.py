"""The ways to edit that the benchmark compares: those of this library and baselines, each at several strengths."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from renoise.methods.renoise import FEW_STEPS, PLAIN, ReNoise


@dataclass(frozen=True)
class Way:
    """A way to edit.

    Args:
        name: name in the report.
        edits: arguments of `renoise.edit`, by the name of the strength.
        invert: arguments of `renoise.invert`.
        baseline: whether this is a baseline instead of a way of this project.
    """

    name: str
    edits: dict[str, dict[str, Any]]
    invert: dict[str, Any] = field(default_factory=dict)
    baseline: bool = False


EVERYWHERE, FOUND = {"mask": "none"}, {"mask": "auto"}


def _guided(*scales: float, **more: Any) -> dict[str, dict[str, Any]]:
    return {f"w {w:g}": {"guidance_scale": w, **more} for w in scales}


def ways(own: ReNoise, to_edit: ReNoise, guidance: float, steps: int, flow: bool = False) -> Iterator[Way]:
    """Yield the ways to edit for a model, the default first.

    Args:
        own: the model's settings of ReNoise.
        to_edit: the model's settings for photographs that are inverted only for an edit.
        guidance: the model's guidance scale for edits.
        steps: the model's number of inference steps.
        flow: whether the model uses flow matching.
    """
    stochastic = own.noise_correction > 0
    yield from _own(own, to_edit, guidance, few=steps <= FEW_STEPS)
    for way in _few(stochastic) if steps <= FEW_STEPS else _many(flow):
        yield replace(way, baseline=True)


def _own(own: ReNoise, to_edit: ReNoise, guidance: float, few: bool) -> Iterator[Way]:
    """Yield the ways of this library, and edit-friendly DDPM with its automatic mask."""
    stochastic = own.noise_correction > 0
    once = replace(own, iterations=0, weights_low=None, weights_high=None, tolerance=0.0, anderson=False)
    yield Way("default", {"": {}}, {"method": to_edit})
    yield Way("mask found", _guided(1.0, 1.2, 1.5, 2.0, **FOUND))
    yield Way("mask found, one evaluation a step", _guided(1.0, 1.2, 1.5, **FOUND), {"method": once})
    for strength in (0.5, 0.75):
        yield Way(f"mask found, strength {strength:g}", _guided(1.2, 1.5, **FOUND), {"strength": strength})
    yield Way("guidance", _guided(1.0, 1.2, 1.5, 2.0, 3.0, **EVERYWHERE))
    scale = max(guidance, 1.0)
    for w in (0.5, 1.0):
        edits = _guided(scale, source_correction=w, **EVERYWHERE)
        yield Way(f"plain inversion, source correction {w:g}", edits, {"method": PLAIN})
    edits = _guided(scale, source_correction=1.0, **FOUND)
    yield Way("plain inversion, source correction 1, mask found", edits, {"method": PLAIN})
    # With noise_correction=inf, steps are not iterated and have no edit loss. 0.14 is the value of the paper.
    losses = replace(own, lambda_pair=10.0, lambda_kl=0.055, noise_correction=0.14 if stochastic else 0.0)
    yield Way("edit losses", _guided(max(guidance, 1.2), **EVERYWHERE), {"method": losses})
    if few and stochastic:
        yield Way("edit-friendly DDPM, mask found", _guided(1.0, 1.2, **FOUND), {"method": "edit-friendly"})


def _few(stochastic: bool) -> Iterator[Way]:
    """Yield the baselines for few steps."""
    for strength in (0.5, 0.75, 1.0):
        for name, method in (("SDEdit", "sdedit"), ("FlowEdit", "flowedit")):
            invert = {"method": method, "strength": strength}
            yield Way(f"{name} {strength:g}", _guided(1.0, 1.2, 1.5, **EVERYWHERE), invert)
    yield Way("plain inversion", _guided(1.0, 1.5, **EVERYWHERE), {"method": PLAIN})
    paper = ReNoise.paper("sdxl-turbo")
    if stochastic:
        yield Way("edit-friendly DDPM", _guided(1.0, 1.2, 1.5, **EVERYWHERE), {"method": "edit-friendly"})
    settings = paper if stochastic else replace(paper, noise_correction=0.0)
    yield Way("the paper's settings", _guided(1.0, 1.2, **EVERYWHERE), {"method": settings})


def _many(flow: bool) -> Iterator[Way]:
    """Yield the baselines for many steps."""
    for strength in (0.5, 0.75):
        invert = {"method": "sdedit", "strength": strength, "num_inference_steps": 40}
        yield Way(f"SDEdit {strength:g}", _guided(1.5, 3.0, **EVERYWHERE), invert)
        invert = {"method": "flowedit", "strength": strength, "num_inference_steps": 20}
        yield Way(f"FlowEdit {strength:g}", _guided(1.0, 1.5, 3.0, **EVERYWHERE), invert)
        if not flow:  # samplers of flow models draw no noise
            invert = {"method": "edit-friendly", "strength": strength, "num_inference_steps": 20}
            yield Way(f"edit-friendly DDPM {strength:g}", _guided(1.5, 3.0, **EVERYWHERE), invert)
    for steps in (20, 50):
        invert = {"method": PLAIN, "num_inference_steps": steps}
        yield Way(f"plain DDIM, {steps} steps", _guided(1.0, 1.5, 2.0, **EVERYWHERE), invert)
    invert = {"method": ReNoise.paper("sd15"), "num_inference_steps": 50}
    yield Way("the paper's settings", _guided(1.0, 1.5, **EVERYWHERE), invert)
