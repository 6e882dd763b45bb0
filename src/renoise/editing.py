"""Editing: denoise the inverted noise under a new prompt, and preserve what the prompt does not change.

At each step one batch evaluates the network o(x, prompt) for several prompts (its rows), at the latent x of the edit
and at the latent x* of the source. The source follows the trajectory (x_T, …, x_0) of the inversion. o* is the network
output that leads from x* exactly to the next latent of this trajectory.

    out = o(x, negative) + guidance [o(x, target) − o(x, negative)] + source_correction [o* − o(x*, source)]

The first two terms are classifier-free guidance. By default the source prompt is the negative prompt, as in the ReNoise
paper (arXiv 2403.14602). Computing it here also works for pipelines without guidance, as in the pseudo-guidance of
TurboEdit (arXiv 2408.00735). The third term corrects the error of the inversion, as in PnP Inversion (arXiv
2310.01506). It vanishes if the inversion is exact.

A mask m is 1 where the picture may change. After every step the other pixels are reset to the source's trajectory,
x ← m x + (1 − m) x*, as in Blended Diffusion (arXiv 2111.14818). masks.py computes such a mask.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from renoise.edits import NEGATIVE, SOURCE, Edit, Source
from renoise.programs import Program
from renoise.step import Step


def redraw(steps: Sequence[Step], source: Source, edit: Edit, rows: Sequence[str]) -> Program[Tensor]:
    """Denoise the source's x_T (B, ...) to x_0 (B, ...) under the target prompt.

    The program requests evaluations at latents (rows · B, ...): at x* in a SOURCE row, at x in NEGATIVE and TARGET
    rows.

    Args:
        steps: the sampler steps, noisiest first.
        source: the inverted photograph. A mask or a source correction needs its trajectory.
        edit: guidance, source correction and mask.
        rows: the prompt of each row, of SOURCE, NEGATIVE and TARGET. The last one is TARGET.
    """
    x = original = source.x_T
    for i, step in enumerate(steps):
        z = step.noise_from(source.noises, i)
        inputs = torch.cat([original if row == SOURCE else x for row in rows])
        outputs = dict(zip(rows, (yield inputs, i).to(x.dtype).chunk(len(rows)), strict=True))
        out = outputs[rows[-1]]
        if edit.guidance is not None:
            out = outputs[NEGATIVE] + edit.guidance * (out - outputs[NEGATIVE])
        if source.trajectory is not None:
            if edit.source_correction > 0:
                out = out + edit.source_correction * (
                    step.required_output(original, source.trajectory[i], z) - outputs[SOURCE]
                )
            original = source.trajectory[i]
        x = step.denoise(x, out, z)
        if edit.mask is not None:
            x = edit.mask * x + (1 - edit.mask) * original
    return x
