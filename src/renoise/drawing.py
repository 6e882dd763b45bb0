"""Inversion → picture: the photograph again, or as another prompt would have it."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from renoise import algorithm, baselines, editing, images, regularize
from renoise.algorithm import Program, Progress
from renoise.inversion import Inversion
from renoise.pipelines import calling
from renoise.pipelines.driver import Run, drive
from renoise.pipelines.finding import find
from renoise.pipelines.schedulers import Reading
from renoise.step import Step

Picture = Any  # a PIL image, a tensor (3, H, W) or (B, 3, H, W) in [0, 1], or the path of a file
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
    """The photographs again, from their noise: a list of PIL images, or a tensor (B, 3, H, W) in [0, 1] for output_type "pt".

    `num_inference_steps` may differ from the inversion's for deterministic samplers. output_type "latent" gives x_0 as the loop
    has it. ValueError if the pipeline is not the one that the inversion was made with, an argument it needs is missing, or what
    it draws is not finite.
    """
    record = inversion.record

    def program(steps: Sequence[Step], x_T: Tensor, noises: Tensor | None, start: int) -> Program[Tensor]:
        return algorithm.generate(steps, x_T, noises, start)

    run = _run(
        pipe, inversion, program, record.prompt, record.negative_prompt, record.guidance_scale,
        num_inference_steps=num_inference_steps, output_type=output_type, progress=progress, call=call,
    )  # fmt: skip
    return _pictures(run, output_type)


def edit(
    pipe: Any,
    inversion: Inversion,
    prompt: str | Sequence[str],
    *,
    negative_prompt: str | Sequence[str] | None = None,
    guidance_scale: float | None = None,
    pseudo_guidance: float | None = None,
    keep: float = 0.0,
    mask: Picture | None = None,
    original: Picture | None = None,
    num_inference_steps: int | None = None,
    output_type: str = "pil",
    progress: Progress | None = None,
    **call: Any,
) -> Any:
    """The photographs as another prompt would have them: their noise, drawn again under `prompt` (one for all or one for each).

    guidance_scale     None: the preset's for editing, or the inversion's if that is more; more keeps less of the photograph
    negative_prompt    None: the source prompt, as in the paper, wherever a second evaluation is made
    pseudo_guidance    the same by a row of its own instead of the pipeline's guidance, for pipelines that do not guide (FLUX)
    keep       in [0, 1]: how much of what an inexact inversion lacks is made up for (editing.py); an evaluation more a step
    mask       white where the picture may change; "auto": found where the prompts' predictions differ; "none": everywhere;
               None: the preset's choice
    original   the photographs: outside the mask their pixels are put back as they were
    The rest as in `reconstruct`; ValueError names an argument that cannot be used.
    """
    record, method = inversion.record, inversion.record.settings.get("method")
    if not 0 <= keep <= 1:
        raise ValueError(f"keep must lie in [0, 1], got {keep}")
    own_steps = num_inference_steps in (None, record.num_inference_steps)
    guidance_scale, mask = decided(pipe, inversion, guidance_scale, mask, own_steps)
    mask = None if isinstance(mask, str) and mask == EVERYWHERE else mask
    if original is not None and mask is None:
        raise ValueError("original= puts back what lies outside a mask: give mask= too")
    if original is not None and output_type not in ("pil", "pt"):
        raise ValueError(f'original= puts pixels back, which output_type "{output_type}" has not: "pil" and "pt" have')
    if (keep > 0 or mask is not None) and not own_steps:
        raise ValueError("keep and mask follow the inversion's own course: leave num_inference_steps out")
    if (keep > 0 or mask is not None or method == "flowedit") and method is not None and inversion.course is None:
        raise ValueError(f"a file of method {method!r} does not hold the photograph that this needs: invert it again")
    if method == "sdedit" and isinstance(mask, str) and mask == AUTO:
        raise ValueError("SDEdit has not inverted the photograph, so that no mask can be found: give one of your own")
    if method == "flowedit" and (keep > 0 or any(x is not None for x in (mask, pseudo_guidance, negative_prompt))):
        raise ValueError("FlowEdit takes no keep, mask, pseudo_guidance or negative_prompt: leave them out")
    if others := [name for name in record.call if name.startswith("prompt_") and name not in call]:
        raise ValueError(f"the inversion was made with {', '.join(others)}: give the edited one too")
    prompts = calling.spread(prompt, len(inversion), "prompt")
    negatives = None if negative_prompt is None else calling.spread(negative_prompt, len(inversion), "negative_prompt")
    merged = {**record.call, **call}
    for note in calling.too_long(pipe, prompts + (negatives or []), merged):
        warnings.warn(note, stacklevel=2)
    guides = calling.guides(pipe, guidance_scale, merged)
    course = _course(pipe, inversion, call) if keep > 0 or mask is not None else None
    allowed = _allowed(pipe, inversion, prompts, mask, course, call)
    both = pseudo_guidance is not None
    if pseudo_guidance is None:
        pseudo_guidance = calling.row_guidance(pipe, guidance_scale, merged)
        both = keep > 0 and pseudo_guidance != 1
    rows = 2 if method == "flowedit" else 1 + both + (keep > 0)

    def program(steps: Sequence[Step], x_T: Tensor, noises: Tensor | None, start: int) -> Program[Tensor]:
        if method == "flowedit" and inversion.course is not None:
            x_0 = inversion.course[-1].to(x_T.device)
            ws = algorithm.noises(record.seed, "guess", len(steps) - start, x_0)
            return baselines.flow_edit(steps, x_0, ws, start)
        more: dict[str, Any] = {"course": course}
        if allowed is not None:
            more["mask"] = editing.at_latents(allowed, x_T, record.height / record.width)
        if rows > 1:
            more |= {"both": both, "guidance": pseudo_guidance, "keep": keep}
        return editing.redraw(steps, x_T, noises, start, **more)

    options: dict[str, Any] = dict(num_inference_steps=num_inference_steps, progress=progress, output_type=output_type)
    if rows > 1:
        own, flowedit = guidance_scale, method == "flowedit"
        if guides and not flowedit and "true_cfg_scale" not in merged:  # FlowEdit has the pipeline guide both prompts
            own = calling.unguided(pipe)
        sources = [*record.prompt * (flowedit or keep > 0), *(negatives or record.prompt) * both]
        options["call"] = calling.stacked(sources, prompts, record.call, call)
        run = _run(pipe, inversion, program, [*sources, *prompts], None, own, rows=rows, **options)
    else:
        negative = negatives if negatives is not None else (record.prompt if guides else None)
        run = _run(pipe, inversion, program, prompts, negative, guidance_scale, call=call, **options)
    return _pictures(run, output_type, _outside(inversion, allowed, original))


def decided(
    pipe: Any, inversion: Inversion, guidance_scale: float | None, mask: Picture | None, own_steps: bool = True
) -> tuple[float | None, Picture]:
    """guidance_scale and mask of an edit, where they are None as the preset or the inversion has it."""
    preset, record = find(pipe), inversion.record
    if guidance_scale is None:
        own = record.guidance_scale
        guidance_scale = max(preset.edit_guidance_scale, own or 0.0) if preset else own
    if mask is None:
        mask = preset.edit_mask if preset and own_steps and "method" not in record.settings else EVERYWHERE
    return guidance_scale, mask


def _run(
    pipe: Any,
    inversion: Inversion,
    program_of: Callable[[Sequence[Step], Tensor, Tensor | None, int], Program[Any]],
    prompts: list[str],
    negatives: list[str] | None,
    guidance_scale: float | None,
    *,
    num_inference_steps: int | None = None,
    output_type: str = "latent",
    progress: Progress | None = None,
    call: dict[str, Any],
    rows: int = 1,
) -> Run[Any]:
    """Run a program over an inversion's latents under these prompts; the network sees `rows` times as many latents."""
    record = inversion.record
    calling.check_model(pipe, record)
    if missing := [name for name in record.needs if name not in call]:
        raise ValueError(f"the inversion was made with {', '.join(missing)}: give it again")
    calling.refuse(pipe, call)
    call = {**calling.restored(record.call), **call}
    count = calling.step_count(
        pipe, record.num_inference_steps if num_inference_steps is None else num_inference_steps, None
    )
    x_T = inversion.latents.to(pipe._execution_device)
    noises = None if inversion.noises is None else inversion.noises.to(x_T.device)
    eta = calling.noisiness(pipe, call)

    def program(reading: Reading) -> Program[Any]:
        steps = calling.steps(reading, eta)
        start = first_step(len(steps), record.strength)
        record.check(reading.schedule, start, repr(calling.sampler(reading, eta)), reading.prediction.name)
        held, needed = 0 if noises is None else len(noises), sum(step.stochastic for step in steps[start:])
        if held != needed:
            raise ValueError(f"the inversion is damaged: it holds {held} noises, its sampler draws {needed}")
        return algorithm.watched(program_of(steps, x_T, noises, start), len(steps) - start, progress)

    arguments = calling.arguments(pipe, prompts, negatives, guidance_scale, record.height, record.width, count, call)
    wanted = "pt" if output_type == "pil" else output_type
    shape = (rows * len(x_T), *x_T.shape[1:])
    return drive(pipe, program, shape, {**arguments, "output_type": wanted})


