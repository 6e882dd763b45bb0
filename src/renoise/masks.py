"""Automatic edit masks, computed from the difference of the two prompts' predictions as in DiffEdit (arXiv 2210.11427).

    d = ‖o(x*, target) − o*‖ over the channels, at two latents x* of the source's trajectory, the first of them x_T

The picture may change where the geometric mean of the two is large. At x_T the network sees nothing but the prompt, so it
knows well which thing changes, but only roughly where. At lower noise it sees outlines too, and other things distract it. The
outputs o* along the trajectory are known from the inversion, so a mask costs only two network evaluations.
"""

from collections.abc import Sequence
from difflib import SequenceMatcher

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

from renoise import layout
from renoise.edits import Source
from renoise.programs import Program
from renoise.step import Step

# The predictions are compared only where sigma / alpha is at least this large. There the prompt dominates the
# prediction. At lower noise the picture dominates it, and predictions differ mostly along edges and in textures.
MIN_NOISE_RATIO = 3.0
# A pixel may change if its mean difference is at least this fraction of the maximum. If these pixels cover less than half of
# the picture, they are an object. Its shaded side and its rim differ less, so an object uses the lower threshold.
BACKGROUND_THRESHOLD, OBJECT_THRESHOLD = 0.5, 0.3
# If the prompts differ more than once, an object changes with its background where their difference is more than this
# fraction of the maximum. The fraction is the geometric mean of the lower quartile at the first step and the median at the last.
KEPT = 0.1
MAXIMUM_QUANTILE = 0.95  # this quantile of the differences serves as their maximum
# If they cover more than half, they are the background. Its border is aligned with the outlines in the picture. It
# moves by at most RIM latent pixels, based on the picture within NEIGHBOURHOOD latent pixels.
RIM, NEIGHBOURHOOD = 2, 4


def comparison_steps(steps: Sequence[Step]) -> list[int]:
    """Return the indices of the steps at which the prompts are compared: the first one, and the last that is noisy enough."""
    noisy = [i for i, step in enumerate(steps) if step.t.sigma >= MIN_NOISE_RATIO * step.t.alpha] or [0]
    return sorted({0, noisy[-1]})


def difference(steps: Sequence[Step], source: Source, aspect: float) -> Program[tuple[Tensor, Tensor]]:
    """Measure where the target prompt's outputs differ from the outputs along the source's trajectory.

    The program requests evaluations under the target prompt.

    Args:
        steps: the sampler steps, noisiest first.
        source: the inverted photograph, with its trajectory.
        aspect: height / width of the picture.

    Returns:
        Two maps of differences (B, 1, H, W) in [0, 1]: at the first step, and at the last one that is noisy enough. They
        are the same if that is one step.
    """
    assert source.trajectory is not None
    found = []
    for i in comparison_steps(steps):
        step, x = steps[i], source.trajectory[i - 1] if i > 0 else source.x_T
        z = step.noise_from(source.noises, i)
        out = (yield x, i).to(x.dtype)
        distance = layout.maps((out - step.required_output(x, source.trajectory[i], z)).float(), aspect)
        distance = avg_pool2d(distance.square().mean(1, keepdim=True).sqrt(), 3, 1, 1, count_include_pad=False)
        maximum = distance.flatten(1).quantile(MAXIMUM_QUANTILE, dim=1).reshape(-1, 1, 1, 1)
        found.append((distance / maximum.clamp_min(torch.finfo(distance.dtype).tiny)).clamp_max(1))
    return found[0], found[-1]


def dilated(mask: Tensor, cells: int) -> Tensor:
    """Grow masks (B, 1, H, W) by a number of cells in every direction."""
    return max_pool2d(mask, 2 * cells + 1, 1, cells)


