"""Metrics of the similarity of two pictures: PSNR and SSIM."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

WINDOW = 7  # pixels
C1, C2 = 0.01**2, 0.03**2


def psnr(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute the peak signal-to-noise ratio of each pair of pictures.

    Args:
        a, b: pictures (B, 3, H, W) in [0, 1].
        mask: weights (B or 1, 1, H, W) of the pixels. None weights all pixels equally.

    Returns:
        PSNR (B,) in dB: inf for equal pictures, nan for an empty mask.
    """
    return -10 * torch.log10(_mean((a.float() - b.float()).square(), mask))


def ssim(a: Tensor, b: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute the structural similarity (Wang et al. 2004) of each pair of pictures, with uniform 7 x 7 windows.

    Args:
        a, b: pictures (B, 3, H, W) in [0, 1].
        mask: weights (B or 1, 1, H, W) of the windows by their centre pixel. None weights all windows equally.

    Returns:
        SSIM (B,): 1 for equal pictures, nan for an empty mask.
    """
    a, b = a.double(), b.double()
    mean_a, mean_b = (_window(x) for x in (a, b))
    # Sample variances, as in the paper and scikit-image.
    unbiased = WINDOW**2 / (WINDOW**2 - 1)
    var_a, var_b, both = (
        unbiased * (_window(x * y) - p * q)
        for x, y, p, q in ((a, a, mean_a, mean_a), (b, b, mean_b, mean_b), (a, b, mean_a, mean_b))
    )
    similar = (2 * mean_a * mean_b + C1) * (2 * both + C2)
    similar = similar / ((mean_a.square() + mean_b.square() + C1) * (var_a + var_b + C2))
    inner = slice(WINDOW // 2, -(WINDOW // 2))
    return _mean(similar, None if mask is None else mask[..., inner, inner]).float()


def _window(x: Tensor) -> Tensor:
    return avg_pool2d(x, WINDOW, 1)


def _mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Compute the mean of each picture, weighted by the mask if there is one: (B, C, H, W) -> (B,)."""
    if mask is None:
        return x.flatten(1).mean(1)
    mask = mask.to(x).expand(len(x), 1, *x.shape[2:])
    return (x * mask).flatten(1).sum(1) / (x.shape[1] * mask.flatten(1).sum(1))
