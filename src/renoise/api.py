"""Photograph and prompt → inversion → picture: the functions most users need, over a loaded diffusers pipeline.

    pipe = renoise.load("orchard")                                 # or any DiffusionPipeline you have loaded
    inversion = renoise.invert(pipe, photograph, "a photo of a red apple on a white background")
    renoise.reconstruct(pipe, inversion)[0]
    renoise.edit(pipe, inversion, "a photo of a lemon on a white background")[0]

No state is kept on the pipeline. Arguments not named here go to the pipeline's `__call__` as they are.
"""

import time
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from renoise import images, methods
from renoise.drawing import LARGEST_SEED, Picture, as_asked, edit, reconstruct
from renoise.edits import Source
from renoise.inversion import Inversion
from renoise.methods import Method
from renoise.methods.method import GRADIENTS
from renoise.methods.renoise import ReNoise
from renoise.metrics import psnr
from renoise.pipelines import embeddings, identity
from renoise.pipelines import latents as autoencoding
from renoise.pipelines.arguments import split_for_file, step_count
from renoise.pipelines.call import Call, first_step
from renoise.pipelines.defaults import default_method, method_for_steps, with_noise
from renoise.pipelines.driver import Run
from renoise.pipelines.finding import find
from renoise.pipelines.guidance import unguided
from renoise.pipelines.loading import load
from renoise.pipelines.prompts import per_image, too_long
from renoise.pipelines.schedulers import Reading
from renoise.pipelines.support import check_pipeline
from renoise.programs import Answer, Inverted, Photograph, Program, Progress, drive_from, generate, watch
from renoise.record import Metrics, Record, plain_settings
from renoise.replay import Replay
from renoise.scalars import integer, plain, real
from renoise.spectrum import of_inversion
from renoise.step import Step

LARGEST_DROP = 3.0  # dB below the autoencoder alone: more can be seen
LARGEST_REMAINDER = 0.5  # of x_0: an edit can then keep little of the photograph
SAME_ANSWER = 1e-3  # relative difference between two answers to one question; more than an accelerator's rounding

__all__ = ["default_method", "edit", "invert", "load", "reconstruct"]


