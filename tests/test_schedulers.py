"""Our affine steps against diffusers' own `step`, on every step of every kind of grid.

Measured twice: as the host is, in float32, where its own rounding shows (1e-6 of the largest number that it held), and with its
tables turned to double, where only the formulas can differ (1e-9).
"""

import copy
import inspect
import itertools
import math
from contextlib import nullcontext
from typing import Any

import diffusers
import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from renoise.pipelines.schedulers import Reading, read
from renoise.samplers import DDIM, DDPM, LCM, TCD
from renoise.step import SMALLEST_A, Step, plan

pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__")  # numpy on what diffusers does to its tables

STABLE_DIFFUSION = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
STEPS = (1, 4, 20, 50)
SHAPE = (2, 4, 8, 8)
MU = 0.8  # of dynamic shift, as FLUX works it out from the size
Host = tuple[str, dict[str, Any]]


def _hosts() -> list[Host]:
    hosts: list[Host] = []
    predictions, spacings = ("epsilon", "v_prediction", "sample"), ("leading", "trailing", "linspace")
    for prediction, spacing in itertools.product(predictions, spacings):
        common = dict(STABLE_DIFFUSION, prediction_type=prediction, timestep_spacing=spacing)
        for zero_snr in (False, True):
            terminal = dict(common, rescale_betas_zero_snr=zero_snr)
            if not zero_snr or prediction != "epsilon":  # at alpha = 0 epsilon says nothing: refused, see below
                hosts += [
                    ("DDIMScheduler", dict(terminal, clip_sample=False)),
                    ("DDPMScheduler", dict(terminal, clip_sample=False)),
                ]
            if prediction != "sample":  # which ancestral Euler does not know
                hosts.append(("EulerAncestralDiscreteScheduler", terminal))
            hosts.append(("EulerDiscreteScheduler", terminal))
    for prediction in predictions:
        hosts += [
            ("LCMScheduler", dict(STABLE_DIFFUSION, prediction_type=prediction, set_alpha_to_one=False)),
            ("LCMScheduler", dict(STABLE_DIFFUSION, prediction_type=prediction, timestep_scaling=3.0)),
        ]
        for grid in (
            dict(use_karras_sigmas=True),
            dict(use_exponential_sigmas=True),
            dict(final_sigmas_type="sigma_min", timestep_spacing="trailing"),
            dict(interpolation_type="log_linear"),
        ):
            hosts.append(("EulerDiscreteScheduler", dict(STABLE_DIFFUSION, prediction_type=prediction, **grid)))
        hosts.append(("TCDScheduler", dict(STABLE_DIFFUSION, prediction_type=prediction)))
    hosts += [
        ("LCMScheduler", dict(STABLE_DIFFUSION, prediction_type="v_prediction", rescale_betas_zero_snr=True)),
        ("EulerDiscreteScheduler", dict(STABLE_DIFFUSION, prediction_type="v_prediction", timestep_type="continuous")),
        # Stable Diffusion's
        ("DDIMScheduler", dict(STABLE_DIFFUSION, clip_sample=False, set_alpha_to_one=False, steps_offset=1)),
        ("DDPMScheduler", dict(STABLE_DIFFUSION, clip_sample=False, variance_type="fixed_small_log")),
    ]
    for stochastic, grid in itertools.product(
        (False, True),
        (
            dict(),
            dict(shift=3.0),
            dict(use_dynamic_shifting=True),
            dict(use_dynamic_shifting=True, time_shift_type="linear"),
            dict(use_karras_sigmas=True),
            dict(use_exponential_sigmas=True),
        ),
    ):
        hosts.append(("FlowMatchEulerDiscreteScheduler", dict(grid, stochastic_sampling=stochastic)))
    return hosts


HOSTS = _hosts()
IDS = ["-".join([name.removesuffix("Scheduler"), *map(str, list(config.values())[-3:])]) for name, config in HOSTS]


def _sampler(name: str, config: dict[str, Any]) -> DDIM | DDPM | LCM | TCD:
    if name == "TCDScheduler":
        return TCD(0.3, tuple(diffusers.TCDScheduler(**config).alphas_cumprod.tolist()))
    if name == "LCMScheduler":
        return LCM(config.get("timestep_scaling", 10.0))
    if config.get("stochastic_sampling"):
        return LCM(math.inf)
    if name == "DDPMScheduler":
        return DDPM()
    return DDIM(1.0 if name == "EulerAncestralDiscreteScheduler" else 0.0)