def border(mask: Tensor) -> Tensor:
    """Return which part of the picture's border a mask (B, 1, H, W) holds, (B, 1, 1, 1)."""
    sides = torch.cat([mask[..., 0, :], mask[..., -1, :], mask[..., 0], mask[..., -1]], -1)
    return sides.mean((1, 2)).reshape(-1, 1, 1, 1)


def differ_once(source: str, target: str) -> bool:
    """Return whether two prompts differ in one run of words at most: then either an object or its background changes, not both.

    Prompt embeddings have no words, and count as one change too.
    """
    changes = SequenceMatcher(None, source.split(), target.split(), autojunk=False).get_opcodes()
    return sum(kind != "equal" for kind, *_ in changes) <= 1


def from_difference(first: Tensor, last: Tensor, x_0: Tensor, once: Sequence[bool]) -> Tensor:
    """Threshold the maps of `difference` to a mask that is 1 where the picture may change.

    Args:
        first, last: the maps (B, 1, H, W) in [0, 1].
        x_0: clean latents (B, C, H, W) of the picture.
        once: whether the prompts of each image differ once, see `differ_once`.

    Returns:
        The mask (B, 1, H, W), each value 0 or 1.
    """
    mean = (first * last).sqrt()
    as_background, as_object = ((mean >= t).float() for t in (BACKGROUND_THRESHOLD, OBJECT_THRESHOLD))
    is_most = as_background.mean((1, 2, 3), keepdim=True) > 0.5
    is_background = is_most | (border(as_object) > 0.5)
    background = _align_to_outlines(torch.where(is_most, as_background, as_object), x_0)
    inner = 1 - dilated(background, 1)  # of the object, away from its border
    is_thin = inner.amax((2, 3), keepdim=True) == 0
    inner = torch.where(is_thin, 1 - background, inner)
    background = torch.where(is_thin, background, 1 - dilated(inner, 1))  # without specks
    quartile, median = (
        torch.where(inner > 0, part, torch.nan).flatten(1).nanquantile(q, 1) for part, q in ((first, 0.25), (last, 0.5))
    )
    changes = ((quartile * median).sqrt() > KEPT) & ~torch.tensor(once, device=last.device)
    background = torch.where(changes.reshape(-1, 1, 1, 1), 1.0, background)
    return torch.where(is_background, background, as_object)


def _align_to_outlines(mask: Tensor, x_0: Tensor) -> Tensor:
    """Assign each pixel near the border of a mask to the side whose nearby latents are more similar to it."""
    inside, outside = (1 - dilated(1 - side, RIM) for side in (mask, 1 - mask))
    shares = [avg_pool2d(side, 2 * NEIGHBOURHOOD + 1, 1, NEIGHBOURHOOD) for side in (inside, outside)]
    means = [
        avg_pool2d(x_0 * side, 2 * NEIGHBOURHOOD + 1, 1, NEIGHBOURHOOD) / share.clamp_min(torch.finfo(share.dtype).tiny)
        for side, share in zip((inside, outside), shares, strict=True)
    ]
    unlike_inside, unlike_outside = ((x_0 - mean).square().mean(1, keepdim=True) for mean in means)
    known = (shares[0] > 0) & (shares[1] > 0)
    rim = known & (inside + outside == 0)
    return torch.where(rim, (unlike_inside < unlike_outside).float(), mask)


def core(mask: Tensor) -> Tensor:
    """Return found masks (B, 1, H, W) of objects without their outermost cells, into which a new object grows as it is drawn.

    A mask that holds most of the picture's border, or that has no other cells, stays as it is.
    """
    inner = 1 - dilated(1 - mask, 1)
    return torch.where((border(mask) > 0.5) | (inner.amax((2, 3), keepdim=True) == 0), mask, inner)


def at_maps(mask: Tensor, like: Tensor, aspect: float) -> Tensor:
    """Resize a mask (1 or B, 1, H, W) to the size of the maps of latents `like` (B, ...)."""
    return interpolate(mask.to(like.device, like.dtype), layout.maps(like, aspect).shape[-2:], mode="area")
