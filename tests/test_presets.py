"""The presets are consistent, found by what people have at hand, and loadable by this version of diffusers."""

import math

import diffusers
import pytest

import renoise
from renoise import ReNoise, images
from renoise.methods.renoise import FEW_STEPS
from renoise.metrics import psnr
from renoise.pipelines.finding import PACKAGE, find, get
from renoise.pipelines.presets import PRESETS, Preset
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
    paper = PRESETS[name].paper
    assert paper is not None
    settings = ReNoise.paper(paper)
    assert PRESETS[name].steps == steps
    assert (settings.iterations, settings.tolerance, settings.boundary) == (iterations, 0, 250)
    assert (_averaged(settings.weights_low), _averaged(settings.weights_high)) == (low, high)
    assert (settings.lambda_pair, settings.lambda_kl) == (pair, kl)
    assert "table 3" in settings.source
    assert "table 3" in PRESETS[name].source


def test_correction_is_18_on_a_latent_of_512_pixels() -> None:
    assert math.isclose(ReNoise.paper("sdxl-turbo").noise_correction * math.sqrt(4 * 64 * 64), 18, rel_tol=0.01)


@ALL
def test_every_preset_says_where_its_values_come_from(preset: Preset) -> None:
    assert preset.source
    assert preset.settings is None or preset.settings.source
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
    name, changes = preset.scheduler
    base = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True)
    scheduler = getattr(diffusers, name).from_config(diffusers.PNDMScheduler(**base).config, **changes)
    scheduler.set_timesteps(preset.steps)
    assert len(scheduler.timesteps) == preset.steps
    assert {key: scheduler.config[key] for key in changes} == changes
    if preset.steps == 4:  # distilled models start from pure noise
        assert scheduler.timesteps[0] >= 999


def test_noise_correction_goes_with_a_stochastic_sampler_only() -> None:
    for preset in PRESETS.values():
        if preset.settings is not None:
            draws = preset.scheduler[0].startswith(("EulerAncestral", "TCD", "LCM"))
            asked = preset.scheduler[0] == "DDIMScheduler" and preset.steps > FEW_STEPS  # to draw noise, with eta = 1
            assert (draws or asked) == (preset.settings.noise_correction > 0)


def test_models_that_nobody_measured_get_the_rule_and_the_paper_keeps_its_values_by_name() -> None:
    assert {name for name, preset in PRESETS.items() if preset.settings} == {"orchard", "orchard-turbo", "orchard-lcm"}
    assert ReNoise.paper("sdxl-turbo").iterations == 9
    with pytest.raises(ValueError, match="only for sd15, sdxl, sdxl-turbo"):
        ReNoise.paper("flux-dev")


@pytest.mark.parametrize(
    ("scheduler", "options", "noise_correction"),
    [
        ("DDIMScheduler", {}, 0.0),
        ("DDIMScheduler", {"eta": 1.0}, math.inf),
        ("EulerAncestralDiscreteScheduler", {}, math.inf),
    ],
)
def test_a_presets_settings_hold_for_its_own_sampler_only(
    scheduler: str, options: dict, noise_correction: float
) -> None:
    pipe = renoise.load("orchard-turbo", device="cpu")
    assert renoise.default_method(pipe) is PRESETS["orchard-turbo"].settings
    pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config, timestep_spacing="trailing")
    chosen = renoise.default_method(pipe, 4, **options)
    assert chosen.noise_correction == noise_correction
    assert ("rule" in chosen.source) == (scheduler == "DDIMScheduler")


def test_another_scheduler_on_a_preset_still_reconstructs() -> None:
    pipe = renoise.load("orchard-turbo", device="cpu")
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    found = renoise.invert(pipe, PACKAGE / "orchard" / "example.png", num_inference_steps=4)
    assert found.psnr is not None
    assert found.autoencoder_psnr is not None
    assert found.record.sampler == "DDIM(eta=0.0)"
    again = renoise.reconstruct(pipe, found, output_type="pt")
    photograph = images.batch(PACKAGE / "orchard" / "example.png", 128, 128)
    assert psnr(again, photograph)[0].item() == pytest.approx(found.autoencoder_psnr[0], abs=0.01)
