"""Reads a diffusers scheduler, the *host*: its noise levels, what it takes the network to predict, and how it samples.

    the host keeps             levels (alpha, sigma)     its own latent           such as
    alphas_cumprod ᾱ           (√ᾱ, √(1 − ᾱ))            x                        DDIM, DDPM, LCM, PNDM
    alphas_cumprod, sigmas s   (1, s) / √(1 + s²)        x / alpha                Euler, Euler ancestral, Heun, LMS
                                                         x                        DPM-Solver++, DEIS, UniPC
    sigmas s                   (1 − s, s)                x                        FlowMatchEuler
    angles t as timesteps      (cos t, sin t)            x · config.sigma_data    SCM (sCM, arXiv 2410.11081)

There is no list of classes. Every reading of the host's tables is tried with every sampler of samplers.py, and taken if its
a, b, c (step.py) are those of the host's own `step`: copies of it are fed x alone, an output alone and noise alone, at the first,
the middle and the last step. A host that remembers earlier steps (multistep, Heun) takes such a step only first: that step's
sampler is used on its levels. What fits nothing is refused, and the cause is found the same way, by changing a field of a copy.
"""

import copy
import functools
import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from renoise.prediction import FLOW, PREDICTIONS, V_PREDICTION, Prediction
from renoise.samplers import DDIM, DDPM, LCM, TCD, Sampler
from renoise.schedule import Level, Schedule
from renoise.step import Step, plan

LARGE = 1024.0  # no clipping overlooks latents of this size, and a power of two costs no digits
TOLERANCE = 1e-5  # relative; the host's own rounding in float32 is some 4e-7

ALIASES = {"flow_prediction": "flow", "original_sample": "sample"}  # diffusers' names that are not ours

# field: a value that can be inverted, and what is wrong with others; tried on a copy of a host that fits nothing
REMEDIES: dict[str, tuple[Any, str]] = {
    "thresholding": (False, "it thresholds x̂_0, which cannot be undone"),
    "clip_sample": (False, "it clips x̂_0, which cannot be undone"),
    "algorithm_type": ("dpmsolver++", "its SDE solver is not one of renoise's samplers"),
    "variance_type": ("fixed_small", "its noise is not that of one of renoise's samplers"),
    "eta": (0.0, "its noise is not that of one of renoise's samplers"),
}

# how a class name begins: why no field would help
REASONS = {
    "EDM": "its network is preconditioned (config.sigma_data), and no other scheduler suits such a network",
    "KDPM2": "it asks the network between its noise levels",
    "DPMSolverSDE": "its noise comes from a Brownian tree",
}

# which tables a refused host has (alphas_cumprod, sigmas): what can stand in for it
ALTERNATIVES = {
    (True, False): "DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False, thresholding=False)",
    (True, True): "EulerDiscreteScheduler.from_config(pipe.scheduler.config)",
}


class Reading(NamedTuple):
    """How a host was read. In step i of `schedule` the network gets the host's own `timesteps[step_indices[i]]`.

    `step_indices` leaves out timesteps that the host repeats or that change nothing; `note` is a warning for the user.
    """

    schedule: Schedule
    prediction: Prediction
    sampler: Sampler
    timesteps: Tensor
    step_indices: tuple[int, ...]
    note: str | None

    def sampler_with(self, eta: float | None) -> Sampler:
        """Return the host's sampler as the pipeline sets it: `eta` is DDIM's η or TCD's γ, None where it takes none."""
        if eta is None:
            return self.sampler
        return replace(self.sampler, gamma=eta) if isinstance(self.sampler, TCD) else DDIM(eta)

    def steps_with(self, eta: float | None) -> tuple[Step, ...]:
        """Return the steps that the host takes, noisiest first."""
        return plan(self.schedule, self.sampler_with(eta), self.prediction)


def read(host: Any) -> Reading:
    """Read a diffusers scheduler whose `set_timesteps` has been called. The host is left as it is.

    ValueError, with the cause and a remedy, if its steps cannot be inverted or are not known here.
    """
    if host.config.get("prediction_type") == "trigflow":
        host = copy.deepcopy(host)
        host.register_to_config(sigma_data=1.0)  # our latents are in units of it
    try:
        return _fit(host)
    except ValueError as problem:
        raise ValueError(_refusal(host, problem)) from None


@dataclass(frozen=True)
class _Grid:
    """One reading of a host's tables. Our latent is `unit(level)` times the host's; the host takes `steps` steps."""

    schedule: Schedule
    step_indices: tuple[int, ...]
    steps: int
    prediction: Prediction
    unit: Callable[[Level], float]


