"""What cannot work is refused by name, whichever function is asked, and what is cut off is said."""

import dataclasses

import diffusers
import pytest
import torch

import renoise
from renoise import ReNoise
from tests.tiny import TINY, split


def test_another_number_of_steps_works_from_the_same_noise_level_and_is_refused_from_another():
    tiny = TINY["sd"](contractive=True)
    size, call = split(tiny)
    options = dict(method=ReNoise(iterations=2, tolerance=0), measure=False, **size, **call)
    leading = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, num_inference_steps=10, **options)
    with pytest.raises(ValueError, match="trailing"):
        renoise.reconstruct(tiny.pipe, leading, num_inference_steps=4)
    tiny.pipe.scheduler = diffusers.DDIMScheduler.from_config(tiny.pipe.scheduler.config, timestep_spacing="trailing")
    trailing = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, num_inference_steps=10, **options)
    few = renoise.reconstruct(tiny.pipe, trailing, num_inference_steps=4, output_type="latent")
    assert few.isfinite().all()


@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_noises_of_a_stochastic_sampler_belong_to_its_steps(count):
    tiny = TINY["sdxl_turbo"](contractive=True)
    options = dict(num_inference_steps=4, measure=False, **tiny.call)
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **options)
    with pytest.raises(ValueError, match=f"holds the noises of its 4 steps, and the pipeline takes {count}"):
        renoise.reconstruct(tiny.pipe, found, num_inference_steps=count)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(strength=0.0), "strength"),
        (dict(strength=1.5), "strength"),
        (dict(num_inference_steps=0), "num_inference_steps"),
        (dict(height=33), "height"),
        (dict(prompt=["one", "two", "three"]), "prompt"),
        (dict(colour="blue"), "colour"),
        (dict(generator=torch.Generator()), "generator"),
        (dict(method=ReNoise(noise_correction=1.0)), "correction"),
    ],
)
def test_what_cannot_work_is_refused_by_name(arguments, message):
    tiny = TINY["sd"]()
    size, call = split(tiny)
    with pytest.raises(ValueError, match=message):
        renoise.invert(
            tiny.pipe, tiny.images(), **{"prompt": tiny.prompts, "num_inference_steps": 2, **size, **call, **arguments}
        )


def test_tensors_of_another_range_or_size_are_refused():
    tiny = TINY["sd"]()
    size, call = split(tiny)
    with pytest.raises(ValueError, match="lie in"):
        renoise.invert(tiny.pipe, tiny.images() * 2 - 1, tiny.prompts, **size, **call)
    with pytest.raises(ValueError, match="must be"):
        renoise.invert(tiny.pipe, tiny.images()[..., :16], tiny.prompts, **size, **call)


def test_a_prompt_longer_than_the_encoder_reads_is_said():
    tiny = TINY["sd"]()
    size, call = split(tiny)
    options = dict(method=ReNoise(iterations=0, tolerance=0), num_inference_steps=2, measure=False, **size, **call)
    with pytest.warns(UserWarning, match="reads the first 77"):
        renoise.invert(tiny.pipe, tiny.images()[:1], "x" * 100, **options)


def test_a_prompt_longer_than_the_call_reads_is_said():
    tiny = TINY["flux"]()  # whose T5 would read more than max_sequence_length
    size, call = split(tiny)
    options = dict(method=ReNoise(iterations=0, tolerance=0), num_inference_steps=2, measure=False, **size, **call)
    with pytest.warns(UserWarning, match="tokens, the text encoder reads the first 77"):
        renoise.invert(tiny.pipe, tiny.images()[:1], "x" * 100, **options)


def test_a_network_that_fails_while_drawing_is_an_error_and_no_black_picture():
    tiny = TINY["sd"]()
    size, call = split(tiny)
    options = dict(method=ReNoise(iterations=0, tolerance=0), num_inference_steps=2, measure=False, **size, **call)
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **options)
    with torch.no_grad():
        tiny.pipe.unet.conv_out.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        renoise.edit(tiny.pipe, found, "another")


