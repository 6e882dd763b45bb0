"""The power spectrum of noise, and noise made fit for an edit."""

import itertools

import pytest
import torch

from renoise import layout, spectrum
from renoise.programs import PURPOSES, draw_noise
from renoise.schedule import Level


def white(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_every_purpose_and_every_seed_has_noise_of_its_own():
    like = torch.zeros(2, 4, 32, 32)
    drawn = [draw_noise(seed, purpose, 2, like) for purpose in PURPOSES for seed in (0, 1, 2**32)]
    for a, b in itertools.combinations(drawn, 2):
        assert torch.corrcoef(torch.stack([a[:, 0].flatten(), b[:, 0].flatten()]))[0, 1].abs() < 0.05
    assert torch.equal(draw_noise(3, "edit", 2, like), draw_noise(3, "edit", 2, like))
    assert torch.equal(drawn[0][:, 0], drawn[0][:, 1])  # the same for every image


def changed(x: torch.Tensor, e: float, mask: torch.Tensor | None = None, seed: int = 1) -> torch.Tensor:
    return spectrum.editable(x, white(*x.shape, seed=seed), torch.full((len(x),), e), mask, 1.0)


def test_white_noise_has_power_1_at_every_frequency_and_a_constant_only_at_0():
    mean = spectrum.power(white(64, 4, 32, 24)).mean((0, 1))
    assert (mean - 1).abs().max() < 0.2
    power = spectrum.power(torch.full((1, 1, 16, 16), 3.0))[0, 0]
    assert power[0] == pytest.approx(9 * 256)
    assert power[1:].abs().max() < 1e-3


def test_noised_photographs_have_the_power_of_noised_photographs_and_a_shifted_noise_has_more():
    x_0 = white(32, 4, 32, 32).cumsum(-1) / 5  # like a picture: mostly low frequencies
    level = Level.preserving(0.1, 800)
    x_t = level.alpha * x_0 + level.sigma * white(32, 4, 32, 32, seed=2)
    ratio = spectrum.relative(x_t, x_0, level, 1.0)
    assert ratio.shape == (len(spectrum.BANDS), 32)
    assert (ratio.mean(1) - 1).abs().max() < 0.3
    shifted = spectrum.relative(white(32, 4, 32, 32) + 1, x_0, Level(0.0, 1.0, 0.0), 1.0)
    assert (shifted[0] > 500).all()
    assert (shifted[1:].mean(1) - 1).abs().max() < 0.15


def test_the_noise_stays_at_0_is_new_at_1_and_changes_more_and_more_between():
    x = white(2, 4, 32, 32) + 2
    assert torch.allclose(changed(x, 0.0), x, atol=1e-5)
    assert torch.allclose(changed(x, 1.0), white(2, 4, 32, 32, seed=1), atol=1e-5)
    moved = [(changed(x, e) - x).norm().item() for e in torch.linspace(0, 1, 21).tolist()]
    assert moved == sorted(moved)
    assert max(b - a for a, b in itertools.pairwise(moved)) < 0.5 * moved[-1]


def test_an_edit_takes_out_the_mean_and_the_coarsest_shapes_first():
    fine, wave = white(1, 4, 32, 32), torch.cos(torch.arange(32) * torch.pi / 16).expand(1, 4, 32, 32)
    coarse = fine + 2 + 3 * wave
    kept = changed(coarse, 0.5)
    assert spectrum.power(coarse)[..., :2].mean() > 2000
    assert spectrum.power(kept)[..., :2].mean() < 10
    assert spectrum.power(kept - fine)[..., 6:].mean() < 0.1  # and the fine noise is the photograph's
    assert not torch.equal(kept, changed(coarse, 0.5, seed=5))  # another seed is another picture


def test_outside_the_mask_the_noise_stays_and_each_image_has_its_own_editability():
    x, mask = white(2, 4, 32, 32) + 2, torch.zeros(2, 1, 32, 32)
    mask[..., 8:24, 8:24] = 1
    out = changed(x, 0.7, mask)
    assert torch.equal(out[..., :8, :], x[..., :8, :])
    assert out[..., 8:24, 8:24].mean().abs() < 0.5
    mixed = spectrum.editable(x, white(2, 4, 32, 32, seed=1), torch.tensor([0.0, 0.7]), mask, 1.0)
    assert torch.allclose(mixed[0], x[0], atol=1e-5)
    assert torch.allclose(mixed[1], out[1], atol=1e-5)


def test_sequences_of_tokens_and_single_frames_are_changed_as_the_maps_that_they_are():
    x, w, e = white(2, 4, 12, 20), white(2, 4, 12, 20, seed=1), torch.tensor([0.3, 0.6])
    mask = (white(2, 1, 12, 20, seed=3) > 0).float()
    expected = spectrum.editable(x, w, e, mask, 0.6)
    frames = spectrum.editable(x[:, :, None], w[:, :, None], e, mask, 0.6)
    assert torch.equal(frames[:, :, 0], expected)
    tokens = [part.flatten(2).transpose(1, 2) for part in (x, w)]
    assert torch.allclose(layout.maps(spectrum.editable(*tokens, e, mask, 0.6), 0.6), expected, atol=1e-5)
