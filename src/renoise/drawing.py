"""Inversion → picture: the photograph again, or as another prompt would have it."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from renoise import images, layout, masks
from renoise.blending import join, join_found, without_object
from renoise.editing import with_editable_noise
from renoise.edits import Edit, Source
from renoise.inversion import Inversion
from renoise.methods import Method
from renoise.methods.method import AUTO_MASK, PHOTOGRAPH
from renoise.pipelines.driver import Run
from renoise.pipelines.embeddings import replaces_text
from renoise.pipelines.finding import find
from renoise.pipelines.guidance import guides
from renoise.pipelines.latents import pictures_of
from renoise.pipelines.prompts import per_image, too_long
from renoise.programs import Program, Progress, generate
from renoise.replay import Replay
from renoise.scalars import integer, real
from renoise.step import Step

Picture = Any  # a path, a PIL image, a NumPy array, or a tensor (3, H, W) or (B, 3, H, W) in [0, 1]
AUTO, EVERYWHERE = "auto", "none"
LARGEST_SEED = 2**40


def reconstruct(
    pipe: Any,
    inversion: Inversion,
    *,
    remainder: bool = True,
    num_inference_steps: int | None = None,
    output_type: str = "pil",
    progress: Progress | None = None,
    **call: Any,
) -> Any:
    """Draw the photographs again from their noise.

    Args:
        remainder: add what the noise does not draw, if the inversion holds it, so that the autoencoder's picture of the
            photograph comes back. It belongs to the inversion's own steps, and is left out for others.
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
    add = remainder and num_inference_steps in (None, inversion.record.num_inference_steps)

    def program(steps: Sequence[Step], source: Source) -> Program[Tensor]:
        x_0 = yield from generate(steps, source.x_T, source.noises)
        return x_0 + source.remainder if add and source.remainder is not None else x_0

    run = replay.run(program, replay.source_call, output_type=output_type, progress=progress)
    return as_asked(run, output_type)


