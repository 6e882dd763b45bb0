"""Automatic edit masks, computed from the difference of the two prompts' predictions as in DiffEdit (arXiv 2210.11427).

    d = ‖o(x*, target) − o*‖ over the channels, at two latents x* of the source's trajectory

The picture may change where d is large. The outputs o* along the trajectory are known from the inversion, so a mask
costs only two network evaluations.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

from renoise import regularize
from renoise.edits import Source
from renoise.programs import Program
from renoise.step import Step

# The predictions are compared only where sigma / alpha is at least this large. There the prompt dominates the
# prediction. At lower noise the picture dominates it, and predictions differ mostly along edges and in textures.
MIN_NOISE_RATIO = 3.0
# A pixel may change if its difference is at least this fraction of the maximum. If these pixels cover less than half of
# the picture, they are an object. Its shaded side and its rim differ less, so an object uses the lower threshold.
BACKGROUND_THRESHOLD, OBJECT_THRESHOLD = 0.5, 0.35
MAXIMUM_QUANTILE = 0.95  # this quantile of the differences serves as their maximum
# If they cover more than half, they are the background. Its border is aligned with the outlines in the picture. It
# moves by at most RIM latent pixels, based on the picture within NEIGHBOURHOOD latent pixels.
RIM, NEIGHBOURHOOD = 2, 4


def comparison_steps(steps: Sequence[Step]) -> list[int]:
    """Return the indices of the steps at which the prompts are compared: the last two that are noisy enough."""
    return [i for i, step in enumerate(steps) if step.t.sigma >= MIN_NOISE_RATIO * step.t.alpha][-2:] or [0]


def difference(steps: Sequence[Step], source: Source, aspect: float) -> Program[tuple[Tensor]]:
    """Measure where the target prompt's outputs differ from the outputs along the source's trajectory.

    The program requests evaluations under the target prompt.

    Args:
        steps: the sampler steps, noisiest first.
        source: the inverted photograph, with its trajectory.
        aspect: height / width of the picture.

    Returns:
        A tuple with the maps of differences (B, 1, H, W) in [0, 1]. It is a tuple because a pipeline would decode a
        tensor.
    """
    assert source.trajectory is not None
    total: Tensor | None = None
    for i in comparison_steps(steps):
        step, x = steps[i], source.trajectory[i - 1] if i > 0 else source.x_T
        z = step.noise_from(source.noises, i)
        out = (yield x, i).to(x.dtype)
        distance = regularize.maps((out - step.required_output(x, source.trajectory[i], z)).float(), aspect)
        distance = distance.square().mean(1, keepdim=True).sqrt()
        total = distance if total is None else total + distance
    assert total is not None
    total = avg_pool2d(total, 3, 1, 1, count_include_pad=False)
    maximum = total.flatten(1).quantile(MAXIMUM_QUANTILE, dim=1).reshape(-1, 1, 1, 1)
    return ((total / maximum.clamp_min(torch.finfo(total.dtype).tiny)).clamp_max(1),)


def from_difference(difference: Tensor, x_0: Tensor) -> Tensor:
    """Threshold a map of differences to a mask that is 1 where the picture may change.

    Args:
        difference: the map (B, 1, H, W) in [0, 1].
        x_0: clean latents (B, C, H, W) of the picture.

    Returns:
        The mask (B, 1, H, W), each value 0 or 1.
    """
    as_background, as_object = ((difference >= t).float() for t in (BACKGROUND_THRESHOLD, OBJECT_THRESHOLD))
    is_background = as_background.mean((1, 2, 3), keepdim=True) > 0.5
    return torch.where(is_background, _align_to_outlines(as_background, x_0), as_object)


def _align_to_outlines(mask: Tensor, x_0: Tensor) -> Tensor:
    """Assign each pixel near the border of a mask to the side whose nearby latents are more similar to it."""
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
    """Resize a mask (1 or B, 1, H, W) to the layout of latents `like` (B, ...), so that it broadcasts over them.

    The mask is not blurred: a pixel that may change by half at every step would hardly change at all.
    """
    height, width = regularize.maps(like, aspect).shape[-2:]
    mask = interpolate(mask.to(like.device, like.dtype), (height, width), mode="area")
    if like.ndim == 3:
        return mask.flatten(2).transpose(1, 2)
    return mask[:, :, None] if like.ndim == 5 else mask
