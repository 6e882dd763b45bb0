"""The presets are consistent, found by what people have at hand, and loadable by this version of diffusers."""

import dataclasses
import math

import diffusers
import pytest

from renoise.pipelines.finding import PACKAGE, find, get
from renoise.pipelines.presets import PRESETS, Preset
from renoise.settings import ADAPTIVE
from tests.tiny import TINY

ALL = pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS.keys())


def _averaged(weights: tuple[float, ...] | None) -> list[int]:
    """The numbers k (from 1) of the estimates that an average takes in."""
    return [k for k, weight in enumerate(weights or (), start=1) if weight > 0]


# The paper's table 3: steps, K, averaged estimates for t < 250 and above, λ_pair, λ_patchKL
@pytest.mark.parametrize(
    ("name", "steps", "iterations", "low", "high", "pair", "kl"),
    [
        ("sd15", 50, 1, [1, 2], [2], 10, 0.05),
        ("sdxl", 50, 1, [1, 2], [2], 10, 0.055),
        ("sdxl-turbo", 4, 9, [1, 2, 3, 4], [8, 9, 10], 10, 0.055),
        ("lcm-sd15", 4, 7, [1, 2, 3, 4], [6, 7, 8], 20, 0.075),
        ("lcm-sdxl", 4, 7, [1, 2, 3, 4], [6, 7, 8], 20, 0.075),
    ],
)
def test_table_3(
    name: str, steps: int, iterations: int, low: list[int], high: list[int], pair: float, kl: float
) -> None:
    settings = PRESETS[name].settings
    assert PRESETS[name].steps == steps
    assert (settings.iterations, settings.tolerance, settings.boundary) == (iterations, 0, 250)
    assert (_averaged(settings.weights_low), _averaged(settings.weights_high)) == (low, high)
    assert (settings.lambda_pair, settings.lambda_kl) == (pair, kl)
    assert "table 3" in settings.source
    assert "table 3" in PRESETS[name].source


def test_correction_is_18_on_a_latent_of_512_pixels() -> None:
    assert math.isclose(PRESETS["sdxl-turbo"].settings.correction * math.sqrt(4 * 64 * 64), 18, rel_tol=0.01)


@ALL
def test_every_preset_says_where_its_values_come_from(preset: Preset) -> None:
    assert preset.source
    assert preset.settings.source
    assert preset.license
    assert preset.about
    assert preset.size % 8 == 0
    assert preset.steps > 0


@ALL
def test_a_preset_is_found_by_its_name(preset: Preset) -> None:
    assert find(preset.name) is preset
    assert get(preset.name) is preset


@ALL
def test_a_preset_is_found_by_its_loaded_pipeline(preset: Preset) -> None:
    tiny = TINY["sd"]()
    tiny.pipe.register_to_config(_name_or_path=preset.repository)
    if preset.lora:
        import peft

        tiny.pipe.unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q"]), adapter_name=preset.name)
    assert find(tiny.pipe) is preset


def test_a_shared_repository_is_the_model_without_an_adapter() -> None:
    assert find("stable-diffusion-v1-5/stable-diffusion-v1-5") is PRESETS["sd15"]
    assert find("stabilityai/stable-diffusion-xl-base-1.0") is PRESETS["sdxl"]


def test_a_model_with_the_users_own_adapter_has_no_preset() -> None:
    tiny = TINY["lcm_lora"]()  # four steps do for it, fifty for the model of its name
    tiny.pipe.register_to_config(_name_or_path=PRESETS["sd15"].repository)
    assert find(tiny.pipe) is None


def test_the_embedded_model_is_found_by_its_folder() -> None:
    assert find(PACKAGE / "orchard") is PRESETS["orchard"]
    assert find(f"{PACKAGE}/cli/../orchard") is PRESETS["orchard"]
    pipe = TINY["sd"]().pipe
    pipe.register_to_config(_name_or_path=str(PACKAGE / "orchard"))
    assert find(pipe) is PRESETS["orchard"]


@pytest.mark.parametrize("model", ["", "sd", "owner/name", "./orchard2", object()])
def test_what_is_not_known_is_not_found(model: object) -> None:
    assert find(model) is None


def test_a_pipeline_without_a_name_is_not_found() -> None:
    assert find(TINY["flux"]().pipe) is None


@pytest.mark.parametrize(
    ("name", "hint"),
    [("orchrad", "did you mean orchard"), ("SDXL_turbo", "did you mean sdxl-turbo"), ("zzz", "there are")],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        get(name)


@ALL
def test_the_scheduler_can_be_made(preset: Preset) -> None:
    if preset.scheduler is None:
        return
    name, changes = preset.scheduler
    base = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True)
    scheduler = getattr(diffusers, name).from_config(diffusers.PNDMScheduler(**base).config, **changes)
    scheduler.set_timesteps(preset.steps)
    assert len(scheduler.timesteps) == preset.steps
    assert {key: scheduler.config[key] for key in changes} == changes
    if preset.steps == 4:  # distilled models start from pure noise
        assert scheduler.timesteps[0] == 999


def test_correction_goes_with_a_stochastic_sampler_only() -> None:
    for preset in PRESETS.values():
        stochastic = preset.scheduler is not None and preset.scheduler[0].startswith(("EulerAncestral", "TCD", "LCM"))
        assert stochastic == (preset.settings.correction > 0)


def test_unpublished_settings_are_those_of_the_rule_for_pipelines() -> None:
    deterministic = [p for p in PRESETS.values() if p.settings.source.startswith("no published settings: the rule")]
    deterministic = [p for p in deterministic if not p.settings.correction]
    assert {"flux-dev", "flux-schnell", "sd35-medium"} <= {p.name for p in deterministic}
    for preset in deterministic:
        iterations = 30 if preset.steps <= 8 else 10
        assert preset.settings == dataclasses.replace(ADAPTIVE, iterations=iterations, source=preset.settings.source)
