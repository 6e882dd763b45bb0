"""Masks of what an edit may change, found where the two prompts' predictions differ, as in DiffEdit (arXiv 2210.11427).

    d = ‖o(x*, target) − o*‖ over the channels, at two latents x* of the source's own trajectory

Where d is great the picture may change. The outputs o* that led along the trajectory are known from the inversion, so it costs
two evaluations.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

from renoise import regularize
from renoise.edits import Source
from renoise.programs import Program
from renoise.step import Step

# The predictions are compared where sigma is at least this many times alpha: there the network goes by the prompt. With less
# noise it sees the picture, and the predictions differ along edges and in textures.
NOISY = 3.0
# A pixel may change where the predictions differ by this share of the greatest difference. Where that is the smaller part of the
# picture, an object, a smaller share does: its shaded side and its rim differ less and belong to it.
CONTRAST, OBJECT_CONTRAST = 0.5, 0.35
GREATEST = 0.95  # the quantile of the differences that counts as the greatest
# Where it is the larger part, the background, its rim is moved to the outlines in the picture, by at most RIM latent pixels, by
# what the picture is like within NEIGHBOURHOOD pixels on either side.
RIM, NEIGHBOURHOOD = 2, 4


def comparison_steps(steps: Sequence[Step]) -> list[int]:
    """Return the numbers of the steps at which the prompts are compared: the two cleanest of the noisy ones."""
    return [i for i, step in enumerate(steps) if step.t.sigma >= NOISY * step.t.alpha][-2:] or [0]


def difference(steps: Sequence[Step], source: Source, aspect: float) -> Program[tuple[Tensor]]:
    """Compare the target prompt's outputs with those that led along the source's trajectory: maps (B, 1, H, W) in [0, 1].

    The program asks under the target prompt. Its result is a tuple, because a pipeline would decode a bare tensor.
    """
    assert source.trajectory is not None
    total: Tensor | None = None
    for i in comparison_steps(steps):
        step, x = steps[i], source.trajectory[i - 1] if i > 0 else source.x_T
        z = step.noise_from(source.noises, i)
        asked = (yield x, i).to(x.dtype)
        apart = regularize.maps((asked - step.required(x, source.trajectory[i], z)).float(), aspect)
        apart = apart.square().mean(1, keepdim=True).sqrt()
        total = apart if total is None else total + apart
    assert total is not None
    total = avg_pool2d(total, 3, 1, 1, count_include_pad=False)
    greatest = total.flatten(1).quantile(GREATEST, dim=1).reshape(-1, 1, 1, 1)
    return ((total / greatest.clamp_min(torch.finfo(total.dtype).tiny)).clamp_max(1),)


def from_difference(difference: Tensor, x_0: Tensor) -> Tensor:
    """Make a mask (B, 1, H, W) of a map of differences, 1 where they are great; x_0 (B, C, H, W) are the picture's latents."""
    background, thing = (difference >= CONTRAST).float(), (difference >= OBJECT_CONTRAST).float()
    return torch.where(background.mean((1, 2, 3), keepdim=True) > 0.5, _to_outlines(background, x_0), thing)


def _to_outlines(mask: Tensor, x_0: Tensor) -> Tensor:
    """Give each pixel near the mask's rim to the side whose latents, near by but off the rim, it resembles more."""
    inside, outside = (1 - max_pool2d(1 - side, 2 * RIM + 1, 1, RIM) for side in (mask, 1 - mask))
    shares = [avg_pool2d(side, 2 * NEIGHBOURHOOD + 1, 1, NEIGHBOURHOOD) for side in (inside, outside)]
    means = [
        avg_pool2d(x_0 * side, 2 * NEIGHBOURHOOD + 1, 1, NEIGHBOURHOOD) / share.clamp_min(torch.finfo(share.dtype).tiny)
        for side, share in zip((inside, outside), shares, strict=True)
    ]
    unlike_inside, unlike_outside = ((x_0 - mean).square().mean(1, keepdim=True) for mean in means)
    known = (shares[0] > 0) & (shares[1] > 0)
    rim = known & (inside + outside == 0)
    return torch.where(rim, (unlike_inside < unlike_outside).float(), mask)


def at_latents(mask: Tensor, like: Tensor, aspect: float) -> Tensor:
    """Bring a mask (1 or B, 1, H, W) into the layout of latents `like` (B, ...), over which it broadcasts.

    It is not softened: a pixel that is half allowed to change at every step would hardly change at all.
    """
    height, width = regularize.maps(like, aspect).shape[-2:]
    mask = interpolate(mask.to(like.device, like.dtype), (height, width), mode="area")
    if like.ndim == 3:
        return mask.flatten(2).transpose(1, 2)
    return mask[:, :, None] if like.ndim == 5 else mask
