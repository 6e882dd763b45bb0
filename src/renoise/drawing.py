"""Inversion → picture: the photograph again, or as another prompt would have it."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from renoise import images, masks
from renoise.edits import Source
from renoise.inversion import Inversion
from renoise.methods.method import AUTO_MASK, PHOTOGRAPH
from renoise.pipelines.driver import Run
from renoise.pipelines.embeddings import replaces_text
from renoise.pipelines.finding import find
from renoise.pipelines.guidance import guides
from renoise.pipelines.latents import pictures_of
from renoise.pipelines.prompts import per_image, too_long
from renoise.programs import Program, Progress, generate
from renoise.replay import Replay
from renoise.scalars import real
from renoise.step import Step

Picture = Any  # a path, a PIL image, a NumPy array, or a tensor (3, H, W) or (B, 3, H, W) in [0, 1]
AUTO, EVERYWHERE = "auto", "none"


def reconstruct(
    pipe: Any,
    inversion: Inversion,
    *,
    num_inference_steps: int | None = None,
    output_type: str = "pil",
    progress: Progress | None = None,
    **call: Any,
) -> Any:
    """Draw the photographs again from their noise.

    Args:
        num_inference_steps: may differ from the inversion's for deterministic samplers. None is the inversion's.
        output_type: "pil" for a list of PIL images, "pt" for a tensor (B, 3, H, W) in [0, 1], "latent" for x_0 (B, ...) as the
            pipeline's loop has it.
        progress: called with (evaluations made, evaluations expected).
        **call: more arguments of the pipeline; of an inversion from a file those that no file can hold must be given again.

    Raises:
        ValueError: the pipeline is not the one that the inversion was made with, an argument is missing, or what it draws is not
            finite.
    """
    replay = Replay(pipe, inversion, call, num_inference_steps)

    def program(steps: Sequence[Step], source: Source) -> Program[Tensor]:
        return generate(steps, source.x_T, source.noises)

    run = replay.run(program, replay.source_call, output_type=output_type, progress=progress)
    return as_asked(run, output_type)


def edit(
    pipe: Any,
    inversion: Inversion,
    prompt: str | Sequence[str] | None = None,
    *,
    negative_prompt: str | Sequence[str] | None = None,
    guidance_scale: float | None = None,
    pseudo_guidance: float | None = None,
    source_correction: float = 0.0,
    mask: Picture | None = None,
    original: Picture | None = None,
    num_inference_steps: int | None = None,
    output_type: str = "pil",
    progress: Progress | None = None,
    **call: Any,
) -> Any:
    """Draw the photographs as another prompt would have them, from their noise.

    Args:
        prompt: the target prompt; one for all images or one for each. Or give `prompt_embeds` and the like.
        negative_prompt: None is the source prompt, as in the paper, wherever the pipeline guides. The inversion's own negative
            prompt
            is not used.
        guidance_scale: None is the preset's for editing, or the inversion's if that is more. More keeps less of the photograph.
        pseudo_guidance: guidance by a row of its own instead of the pipeline's, for pipelines that do not guide (FLUX).
        source_correction: in [0, 1], how much of what an inexact inversion lacks is added (editing.py). Costs one evaluation more
            a step.
        mask: white where the picture may change. "auto" finds where the prompts' predictions differ, "none" is everywhere;
            None is the preset's choice.
        original: the photographs, whose pixels are put back outside the mask.
        num_inference_steps, output_type, progress, **call: as in `reconstruct`.

    Raises:
        ValueError: an argument cannot be used. The message names it, and the fix.
    """
    source_correction = real("source_correction", source_correction)
    guidance_scale = None if guidance_scale is None else real("guidance_scale", guidance_scale)
    pseudo_guidance = None if pseudo_guidance is None else real("pseudo_guidance", pseudo_guidance)
    guidance_given = guidance_scale is not None
    if not 0 <= source_correction <= 1:
        raise ValueError(f"source_correction must lie in [0, 1], got {source_correction}")
    replay, own_steps = (
        Replay(pipe, inversion, call, num_inference_steps, edit=True),
        num_inference_steps in (None, inversion.record.num_inference_steps),
    )
    guidance_scale, mask = edit_defaults(pipe, inversion, guidance_scale, mask, own_steps)
    mask = None if isinstance(mask, str) and mask == EVERYWHERE else mask
    auto = isinstance(mask, str) and mask == AUTO
    method = replay.method
    method.check({
        "negative_prompt": negative_prompt, "pseudo_guidance": pseudo_guidance, "source_correction": source_correction or None,
        "mask": mask, AUTO_MASK: True if auto else None,
    })  # fmt: skip
    if original is not None and mask is None:
        raise ValueError("original= puts back what lies outside a mask: give mask= too")
    if original is not None and output_type not in ("pil", "pt"):
        raise ValueError(f'original= puts pixels back, which output_type "{output_type}" has not: "pil" and "pt" have')
    follows = source_correction > 0 or mask is not None
    if follows and not own_steps:
        raise ValueError("source_correction and mask follow the inversion's trajectory: leave num_inference_steps out")
    if prompt is None and not replaces_text(call):
        raise ValueError("pass the prompt of the edited picture, or its prompt_embeds")
    if pseudo_guidance is not None and guidance_given and guides(pipe, guidance_scale, replay.extra):
        raise ValueError("pseudo_guidance takes the place of the pipeline's guidance: leave guidance_scale out")
    prompts = per_image(prompt or "", len(inversion), "prompt")
    negatives = None if negative_prompt is None else per_image(negative_prompt, len(inversion), "negative_prompt")
    if others := [name for name in inversion.record.call if name.startswith("prompt_") and name not in call]:
        raise ValueError(f"the inversion was made with {', '.join(others)}: give the edited one too")
    for note in too_long(pipe, prompts + (negatives or []), replay.extra):
        warnings.warn(note, stacklevel=2)
    if follows or PHOTOGRAPH in method.needs:
        replay = replay.with_trajectory()
    allowed = None if mask is None else replay.found_mask(prompts) if auto else replay.given_mask(mask)
    pipeline_call, settings = replay.edit_call(prompts, negatives, guidance_scale, pseudo_guidance, source_correction)

    def program(steps: Sequence[Step], source: Source) -> Program[Tensor]:
        at_latents = None if allowed is None else masks.at_latents(allowed, source.x_T, replay.aspect)
        return method.draw(steps, source, replace(settings, mask=at_latents))

    run = replay.run(program, pipeline_call, output_type=output_type, progress=progress)
    return as_asked(run, output_type, _outside(inversion, allowed, original))


def edit_defaults(
    pipe: Any, inversion: Inversion, guidance_scale: float | None, mask: Picture | None, own_steps: bool = True
) -> tuple[float | None, Picture]:
    """Return guidance_scale and mask of an edit; where they are None, as the preset or the inversion has it."""
    preset, own = find(pipe), inversion.record.guidance_scale
    if guidance_scale is None:
        guidance_scale = max(preset.edit_guidance_scale, own or 0.0) if preset else own
    if mask is None:
        mask = (
            preset.edit_mask if preset and own_steps and inversion.record.restored_method().reconstructs else EVERYWHERE
        )
    return guidance_scale, mask


def as_asked(run: Run[Any], output_type: str, outside: Callable[[Tensor], Tensor] | None = None) -> Any:
    """Return what was drawn, as asked for."""
    if not run.result.isfinite().all():
        raise ValueError(
            "the network gave numbers that are not finite: load the pipeline in another dtype, fp32 or bf16"
        )
    if output_type == "latent":
        return run.result
    if hidden := sum(getattr(run.output, "nsfw_content_detected", None) or ()):
        warnings.warn(
            f"the pipeline's safety checker has blacked out {hidden} of {len(run.result)} pictures", stacklevel=3
        )
    pictures = pictures_of(run.output)[: len(run.result)]
    pictures = outside(pictures) if outside else pictures
    return images.to_images(pictures) if output_type == "pil" else pictures


def _outside(
    inversion: Inversion, allowed: Tensor | None, original: Picture | None
) -> Callable[[Tensor], Tensor] | None:
    """Return what puts the original's pixels back where the mask forbids a change."""
    if allowed is None or original is None:
        return None
    size = (inversion.record.height, inversion.record.width)
    kept = images.batch(original, *size)
    if len(kept) != len(inversion):
        raise ValueError(f"original: {len(kept)} pictures for {len(inversion)} images")
    at_pixels = torch.nn.functional.interpolate(allowed.float(), size, mode="bilinear", align_corners=False)

    def put_back(pictures: Tensor) -> Tensor:
        m, photograph = at_pixels.to(pictures), kept.to(pictures)
        return m * pictures + (1 - m) * photograph

    return put_back
