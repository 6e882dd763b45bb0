"""Joins an edit to its photograph in pixels: the edit inside a mask, the photograph outside.

Pixels are joined once, at the end. Latents joined after the last steps, as in Blended Diffusion (arXiv 2111.14818), press the
new object into the old outline, and latents are not local: their seams show after decoding (arXiv 2512.05198).

A mask that was found has no exact outline. The *ground*, what surrounds an object, tells where the object really ends: an
object differs from its ground, which is continued smoothly below it. This needs a plain ground, most of which has one colour.
Where it is not plain, the mask is used as it is.
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from renoise.masks import border, dilated

CHANGED = 0.1  # largest difference, of colours in [0, 1], between two pixels that count as the same
PLAIN = CHANGED / 2  # largest spread of a plain ground
MARGIN = 2  # cells around a found mask in which an object may end
REACH = 0.25  # part of the picture's longer side by which the outline of a new object may leave the found mask
SOFTNESS = 0.5  # cells by which a border is softened


def join(edited: Tensor, photograph: Tensor, mask: Tensor) -> Tensor:
    """Join pictures (B, 3, H, W) at a mask (B or 1, 1, h, w), which is 1 where the edit is to be seen."""
    m = _enlarged(mask.to(edited), edited)
    return m * edited + (1 - m) * photograph


def join_found(edited: Tensor, photograph: Tensor, mask: Tensor) -> Tensor:
    """Join pictures at a mask that was found.

    Args:
        edited, photograph: pictures (B, 3, H, W) in [0, 1].
        mask: cells (B, 1, h, w), each 0 or 1, that may change. A mask that holds most of the border is the ground.
    """
    e, p, m = edited.float(), photograph.float(), mask.to(edited.device, torch.float32)
    joined = torch.where(border(m) > 0.5, _new_ground(e, p, m), _new_object(e, p, m))
    return joined.clamp(0, 1).to(edited.dtype)


def without_object(x: Tensor, mask: Tensor) -> Tensor:
    """Continue the ground of maps x (B, C, h, w) smoothly below the object of a found mask (B, 1, h, w).

    A mask that is the ground itself leaves the maps as they are.
    """
    known = 1 - dilated(mask, 1) * (border(mask) <= 0.5)
    return torch.where(known.amax((2, 3), keepdim=True) > 0, _continued(x, known), x)


def _new_object(edited: Tensor, photograph: Tensor, mask: Tensor) -> Tensor:
    """Join a new object: the mask follows the old outline and the new one, and the ground takes the photograph's shade."""
    inside = dilated(_filled(mask), 1)
    e, p = _cells(edited, mask), _cells(photograph, mask)
    shift, known = p - e, 1 - inside
    known = known * (_unlike(shift, _median(shift, known)) < CHANGED)  # without what else has changed
    ground, shift = _enlarged(_continued(e, known), edited), _enlarged(_continued(shift, known), edited)
    like_ground = 1 - _unlike(edited, ground) / (2 * CHANGED)
    matched = edited + like_ground.clamp(0, 1) * shift
    changed = _cells(_unlike(matched, photograph), mask) > CHANGED / 2
    reached = dilated(_filled(_connected(inside, changed)), 1)
    _, spread = _compare_with_ground(photograph, p, 1 - inside)
    as_it_is = join(edited, photograph, _softened(inside, edited))
    return torch.where(spread < PLAIN, join(matched, photograph, _softened(reached, edited)), as_it_is)


def _new_ground(edited: Tensor, photograph: Tensor, mask: Tensor) -> Tensor:
    """Put the photograph's object on the ground of the edit, without the objects that the edit has drawn there.

    At its outline a pixel of the photograph is a mixture, k object + (1 − k) ground, and the ground in it is replaced.
    """
    kept, cells = 1 - mask, _cells(photograph, mask)
    far = 1 - dilated(kept, MARGIN)
    unlike, spread = _compare_with_ground(photograph, cells, far)
    plain = (spread < PLAIN) & (kept.amax((2, 3), keepdim=True) > 0) & (far.amax((2, 3), keepdim=True) > 0)
    # The object: what is kept and is not the ground, what hangs together with it, and its bites.
    other = (unlike > CHANGED / 4).to(kept)
    whole = _filled(_connected(kept * other, unlike > (3 * spread).clamp_min(PLAIN), reach=1.0))
    closed = 1 - dilated(1 - dilated(whole, MARGIN), MARGIN)
    kept = torch.where(plain, _filled(torch.maximum(whole, closed * other)), kept)
    near, core = dilated(kept, 1), 1 - dilated(1 - kept, 1)

    new = _cells(edited, mask)
    drawn, spread = _compare_with_ground(edited, new, 1 - dilated(kept, MARGIN))
    removed = dilated(torch.maximum(near, (drawn > CHANGED).to(near)), 1) * (spread < PLAIN)
    backdrop = _enlarged(_continued(new, 1 - removed), edited)
    backdrop = edited + _softened(removed, edited) * (backdrop - edited)

    ground = _enlarged(_continued(cells, 1 - dilated(kept, MARGIN)), edited)
    object_ = _enlarged(_continued(cells, core), edited) - ground
    k = ((photograph - ground) * object_).sum(1, keepdim=True) / object_.square().sum(1, keepdim=True).clamp_min(1e-3)
    k = torch.maximum(k.clamp(0, 1), _enlarged(core, edited))
    mixed = photograph + (1 - k) * (backdrop - ground)
    inside = _enlarged(near, edited)
    return torch.where(plain, inside * mixed + (1 - inside) * backdrop, join(edited, photograph, mask))


