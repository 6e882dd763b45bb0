"""Edit losses, which keep the predicted noise white so that the inverted latent stays editable.

Sources: ReNoise, arXiv 2403.14602, section 3.4 and eq. 8; L_pair is eq. 2 of pix2pix-zero, arXiv 2302.03027.

    L_pair     = Σ over pyramid levels, rows and columns of  mean(n · roll(n, s))²
    L_patchKL  = Σ over 4x4 patches of  KL(N(μ, v) ‖ N(μ', v'))

n is the predicted noise ε̂, and (μ, v) are its mean and variance in a patch. (μ', v') are those of the reference: ε̂ at
the clean latent with noise of the same level. Both gradients are computed in closed form and in float32, without
autograd.
"""

import random
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from renoise.layout import maps, unmaps

STEPS, ROLLS = 4, 5  # gradient steps, and random rolls averaged in each (settings of the paper's released code)
PATCH = 4
COARSEST = 8  # side in pixels at which the pyramid ends
VARIANCE_FLOOR = 1e-2  # avoids a division by 0 in flat patches; far below the variance of white noise in 16 pixels
# A gradient step changes the prediction by at most this fraction of its norm. L_pair is of fourth order and would
# overshoot.
LONGEST_MOVE = 0.1


@dataclass(frozen=True)
class EditLoss:
    """The edit losses of one inversion step.

    Args:
        pair: weight of L_pair.
        kl: weight of L_patchKL.
        reference: ε̂ (B, ...) at the clean latent with added noise. Required if kl > 0.
        seed: seed of the random shifts of L_pair, together with the number of the iterate.
        aspect: height / width of the picture, used to reshape token sequences (B, tokens, channels) to maps.
    """

    pair: float
    kl: float
    reference: Tensor | None = None
    seed: str = ""
    aspect: float = 1.0

    def __call__(self, epsilon: Tensor, k: int) -> Tensor:
        """Take gradient steps on  pair · L_pair + kl · L_patchKL  from the predicted noise (B, ...) of iterate k.

        Returns:
            The changed noise (B, ...).

        Raises:
            ValueError: if kl > 0 without a reference, or if the latents cannot be reshaped to maps.
        """
        rolls = random.Random(f"{self.seed}/{k}")
        n = maps(epsilon, self.aspect).float()
        target = None if self.reference is None else maps(self.reference, self.aspect).float()
        for _ in range(STEPS):
            if self.kl > 0:
                if target is None:
                    raise ValueError("the patch-KL loss needs a reference prediction")
                n = n - _clip_norm(self.kl * patch_kl_gradient(n, target), n)
            if self.pair > 0:
                total = torch.stack([pair_gradient(n, rolls) for _ in range(ROLLS)]).sum(0)
                n = n - _clip_norm(self.pair / ROLLS * total, n)
        return unmaps(n, epsilon.shape).to(epsilon.dtype)


def pair_gradient(n: Tensor, rolls: random.Random) -> Tensor:
    """Compute dL_pair / dn of maps (B, C, H, W) for one random shift per direction and pyramid level.

    The loss, and so the gradient, is computed for each image separately.
    """
    gradient = torch.zeros_like(n)
    for dim in (-2, -1):
        if n.shape[dim] < 2:
            continue
        shift = rolls.randint(1, max(1, n.shape[dim] // 2))
        ahead, behind = n.roll(shift, dim), n.roll(-shift, dim)
        correlation = (n * ahead).mean((-2, -1), keepdim=True)
        gradient += 2 * correlation * (ahead + behind) / (n.shape[-2] * n.shape[-1])
    if min(n.shape[-2:]) > COARSEST:
        height, width = (size // 2 * 2 for size in n.shape[-2:])
        coarse = pair_gradient(avg_pool2d(n, 2), rolls)
        gradient[..., :height, :width] += interpolate(coarse, scale_factor=2.0, mode="nearest") / 4
    return gradient


def patch_kl_gradient(n: Tensor, reference: Tensor) -> Tensor:
    """Compute dL_patchKL / dn of maps (B, C, H, W). Patches at the lower and right border may be smaller."""
    mean, variance = _moments(n)
    mean_r, variance_r = _moments(reference)
    size = avg_pool2d(torch.ones_like(n[:1, :1]), PATCH, ceil_mode=True, divisor_override=1)
    gradient = (1 / variance_r - 1 / variance) * (n - mean) + (mean - mean_r) / variance_r
    return gradient / _per_pixel(size, n)


def _clip_norm(move: Tensor, n: Tensor) -> Tensor:
    """Scale a gradient step (B, C, H, W) down to at most LONGEST_MOVE times the norm of n, per image."""
    size, longest = (x.flatten(1).norm(dim=1) for x in (move, n))
    scale = (LONGEST_MOVE * longest / size.clamp_min(torch.finfo(n.dtype).tiny)).clamp_max(1.0)
    return move * scale.reshape(-1, 1, 1, 1)


def _moments(n: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the variance, at least VARIANCE_FLOOR, of every pixel's patch, as maps like n."""
    mean = avg_pool2d(n, PATCH, ceil_mode=True)
    variance = avg_pool2d(n * n, PATCH, ceil_mode=True) - mean * mean
    return _per_pixel(mean, n), _per_pixel(variance.clamp_min(VARIANCE_FLOOR), n)


def _per_pixel(patches: Tensor, like: Tensor) -> Tensor:
    """Repeat the value of each patch for all of its pixels."""
    pixels = patches.repeat_interleave(PATCH, -2).repeat_interleave(PATCH, -1)
    return pixels[..., : like.shape[-2], : like.shape[-1]]