def _pictures(run: Run[Any], output_type: str, outside: Callable[[Tensor], Tensor] | None = None) -> Any:
    """What was drawn, as asked for."""
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
    pictures = run.output.images
    pictures = outside(pictures) if outside else pictures
    return images.to_images(pictures) if output_type == "pil" else pictures


def _course(pipe: Any, inversion: Inversion, call: dict[str, Any]) -> Tensor:
    """The latents after each step of the inversion, or, if it is from a file, of its reconstruction."""
    if inversion.course is not None:
        return inversion.course.to(pipe._execution_device)
    record, passed = inversion.record, list[Tensor]()

    def program(steps: Sequence[Step], x_T: Tensor, noises: Tensor | None, start: int) -> Program[Tensor]:
        return (yield from _noted(algorithm.generate(steps, x_T, noises, start), passed))

    given = {name: call[name] for name in record.needs if name in call}
    _run(pipe, inversion, program, record.prompt, record.negative_prompt, record.guidance_scale, call=given)
    return torch.stack(passed[1:])


def _noted(program: Program[Tensor], passed: list[Tensor]) -> Program[Tensor]:
    """The program, with the latents it asks about and its result put on a list."""
    question = next(program)
    try:
        while True:
            passed.append(question[0])
            question = program.send((yield question))
    except StopIteration as end:
        passed.append(end.value)
        return end.value