def invert(
    pipe: Any,
    image: Picture | Sequence[Picture] | None,
    /,
    prompt: str | Sequence[str] = "",
    *,
    method: Method | str | None = None,
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
    """Find the noise from which `pipe` draws the photograph (ReNoise, arXiv 2403.14602).

    Args:
        image: one picture or a list of them: paths, PIL images, NumPy arrays or tensors (3, H, W) in [0, 1]. All but tensors
            are scaled and cropped to the size, never squashed.
        prompt: what the photograph shows; one for all images or one for each.
        method: a method such as `ReNoise(iterations=9)`, or a name in `renoise.METHODS`. None and "renoise" take the model's own
            settings of ReNoise (`renoise.default_method`).
        num_inference_steps: None takes the preset's, or the pipeline's default.
        guidance_scale: None takes the preset's, or the scale that guides nothing.
        strength: in (0, 1], how far to go towards pure noise. Less keeps more of the photograph when it is edited.
        seed: decides all random numbers; they are the same for every image and on every device.
        height, width: size of the picture in pixels. None takes the preset's, or the pipeline's default.
        latents: clean latents (B, ...) as the pipeline's loop has them, instead of `image`.
        measure: draw the photograph again afterwards, for `psnr`, `autoencoder_psnr` and the remainder, which a file needs to
            bring the photograph back. Costs one network evaluation a step, and two more. An inversion that is only edited needs
            none of it.
        progress: called with (evaluations made, evaluations expected).
        **call: more arguments of the pipeline, such as a ControlNet's picture, or `prompt_embeds` instead of a prompt.

    Raises:
        ValueError: an argument cannot be used. The message names it, and the fix.
    """
    check_pipeline(pipe, call)
    strength, seed = real("strength", strength), integer("seed", seed)
    guidance_scale = None if guidance_scale is None else real("guidance_scale", guidance_scale)
    call = {name: plain(value) for name, value in call.items()}
    if not 0 < strength <= 1:
        raise ValueError(f"strength must lie in (0, 1], got {strength}")
    if not 0 <= seed < LARGEST_SEED:
        raise ValueError(f"seed must lie in 0 … {LARGEST_SEED - 1}, got {seed}")
    if (image is None) == (latents is None):
        raise ValueError("pass either an image or latents=, not both and not neither")
    chosen = None if method is None or method == ReNoise.name else methods.get(method)
    preset = find(pipe)
    call = {**(preset.call if preset else {}), **call}
    count = step_count(pipe, num_inference_steps, preset)
    call = with_noise(pipe, call, count, chosen)
    if guidance_scale is None:
        guidance_scale = preset.guidance_scale if preset else unguided(pipe)
    height, width = autoencoding.picture_size(pipe, preset, height, width)
    pictures = None if image is None else images.batch(image, height, width)
    x_0 = autoencoding.clean_latents(pipe, pictures, latents)
    call = embeddings.for_images(call, len(x_0))
    prompts = per_image(prompt, len(x_0), "prompt")
    negatives = None if negative_prompt is None else per_image(negative_prompt, len(x_0), "negative_prompt")
    pipeline_call = Call(pipe, prompts, negatives, guidance_scale, height, width, count, call)
    photograph = Photograph(x_0, seed, aspect=height / width)
    used: Method | None = None
    last = deque[Answer](maxlen=2)

    def program(reading: Reading) -> Program[Inverted]:
        nonlocal used
        steps = pipeline_call.steps(reading)
        start = first_step(len(steps), strength)
        used = (chosen or method_for_steps(pipe, steps)).prepare(steps, start)
        inverting = watch(used.checked_invert(steps[start:], photograph), lambda *answer: last.append(Answer(*answer)))
        return drive_from(inverting, start, len(steps), progress)

    began = time.perf_counter()
    measure = measure and pictures is not None
    run = pipeline_call.drive(
        program,
        tuple(x_0.shape),
        output_type="pt" if measure else "latent",
        decode=lambda _: x_0,  # the autoencoder's picture of the photograph, at no further cost
        gradients=chosen is not None and GRADIENTS in chosen.needs,
    )
    assert used is not None
    inversion = _inversion(run, pipeline_call, used, photograph, strength, time.perf_counter() - began)
    inversion = replace(inversion, photographs=pictures)
    if measure:
        assert pictures is not None
        decoded = None if run.output is None else autoencoding.pictures_of(run.output)
        inversion = _measured(inversion, pipeline_call, used, pictures, decoded, last)
    for note in inversion.warnings:
        warnings.warn(note, stacklevel=2)
    return inversion


def _inversion(
    run: Run[Inverted], call: Call, method: Method, photograph: Photograph, strength: float, seconds: float
) -> Inversion:
    """Put what was found together with the record of how."""
    pipe, found, levels = call.pipe, run.result, run.reading.schedule.levels
    start = len(levels) - 1 - len(found.trajectory)
    notes = too_long(pipe, call.prompts + (call.negative_prompts or []), call.extra)
    notes += [run.reading.note] if run.reading.note else []
    spectrum = of_inversion(found, levels[start], photograph.aspect)
    notes += method.warnings(found, call.steps(run.reading)[start:], spectrum)
    plain, required = split_for_file(call.extra)
    record = Record(
        model=identity.identity(pipe),
        adapters=identity.adapters(pipe),
        fingerprint=identity.fingerprint(pipe),
        revision=identity.revision(pipe),
        pipeline=type(pipe).__name__,
        sampler=repr(call.sampler(run.reading)),
        prediction=run.reading.prediction.name,
        levels=[(level.alpha, level.sigma, level.time) for level in levels],
        start=start,
        prompt=call.prompts,
        negative_prompt=call.negative_prompts,
        height=call.height,
        width=call.width,
        seed=photograph.seed,
        strength=strength,
        num_inference_steps=call.num_inference_steps,
        guidance_scale=call.guidance_scale,
        method=method.name,
        settings=plain_settings(method),
        versions={name: version(name) for name in ("renoise", "diffusers", "transformers", "torch")},
        call=plain,
        required_arguments=required,
        metrics=Metrics.of(found, spectrum, run.evaluations, seconds, notes),
    )
    kept = {name: call.extra[name] for name in required}
    return Inversion(found.x_T, found.noises, record, found.trajectory, arguments=kept)


def _measured(
    inversion: Inversion, call: Call, method: Method, pictures: Tensor, decoded: Tensor | None, last: Sequence[Answer]
) -> Inversion:
    """Draw the photographs (B, 3, H, W) again, and record the remainder and how close they and the autoencoder's pictures come.

    The network is first asked the inversion's last two questions again, which it must answer alike. They come in reverse order,
    because a cache that answers every other question from the one before would repeat itself in the same order.
    """
    again = list[Tensor]()

    def program(steps: Sequence[Step], source: Source) -> Program[Tensor]:
        for question in reversed(last):
            again.append((yield question.x, question.i))
        return (yield from generate(steps, source.x_T, source.noises))

    assert inversion.trajectory is not None
    x_0 = inversion.trajectory[-1]
    replay = Replay(call.pipe, inversion, {})
    run = replay.run(program, replay.source_call, output_type="pt")
    drawn, decoded = as_asked(run, "pt"), replay.decoded() if decoded is None else decoded
    reached, ceiling = (psnr(p.to(pictures), pictures).tolist() for p in (drawn, decoded))
    notes = list(inversion.warnings) + _memory_warnings([answer.out for answer in reversed(last)], again)
    remainder = x_0 - run.result.to(x_0)
    lost = (remainder.flatten(1).norm(dim=1) / x_0.flatten(1).norm(dim=1).clamp_min(1e-12)).tolist()
    if method.reconstructs:
        notes += _drop_warnings(ceiling, reached, lost, method)
    figures = {"psnr": reached, "autoencoder_psnr": ceiling, "remainder": lost, "warnings": notes}
    record = replace(inversion.record, metrics=replace(inversion.record.metrics, **figures))
    return replace(inversion, remainder=remainder, record=record)


def _memory_warnings(before: list[Tensor], after: list[Tensor]) -> list[str]:
    """Warn if the network answered the same questions (B, ...) differently the second time."""
    pairs = [(a.float(), b.float()) for a, b in zip(before, after, strict=True)]
    if not pairs:
        return []
    difference = max(((b - a).norm() / a.norm().clamp_min(1e-12)).item() for a, b in pairs)
    if difference <= max(SAME_ANSWER, 4 * torch.finfo(before[0].dtype).eps):
        return []
    causes = "dropout that is on, a cache of features, or a prompt that is rewritten at random"
    return [
        f"the network answered the same question differently, by {difference:.1%} ({causes}?): nothing can come back exactly"
    ]


def _drop_warnings(ceiling: list[float], reached: list[float], lost: list[float], method: Method) -> list[str]:
    """Warn if the noise alone does not draw the photographs: some steps amplify what a small residual leaves."""
    # With noised_below, part of the photograph is left to the remainder on purpose.
    if isinstance(method, ReNoise) and method.noised_below > 0:
        what = f"the noise alone draws little of the photograph, the remainder is {max(lost):.0%} of it"
        return [f"{what}: try more steps, or noised_below=0"] if max(lost) > LARGEST_REMAINDER else []
    drops = [most - got for most, got in zip(ceiling, reached, strict=True)]
    if not max(drops) > LARGEST_DROP:
        return []
    affected = f"{sum(drop > LARGEST_DROP for drop in drops)} of {len(drops)} pictures come back up to"
    what = f"{affected if len(drops) > 1 else 'the picture comes back'} {max(drops):.1f} dB PSNR"
    remedy = "try more steps"
    if isinstance(method, ReNoise):
        remedy = f"try a tolerance below {method.tolerance:.2g}, " if method.tolerance > 0 else "try "
        remedy += "more iterations or more steps"
    return [f"{what} below what the autoencoder keeps: {remedy}"]
