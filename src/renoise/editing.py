"""Drawing an edit: the inverted noise under another prompt, keeping what the prompt does not change.

The rows of one batch ask the network about the edit's own latent x, o(x, prompt), and about the source's: on its trajectory
(x_T, …, x_0), which the inversion knows, each latent x* needed the output o* to arrive at the next.

    out = o(x, negative) + guidance [o(x, target) − o(x, negative)] + source_correction [o* − o(x*, source)]

The first two are classifier-free guidance with, by default, the source prompt as the negative one, the paper's way (arXiv
2403.14602), here also on pipelines that cannot guide: the pseudo-guidance of TurboEdit (arXiv 2408.00735). The third adds what
the source's branch lacks to follow its trajectory, as in PnP Inversion (arXiv 2310.01506): nothing where the inversion is exact.

A mask m (1 where the picture may change) puts the rest back on the source's trajectory after every step, x ← m x + (1 − m) x*, as
in Blended Diffusion (arXiv 2111.14818). masks.py finds it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from renoise.edits import NEGATIVE, SOURCE, Edit, Source
from renoise.programs import Program
from renoise.step import Step


def redraw(steps: Sequence[Step], source: Source, edit: Edit, rows: Sequence[str]) -> Program[Tensor]:
    """Denoise the source's x_T (B, ...) under the target prompt -> x_0.

    The program asks about latents (rows · B, ...): in a row of SOURCE about x*, in NEGATIVE and TARGET about x. `source` needs
    its trajectory for a mask and for the source correction.
    """
    x = original = source.x_T
    for i, step in enumerate(steps):
        z = step.noise_from(source.noises, i)
        asked = torch.cat([original if row == SOURCE else x for row in rows])
        outputs = dict(zip(rows, (yield asked, i).to(x.dtype).chunk(len(rows)), strict=True))
        out = outputs[rows[-1]]
        if edit.guidance is not None:
            out = outputs[NEGATIVE] + edit.guidance * (out - outputs[NEGATIVE])
        if source.trajectory is not None:
            if edit.source_correction > 0:
                out = out + edit.source_correction * (
                    step.required(original, source.trajectory[i], z) - outputs[SOURCE]
                )
            original = source.trajectory[i]
        x = step.denoise(x, out, z)
        if edit.mask is not None:
            x = edit.mask * x + (1 - edit.mask) * original
    return x
