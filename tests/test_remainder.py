"""What the noise does not draw: it is stored, given back, and left out where an edit changes the picture."""

import pytest
import torch

import renoise
from renoise import ReNoise, images
from renoise.methods.renoise import FOR_DETERMINISTIC, FOR_STOCHASTIC
from renoise.metrics import psnr
from renoise.pipelines.latents import encode
from tests.tiny import TINY, relative

KINDS = pytest.mark.parametrize("name", ["sd", "sdxl_turbo", "sd3", "flux", "lcm_lora", "wan"])


@KINDS
def test_the_photograph_comes_back_exactly_whatever_the_noise_draws(name, tmp_path):
    tiny = TINY[name]()
    x_0 = encode(tiny.pipe, tiny.images())
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **{**tiny.call, "num_inference_steps": 4})
    given = {n: tiny.call[n] for n in found.record.required_arguments}
    alone = renoise.reconstruct(tiny.pipe, found, remainder=False, output_type="latent")
    lost = (alone - x_0).flatten(1).norm(dim=1) / x_0.flatten(1).norm(dim=1)
    assert lost.min() > 0.005  # random weights do not draw all of it
    assert found.record.metrics.remainder == pytest.approx(lost.tolist(), rel=1e-3)
    for one in (found, renoise.Inversion.load(found.save(tmp_path / "x.safetensors"))):
        assert relative(renoise.reconstruct(tiny.pipe, one, output_type="latent", **given), x_0) < 1e-5
    pictures = renoise.reconstruct(tiny.pipe, found, output_type="pt").float()
    size = found.record.height, found.record.width
    assert psnr(pictures, images.batch(tiny.images(), *size)).tolist() == pytest.approx(
        found.autoencoder_psnr, abs=0.01
    )


@KINDS
@pytest.mark.parametrize("mask", ["none", "auto"])
def test_an_unchanged_prompt_gives_back_the_photograph(name, mask):
    tiny = TINY[name]()
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **{**tiny.call, "num_inference_steps": 4})
    scale = {"guidance_scale": found.record.guidance_scale}
    prompts = [tiny.prompts[0], "an elephant"]
    edited = renoise.edit(tiny.pipe, found, prompts, mask=mask, output_type="latent", **scale)
    x_0 = encode(tiny.pipe, tiny.images())
    assert relative(edited[:1], x_0[:1]) < 1e-4
    assert relative(edited[1:], x_0[1:]) > 1e-2


def test_other_steps_are_drawn_without_the_remainder_of_the_inversions_own():
    tiny = TINY["flux"]()
    call = {**tiny.call, "num_inference_steps": 4}
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **call)
    six = {"num_inference_steps": 6, "output_type": "latent"}
    pictures = [renoise.reconstruct(tiny.pipe, found, remainder=r, **six) for r in (True, False)]
    assert torch.equal(*pictures)


def test_a_file_without_its_remainder_says_so_where_steps_were_only_noised(tmp_path, recwarn):
    tiny = TINY["sdxl_turbo"]()
    call = {**tiny.call, "num_inference_steps": 4, "measure": False}
    for noised_below, warned in ((1.0, True), (0.0, False)):
        recwarn.clear()
        method = ReNoise(noised_below=noised_below)
        found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, method=method, **call)
        loaded = renoise.Inversion.load(found.save(tmp_path / "x.safetensors"))
        assert loaded.remainder is None
        assert any("measure=True" in str(one.message) for one in recwarn) == warned


def test_steps_with_more_signal_than_noise_are_noised_and_cost_nothing():
    tiny = TINY["sd"](contractive=True)
    call = {**tiny.call, "num_inference_steps": 10, "measure": False}
    for method in (FOR_DETERMINISTIC, FOR_STOCHASTIC):
        found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, method=method, **call)
        levels, metrics = found.record.levels[:-1], found.record.metrics
        for (alpha, sigma, _), calls in zip(levels, metrics.step_evaluations, strict=True):
            assert (calls == 0) == (sigma < alpha)
        assert found.trajectory is not None
        x_0 = found.trajectory[-1]
        n = next(i for i, (alpha, sigma, _) in enumerate(levels) if sigma < alpha)
        alpha, sigma, _ = levels[n]
        noise = (found.trajectory[n - 1] - alpha * x_0) / sigma
        assert noise.std() == pytest.approx(1, abs=0.1)


def test_many_steps_of_ddim_draw_noise_unless_the_user_chooses():
    tiny = TINY["sd"]()
    call = {**tiny.call, "measure": False}
    call.pop("num_inference_steps", None)

    def sampler(count: int, **more) -> str:
        made = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, num_inference_steps=count, **call, **more)
        return made.record.sampler

    assert sampler(10) == "DDIM(eta=1.0)"
    assert sampler(4) == "DDIM(eta=0.0)"
    assert sampler(10, eta=0.0) == "DDIM(eta=0.0)"
    assert sampler(10, method=ReNoise.paper("sd15")) == "DDIM(eta=0.0)"
    assert sampler(4, method=FOR_STOCHASTIC) == "DDIM(eta=1.0)"
    assert renoise.default_method(tiny.pipe, 10).closes_noises
    assert not renoise.default_method(tiny.pipe, 10, eta=0.0).closes_noises