def test_a_missing_lora_is_an_error():
    with_lora, without = TINY["lcm_lora"](), TINY["sd"]()
    without.pipe.scheduler = with_lora.pipe.scheduler
    size, call = split(with_lora)
    options = dict(method=ReNoise(iterations=0, tolerance=0), num_inference_steps=2, measure=False, **size, **call)
    found = renoise.invert(with_lora.pipe, with_lora.images(), with_lora.prompts, **options)
    with pytest.raises(ValueError, match=r"made with the LoRA default at [\d.]+ in unet, this pipeline has none"):
        renoise.reconstruct(without.pipe, found)


def test_an_inversion_of_another_pipeline_is_refused():
    tiny = TINY["sd"]()
    size, call = split(tiny)
    found = renoise.invert(
        tiny.pipe,
        tiny.images(),
        tiny.prompts,
        method=ReNoise(iterations=0, tolerance=0),
        num_inference_steps=2,
        **size,
        **call,
    )
    with pytest.raises(ValueError, match="made with"):
        renoise.reconstruct(TINY["sdxl"]().pipe, found)
    velocity = TINY["sd"]().pipe
    velocity.scheduler = diffusers.DDIMScheduler.from_config(velocity.scheduler.config, prediction_type="v_prediction")
    with pytest.raises(ValueError, match="v_prediction"):
        renoise.reconstruct(velocity, found)
    euler = TINY["sd"]().pipe
    euler.scheduler = diffusers.EulerAncestralDiscreteScheduler.from_config(euler.scheduler.config)
    with pytest.raises(ValueError, match="samples with"):
        renoise.reconstruct(euler, found)
    tiny.pipe.scheduler = diffusers.DDIMScheduler.from_config(tiny.pipe.scheduler.config, beta_end=0.02)
    with pytest.raises(ValueError, match="noise levels"):
        renoise.reconstruct(tiny.pipe, found)


def test_weights_tell_models_apart_whatever_they_are_called(tmp_path):
    options = dict(num_inference_steps=2, method=ReNoise(iterations=0, tolerance=0), measure=False)
    tiny = TINY["sd"]()
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **options, **split(tiny)[0])
    loaded = renoise.Inversion.load(found.save(tmp_path / "x.safetensors"))
    tiny.pipe.config["_name_or_path"] = "someone/mirror"
    renoise.reconstruct(tiny.pipe, loaded)
    half = TINY["sd"]().pipe
    half.unet.to(torch.bfloat16).float()  # rounded as another dtype would
    renoise.reconstruct(half, loaded)
    other = TINY["sd"]().pipe
    with torch.no_grad():
        for parameter in other.unet.parameters():
            parameter.mul_(1.05)
    with pytest.raises(ValueError, match="with other weights"):
        renoise.reconstruct(other, loaded)


def test_a_network_with_a_cache_is_refused():
    tiny = TINY["flux"]()
    tiny.pipe.transformer.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.1))
    size, call = split(tiny)
    with pytest.raises(ValueError, match="disable_cache"):
        renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **size, **call)


def test_guidance_with_a_momentum_is_refused_and_without_one_left_as_it_was():
    tiny = TINY["sd"]()
    guider = diffusers.guiders.AdaptiveProjectedMixGuidance()
    vars(tiny.pipe)["guider"] = guider
    options = dict(num_inference_steps=2, method=ReNoise(iterations=0, tolerance=0), measure=False, **split(tiny)[0])
    with pytest.raises(ValueError, match="adaptive_projected_guidance_momentum = None"):
        renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **options)
    guider.adaptive_projected_guidance_momentum = None
    assert renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **options).latents.isfinite().all()


def test_an_inversion_that_lost_its_noises_is_refused():
    tiny = TINY["sdxl_turbo"]()
    size, call = split(tiny)
    more = dict(num_inference_steps=3, method=ReNoise(iterations=0, tolerance=0), measure=False, **size, **call)
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **more)
    assert found.noises is not None
    for noises in (None, found.noises[:1]):
        with pytest.raises(ValueError, match="damaged"):
            renoise.reconstruct(tiny.pipe, dataclasses.replace(found, noises=noises))