def _set(name: str, config: dict[str, Any], n: int) -> Any:
    host = getattr(diffusers, name)(**config)
    host.set_timesteps(n, **({"mu": MU} if config.get("use_dynamic_shifting") else {}))
    return host


def _steps(reading: Reading) -> tuple[Step, ...]:
    return plan(reading.schedule, reading.sampler, reading.prediction)


def _noise(index: int, dtype: torch.dtype) -> Tensor:
    """The noise that a host draws from `_generator(index)`; other dtypes make other numbers."""
    return randn_tensor(SHAPE, generator=_generator(index), dtype=dtype)


def _generator(index: int) -> torch.Generator:
    return torch.Generator().manual_seed(1000 + index)


def _host_step(host: Any, index: int, y: Tensor, out: Tensor) -> Tensor:
    t = host.timesteps[index]
    if out.dtype == torch.float64 and not t.is_floating_point():
        t = int(t)  # LCM would work out its skip in float32
    if hasattr(host, "scale_model_input"):
        host.scale_model_input(y, t)
    seeded = {"generator": _generator(index)} if "generator" in inspect.signature(host.step).parameters else {}
    return host.step(out, t, y, return_dict=False, **seeded)[0]


def _double(host: Any) -> Any:
    """The same host with its tables in double: its steps then round no more than ours."""
    for table, values in vars(host).items():
        if isinstance(values, Tensor) and values.is_floating_point() and table != "timesteps":
            setattr(host, table, values.double())
    return host


def _compare(host: Any, reading: Reading, dtype: torch.dtype) -> float:
    """Walk the host over its grid with random latents and outputs -> the largest relative difference of a step."""
    exploding = hasattr(host, "sigmas") and hasattr(host, "alphas_cumprod")
    drawn = (
        dtype if hasattr(host, "alphas_cumprod") else torch.float32
    )  # flow matching works on float32 latents whatever comes
    steps, worst = dict(zip(reading.step_indices, _steps(reading), strict=True)), 0.0
    for index in range(len(reading.timesteps)):
        # float32 numbers: Euler would round others
        y, out = torch.randn(SHAPE), torch.randn(SHAPE, dtype=dtype)
        if index in steps:
            y = (y / steps[index].t.alpha).float() if exploding else y
        theirs = _host_step(host, index, y.to(dtype), out)
        if index not in steps:  # left out: it must have changed nothing
            assert torch.allclose(theirs, y.to(dtype), rtol=1e-6, atol=1e-6)
            continue
        step, y = steps[index], y.to(dtype)
        k_t, k_s = (step.t.alpha, step.s.alpha) if exploding else (1.0, 1.0)
        ours = step.denoise(k_t * y, out, _noise(index, drawn)) / k_s
        largest = max(float(theirs.abs().max()), float(y.abs().max()))
        worst = max(worst, float((ours - theirs).abs().max()) / largest)
    return worst


@pytest.mark.parametrize("n", STEPS)
@pytest.mark.parametrize(("name", "config"), HOSTS, ids=IDS)
def test_steps_are_the_hosts_own(name: str, config: dict[str, Any], n: int) -> None:
    host = _set(name, config, n)
    reading = read(host)
    assert reading.note is None
    assert reading.schedule.levels[-1].time == 0
    assert len(reading.step_indices) == len(reading.schedule.levels) - 1
    if n > 1:  # one step ends clean and draws no noise, whatever the sampler
        assert reading.sampler == _sampler(name, config)
    assert _compare(copy.deepcopy(host), reading, torch.float32) < 1e-6
    # Euler divides its latents, always float32, where the network predicts v
    rounded = "Euler" in name and config.get("prediction_type") == "v_prediction"
    host = _double(host)
    assert _compare(host, read(host), torch.float64) < (1e-7 if rounded else 1e-9)


