"""The default settings of ReNoise for a pipeline."""

import copy
import inspect
from collections.abc import Sequence
from typing import Any

from renoise.methods.method import Method, is_stochastic
from renoise.methods.renoise import FEW_STEPS, ReNoise
from renoise.pipelines import schedulers
from renoise.pipelines.arguments import eta_of, step_count
from renoise.pipelines.finding import find
from renoise.pipelines.presets import Preset
from renoise.step import Step


def default_method(pipe: Any, num_inference_steps: int | None = None, **call: Any) -> ReNoise:
    """Return the settings of ReNoise that `renoise.invert` uses for a pipeline: its preset's, or those of a rule.

    The preset's hold for its own sampler. With another scheduler, and for models that nobody has measured, the rule of
    `ReNoise.for_steps` decides by the steps that the sampler takes.

    Args:
        num_inference_steps: None takes the preset's, or the pipeline's default.
        **call: the arguments of the pipeline's call, of which `eta` matters.
    """
    count = step_count(pipe, num_inference_steps, find(pipe))
    call = with_noise(pipe, {**getattr(find(pipe), "call", {}), **call}, count)
    host = copy.deepcopy(pipe.scheduler)
    # Some flow schedulers shift their levels by mu, which pipelines compute from the size; it does not matter here.
    mu = {"mu": 1.0} if "mu" in inspect.signature(host.set_timesteps).parameters else {}
    host.set_timesteps(count, **mu)
    return method_for_steps(pipe, schedulers.read(host).steps_with(eta_of(pipe, call)))


def with_noise(pipe: Any, call: dict[str, Any], steps: int, method: Method | None = None) -> dict[str, Any]:
    """Return a pipeline's call with eta = 1 where that is the better choice and the user has left it open.

    A DDIM scheduler draws noise only if it is asked to. Methods that need noise ask for it. So do the default settings, for more
    steps than few-step models take: the noises make each step exact with one evaluation, and give better edits.
    """
    wanted = steps > FEW_STEPS if method is None else method.closes_noises
    is_ddim = "TCD" not in type(pipe.scheduler).__name__ or method is not None
    if wanted and is_ddim and "eta" not in call and eta_of(pipe, call) == 0.0:
        return {**call, "eta": 1.0}
    return call


def method_for_steps(pipe: Any, steps: Sequence[Step]) -> ReNoise:
    """Return the settings for a pipeline whose sampler takes these steps, see `default_method`."""
    preset = find(pipe)
    if preset is None or preset.settings is None or not _is_own_sampler(pipe, preset, steps):
        return ReNoise.for_steps(steps)
    return preset.settings


def _is_own_sampler(pipe: Any, preset: Preset, steps: Sequence[Step]) -> bool:
    """Whether a pipeline samples as its preset does: the scheduler's class, and whether its steps draw noise."""
    assert preset.settings is not None
    scheduler = type(pipe.scheduler).__name__
    return scheduler == preset.scheduler[0] and is_stochastic(steps) == (preset.settings.noise_correction > 0)
