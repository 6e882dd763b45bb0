"""Pictures → latents, checked against the pipelines' own way back."""

import diffusers
import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor

import renoise
from renoise import ReNoise
from renoise.pipelines.driver import drive
from renoise.pipelines.latents import default_size, encode, pictures_of
from tests.tiny import TINY, Tiny, split

VIDEO = ("qwen_image", "qwen_image_rgba", "wan", "ltx", "cogvideox")  # autoencoders of frames


def shown(tiny: Tiny, x_0: torch.Tensor) -> torch.Tensor:
    """What the pipeline's own decoding makes of x_0."""

    def nothing(_):
        yield x_0, 0  # LCM pipelines decode what their last step returned
        return x_0

    arguments = dict(tiny.call, **tiny.stock, prompt=tiny.prompts, num_inference_steps=2, output_type="pt")
    return pictures_of(drive(tiny.pipe, nothing, tuple(x_0.shape), arguments).output)


@pytest.mark.parametrize("name", TINY)
def test_scaling_shift_and_packing_are_undone_by_the_pipelines_own_decoding(name):
    tiny = TINY[name]()
    vae, pictures = tiny.pipe.vae, tiny.images()
    with torch.no_grad():
        x = pictures * 2 - 1
        x = torch.cat([x, torch.ones(2, 1, 32, 32)], dim=1) if name == "qwen_image_rgba" else x
        encoded = vae.encode(x.unsqueeze(2) if name in VIDEO else x)
        z = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latent
        expected = vae.decode(z).sample / 2 + 0.5
    expected = (expected[:, :, 0] if name in VIDEO else expected)[:, :3]
    torch.testing.assert_close(shown(tiny, encode(tiny.pipe, pictures)), expected.clamp(0, 1), rtol=1e-4, atol=1e-4)


def test_a_tiny_autoencoder_in_the_place_of_the_large_one():
    tiny = TINY["sd"]()
    channels = dict(encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8))
    blocks = dict(num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1))
    tiny.pipe.vae = diffusers.AutoencoderTiny(**channels, **blocks).eval()
    pictures = tiny.images()
    with torch.no_grad():
        expected = tiny.pipe.vae.decode(tiny.pipe.vae.encode(pictures * 2 - 1).latents).sample / 2 + 0.5
    torch.testing.assert_close(shown(tiny, encode(tiny.pipe, pictures)), expected.clamp(0, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("upcast", [False, True])
def test_a_half_precision_autoencoder_that_overflows_is_lent_float32(upcast):
    tiny = TINY["sdxl"]()
    expected = encode(tiny.pipe, tiny.images())
    tiny.pipe.vae.register_to_config(force_upcast=upcast)
    tiny.pipe.vae.to(torch.float16)
    seen = []
    hook = tiny.pipe.vae.encoder.register_forward_pre_hook(lambda module, args: seen.append(args[0].dtype))
    found = encode(tiny.pipe, tiny.images())
    hook.remove()
    assert seen == [torch.float32 if upcast else torch.float16]
    assert tiny.pipe.vae.dtype == torch.float16
    assert found.dtype == torch.float32
    assert ((found - expected).norm() / expected.norm()) < 5e-3


def test_the_posterior_is_not_sampled():
    tiny = TINY["sd"]()
    assert torch.equal(encode(tiny.pipe, tiny.images()), encode(tiny.pipe, tiny.images()))


def test_a_pipeline_without_an_autoencoder_is_refused_with_the_way_around():
    tiny = TINY["sd"]()
    tiny.pipe.vae = None
    with pytest.raises(ValueError, match="latents="):
        encode(tiny.pipe, tiny.images())


def test_the_default_size_is_the_pipelines_own():
    assert default_size(TINY["sd"]().pipe) == (32, 32)
    assert default_size(TINY["sd3"]().pipe) == (32, 32)


def test_the_default_size_is_that_of_the_calls_signature_where_it_has_one():
    assert default_size(TINY["wan"]().pipe) == (480, 832)
    assert default_size(TINY["sana"]().pipe) == (1024, 1024)


def test_the_default_size_of_a_video_is_that_of_its_network():
    assert default_size(TINY["cogvideox"]().pipe) == (32, 32)


def test_a_size_that_the_pipeline_does_not_have_names_the_one_that_it_has():
    tiny = TINY["kandinsky5"]()
    _, call = split(tiny)
    options = dict(method=ReNoise(iterations=0, tolerance=0), num_inference_steps=1, measure=False, **call)
    pictures = torch.rand(1, 3, 64, 64)
    with pytest.raises(ValueError, match="pass height=32 and width=32"):
        renoise.invert(tiny.pipe, pictures, "a cat", height=64, width=64, **options)


@pytest.mark.parametrize("name", ["pixart", "sana"])
def test_sizes_are_the_photographs_own_whatever_sizes_the_model_was_trained_at(name):
    tiny = TINY[name]()
    _, call = split(tiny)
    options = dict(method=ReNoise(iterations=0, tolerance=0), num_inference_steps=1, height=32, width=64, **call)
    pictures = torch.nn.functional.interpolate(tiny.images(1), (32, 64))
    found = renoise.invert(tiny.pipe, pictures, "a cat", **options)
    assert renoise.reconstruct(tiny.pipe, found, output_type="pt").shape == (1, 3, 32, 64)
    with pytest.raises(ValueError, match=r"the pipeline draws .* pass height="):
        renoise.invert(tiny.pipe, pictures, "a cat", **options, use_resolution_binning=True)


def test_latents_that_are_laid_out_in_a_way_not_known_here_are_refused_with_the_way_around():
    class Upright(diffusers.FluxPipeline):
        def prepare_latents(
            self, batch_size, num_channels_latents, height, width, dtype, device, generator, latents=None
        ):
            shape = (batch_size, height // 2, num_channels_latents, width // 2)
            return randn_tensor(shape, generator=generator, dtype=dtype), None

    tiny = TINY["flux"]()
    with pytest.raises(ValueError, match="latents="):
        encode(Upright(**tiny.pipe.components), tiny.images())


def test_a_packer_of_any_name_packs():
    class Renamed(diffusers.FluxPipeline):
        def prepare_latents(
            self, batch_size, num_channels_latents, height, width, dtype, device, generator, latents=None
        ):
            shape = (batch_size, num_channels_latents, height // 2, width // 2)
            return self._sequence(2.0 * randn_tensor(shape, generator=generator, dtype=dtype), times=1), None

        def _sequence(self, z, times):
            return diffusers.FluxPipeline._pack_latents(z, *z.shape) * times

        _pack_latents = None

    tiny = TINY["flux"]()
    expected = encode(tiny.pipe, tiny.images())
    torch.testing.assert_close(encode(Renamed(**tiny.pipe.components), tiny.images()), expected)


def test_an_autoencoder_that_cannot_encode_a_picture_is_refused_with_the_way_around():
    tiny = TINY["sd"]()
    tiny.pipe.vae.encoder.conv_in = torch.nn.Conv2d(5, 4, 3, padding=1)
    with pytest.raises(ValueError, match=r"AutoencoderKL cannot encode .* channels.*latents="):
        encode(tiny.pipe, tiny.images())
