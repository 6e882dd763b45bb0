"""Photograph and prompt → inversion → picture: the four functions most users need, over a loaded diffusers pipeline.

    pipe = renoise.load("orchard")                                 # or any DiffusionPipeline you have loaded
    inversion = renoise.invert(pipe, photograph, "a photo of a red apple on a white background")
    renoise.reconstruct(pipe, inversion)[0]
    renoise.edit(pipe, inversion, "a photo of a lemon on a white background")[0]

No state is kept on the pipeline. Arguments not named here go to the pipeline's `__call__` as they are.
"""

import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from renoise import algorithm, images
from renoise.algorithm import Program, Progress, Trajectory
from renoise.inversion import Inversion, Record, describe
from renoise.metrics import psnr
from renoise.pipelines import calling
from renoise.pipelines import latents as autoencoding
from renoise.pipelines.driver import drive
from renoise.pipelines.finding import find
from renoise.pipelines.loading import load
from renoise.pipelines.schedulers import Reading
from renoise.settings import ReNoise

__all__ = ["edit", "invert", "load", "reconstruct"]

Picture = Any  # a PIL image, a tensor (3, H, W) or (B, 3, H, W) in [0, 1], or the path of a file


def invert(
    pipe: Any,
    image: Picture | Sequence[Picture] | None,
    /,
    prompt: str | Sequence[str] = "",
    *,
    settings: ReNoise | None = None,
    num_inference_steps: int | None = None,
    negative_prompt: str | Sequence[str] | None = None,
    guidance_scale: float | None = None,
    strength: float = 1.0,
    seed: int = 0,
    height: int | None = None,
    width: int | None = None,
    latents: Tensor | None = None,
    measure: bool = True,
    progress: Progress | None = None,
    **call: Any,
) -> Inversion:
    """Find the noise of which `pipe` would draw the photograph (ReNoise, arXiv 2403.14602).

    image      one picture or a list of them: PIL, tensor in [0, 1] or path; scaled and cropped to the size, never squashed
    prompt     what the photograph shows: one for all, or one for each
    settings, num_inference_steps, guidance_scale    None: the preset's, or `ReNoise.for_pipeline`'s and 1.0 (no guidance)
    strength   in (0, 1]: how far to go towards pure noise; less keeps more of the photograph when it is edited
    seed       of the noises of stochastic samplers; the same for every image and on every device
    latents    clean latents (B, ...) as the pipeline's loop has them, instead of `image`, for an autoencoder not known here
    measure    reconstruct afterwards, for `psnr` and `ceiling_psnr` (costs as many network evaluations as there are steps)
    progress   called with (evaluations made, evaluations expected)

    ValueError names an argument that cannot be used, and the fix.
    """
    if not 0 < strength <= 1:
        raise ValueError(f"strength must lie in (0, 1], got {strength}")
    if (image is None) == (latents is None):
        raise ValueError("pass either an image or latents=, not both and not neither")
    calling.refuse(pipe, call)
    preset = find(pipe)
    count = calling.step_count(pipe, num_inference_steps, preset)
    chosen = settings or (preset.settings if preset else ReNoise.for_pipeline(pipe, count))
    if guidance_scale is None:
        guidance_scale = preset.guidance_scale if preset else calling.unguided(pipe)
    call = {**(preset.call if preset else {}), **call}
    height, width = calling.size(pipe, preset, height, width)
    pictures = None if image is None else images.batch(image, height, width)
    if pictures is not None:
        x_0 = autoencoding.encode(pipe, pictures)
    else:
        assert latents is not None
        x_0 = latents.to(pipe._execution_device, torch.float32)
    if not x_0.isfinite().all():
        raise ValueError("the clean latents are not finite: load the pipeline in another dtype, or check latents=")
    prompts = calling.spread(prompt, len(x_0), "prompt")
    negatives = None if negative_prompt is None else calling.spread(negative_prompt, len(x_0), "negative_prompt")
    arguments = calling.arguments(pipe, prompts, negatives, guidance_scale, height, width, count, call)
    made: dict[str, Any] = {}
    eta = calling.noisiness(pipe, call)

    def program(reading: Reading) -> Program[Trajectory]:
        steps = calling.steps(reading, eta)
        start = _start(len(steps), strength)
        stochastic = sum(step.stochastic for step in steps[start:])
        used = chosen if settings or stochastic else replace(chosen, correction=0.0)  # a single step draws no noise
        made.update(steps=steps[start:], start=start, settings=used)
        inverting = algorithm.invert(
            steps,
            x_0,
            used,
            noises=algorithm.noises(seed, "sampler", stochastic, x_0) if stochastic else None,
            references=algorithm.noises(seed, "reference", len(steps) - start, x_0) if used.lambda_kl > 0 else None,
            guesses=algorithm.noises(seed, "guess", len(steps) - start, x_0)
            if used.first_guess == "posterior"
            else None,
            start=start,
            seed=seed,
            aspect=height / width,
        )
        return algorithm.watched(inverting, len(steps) - start, progress)

    began = time.perf_counter()
    run = drive(pipe, program, tuple(x_0.shape), {**arguments, "output_type": "latent"})
    notes = calling.too_long(pipe, prompts + (negatives or []), call) + [note for note in (run.reading.note,) if note]
    notes += run.result.doubts(made["steps"], made["settings"].tolerance, whole=made["start"] == 0)
    plain, needs = calling.parts(call)
    record = Record(
        model=calling.identity(pipe),
        adapters=calling.adapters(pipe),
        revision=calling.revision(pipe),
        pipeline=type(pipe).__name__,
        sampler=repr(calling.sampler(run.reading, eta)),
        prediction=run.reading.prediction.name,
        levels=[[level.alpha, level.sigma, level.time] for level in run.reading.schedule.levels],
        start=made["start"],
        prompt=prompts,
        negative_prompt=negatives,
        height=height,
        width=width,
        seed=seed,
        strength=strength,
        num_inference_steps=count,
        guidance_scale=guidance_scale,
        settings=asdict(made["settings"]),
        versions={name: version(name) for name in ("renoise", "diffusers", "transformers", "torch")},
        call=plain,
        needs=needs,
        metrics={**describe(run.result, run.evaluations), "seconds": time.perf_counter() - began, "warnings": notes},
    )
    inversion = Inversion(run.result.x_T, run.result.noises, record)
    if measure and pictures is not None:
        bare = _decoded(pipe, x_0, {**arguments, "output_type": "pt"})
        rebuilt = reconstruct(pipe, inversion, output_type="pt", **{name: call[name] for name in needs})
        for name, picture in (("ceiling_psnr", bare), ("psnr", rebuilt)):
            record.metrics[name] = psnr(picture.to(pictures.device), pictures).tolist()
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return inversion


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
    options: dict[str, Any] = dict(
        num_inference_steps=num_inference_steps, output_type=output_type, progress=progress, call=call
    )
    record = inversion.record
    return _draw(pipe, inversion, record.prompt, record.negative_prompt, record.guidance_scale, **options)


