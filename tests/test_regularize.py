"""The edit losses: their closed gradients against autograd, and what they do to noise."""

import random

import pytest
import torch

from renoise import layout, regularize


def pair_loss(n: torch.Tensor, rolls: random.Random) -> torch.Tensor:
    """L_pair as its definition reads, in the order in which pair_gradient draws its shifts."""
    loss = n.new_zeros(())
    for dim in (-2, -1):
        shift = rolls.randint(1, n.shape[dim] // 2)
        loss = loss + (n * n.roll(shift, dim)).mean((-2, -1)).square().sum()
    if min(n.shape[-2:]) > regularize.COARSEST:
        loss = loss + pair_loss(torch.nn.functional.avg_pool2d(n, 2), rolls)
    return loss


def kl_loss(n: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """L_patchKL from torch's own distributions."""

    def gaussian(x: torch.Tensor) -> torch.distributions.Normal:
        patches = x.unfold(-2, 4, 4).unfold(-2, 4, 4).flatten(-2)
        return torch.distributions.Normal(patches.mean(-1), patches.var(-1, unbiased=False).sqrt())

    return torch.distributions.kl_divergence(gaussian(n), gaussian(reference)).sum()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(2, 4, 16, 16), (1, 3, 34, 20), (1, 1, 8, 8)])
def test_pair_gradient_is_that_of_the_loss(shape):
    n = normal(*shape).requires_grad_()
    (expected,) = torch.autograd.grad(pair_loss(n, random.Random(3)), n)
    torch.testing.assert_close(regularize.pair_gradient(n.detach(), random.Random(3)), expected)


def test_patch_kl_gradient_is_that_of_the_loss():
    n, reference = normal(2, 4, 16, 12).requires_grad_(), normal(2, 4, 16, 12, seed=1)
    (expected,) = torch.autograd.grad(kl_loss(n, reference), n)
    torch.testing.assert_close(regularize.patch_kl_gradient(n.detach(), reference), expected)


def test_whitening_brings_the_statistics_of_the_reference():
    n, reference = normal(1, 4, 16, 16) * 2 + 1, normal(1, 4, 16, 16, seed=1)
    moved = regularize.EditLoss(0, 0.5, reference, "0")(n, 1)
    assert kl_loss(moved, reference) < 0.7 * kl_loss(n, reference)


def test_whitening_removes_correlation():
    n = normal(1, 4, 16, 16)
    smooth = n + n.roll(1, -1) + n.roll(1, -2)
    moved = regularize.EditLoss(20, 0, None, "0")(smooth, 1)

    def correlation(x: torch.Tensor) -> torch.Tensor:
        return (x * x.roll(1, -1)).mean().abs() / x.square().mean()

    assert correlation(moved) < correlation(smooth)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("flat", ["prediction", "reference", "both"])
def test_flat_maps_give_numbers_in_every_dtype(dtype, flat):
    n, reference = normal(1, 4, 16, 16).to(dtype), normal(1, 4, 16, 16, seed=1).to(dtype)
    if flat in ("prediction", "both"):
        n[..., :8] = 3.0
    if flat in ("reference", "both"):
        reference[..., 4:] = -2.0
    moved = regularize.EditLoss(20, 0.075, reference, "0")(n, 1)
    assert moved.dtype == dtype
    assert moved.isfinite().all()
    assert moved.abs().max() < 100


def test_each_image_is_moved_by_itself():
    n, reference = normal(3, 4, 16, 16), normal(3, 4, 16, 16, seed=1)
    together = regularize.EditLoss(10, 0.05, reference, "0")(n, 1)
    alone = regularize.EditLoss(10, 0.05, reference[1:2], "0")(n[1:2], 1)
    torch.testing.assert_close(together[1:2], alone)


def test_every_layout_is_read_as_maps():
    n = normal(2, 4, 6, 10)
    video, tokens = n.unsqueeze(2), n.flatten(2).transpose(1, 2)
    torch.testing.assert_close(layout.maps(video), n)
    torch.testing.assert_close(layout.maps(tokens, aspect=0.6), n)
    reference = normal(2, 4, 6, 10, seed=1)
    plain = regularize.EditLoss(10, 0.05, reference, "0")(n, 1)
    packed = regularize.EditLoss(10, 0.05, reference.flatten(2).transpose(1, 2), "0", aspect=0.6)(tokens, 1)
    torch.testing.assert_close(packed, plain.flatten(2).transpose(1, 2))
    with pytest.raises(ValueError, match="no grid"):
        layout.maps(normal(1, 7, 4), aspect=1.0)
