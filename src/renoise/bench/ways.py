"""The ways to edit that the benchmark compares: those of this library and baselines, each at several strengths."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from renoise.methods.renoise import FEW_STEPS, FOR_DETERMINISTIC, PLAIN, ReNoise

DEFAULT = "default"


@dataclass(frozen=True)
class Way:
    """A way to edit.

    Args:
        name: name in the report.
        edits: arguments of `renoise.edit`, by the name of the strength.
        invert: arguments of `renoise.invert`, by the name of the strength, or one for all under "".
        baseline: whether this is a baseline instead of a way of this project.
        joined: whether the edit, drawn without a mask, is joined to the photograph at the mask that the default finds.
        from_source: whether guidance leads away from the source prompt, as in the paper, instead of from no prompt.
    """

    name: str
    edits: dict[str, dict[str, Any]]
    invert: dict[str, dict[str, Any]] = field(default_factory=lambda: {"": {}})
    baseline: bool = False
    joined: bool = False
    from_source: bool = False

    def arguments(self, strength: str, sources: list[str]) -> dict[str, Any]:
        """Return the arguments of `renoise.edit` at a strength, given the source prompts."""
        guided = self.from_source and self.edits[strength].get("guidance_scale", 1.0) > 1
        return {**self.edits[strength], **({"negative_prompt": sources} if guided else {})}


EVERYWHERE, FOUND = {"mask": "none"}, {"mask": "auto"}
STRENGTHS = (0.4, 0.55, 0.7, 0.85, 1.0)


def ways(own: ReNoise, guidance: float, steps: int, flow: bool = False) -> Iterator[Way]:
    """Yield the ways to edit for a model, the default first.

    Args:
        own: the model's settings of ReNoise.
        guidance: the model's guidance scale for edits.
        steps: the model's number of inference steps.
        flow: whether the model uses flow matching.
    """
    few = steps <= FEW_STEPS
    yield Way(DEFAULT, {"": {}})
    yield Way("editability", {f"e {e:g}": {"editability": e, **FOUND} for e in (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)})
    guided = {f"w {w:g}": {"guidance_scale": w, **FOUND} for w in (1.0, 1.5, 2.0, 3.0)}
    yield Way("guidance", guided)
    yield Way("guidance from the source prompt", {w: guided[w] for w in ("w 1.5", "w 3")}, from_source=True)
    yield Way("no mask", {"": EVERYWHERE})
    solved = replace(own, noised_below=0.0) if few else replace(FOR_DETERMINISTIC, noised_below=0.0)
    edits = {f"e {e:g}": {"editability": e, **FOUND} for e in (0.0, own.editability)}
    yield Way("solved to the end", edits, {"": {"method": solved}})
    losses = replace(
        solved, lambda_pair=10.0, lambda_kl=0.055, noise_correction=0.14 if solved.noise_correction else 0.0
    )
    yield Way("edit losses", edits, {"": {"method": losses}})
    if not few:
        yield Way("clean steps noised", edits, {"": {"method": FOR_DETERMINISTIC}})
    for way in _baselines(max(guidance, 1.0), steps, own.noise_correction > 0 and not flow):
        yield replace(way, baseline=True)


def _baselines(guidance: float, steps: int, stochastic: bool) -> Iterator[Way]:
    """Yield the baselines, all with the default's mask or with one that they find in the same way."""
    few = steps <= FEW_STEPS
    scale, exact = {"guidance_scale": guidance}, {"editability": 0.0}
    more = {} if few else {"num_inference_steps": 2 * steps}  # as many network calls as the default takes, or more
    for name, method in (("SDEdit", "sdedit"), ("FlowEdit", "flowedit")):
        strengths = {f"{s:g}": {"method": method, "strength": s, **more} for s in STRENGTHS}
        yield Way(name, {s: {**scale, **EVERYWHERE} for s in strengths}, strengths, joined=True)
    if stochastic:
        strengths = {f"{s:g}": {"method": "edit-friendly", "strength": s, **more} for s in STRENGTHS[2:]}
        yield Way("edit-friendly DDPM", {s: {**scale, **FOUND} for s in strengths}, strengths)
    edits = {f"w {w:g}": {"guidance_scale": w, **exact, **FOUND} for w in (1.0, 1.5)}
    yield Way("plain inversion", edits, {"": {"method": PLAIN, **more}})
    if not few:
        noised = replace(PLAIN, noised_below=FOR_DETERMINISTIC.noised_below, source="arXiv 2410.23530")
        yield Way("plain inversion, first steps noised", edits, {"": {"method": noised, **more}})
    paper = ReNoise.paper("sdxl-turbo" if few else "sd15")
    paper = paper if stochastic or not few else replace(paper, noise_correction=0.0)
    more = {} if few else {"num_inference_steps": 50}
    yield Way("the paper's settings", edits, {"": {"method": paper, **more}}, from_source=True)
