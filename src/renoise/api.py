"""Photograph and prompt → inversion → picture: the four functions most users need, over a loaded diffusers pipeline.

    pipe = renoise.load("orchard")                                 # or any DiffusionPipeline you have loaded
    inversion = renoise.invert(pipe, photograph, "a photo of a red apple on a white background")
    renoise.reconstruct(pipe, inversion)[0]
    renoise.edit(pipe, inversion, "a photo of a lemon on a white background")[0]

No state is kept on the pipeline. Arguments not named here go to the pipeline's `__call__` as they are.
"""

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from renoise import algorithm, baselines, images
from renoise.algorithm import Program, Progress, Result, Trajectory
from renoise.drawing import Picture, edit, first_step, reconstruct
from renoise.inversion import Inversion, Record, describe
from renoise.metrics import psnr
from renoise.pipelines import calling
from renoise.pipelines import latents as autoencoding
from renoise.pipelines.driver import Run, drive
from renoise.pipelines.finding import find
from renoise.pipelines.loading import load
from renoise.pipelines.schedulers import Reading
from renoise.settings import CLOSED, ReNoise

LOST = 3.0  # dB below the autoencoder alone: there it can be seen that the inversion is not exact

__all__ = ["edit", "invert", "load", "reconstruct"]


def invert(
    pipe: Any,
    image: Picture | Sequence[Picture] | None,
    /,
    prompt: str | Sequence[str] = "",
    *,
    method: str = "renoise",
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
    method     "renoise"; to compare with, "sdedit" and "flowedit" (noised, not inverted) or "edit-friendly" (DDPM): baselines.py
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
    if method not in baselines.METHODS:
        raise ValueError(f"method must be one of {', '.join(baselines.METHODS)}, got {method!r}")
    if method != "renoise" and settings is not None:
        raise ValueError(f"settings are ReNoise's: leave them out for method={method!r}")
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
        start = first_step(len(steps), strength)
        stochastic = sum(step.stochastic for step in steps[start:])
        used = chosen
        if not stochastic and (settings is None or any(step.stochastic for step in steps)):
            used = replace(chosen, correction=0.0)  # the sampler draws no noise, or none in the steps that are taken
        elif settings is None and stochastic and not chosen.correction:  # its eta makes the sampler draw noise
            used = replace(CLOSED, iterations=chosen.iterations, source=f"rule for a stochastic sampler (eta {eta})")
        made.update(steps=steps[start:], start=start, settings=used)
        taken = len(steps) - start

        def draw(purpose: str, number: int) -> Tensor:
            return algorithm.noises(seed, purpose, number, x_0)

        noises = draw("sampler", stochastic) if stochastic else None
        if method in ("sdedit", "flowedit"):
            inverting = baselines.sdedit(steps, x_0, draw("guess", 1)[0], noises, start)
        elif method == "edit-friendly":
            inverting = baselines.edit_friendly(steps, x_0, draw("guess", taken), start)
        else:
            inverting = algorithm.invert(
                steps,
                x_0,
                used,
                noises=noises,
                references=draw("reference", taken) if used.lambda_kl > 0 else None,
                guesses=draw("guess", taken) if used.first_guess == "posterior" else None,
                start=start,
                seed=seed,
                aspect=height / width,
            )
        return algorithm.watched(inverting, taken, progress)

    began = time.perf_counter()
    run = _drive(pipe, program, tuple(x_0.shape), {**arguments, "output_type": "latent"})
    notes = calling.too_long(pipe, prompts + (negatives or []), call) + [note for note in (run.reading.note,) if note]
    notes += run.result.doubts(made["steps"], made["settings"].tolerance, whole=made["start"] == 0)
    plain, needs = calling.parts(call)
    record = Record(
        model=calling.identity(pipe),
        adapters=calling.adapters(pipe),
        weights=calling.weights(pipe),
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
        settings=_plain(made["settings"]) if method == "renoise" else {"method": method},
        versions={name: version(name) for name in ("renoise", "diffusers", "transformers", "torch")},
        call=plain,
        needs=needs,
        metrics={**describe(run.result, run.evaluations), "seconds": time.perf_counter() - began, "warnings": notes},
    )
    inversion = Inversion(run.result.x_T, run.result.noises, record, run.result.course)
    if measure and pictures is not None:
        bare = _decoded(pipe, x_0, {**arguments, "output_type": "pt"})
        rebuilt = reconstruct(pipe, inversion, output_type="pt", **{name: call[name] for name in needs})
        for name, picture in (("ceiling_psnr", bare), ("psnr", rebuilt)):
            record.metrics[name] = psnr(picture.to(pictures.device), pictures).tolist()
        if method == "renoise":
            notes += _losses(record.metrics["ceiling_psnr"], record.metrics["psnr"], made["settings"])
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return inversion


def _losses(ceiling: list[float], reached: list[float], settings: ReNoise) -> list[str]:
    """A warning if a small residual hides a large error: some steps amplify what is left."""
    lost = [most - got for most, got in zip(ceiling, reached, strict=True)]
    if settings.tolerance == 0 or not max(lost) > LOST:
        return []
    many = f"{sum(loss > LOST for loss in lost)} of {len(lost)} pictures come back up to {max(lost):.1f} dB PSNR below"
    remedy = f"try a tolerance below {settings.tolerance:.2g}, more iterations or more steps"
    return [f"{many} what the autoencoder keeps: {remedy}"]


def _decoded(pipe: Any, x_0: Tensor, arguments: dict[str, Any]) -> Tensor:
    """What the pipeline's own decoding makes of x_0, without asking its network if that can be helped."""

    def program(_: Reading) -> Program[Tensor]:
        return x_0
        yield

    return _drive(pipe, program, tuple(x_0.shape), arguments).output.images


def _drive(
    pipe: Any, program: Callable[[Reading], Program[Result]], shape: tuple[int, ...], arguments: dict[str, Any]
) -> Run[Result]:
    """`drive`, for programs that may ask nothing: LCM pipelines decode what their last step returned, so there must be one."""

    def asking(reading: Reading) -> Program[Result]:
        yield torch.zeros(shape), 0
        return (yield from program(reading))

    try:
        return drive(pipe, program, shape, arguments)
    except UnboundLocalError:
        return drive(pipe, asking, shape, arguments)


def _plain(settings: ReNoise) -> dict[str, Any]:
    """Settings as a file can hold them: JSON knows no infinity."""
    return {name: "inf" if value == math.inf else value for name, value in asdict(settings).items()}
