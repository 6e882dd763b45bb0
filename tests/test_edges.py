"""What a second pair of eyes found: arguments that override, masks of a batch, seeds, samplers with noise that is rounding."""

import diffusers
import pytest
import torch

import renoise
from renoise import ReNoise
from renoise.pipelines.latents import encode
from tests.tiny import TINY, relative

LOOSE = ReNoise(iterations=1, tolerance=0.0)


def inverted(name="sd", **options):
    tiny = TINY[name](contractive=True)
    call = {**tiny.call, "num_inference_steps": 3, "measure": False, "method": LOOSE, **options}
    return tiny, renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **call)


@pytest.mark.parametrize("count", [5, 6, 10])
def test_tcd_without_noise_is_deterministic(count):
    tiny = TINY["sd"](contractive=True)
    tiny.pipe.scheduler = diffusers.TCDScheduler.from_config(tiny.pipe.scheduler.config)
    exact = ReNoise(iterations=100, tolerance=1e-7)
    call = {**tiny.call, "num_inference_steps": count, "measure": False, "method": exact}
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **call)
    assert found.noises is None
    # (long steps hardly contract on a random network)
    assert (
        relative(renoise.reconstruct(tiny.pipe, found, output_type="latent"), encode(tiny.pipe, tiny.images())) < 0.05
    )


@pytest.mark.parametrize(
    "wrong", [dict(prompt="a dog"), dict(guidance_scale=7.0), dict(height=64), dict(negative_prompt="x")]
)
def test_a_reconstruction_takes_nothing_that_would_draw_something_else(wrong):
    tiny, found = inverted()
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is set by renoise"):
        renoise.reconstruct(tiny.pipe, found, **wrong)


def test_each_image_of_a_batch_has_its_own_mask_however_they_are_stacked():
    tiny, found = inverted()
    size = (found.record.height, found.record.width)
    left, right = torch.zeros(size), torch.zeros(size)
    left[:, : size[1] // 2], right[:, size[1] // 2 :] = 1, 1
    latent = dict(output_type="latent")
    wanted = renoise.edit(tiny.pipe, found, "a dog", mask=torch.stack([left, right])[:, None], **latent)
    for masks in ([left, right], [left[None], right[None]], [left.numpy(), right.numpy()]):
        assert torch.equal(renoise.edit(tiny.pipe, found, "a dog", mask=masks, **latent), wanted)
    with pytest.raises(ValueError, match=r"\(H, W\)"):  # of one image with two channels, or of two images?
        renoise.edit(tiny.pipe, found, "a dog", mask=torch.stack([left, right]), **latent)


@pytest.mark.parametrize(
    "wrong",
    [dict(guidance_scale=float("nan")), dict(pseudo_guidance=float("inf")), dict(source_correction=float("nan"))],
)
def test_numbers_that_are_not_finite_are_refused_by_name(wrong):
    tiny, found = inverted()
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be a finite number"):
        renoise.edit(tiny.pipe, found, "a dog", **wrong)


@pytest.mark.parametrize("seed", [-1, 2**40, 2**64 - 1])
def test_a_seed_that_would_collide_or_overflow_is_refused(seed):
    with pytest.raises(ValueError, match="seed must lie in"):
        inverted("sdxl_turbo", seed=seed)


def test_the_presets_own_eta_is_kept_for_methods_that_need_noise(monkeypatch):
    tiny = TINY["sd"]()
    preset = renoise.PRESETS["sd15"]
    monkeypatch.setitem(vars(preset), "call", {"eta": 0.3})
    tiny.pipe.register_to_config(_name_or_path=preset.repository)
    call = {**tiny.call, "num_inference_steps": 3, "measure": False, "method": "edit-friendly"}
    assert renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **call).record.sampler == "DDIM(eta=0.3)"


def test_one_image_of_a_batch_keeps_its_own_adapter_pictures():
    _, found = inverted()
    embeds = [torch.arange(2.0).reshape(2, 1, 1), torch.arange(2.0).reshape(2, 1, 1) + 5]
    one = found.with_arguments(ip_adapter_image_embeds=embeds)[1]
    assert [part.tolist() for part in one.arguments["ip_adapter_image_embeds"]] == [[[[1.0]]], [[[6.0]]]]


def test_negative_embeddings_of_an_edit_are_not_the_sources():
    tiny, found = inverted()
    negative = tiny.pipe.encode_prompt(["a cat"] * 2, "cpu", 1, False)[0]
    edited = renoise.edit(
        tiny.pipe,
        found,
        "a dog",
        negative_prompt_embeds=negative,
        guidance_scale=3.0,
        mask="auto",
        output_type="latent",
    )
    assert edited.isfinite().all()


def test_an_inversion_is_shown_in_a_line_and_compared_by_identity():
    _, found = inverted()
    assert len(repr(found)) < 120
    assert found == found
    assert found != found[0]
    assert hash(found) == hash(found)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (dict(prompt=None), "pass the prompt"),
        (dict(prompt=3), "a text must be a string, got int"),
        (dict(pseudo_guidance=2.0, guidance_scale=3.0), "leave guidance_scale out"),
    ],
)
def test_an_edit_that_cannot_be_meant_is_refused(arguments, says):
    tiny, found = inverted()
    with pytest.raises(ValueError, match=says):
        renoise.edit(tiny.pipe, found, **{"prompt": "a dog", **arguments})


def test_more_steps_than_timesteps_are_refused():
    with pytest.raises(ValueError, match="at most 1000, got 1001"):
        inverted(num_inference_steps=1001)
