"""How close two pictures are."""

import torch
from torch import Tensor


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of pictures (B, 3, H, W) in [0, 1], each by itself: (B,). Equal pictures: inf."""
    return -10 * torch.log10((a.float() - b.float()).square().flatten(1).mean(1))
