"""What an edit is asked to do, and how well it did."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from renoise.metrics import psnr, ssim

# PSNR in dB against the right answer. Below, a second fruit or its shadow stands in the new background.
NEAR = 20.0
Naming = tuple[tuple[str, ...], str]  # kinds of fruit from left to right, and the background
Namer = Callable[[Tensor], list[Naming]]  # of pictures (N, 3, H, W) in [0, 1]


@dataclass(frozen=True)
class Task:
    """One edit of a picture of H x W pixels.

    stays     (H, W) in [0, 1]: the pixels that must not change
    named     what a classifier should say of the result
    tint      mean colours, RGB in [0, 1], of the fruits as they are and as they should be, and the pixels (H, W) that show it
    answer    the right picture and the pixels (H, W) at which it is known
    """

    edit: str
    picture: Image.Image
    source: str
    target: str
    stays: np.ndarray
    named: Naming | None = None
    tint: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    answer: tuple[Image.Image, np.ndarray] | None = None


def same(a: Naming, b: Naming) -> bool:
    """All named alike: the fruits whatever their order, and the background."""
    return sorted(a[0]) == sorted(b[0]) and a[1] == b[1]


def as_tensor(picture: Image.Image) -> Tensor:
    """A picture as (1, 3, H, W) in [0, 1]."""
    return torch.tensor(np.asarray(picture.convert("RGB"))).permute(2, 0, 1)[None] / 255


def resized(picture: Tensor, like: Tensor) -> Tensor:
    """A picture (3, h, w) at the size of another: what a model draws in its own size is judged at the photograph's."""
    picture = picture.float().cpu()
    if picture.shape == like.shape:
        return picture
    return interpolate(picture[None], like.shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)[0]


def scores(task: Task, edited: Tensor, naming: Naming | None) -> dict[str, float]:
    """Figures of one edited picture (3, h, w) in [0, 1]; a classifier said `naming` of it.

    success      1 where the result is named as asked, its colour is nearer to the one asked for than to the old one, and, where
                 the right answer is known, it is near that
    kept         PSNR of what must stay; kept_ssim its SSIM
    structure    1 − SSIM of the luminance where the picture may change
    exact        PSNR against the right answer, where it is known
    """
    before = as_tensor(task.picture)
    after = resized(edited, before[0])[None]
    stays = torch.from_numpy(task.stays)[None, None]
    out = {"kept": _capped(psnr(after, before, stays)), "kept_ssim": ssim(after, before, stays).item()}
    grey_after, grey_before = (x.mean(1, keepdim=True) for x in (after, before))
    out["structure"] = 1 - ssim(grey_after, grey_before, 1 - stays).item()
    if task.answer:
        right, known = task.answer
        out["exact"] = _capped(psnr(after, as_tensor(right), torch.from_numpy(known)[None, None]))
    if task.named and naming:
        success = same(naming, task.named)
        if task.tint:
            *colours, inside = task.tint
            mean = (after[0].numpy() * inside).sum((1, 2)) / inside.sum()
            was, wanted = (float(np.square(mean - colour).sum()) for colour in colours)
            success &= wanted < was
        if task.answer:
            success &= out["exact"] >= NEAR
        out["success"] = float(success)
    return {name: value for name, value in out.items() if not np.isnan(value)}  # nan: nothing was to stay, or to change


def _capped(value: Tensor) -> float:
    """A PSNR, at most 100 dB: an infinite one would be no figure."""
    return min(value.item(), 100.0)