@pytest.mark.parametrize("n", STEPS)
@pytest.mark.parametrize(("name", "config"), HOSTS, ids=IDS)
def test_inverses_are_exact(name: str, config: dict[str, Any], n: int) -> None:
    for step in _steps(read(_set(name, config, n))):
        x_t, out, z = torch.randn(3, *SHAPE, dtype=torch.float64)
        x_s = step.denoise(x_t, out, z)
        if abs(step.a) >= SMALLEST_A:
            assert float((step.renoise(x_s, out, z) - x_t).abs().max()) < 1e-10
        else:  # a consistency step of a v or sample network, or one that starts at alpha = 0, all but forgets x_t
            with pytest.raises(ValueError, match="forgets"):
                step.renoise(x_s, out, z)
        if step.stochastic:
            assert float((step.noise(x_t, x_s, out) - z).abs().max()) < 1e-10


MULTISTEP = [
    ("PNDMScheduler", dict(STABLE_DIFFUSION, skip_prk_steps=True, steps_offset=1)),
    ("PNDMScheduler", dict(STABLE_DIFFUSION, skip_prk_steps=True, timestep_spacing="linspace")),
    ("PNDMScheduler", dict(STABLE_DIFFUSION)),
    ("HeunDiscreteScheduler", dict(STABLE_DIFFUSION)),
    ("DPMSolverMultistepScheduler", dict(STABLE_DIFFUSION)),
    ("DPMSolverMultistepScheduler", dict(STABLE_DIFFUSION, use_karras_sigmas=True)),  # whose rounded timesteps repeat
    (
        "DPMSolverMultistepScheduler",
        dict(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    ),  # Sana
    ("DPMSolverSinglestepScheduler", dict(STABLE_DIFFUSION)),
    ("DEISMultistepScheduler", dict(STABLE_DIFFUSION)),
    ("UniPCMultistepScheduler", dict(STABLE_DIFFUSION, prediction_type="v_prediction")),
    ("LMSDiscreteScheduler", dict(STABLE_DIFFUSION)),
    ("FlowMatchHeunDiscreteScheduler", dict(shift=3.0)),
]


@pytest.mark.parametrize(("name", "config"), MULTISTEP)
def test_a_multistep_host_lends_its_levels_and_is_noted(name: str, config: dict[str, Any]) -> None:
    host = _set(name, config, 20)
    reading = read(host)
    assert reading.sampler == DDIM(0.0)
    assert reading.note is not None
    assert reading.note.startswith(f"{name} makes a step of several network evaluations: DDIM")
    for index, level in zip(reading.step_indices, reading.schedule.levels, strict=False):
        assert float(reading.timesteps[index]) == level.time
    angles = [math.atan2(level.sigma, level.alpha) for level in reading.schedule.levels]
    assert angles == sorted(set(angles), reverse=True)


def test_repeated_timesteps_are_left_out() -> None:
    reading = read(_set("HeunDiscreteScheduler", STABLE_DIFFUSION, 4))
    assert [float(t) for t in reading.timesteps] == [999, 666, 666, 333, 333, 0, 0]
    assert reading.step_indices == (0, 2, 4, 6)


def test_a_solver_of_first_order_needs_no_note() -> None:
    assert read(_set("DPMSolverMultistepScheduler", dict(STABLE_DIFFUSION, solver_order=1), 20)).note is None


def test_an_sde_solver_is_noted_as_ddpm() -> None:
    reading = read(_set("DPMSolverMultistepScheduler", dict(STABLE_DIFFUSION, algorithm_type="sde-dpmsolver++"), 20))
    assert reading.sampler == DDIM(1.0)
    assert "DDPM" in str(reading.note)


def test_classes_never_heard_of_are_read_by_what_they_do() -> None:
    class Renamed(diffusers.DDIMScheduler):
        pass

    host = Renamed(clip_sample=False)
    host.set_timesteps(20)
    assert read(host).sampler == DDIM(0.0)
    assert (
        read(_set("CogVideoXDDIMScheduler", dict(rescale_betas_zero_snr=True, prediction_type="v_prediction"), 20)).note
        is None
    )


def test_scm_is_a_consistency_step_over_angles() -> None:
    host = diffusers.SCMScheduler()
    host.set_timesteps(2)
    reading = read(host)
    assert reading.sampler == LCM(math.inf)
    assert reading.prediction.name == "v_prediction"
    assert [level.time for level in reading.schedule.levels] == pytest.approx([1.5708, 1.3, 0])


def test_strides_past_the_next_timestep_are_kept() -> None:
    reading = read(_set("DDIMScheduler", dict(STABLE_DIFFUSION, clip_sample=False, timestep_spacing="linspace"), 20))
    assert [level.time for level in reading.schedule.levels[:2]] == [999, 946]
    assert reading.schedule.arrivals[0].time == 949  # DDIM goes 1000 // 20 at a time


REFUSED = [
    ("DDIMScheduler", dict(clip_sample=True), "clips x̂_0", dict(clip_sample=False)),
    ("DDPMScheduler", dict(clip_sample=True), "clips x̂_0", dict(clip_sample=False)),
    ("DDIMScheduler", dict(clip_sample=True, clip_sample_range=30.0), "clips x̂_0", dict(clip_sample=False)),
    ("DDIMScheduler", dict(thresholding=True, clip_sample=False), "thresholds x̂_0", dict(thresholding=False)),
    ("DDIMScheduler", dict(thresholding=True), "thresholds x̂_0", dict(thresholding=False, clip_sample=False)),
    ("LCMScheduler", dict(thresholding=True), "thresholds x̂_0", dict(thresholding=False)),
    ("DPMSolverMultistepScheduler", dict(thresholding=True), "thresholds x̂_0", dict(thresholding=False)),
    ("DDPMScheduler", dict(clip_sample=False, variance_type="fixed_large"), "noise", dict(variance_type="fixed_small")),
    ("LTXEulerAncestralRFScheduler", dict(), "noise", dict(eta=0.0)),
]


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("name", "config", "cause", "cure"), REFUSED)
def test_what_cannot_be_inverted_is_refused_with_cause_and_cure(
    name: str, config: dict[str, Any], cause: str, cure: dict[str, Any], prediction: str
) -> None:
    config = dict(config) if "eta" in cure else dict(config, prediction_type=prediction)
    with pytest.raises(ValueError, match=f"{name} cannot be inverted: .*{cause}") as refusal:
        read(_set(name, config, 20))
    arguments = ", ".join(f"{field}={value!r}" for field, value in cure.items())
    assert str(refusal.value).endswith(f"set pipe.scheduler = {name}.from_config(pipe.scheduler.config, {arguments})")
    read(_set(name, {**config, **cure}, 20))


