"""Edit tasks, and the scores of an edited picture."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from renoise.bench.judge import Verdict, Wanted, succeeded
from renoise.metrics import psnr, ssim

# Minimum PSNR in dB against the right answer. Below it, a second fruit or its shadow remains in the new background.
MIN_ANSWER_PSNR = 20.0
Judging = Callable[[Tensor], list[Verdict]]  # of pictures (N, 3, H, W) in [0, 1]


@dataclass(frozen=True)
class Task:
    """One edit of a picture of H x W pixels.

    Args:
        edit: kind of the edit.
        picture: the source picture.
        source: prompt of the source.
        target: prompt of the edit.
        preserved: mask (H, W) in [0, 1] of the pixels that must not change.
        wanted: fruits and background that the result should show.
        answer: the right picture, and a mask (H, W) of the pixels where it is known.
        control: a real photograph of the target, or a scene composed of photographs.
        distance: "near" or "far" for how much the new fruit differs from the old one, if known.
        setting: "single" for a single fruit on white, "scene" for other fruits, if known.
    """

    edit: str
    picture: Image.Image
    source: str
    target: str
    preserved: np.ndarray
    wanted: Wanted | None = None
    answer: tuple[Image.Image, np.ndarray] | None = None
    control: Image.Image | None = None
    distance: str = ""
    setting: str = ""


def as_tensor(picture: Image.Image) -> Tensor:
    """Convert a picture to (1, 3, H, W) in [0, 1]."""
    return torch.tensor(np.asarray(picture.convert("RGB"))).permute(2, 0, 1)[None] / 255


def resized(picture: Tensor, like: Tensor) -> Tensor:
    """Resize a picture (3, h, w) to the size of another one, since edits are scored at the size of the photograph."""
    picture = picture.float().cpu()
    if picture.shape == like.shape:
        return picture
    return interpolate(picture[None], like.shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)[0]


def scores(task: Task, edited: Tensor, verdict: Verdict | None) -> dict[str, float]:
    """Score an edited picture (3, h, w) in [0, 1], given the verdict of a judge on it.

    success      1 if the judge accepts the picture and names it as the prompt does, and the PSNR against the right
                 answer, if known, is at least `MIN_ANSWER_PSNR`; otherwise 0
    kept         PSNR in dB of the pixels that must not change
    kept_ssim    SSIM of these pixels
    structure    1 − SSIM of the luminance of the other pixels
    exact        PSNR in dB against the right answer, if known
    """
    before = as_tensor(task.picture)
    after = resized(edited, before[0])[None]
    preserved = torch.from_numpy(task.preserved)[None, None]
    out = {"kept": _capped(psnr(after, before, preserved)), "kept_ssim": ssim(after, before, preserved).item()}
    grey_after, grey_before = (x.mean(1, keepdim=True) for x in (after, before))
    out["structure"] = 1 - ssim(grey_after, grey_before, 1 - preserved).item()
    if task.answer:
        right, known = task.answer
        out["exact"] = _capped(psnr(after, as_tensor(right), torch.from_numpy(known)[None, None]))
    if task.wanted and verdict:
        success = succeeded(verdict, task.wanted)
        if task.answer:
            success &= out["exact"] >= MIN_ANSWER_PSNR
        out["success"] = float(success)
    return {name: value for name, value in out.items() if not np.isnan(value)}  # nan if the mask is empty


def _capped(value: Tensor) -> float:
    """Limit a PSNR to 100 dB, so that it is finite for equal pictures."""
    return min(value.item(), 100.0)