def _grids(host: Any) -> Iterator[Callable[[], _Grid]]:
    """Yield the possible readings of a host's tables, the likeliest first. Calling one may raise ValueError."""
    times = [float(t) for t in host.timesteps]
    if host.config.get("prediction_type") == "trigflow":
        angles = [Level(math.cos(t), math.sin(t), t) for t in times]
        yield lambda: _grid(host, angles, angles[1:])
    elif getattr(host, "sigmas", None) is not None:
        sigmas = [float(s) for s in host.sigmas]
        if hasattr(host, "alphas_cumprod"):
            levels = list(map(Level.exploding, sigmas, [*times, 0.0]))
            yield lambda: _grid(host, levels, levels[1:], lambda level: level.alpha)
            yield lambda: _grid(host, levels, levels[1:])
        if not any(s > 1.001 for s in sigmas):
            flow = list(map(Level.flow, sigmas, [*times, 0.0]))
            yield lambda: _grid(host, flow, flow[1:])
    elif hasattr(host, "alphas_cumprod"):
        stride = len(host.alphas_cumprod) // (getattr(host, "num_inference_steps", None) or len(times))
        # LCM and DDPM end at alpha = 1, TCD at timestep 0, whatever their final_alpha_cumprod
        finals = (float(getattr(host, "final_alpha_cumprod", 1.0)), 1.0, float(host.alphas_cumprod[0]))
        for final in dict.fromkeys(finals):
            level = functools.partial(_tabulated, host.alphas_cumprod, final)
            starts = list(map(level, times))
            yield functools.partial(_grid, host, starts, [*starts[1:], level(-1)])
            # DDIM and PNDM take strides of one length, also over timesteps that are not evenly spaced
            yield functools.partial(_grid, host, starts, [level(t - stride) for t in times])


def _tabulated(alphas_cumprod: Tensor, final: float, time: float) -> Level:
    return Level.preserving(float(alphas_cumprod[int(time)]) if time >= 0 else final, max(time, 0.0))


def _grid(host: Any, starts: list[Level], ends: list[Level], unit: Callable[[Level], float] = lambda _: 1.0) -> _Grid:
    """Return the steps from starts[i] to ends[i], without those that do not change the noise."""
    steps = list(zip(starts, ends, strict=False))
    repeats = [_alike(t, later) for (t, _), (later, _) in pairwise(steps)] + [False]  # the last one stays
    step_indices = tuple(i for i, (t, s) in enumerate(steps) if not repeats[i] and not _alike(t, s))
    if not step_indices:
        raise ValueError("none of its steps changes the noise: use more steps")
    used, arrivals = [starts[i] for i in step_indices], [ends[i] for i in step_indices]
    chained = all(_alike(t, s) for t, s in zip(used[1:], arrivals, strict=False))
    schedule = Schedule((*used, arrivals[-1]), () if chained else tuple(arrivals))
    return _Grid(schedule, step_indices, len(steps), _prediction(host), unit)


def _alike(t: Level, s: Level) -> bool:
    return (t.alpha, t.sigma) == (s.alpha, s.sigma)


def _prediction(host: Any) -> Prediction:
    if not hasattr(host, "alphas_cumprod"):
        # a flow's config may keep another scheduler's prediction_type, from_config sees to that
        return V_PREDICTION if host.config.get("prediction_type") == "trigflow" else FLOW
    kind = host.config.get("prediction_type", "epsilon")
    if (name := ALIASES.get(kind, kind)) not in PREDICTIONS:
        raise ValueError(f"its prediction_type {kind!r} is not known; known are {', '.join(PREDICTIONS)}")
    return PREDICTIONS[name]


def _samplers(host: Any) -> Iterator[Sampler]:
    if "timestep_scaling" in host.config:
        yield LCM(host.config["timestep_scaling"])
    if gamma := getattr(inspect.signature(host.step).parameters.get("eta"), "default", 0.0):
        yield TCD(gamma, tuple(host.alphas_cumprod.tolist()))
    yield DDIM(0.0)
    if not hasattr(host, "sigmas") and hasattr(host, "alphas_cumprod"):
        yield DDPM(single=host.alphas_cumprod.dtype == torch.float32)
    yield from (DDIM(1.0), LCM(math.inf))


class _UnknownStep(ValueError):
    """The host's tables can be read, but its step is not one of ours. Another scheduler would work."""


