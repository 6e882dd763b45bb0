"""Editing: draw an inversion under another prompt, and keep what the prompt does not change.

Rows of one batch ask the network about the edit's own latent x under both prompts, o(x, source) and o(x, target), and about the
source's: on its course (x_T, …, x_0), which the inversion knows, each latent x* needed the output o* to arrive at the next.

    out = o(x, source) + guidance [o(x, target) − o(x, source)] + keep [o* − o(x*, source)]

The first two are guidance with the source prompt as the negative one, the paper's way (arXiv 2403.14602), here also on pipelines
that cannot guide: the pseudo-guidance of TurboEdit (arXiv 2408.00735). The third gives the edit what the source's branch, put
back on its course at every step, lacks there, as in PnP Inversion (arXiv 2310.01506): nothing where the inversion is exact.

A mask m (1 where the picture may change) puts the rest back on the source's course after every step, x ← m x + (1 − m) x*, as in
Blended Diffusion (arXiv 2111.14818). It can be found where the prompts' predictions differ, as in DiffEdit (arXiv 2210.11427).
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, max_pool2d

from renoise import regularize
from renoise.algorithm import Program
from renoise.step import Step

# The prompts' predictions are compared where sigma is at least this many times alpha: there the network goes by the prompt. With
# less noise it sees the picture, and the predictions differ along edges and in textures instead of in what is named.
NOISY = 3.0
# A pixel may change where the predictions differ by this share of the greatest difference. Where that is the smaller part of the
# picture, an object, by less: its shaded side and its rim differ less and belong to it.
CONTRAST, OF_OBJECT = 0.5, 0.35
# Where it is the larger part, the ground, its rim is moved to the picture's own outlines, at most so many latent pixels, by
# what the picture is like on either side, within so many.
RIM, AROUND = 2, 4
GREATEST = 0.95  # which quantile of the differences counts as the greatest


def redraw(
    steps: Sequence[Step],
    x_T: Tensor,
    noises: Tensor | None,
    start: int,
    *,
    course: Tensor | None = None,
    mask: Tensor | None = None,
    both: bool = False,
    guidance: float = 1.0,
    keep: float = 0.0,
) -> Program[Tensor]:
    """Denoise x_T (B, ...) from step number `start` on under the target prompt -> x_0.

    `noises` are those of the stochastic steps from `start` on. `course` (n, B, ...) holds the source's latents after each step,
    for `mask`, which broadcasts over latents, and `keep`. The program asks about latents (rows · B, ...): with `keep` about x*
    under the source prompt first, with `both`, for `guidance`, about x under it too, and at last about x under the target.
    """
    x, source = x_T, x_T
    for i in range(start, len(steps)):
        step, z = steps[i], steps[i].z_from(noises, i - start)
        rows = [source] * (keep > 0) + [x] * (1 + both)
        *others, out = (yield torch.cat(rows), i).to(x.dtype).chunk(len(rows))
        if both:
            out = others[-1] + guidance * (out - others[-1])
        if course is not None:
            if keep > 0:
                out = out + keep * (step.required(source, course[i - start], z) - others[0])
            source = course[i - start]
        x = step.denoise(x, out, z)
        if mask is not None:
            x = mask * x + (1 - mask) * source
    return x


def telling(steps: Sequence[Step], start: int) -> list[int]:
    """The numbers of the steps at whose latents the prompts are compared: the two cleanest of the noisy ones."""
    return [i for i in range(start, len(steps)) if steps[i].t.sigma >= NOISY * steps[i].t.alpha][-2:] or [start]


def difference(
    steps: Sequence[Step], x_T: Tensor, noises: Tensor | None, course: Tensor, start: int, aspect: float
) -> Program[tuple[Tensor]]:
    """Where the target prompt disagrees with o* along the source's course: maps (B, 1, H, W) in [0, 1].

    Arguments as in `redraw`; the program asks under the target prompt alone. In a tuple, because a pipeline takes a bare tensor
    for latents.
    """
    total: Tensor | None = None
    for i in telling(steps, start):
        step, source = steps[i], course[i - start - 1] if i > start else x_T
        z = step.z_from(noises, i - start)
        asked = (yield source, i).to(source.dtype)
        apart = regularize.maps((asked - step.required(source, course[i - start], z)).float(), aspect)
        apart = apart.square().mean(1, keepdim=True).sqrt()
        total = apart if total is None else total + apart
    assert total is not None
    total = avg_pool2d(total, 3, 1, 1, count_include_pad=False)
    greatest = total.flatten(1).quantile(GREATEST, dim=1).reshape(-1, 1, 1, 1)
    return ((total / greatest.clamp_min(torch.finfo(total.dtype).tiny)).clamp_max(1),)


def mask_of(difference: Tensor, x_0: Tensor) -> Tensor:
    """The mask (B, 1, H, W) of a map of differences, 1 where they are great; x_0 (B, C, H, W) are the picture's latents."""
    ground, thing = (difference >= CONTRAST).float(), (difference >= OF_OBJECT).float()
    return torch.where(ground.mean((1, 2, 3), keepdim=True) > 0.5, _to_outlines(ground, x_0), thing)


def _to_outlines(mask: Tensor, x_0: Tensor) -> Tensor:
    """A mask whose pixels near its rim belong to the side whose latents near by, off the rim, theirs resemble more."""
    inside, outside = (1 - max_pool2d(1 - side, 2 * RIM + 1, 1, RIM) for side in (mask, 1 - mask))
    shares = [avg_pool2d(side, 2 * AROUND + 1, 1, AROUND) for side in (inside, outside)]
    means = [
        avg_pool2d(x_0 * side, 2 * AROUND + 1, 1, AROUND) / share.clamp_min(torch.finfo(share.dtype).tiny)
        for side, share in zip((inside, outside), shares, strict=True)
    ]
    unlike_inside, unlike_outside = ((x_0 - mean).square().mean(1, keepdim=True) for mean in means)
    known = (shares[0] > 0) & (shares[1] > 0)
    rim = known & (inside + outside == 0)
    return torch.where(rim, (unlike_inside < unlike_outside).float(), mask)


def at_latents(mask: Tensor, like: Tensor, aspect: float) -> Tensor:
    """A mask (1 or B, 1, H, W) in the layout of latents `like` (B, ...), over which it broadcasts.

    Not softened: applied after every step, what is half allowed to change would hardly change at all.
    """
    height, width = regularize.maps(like, aspect).shape[-2:]
    mask = interpolate(mask.to(like.device, like.dtype), (height, width), mode="area")
    if like.ndim == 3:
        return mask.flatten(2).transpose(1, 2)
    return mask[:, :, None] if like.ndim == 5 else mask
