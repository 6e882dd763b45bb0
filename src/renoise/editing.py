"""Editing: denoise the inverted noise under a new prompt, and preserve what the prompt does not change.

At each step one batch evaluates the network o(x, prompt) for several prompts (its rows), at the latent x of the edit
and at the latent x* of the source. The source follows the trajectory (x_T, …, x_0) of the inversion. o* is the network
output that leads from x* exactly to the next latent of this trajectory.

    out = o(x, negative) + guidance [o(x, target) − o(x, negative)] + source_correction [o* − o(x*, source)]

The first two terms are classifier-free guidance. Computing it here also works for pipelines without guidance, as in the
pseudo-guidance of TurboEdit (arXiv 2408.00735). The third term corrects the error of the inversion, as in PnP Inversion (arXiv
2310.01506). It vanishes if the inversion is exact.

Before, the noise is made fit for the edit, see spectrum.py. If there is a mask, the latents outside it are those of the source
as long as the noise exceeds the signal, as in Blended Diffusion (arXiv 2111.14818). The layout of the picture is decided there,
so the edit stays in its place. At lower noise it is drawn everywhere, because blending would cut its outlines and leave seams.
At the end it is joined to the photograph in pixels, see blending.py.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from renoise import layout
from renoise.edits import NEGATIVE, SOURCE, Edit, Source
from renoise.programs import Program, draw_noise
from renoise.spectrum import editable
from renoise.step import Step


def with_editable_noise(source: Source, editability: Tensor, mask: Tensor | None, seed: int, aspect: float) -> Source:
    """Return the source with x_T and the noises of its steps changed, so that another prompt can draw from them.

    Args:
        source: the inverted photograph.
        editability: the editability (B,) of each image, in [0, 1], see spectrum.py.
        mask: the weight (B or 1, 1, H, W) of the change at each position of the maps. None changes all.
        seed: seed of the fresh noise.
        aspect: height / width of the picture.
    """
    if not bool((editability > 0).any()):
        return source
    noises = [source.x_T, *(() if source.noises is None else source.noises)]
    fresh = draw_noise(seed, "edit", len(noises), source.x_T)
    x_T, *changed = (editable(n, w, editability, mask, aspect) for n, w in zip(noises, fresh, strict=True))
    return replace(source, x_T=x_T, noises=torch.stack(changed) if changed else None)


def redraw(steps: Sequence[Step], source: Source, edit: Edit, rows: Sequence[str]) -> Program[Tensor]:
    """Denoise the source's x_T (B, ...) to x_0 (B, ...) under the target prompt.

    The program requests evaluations at latents (rows · B, ...): at x* in a SOURCE row, at x in NEGATIVE and TARGET
    rows.

    Args:
        steps: the sampler steps, noisiest first.
        source: the inverted photograph. A source correction needs its trajectory.
        edit: guidance, source correction and mask. A mask needs the trajectory and the photograph.
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
        if edit.mask is not None and step.s.sigma > step.s.alpha:
            assert source.photograph is not None
            outside = original
            if edit.ground is not None:
                outside = outside + step.s.alpha * (edit.ground - source.photograph.x_0)
            x = layout.blend(edit.mask, x, outside, source.photograph.aspect)
    return x