def _compare_with_ground(picture: Tensor, cells: Tensor, ground: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far the cells (B, 3, h, w) of a picture are from the colour of its ground, and the spread of the ground.

    Both are (B, 1, h, w) and (B, 1, 1, 1). The colour may change evenly from one side to the other. The spread is the median
    difference of the ground's pixels from it.
    """
    known = ground * (_unlike(cells, _median(cells, ground)) < 2 * CHANGED)
    colour = _plane(cells, known)
    spread = _median(_unlike(picture, _enlarged(colour, picture)), (_enlarged(ground, picture) == 1).to(ground))
    return _unlike(cells, colour), spread


def _unlike(a: Tensor, b: Tensor) -> Tensor:
    """Return the largest difference of the colours of two pictures (B, 3, H, W) at each pixel, (B, 1, H, W)."""
    return (a - b).abs().amax(1, keepdim=True)


def _median(x: Tensor, known: Tensor) -> Tensor:
    """Return the median (B, C, 1, 1) of maps (B, C, h, w) over the known cells, 0 where there are none."""
    return torch.where(known > 0, x, torch.nan).flatten(2).nanmedian(2).values.nan_to_num()[..., None, None]


def _plane(x: Tensor, known: Tensor) -> Tensor:
    """Fit planes to maps (B, C, h, w) over the known cells (B, 1, h, w), by least squares."""
    rows, columns = (torch.linspace(-1, 1, size, dtype=x.dtype, device=x.device) for size in x.shape[-2:])
    grid = torch.meshgrid(rows, columns, indexing="ij")
    basis = torch.stack([torch.ones_like(grid[0]), *grid]).flatten(1)
    weighted = basis * known.flatten(2)
    products = weighted @ basis.T + 1e-4 * torch.eye(3, dtype=x.dtype, device=x.device)
    planes = torch.linalg.solve(products, weighted @ x.flatten(2).mT)
    return (planes.mT @ basis).unflatten(2, x.shape[-2:])


def _continued(x: Tensor, known: Tensor) -> Tensor:
    """Continue maps (B, C, h, w) smoothly from the known cells (B, 1, h, w): means go up a pyramid and come down again."""
    if min(x.shape[-2:]) == 1 or bool((known == 1).all()):
        mean = (x * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True).clamp_min(1)
        return torch.where(known > 0, x, mean)
    weight = avg_pool2d(known, 2, ceil_mode=True, count_include_pad=False)
    means = avg_pool2d(x * known, 2, ceil_mode=True, count_include_pad=False) / weight.clamp_min(1e-6)
    coarse = _continued(means, (weight > 0).to(x))
    return torch.where(known > 0, x, interpolate(coarse, x.shape[-2:], mode="bilinear", align_corners=False))


def _connected(cells: Tensor, allowed: Tensor, reach: float = REACH) -> Tensor:
    """Grow cells (B, 1, h, w) over the allowed ones that are connected with them, by a part of the longer side."""
    reached = cells
    for _ in range(round(reach * max(cells.shape[-2:]))):
        reached = torch.maximum(cells, dilated(reached, 1) * allowed)
    return reached


def _filled(mask: Tensor) -> Tensor:
    """Close the holes of a mask (B, 1, h, w): the cells from which no path outside it leads to the picture's border."""
    outside = 1 - mask
    reached = torch.zeros_like(mask)
    reached[..., 0, :] = reached[..., -1, :] = 1
    reached[..., 0] = reached[..., -1] = 1
    reached = reached * outside
    while True:
        further = dilated(reached, 1) * outside
        if torch.equal(further, reached):
            return 1 - reached
        reached = further


def _cells(picture: Tensor, mask: Tensor) -> Tensor:
    """Return the mean colour of each cell of a mask."""
    return interpolate(picture, mask.shape[-2:], mode="area")


def _enlarged(cells: Tensor, like: Tensor) -> Tensor:
    return interpolate(cells, like.shape[-2:], mode="bilinear", align_corners=False)


def _softened(mask: Tensor, like: Tensor) -> Tensor:
    """Enlarge a mask (B, 1, h, w) to the size of pictures, and soften its border."""
    m = _enlarged(mask, like)
    pixels = round(SOFTNESS * max(1.0, like.shape[-1] / mask.shape[-1]))
    return avg_pool2d(m, 2 * pixels + 1, 1, pixels, count_include_pad=False) if pixels else m
