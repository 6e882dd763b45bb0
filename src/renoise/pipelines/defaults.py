"""The default settings of ReNoise for a pipeline."""

import copy
import inspect
from collections.abc import Sequence
from typing import Any

from renoise.methods.method import is_stochastic
from renoise.methods.renoise import ReNoise
from renoise.pipelines import schedulers
from renoise.pipelines.arguments import eta_of, step_count
from renoise.pipelines.finding import find
from renoise.pipelines.presets import Preset
from renoise.step import Step


def default_method(pipe: Any, num_inference_steps: int | None = None, *, to_edit: bool = False, **call: Any) -> ReNoise:
    """Return the settings of ReNoise that `renoise.invert` uses for a pipeline: its preset's, or those of a rule.

    The preset's hold for its own sampler. With another scheduler, and for models that nobody has measured, the rule of
    `ReNoise.for_steps` decides by the steps that the sampler takes.

    Args:
        num_inference_steps: None takes the preset's, or the pipeline's default.
        to_edit: the settings for a photograph that is inverted only to be edited.
        **call: the arguments of the pipeline's call, of which `eta` matters.
    """
    call = {**getattr(find(pipe), "call", {}), **call}
    host = copy.deepcopy(pipe.scheduler)
    # Some flow schedulers shift their levels by mu, which pipelines compute from the size; it does not matter here.
    mu = {"mu": 1.0} if "mu" in inspect.signature(host.set_timesteps).parameters else {}
    host.set_timesteps(step_count(pipe, num_inference_steps, find(pipe)), **mu)
    return method_for_steps(pipe, schedulers.read(host).steps_with(eta_of(pipe, call)), to_edit)


def method_for_steps(pipe: Any, steps: Sequence[Step], to_edit: bool = False) -> ReNoise:
    """Return the settings for a pipeline whose sampler takes these steps, see `default_method`."""
    preset = find(pipe)
    if preset is None or preset.settings is None or not _is_own_sampler(pipe, preset, steps):
        return ReNoise.for_steps(steps)
    return preset.edit_settings or preset.settings if to_edit else preset.settings


def _is_own_sampler(pipe: Any, preset: Preset, steps: Sequence[Step]) -> bool:
    """Whether a pipeline samples as its preset does: the scheduler's class, and whether its steps draw noise."""
    assert preset.settings is not None
    scheduler = type(pipe.scheduler).__name__
    return scheduler == preset.scheduler[0] and is_stochastic(steps) == (preset.settings.noise_correction > 0)