def edit(
    pipe: Any,
    inversion: Inversion,
    prompt: str | Sequence[str] | None = None,
    *,
    editability: float | None = None,
    seed: int = 0,
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
        editability: how freely the edit may depart from the photograph (spectrum.py), in [0, 1]: 0 draws from the noise as it was
            found, 1 makes a new drawing. None is the choice of the inversion's method, and 0 for an unchanged prompt, so that
            the photograph comes back.
        seed: seed of the fresh noise that replaces the photograph's. Another seed gives another picture.
        negative_prompt: one for all images or one for each. None is the inversion's, or none. If the inversion was not guided, it
            is the prompt itself where that is an unchanged text, so that the photograph comes back.
        guidance_scale: None is the preset's for editing, or the inversion's if that is more. More keeps less of the photograph.
        pseudo_guidance: guidance by a row of its own instead of the pipeline's, for pipelines that do not guide (FLUX).
        source_correction: in [0, 1], how much of what an inexact inversion lacks is added (editing.py). Costs one evaluation more
            a step.
        mask: white where the picture may change. "auto" finds where the prompts' predictions differ, "none" is everywhere;
            None is the preset's choice. The noise changes inside it only, and the edit is joined to the photograph there.
        original: the photographs, whose own pixels surround the edit. None takes the inversion's. One from a file holds none: the
            autoencoder's pixels are used.
        num_inference_steps, output_type, progress, **call: as in `reconstruct`.

    Raises:
        ValueError: an argument cannot be used. The message names it, and the fix.
    """
    source_correction, seed = real("source_correction", source_correction), integer("seed", seed)
    guidance_scale = None if guidance_scale is None else real("guidance_scale", guidance_scale)
    pseudo_guidance = None if pseudo_guidance is None else real("pseudo_guidance", pseudo_guidance)
    editability = None if editability is None else real("editability", editability)
    guidance_given = guidance_scale is not None
    for name, value in (("source_correction", source_correction), ("editability", editability)):
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name} must lie in [0, 1], got {value}")
    if not 0 <= seed < LARGEST_SEED:
        raise ValueError(f"seed must lie in 0 … {LARGEST_SEED - 1}, got {seed}")
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
        "mask": mask, AUTO_MASK: True if auto else None, "editability": editability or None,
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
    around = inversion.photographs if original is None else _pixels(inversion, original)
    if follows or PHOTOGRAPH in method.needs:
        replay = replay.with_trajectory(pixels=mask is not None and around is None and output_type != "latent")
    as_text = negatives is None and not any(replaces_text(call, negative) for negative in (False, True))
    unchanged = [as_text and new == old for new, old in zip(prompts, inversion.prompt, strict=True)]
    guided = pseudo_guidance is not None or guides(pipe, guidance_scale, replay.extra)
    if any(unchanged) and guided and not replay.source_is_guided:
        # guidance away from the prompt itself does nothing
        negatives = [prompt if same else "" for prompt, same in zip(prompts, unchanged, strict=True)]
    pipeline_call, settings = replay.edit_call(prompts, negatives, guidance_scale, pseudo_guidance, source_correction)
    allowed = None
    if auto:
        allowed = replay.found_mask(prompts)
        # equal prompts differ by rounding errors
        allowed = allowed * ~torch.tensor(unchanged, device=allowed.device).reshape(-1, 1, 1, 1)
    elif mask is not None:
        allowed = replay.given_mask(mask)
    e = _editabilities(editability, method, unchanged, inversion.latents, replay.aspect)

    def program(steps: Sequence[Step], source: Source) -> Program[Tensor]:
        m = None if allowed is None else masks.at_maps(allowed, source.x_T, replay.aspect)
        changed = with_editable_noise(source, e, m, seed, replay.aspect)
        placed = settings if m is None else _placed(settings, source, m, auto, replay.aspect)
        x = yield from method.draw(steps, changed, placed)
        if source.remainder is not None and method.reconstructs and own_steps:
            share = (1 - 2 * e).clamp_min(0).to(x)
            x = x + share.reshape(-1, *(1,) * (x.ndim - 1)) * source.remainder
        if m is None or output_type != "latent":
            return x
        assert source.photograph is not None
        return layout.blend(m, x, source.photograph.x_0, replay.aspect)

    def joined(pictures: Tensor) -> Tensor:
        assert allowed is not None
        outside = replay.inversion.photographs if around is None else around
        outside = replay.decoded() if outside is None else outside
        return (join_found if auto else join)(pictures, outside.to(pictures), allowed)

    run = replay.run(program, pipeline_call, output_type=output_type, progress=progress)
    return as_asked(run, output_type, joined if allowed is not None else None)


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


def as_asked(run: Run[Any], output_type: str, finish: Callable[[Tensor], Tensor] | None = None) -> Any:
    """Return what was drawn, as asked for. `finish` changes the pictures (B, 3, H, W)."""
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
    pictures = finish(pictures) if finish else pictures
    return images.to_images(pictures) if output_type == "pil" else pictures


def _editabilities(
    given: float | None, method: Method, unchanged: Sequence[bool], latents: Tensor, aspect: float
) -> Tensor:
    """Return the editability (B,) of each image: the user's, the method's, or 0 where the prompt is unchanged."""
    default = method.default_editability
    if given is None and default > 0:
        try:
            layout.maps(latents, aspect)
        except ValueError:  # noise that is no map has no spatial frequencies
            default = 0.0
    return torch.tensor([given if given is not None else 0.0 if same else default for same in unchanged])


def _placed(settings: Edit, source: Source, mask: Tensor, found: bool, aspect: float) -> Edit:
    """Return the settings with the mask (B or 1, 1, H, W), and the ground without the object if the mask was found."""
    if not found:
        return replace(settings, mask=(mask > 0).to(mask))  # its weights act once, when pixels are joined
    assert source.photograph is not None
    x_0 = source.photograph.x_0
    ground = without_object(layout.maps(x_0, aspect), mask)
    return replace(settings, mask=masks.core(mask), ground=layout.unmaps(ground, x_0.shape))


def _pixels(inversion: Inversion, original: Picture) -> Tensor:
    """Return the photographs' own pixels (B, 3, H, W) in [0, 1]."""
    pixels = images.batch(original, inversion.record.height, inversion.record.width)
    if len(pixels) != len(inversion):
        raise ValueError(f"original: {len(pixels)} pictures for {len(inversion)} images")
    return pixels