def _allowed(
    pipe: Any,
    inversion: Inversion,
    prompts: list[str],
    mask: Picture | None,
    course: Tensor | None,
    call: dict[str, Any],
) -> Tensor | None:
    """Where the pictures may change: (1 or B, 1, H, W) in [0, 1], or None for everywhere."""
    record = inversion.record
    if mask is None or course is None:
        return None
    if not isinstance(mask, str) or mask != AUTO:
        found = images.masks(mask, record.height, record.width)
        if len(found) not in (1, len(inversion)):
            raise ValueError(f"mask: {len(found)} masks for {len(inversion)} images; give one for all or one for each")
        return found
    aspect = record.height / record.width

    def program(steps: Sequence[Step], x_T: Tensor, noises: Tensor | None, start: int) -> Program[tuple[Tensor]]:
        return editing.difference(steps, x_T, noises, course, start, aspect)

    run = _run(pipe, inversion, program, prompts, record.negative_prompt, record.guidance_scale, call=call)
    x_0 = regularize.maps(course[-1], aspect).to(run.result[0])
    return editing.mask_of(run.result[0], x_0)


def _outside(
    inversion: Inversion, allowed: Tensor | None, original: Picture | None
) -> Callable[[Tensor], Tensor] | None:
    """What puts the original's pixels back where the mask forbids a change."""
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


def first_step(steps: int, strength: float) -> int:
    """The number of the first step that is taken."""
    return steps - max(1, round(steps * strength))
