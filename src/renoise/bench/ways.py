"""Lists the ways to edit that the benchmark compares: the library's own, and the baselines, each at several strengths."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from renoise.pipelines.presets import PRESETS, Preset
from renoise.settings import FEW_STEPS, ReNoise


@dataclass(frozen=True)
class Way:
    """Holds arguments of `renoise.invert`, those of `renoise.edit` by strength, and the sampler's eta if it needs another.

    baseline: a method to compare with, not one of this project
    """

    name: str
    edits: dict[str, dict[str, Any]]
    invert: dict[str, Any] = field(default_factory=dict)
    eta: float | None = None
    baseline: bool = False


PLAIN = ReNoise(iterations=0, tolerance=0)
EVERYWHERE, FOUND = {"mask": "none"}, {"mask": "auto"}


def _guided(*scales: float, **more: Any) -> dict[str, dict[str, Any]]:
    return {f"w {w:g}": {"guidance_scale": w, **more} for w in scales}


def ways(preset: Preset, flow: bool = False) -> Iterator[Way]:
    """Yield the ways for a model (`flow`: one of flow matching), the default first."""
    yield from _own(preset)
    few, stochastic = preset.steps <= FEW_STEPS, preset.settings.correction > 0
    for way in _few(stochastic) if few else _many(flow):
        yield replace(way, baseline=True)


def _own(preset: Preset) -> Iterator[Way]:
    """Yield the library's own ways, and one baseline with its mask."""
    stochastic = preset.settings.correction > 0
    usual = max(preset.edit_guidance_scale, 1.2)
    once = replace(preset.settings, iterations=0, weights_low=None, weights_high=None, tolerance=0.0, anderson=False)
    yield Way("default", {"": {}}, {"settings": preset.edit_settings} if preset.edit_settings else {})
    yield Way("mask found", _guided(1.0, 1.2, 1.5, 2.0, **FOUND))
    yield Way("mask found, one evaluation a step", _guided(1.0, 1.2, 1.5, **FOUND), {"settings": once})
    for strength in (0.5, 0.75):
        yield Way(f"mask found, strength {strength:g}", _guided(1.2, 1.5, **FOUND), {"strength": strength})
    yield Way("guidance", _guided(1.0, 1.2, 1.5, 2.0, 3.0, **EVERYWHERE))
    own = max(preset.edit_guidance_scale, 1.0)
    for keep in (0.5, 1.0):
        yield Way(f"plain inversion, keep {keep:g}", _guided(own, keep=keep, **EVERYWHERE), {"settings": PLAIN})
    yield Way("plain inversion, keep 1, mask found", _guided(own, keep=1.0, **FOUND), {"settings": PLAIN})
    # 0.14: a step that its noise closes is not iterated, and knows no losses
    losses = replace(preset.settings, lambda_pair=10.0, lambda_kl=0.055, correction=0.14 if stochastic else 0.0)
    yield Way("edit losses", _guided(usual, **EVERYWHERE), {"settings": losses})
    if preset.steps <= FEW_STEPS and stochastic:
        yield Way("edit-friendly DDPM, mask found", _guided(1.0, 1.2, **FOUND), {"method": "edit-friendly"})


def _few(stochastic: bool) -> Iterator[Way]:
    """Yield the baselines for few steps."""
    for strength in (0.5, 0.75, 1.0):
        for name, method in (("SDEdit", "sdedit"), ("FlowEdit", "flowedit")):
            invert = {"method": method, "strength": strength}
            yield Way(f"{name} {strength:g}", _guided(1.0, 1.2, 1.5, **EVERYWHERE), invert)
    yield Way("plain inversion", _guided(1.0, 1.5, **EVERYWHERE), {"settings": PLAIN})
    paper = PRESETS["sdxl-turbo"].settings
    if stochastic:
        yield Way("edit-friendly DDPM", _guided(1.0, 1.2, 1.5, **EVERYWHERE), {"method": "edit-friendly"})
    settings = paper if stochastic else replace(paper, correction=0.0)
    yield Way("the paper's settings", _guided(1.0, 1.2, **EVERYWHERE), {"settings": settings})


def _many(flow: bool) -> Iterator[Way]:
    """Yield the baselines for many steps."""
    for strength in (0.5, 0.75):
        invert = {"method": "sdedit", "strength": strength, "num_inference_steps": 40}
        yield Way(f"SDEdit {strength:g}", _guided(1.5, 3.0, **EVERYWHERE), invert)
        invert = {"method": "flowedit", "strength": strength, "num_inference_steps": 20}
        yield Way(f"FlowEdit {strength:g}", _guided(1.0, 1.5, 3.0, **EVERYWHERE), invert)
        if not flow:  # whose samplers draw no noise
            invert = {"method": "edit-friendly", "strength": strength, "num_inference_steps": 20}
            yield Way(f"edit-friendly DDPM {strength:g}", _guided(1.5, 3.0, **EVERYWHERE), invert, eta=1.0)
    for steps in (20, 50):
        invert = {"settings": PLAIN, "num_inference_steps": steps}
        yield Way(f"plain DDIM, {steps} steps", _guided(1.0, 1.5, 2.0, **EVERYWHERE), invert)
    invert = {"settings": PRESETS["sd15"].settings, "num_inference_steps": 50}
    yield Way("the paper's settings", _guided(1.0, 1.5, **EVERYWHERE), invert)