def edit(
    pipe: Any,
    inversion: Inversion,
    prompt: str | Sequence[str],
    *,
    negative_prompt: str | Sequence[str] | None = None,
    guidance_scale: float | None = None,
    num_inference_steps: int | None = None,
    output_type: str = "pil",
    progress: Progress | None = None,
    **call: Any,
) -> Any:
    """The photographs as another prompt would have them: their noise, drawn again under `prompt` (one for all or one for each).

    guidance_scale     None: the preset's for editing, or the inversion's; more follows the prompt further and keeps less
    negative_prompt    None: the source prompt where the pipeline guides by a second evaluation, as in the paper
    The rest as in `reconstruct`.
    """
    record, preset = inversion.record, find(pipe)
    if guidance_scale is None:
        guidance_scale = preset.edit_guidance_scale if preset else record.guidance_scale
    if others := [name for name in record.call if name.startswith("prompt_") and name not in call]:
        raise ValueError(f"the inversion was made with {', '.join(others)}: give the edited one too")
    prompts = calling.spread(prompt, len(inversion), "prompt")
    if negative_prompt is not None:
        negatives = calling.spread(negative_prompt, len(inversion), "negative_prompt")
    else:
        negatives = record.prompt if calling.guides(pipe, guidance_scale, {**record.call, **call}) else None
    for note in calling.too_long(pipe, prompts + (negatives or []), {**record.call, **call}):
        warnings.warn(note, stacklevel=2)
    options: dict[str, Any] = dict(
        num_inference_steps=num_inference_steps, output_type=output_type, progress=progress, call=call
    )
    return _draw(pipe, inversion, prompts, negatives, guidance_scale, **options)


def _draw(
    pipe: Any,
    inversion: Inversion,
    prompts: list[str],
    negatives: list[str] | None,
    guidance_scale: float | None,
    *,
    num_inference_steps: int | None,
    output_type: str,
    progress: Progress | None,
    call: dict[str, Any],
) -> Any:
    """Denoise an inversion under these prompts."""
    record = inversion.record
    calling.check_model(pipe, record)
    if missing := [name for name in record.needs if name not in call]:
        raise ValueError(f"the inversion was made with {', '.join(missing)}: give it again")
    calling.refuse(pipe, call)
    call = {**calling.restored(record.call), **call}
    count = calling.step_count(pipe, num_inference_steps or record.num_inference_steps, None)
    x_T = inversion.latents.to(pipe._execution_device)
    noises = None if inversion.noises is None else inversion.noises.to(x_T.device)
    eta = calling.noisiness(pipe, call)

    def program(reading: Reading) -> Program[Tensor]:
        steps = calling.steps(reading, eta)
        start = _start(len(steps), record.strength)
        record.check(reading.schedule, start, repr(calling.sampler(reading, eta)), reading.prediction.name)
        return algorithm.watched(algorithm.generate(steps, x_T, noises, start), len(steps) - start, progress)

    arguments = calling.arguments(pipe, prompts, negatives, guidance_scale, record.height, record.width, count, call)
    wanted = "pt" if output_type == "pil" else output_type
    run = drive(pipe, program, tuple(x_T.shape), {**arguments, "output_type": wanted})
    if not run.result.isfinite().all():
        raise ValueError(
            "the network gave numbers that are not finite: load the pipeline in another dtype, fp32 or bf16"
        )
    if output_type == "latent":
        return run.result
    if hidden := sum(getattr(run.output, "nsfw_content_detected", None) or ()):
        warnings.warn(f"the pipeline's safety checker has blacked out {hidden} of {len(x_T)} pictures", stacklevel=3)
    return images.to_images(run.output.images) if output_type == "pil" else run.output.images


def _decoded(pipe: Any, x_0: Tensor, arguments: dict[str, Any]) -> Tensor:
    """What the pipeline's own decoding makes of x_0, without asking its network if that can be helped."""

    def program(questions: int) -> Program[Tensor]:
        for i in range(questions):
            yield x_0, i
        return x_0

    try:
        return drive(pipe, lambda _: program(0), tuple(x_0.shape), arguments).output.images
    except UnboundLocalError:  # LCM pipelines decode what their last step returned: there must be one
        return drive(pipe, lambda _: program(1), tuple(x_0.shape), arguments).output.images


def _start(steps: int, strength: float) -> int:
    """The number of the first step that is taken."""
    return steps - max(1, round(steps * strength))