@pytest.mark.parametrize(
    ("name", "config", "reason"),
    [
        ("EDMEulerScheduler", dict(), "sigma_data"),
        ("KDPM2DiscreteScheduler", dict(), "between its noise levels.*EulerDiscreteScheduler.from_config"),
        ("DDIMInverseScheduler", dict(clip_sample=False), "noise must decrease"),
        ("CogVideoXDPMScheduler", dict(), "its step failed"),
        ("IPNDMScheduler", dict(), "keeps no noise levels"),
        (
            "DDIMScheduler",
            dict(clip_sample=False, rescale_betas_zero_snr=True, timestep_spacing="trailing"),
            "use v_prediction",
        ),
        ("DDIMScheduler", dict(clip_sample=False, prediction_type="noise"), "prediction_type 'noise' is not known"),
    ],
)
def test_refusals_say_why(name: str, config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"{name} cannot be inverted: .*{reason}"):
        read(_set(name, config, 20))


def test_steps_that_change_nothing_are_refused() -> None:
    config = dict(STABLE_DIFFUSION, clip_sample=False, set_alpha_to_one=False)
    with pytest.raises(ValueError, match="use more steps"):
        read(_set("DDIMScheduler", config, 1))


@pytest.mark.parametrize(
    ("name", "config"),
    [
        HOSTS[0],
        HOSTS[1],
        HOSTS[3],
        MULTISTEP[0],
        MULTISTEP[4],
        ("SCMScheduler", {}),
        ("DDIMScheduler", dict(clip_sample=True)),
    ],
)
def test_reading_changes_neither_the_host_nor_the_random_state(name: str, config: dict[str, Any]) -> None:
    host = _set(name, config, 2)
    before, state = copy.deepcopy(vars(host)), torch.get_rng_state()
    with pytest.raises(ValueError, match="clip") if config.get("clip_sample") else nullcontext():
        assert torch.equal(read(host).timesteps, host.timesteps)
    assert torch.equal(torch.get_rng_state(), state)
    assert vars(host).keys() == before.keys()
    for attribute, value in before.items():
        now = getattr(host, attribute)
        assert torch.equal(now, value) if isinstance(value, Tensor) else repr(now) == repr(value)