def _fit(host: Any) -> Reading:
    """Return the first reading that agrees with the host's own steps. Raise ValueError about the likeliest one."""
    probe = functools.cache(functools.partial(_probe, host))
    problems: list[ValueError] = []
    for build in _grids(host):
        try:
            grid = build()
            remembers = grid.steps > 1 and _remembers(host)
            last = len(grid.step_indices) - 1
            points = (0,) if remembers else sorted({0, last // 2, last})
            for sampler in _samplers(host):
                if all(_agrees(probe(grid.step_indices[i]), grid, sampler, *grid.schedule.pairs[i]) for i in points):
                    note = _note(host, sampler) if remembers else None
                    return Reading(grid.schedule, grid.prediction, sampler, host.timesteps, grid.step_indices, note)
            problems.append(_UnknownStep("its step is none that renoise knows (DDIM, DDPM, Euler, LCM, flow matching)"))
        except ValueError as problem:
            problems.append(problem)
    if not problems:
        raise ValueError("it keeps no noise levels that renoise knows (alphas_cumprod or sigmas)")
    raise problems[0]


class _Response(NamedTuple):
    """The result of a step of the host for x alone, for an output alone (both LARGE everywhere) and for the noise z alone."""

    of_x: Tensor
    of_out: Tensor
    of_z: Tensor
    z: Tensor


def _probe(host: Any, index: int) -> _Response:
    nothing = torch.zeros(1, 4, 4, 4, device=host.timesteps.device)
    z = randn_tensor(nothing.shape, generator=torch.Generator().manual_seed(0), device=nothing.device)
    of_z = _step(copy.deepcopy(host), index, nothing, nothing)
    of_x = _step(copy.deepcopy(host), index, nothing + LARGE, nothing) - of_z
    of_out = _step(copy.deepcopy(host), index, nothing, nothing + LARGE) - of_z
    return _Response(of_x, of_out, of_z, z)


def _step(host: Any, index: int, x: Tensor, out: Tensor) -> Tensor:
    """Take the host's step number `index`, which changes the host; its noise is that of seed 0."""
    t, seeded = host.timesteps[index], {}
    if "generator" in inspect.signature(host.step).parameters:
        seeded["generator"] = torch.Generator().manual_seed(0)
    try:
        if getattr(host, "begin_index", 0) is None:
            # by number, because timesteps may be rounded until they repeat
            host.set_begin_index(index)
        if hasattr(host, "scale_model_input"):
            host.scale_model_input(x, t)
        return host.step(out, t, x, **seeded, return_dict=False)[0]
    except Exception as error:  # what can go wrong in somebody else's step is not known here
        raise _UnknownStep(f"its step failed ({type(error).__name__}: {error})") from error


def _agrees(response: _Response, grid: _Grid, sampler: Sampler, t: Level, s: Level) -> bool:
    """Whether the host's step from t to s is our affine step, in the host's own units."""
    step, k_t, k_s = Step(t, s, sampler.mix(t, s), grid.prediction), grid.unit(t), grid.unit(s)
    expected = ((response.of_x, step.a * k_t / k_s * LARGE), (response.of_out, step.b / k_s * LARGE))
    if any(not bool(((of - to).abs() <= TOLERANCE * max(abs(to), LARGE)).all()) for of, to in expected):
        return False
    c = step.c / k_s
    return bool(((response.of_z - c * response.z).abs() <= TOLERANCE * max(c, 1.0)).all())


def _remembers(host: Any) -> bool:
    """Whether the host's second step depends on its first."""

    def second(first: float) -> Tensor:
        twin = copy.deepcopy(host)
        nothing = torch.zeros(1, 4, 4, 4, device=host.timesteps.device)
        _step(twin, 0, nothing + first, nothing + first)
        return _step(twin, 1, nothing, nothing)

    return not torch.equal(second(0.0), second(LARGE))


def _note(host: Any, sampler: Sampler) -> str:
    name = "DDPM" if sampler == DDIM(1.0) else "DDIM" if sampler == DDIM(0.0) else str(sampler)
    return f"{type(host).__name__} makes a step of several network evaluations: {name} on the same noise levels is used instead"


def _refusal(host: Any, problem: ValueError) -> str:
    """Return why the host cannot be read, and the fix: a field of its config to change, or another scheduler."""
    name, config = type(host).__name__, host.config
    why, remedy = next((reason for start, reason in REASONS.items() if name.startswith(start)), str(problem)), None
    if isinstance(problem, _UnknownStep) and not name.startswith("EDM"):
        remedy = ALTERNATIVES.get((hasattr(host, "alphas_cumprod"), hasattr(host, "sigmas")))
    wrong = {field: value for field, (value, _) in REMEDIES.items() if config.get(field, value) not in (value, None)}
    for change in [*({field: value} for field, value in wrong.items()), wrong]:
        if change and _helps(host, change):
            why = " and ".join(f"{REMEDIES[field][1]} (config.{field}={config[field]!r})" for field in change)
            arguments = ", ".join(f"{field}={value!r}" for field, value in change.items())
            remedy = f"{name}.from_config(pipe.scheduler.config, {arguments})"
            break
    return f"{name} cannot be inverted: {why}" + (f"; set pipe.scheduler = {remedy}" if remedy else "")


def _helps(host: Any, change: dict[str, Any]) -> bool:
    twin = copy.deepcopy(host)
    twin.register_to_config(**change)
    vars(twin).update({field: value for field, value in change.items() if field in vars(twin)})
    try:
        _fit(twin)
    except ValueError:
        return False
    return True
