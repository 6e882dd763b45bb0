"""What the training scripts build on: the optimiser's step, and larger networks made of smaller ones."""

import copy

import pytest
import torch
from diffusers import AutoencoderTiny, DDIMScheduler
from torch import nn

from renoise.pipelines.finding import PACKAGE
from training.autoencoder import CONFIG
from training.decoder import BLOCKS, grown
from training.denoiser import SCHEDULE, make_unet
from training.optimizer import Optimizer
from training.widen import load_widened

RATE = 1e-2


def test_a_step_is_muons_for_matrices_and_adams_for_the_rest():
    torch.manual_seed(0)
    mine = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(32, 5)).to(memory_format=torch.channels_last)
    theirs, optimizer = copy.deepcopy(mine), Optimizer([mine], RATE)
    convolution, linear = theirs[0].weight, theirs[2].weight
    flat = nn.Parameter(convolution.detach().permute(0, 2, 3, 1).reshape(8, -1).clone())
    half = dict(lr=RATE / 2, weight_decay=0.0)
    muon = torch.optim.Muon([flat, linear], adjust_lr_fn="match_rms_adamw", **half)
    adam = torch.optim.AdamW([theirs[0].bias, theirs[2].bias], betas=(0.9, 0.98), **half)
    for _ in range(3):
        x = torch.randn(4, 3, 4, 4).to(memory_format=torch.channels_last)
        for network in (mine, theirs):
            network(x).square().mean().backward()
        flat.grad = convolution.grad.permute(0, 2, 3, 1).reshape(8, -1)
        optimizer.step(0.5)
        muon.step()
        adam.step()
        theirs.zero_grad()
        convolution.data.copy_(flat.detach().view(8, 3, 3, 3).movedim(-1, 1))
        assert all(p.grad is None for p in mine.parameters())
    for got, wanted in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=3e-5)  # Muon works in bfloat16


@pytest.mark.parametrize("blocks", [(32, 96, 128, 192), (64, 96, 128, 128), (64, 96, 128, 192)])
def test_a_widened_network_does_nearly_what_the_narrow_one_did(blocks):
    torch.manual_seed(0)
    narrow, wide = make_unet(8, blocks=blocks), make_unet(8)
    before = copy.deepcopy(wide)
    load_widened(wide, narrow.state_dict())
    x, text, t = torch.randn(4, 8, 32, 32), torch.randn(4, 32, 160), torch.tensor([50, 400, 700, 950])
    with torch.no_grad():
        wanted, got, random = (network(x, t, text)[0] for network in (narrow, wide, before))
    error = (got - wanted).square().mean() / wanted.square().mean()
    assert error < (0.04 if blocks != (64, 96, 128, 192) else 1e-12)
    assert (random - wanted).square().mean() / wanted.square().mean() > 1


def test_both_ends_are_not_widened_at_once():
    with pytest.raises(ValueError, match="one at a time"):
        load_widened(make_unet(8), make_unet(8, blocks=(32, 96, 128, 128)).state_dict())


def test_a_grown_decoder_begins_as_the_smaller_one():
    torch.manual_seed(0)
    small = AutoencoderTiny(**CONFIG | {"num_decoder_blocks": (4, 2, 1)})
    small.register_to_config(scaling_factor=1.4)
    large, z = grown(small), torch.randn(2, 8, 32, 32)
    assert (tuple(large.config.num_decoder_blocks), large.config.scaling_factor) == (BLOCKS, 1.4)
    with torch.no_grad():
        torch.testing.assert_close(large.decoder(z), small.decoder(z))
        torch.testing.assert_close(large.encoder(z[:, :3]), small.encoder(z[:, :3]))
    assert grown(large) is large


def test_a_grown_decoder_keeps_all_that_was_trained():
    small = AutoencoderTiny(**CONFIG)
    kept = list(grown(small).decoder.parameters())
    for p in small.decoder.parameters():
        assert any(torch.equal(p, q) for q in kept)


@pytest.mark.parametrize("name", ["orchard", "orchard-turbo"])
def test_the_models_are_shipped_with_the_schedule_that_they_are_trained_on(name):
    shipped = DDIMScheduler.from_pretrained(PACKAGE / name / "scheduler")
    torch.testing.assert_close(shipped.alphas_cumprod, DDIMScheduler(**SCHEDULE).alphas_cumprod, rtol=0, atol=0)
