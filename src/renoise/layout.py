"""The layouts of latents, as maps (B, C, H, W) and back."""

import math

import torch
from torch import Tensor


def maps(x: Tensor, aspect: float = 1.0) -> Tensor:
    """Reshape latents of any layout to maps (B, C, H, W).

    Args:
        x: maps (B, C, H, W), videos of one frame (B, C, 1, H, W) or token sequences (B, H·W, C).
        aspect: height / width, for token sequences.

    Raises:
        ValueError: if the latents have another shape, or if the tokens do not form a grid of this aspect ratio.
    """
    if x.ndim == 4:
        return x
    if x.ndim == 5:
        return x.flatten(1, 2)
    if x.ndim != 3:
        raise ValueError(f"cannot read latents of shape {tuple(x.shape)} as maps")
    height = round(math.sqrt(x.shape[1] * aspect))
    if height < 1 or x.shape[1] % height:
        raise ValueError(f"{x.shape[1]} tokens are no grid of aspect {aspect:.3f}")
    return x.transpose(1, 2).unflatten(2, (height, -1))


def unmaps(n: Tensor, shape: torch.Size) -> Tensor:
    """Reshape maps (B, C, H, W) to latents of the given shape. The inverse of `maps`."""
    return n.flatten(2).transpose(1, 2) if len(shape) == 3 else n.reshape(shape)


def blend(mask: Tensor, inside: Tensor, outside: Tensor, aspect: float) -> Tensor:
    """Blend latents (B, ...) at a mask (B or 1, 1, H, W) of their maps, which is 1 where those `inside` are wanted."""
    mixed = mask * maps(inside, aspect) + (1 - mask) * maps(outside, aspect)
    return unmaps(mixed, inside.shape)
