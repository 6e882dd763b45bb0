"""Runs an inversion again in its pipeline: the call, the noise and the trajectory from which a picture is drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from renoise import images, layout, masks
from renoise.edits import NEGATIVE, SOURCE, TARGET, Edit, Source
from renoise.inversion import Inversion
from renoise.methods import Method
from renoise.methods.method import GRADIENTS
from renoise.pipelines import embeddings, guidance
from renoise.pipelines.arguments import restored, step_count
from renoise.pipelines.call import Call, first_step
from renoise.pipelines.driver import Run
from renoise.pipelines.identity import check_model
from renoise.pipelines.latents import pictures_of
from renoise.pipelines.schedulers import Reading
from renoise.pipelines.support import check_pipeline
from renoise.programs import Photograph, Program, Progress, drive_from, generate, watch
from renoise.step import Step


@dataclass(frozen=True)
class Replay:
    """A pipeline, an inversion and the user's arguments, from which pictures are drawn. They are checked once.

    Args:
        call: more arguments of the pipeline. Where an `edit` is drawn, prompt embeddings among them are the target's.
    """

    pipe: Any
    inversion: Inversion
    call: dict[str, Any]
    num_inference_steps: int | None = None
    edit: bool = False

    def __post_init__(self) -> None:
        check_pipeline(self.pipe, self.call)
        record = self.inversion.record
        check_model(self.pipe, record)
        object.__setattr__(self, "call", embeddings.for_images(self.call, len(self.inversion)))
        wanted = [name for name in record.required_arguments if name not in self.inversion.arguments]
        wanted = [name for name in wanted if not (self.edit and embeddings.is_embedding(name))]
        if missing := [name for name in wanted if name not in self.call]:
            raise ValueError(f"the inversion was made with {', '.join(missing)}: give it again")
        given = {name: self.call[name] for name in wanted}
        object.__setattr__(self, "inversion", self.inversion.with_arguments(**given))

    @property
    def aspect(self) -> float:
        """Height / width of the picture."""
        return self.inversion.record.height / self.inversion.record.width

    @property
    def method(self) -> Method:
        """The method that made the inversion."""
        return self.inversion.record.restored_method()

    @property
    def source_extra(self) -> dict[str, Any]:
        """The arguments of the pipeline that the inversion was made with."""
        return {**restored(self.inversion.record.call), **self.inversion.arguments}

    @property
    def source_embeddings(self) -> dict[str, Any]:
        """The prompt embeddings that the inversion was made with; none if its prompt was a text."""
        wanted = [name for name in self.inversion.record.required_arguments if embeddings.is_embedding(name)]
        if missing := [name for name in wanted if name not in self.inversion.arguments]:
            names = ", ".join(missing)
            raise ValueError(
                f"the file does not hold the source's {names}: use inversion.with_arguments({missing[0]}=...)"
            )
        return {name: self.inversion.arguments[name] for name in wanted}

    @property
    def source_is_guided(self) -> bool:
        """Whether the inversion was guided away from a negative prompt."""
        record, extra = self.inversion.record, self.source_extra
        given = record.negative_prompt is not None or embeddings.replaces_text(extra, negative=True)
        return guidance.guides(self.pipe, record.guidance_scale, extra) and (
            given or not guidance.needs_negative(self.pipe)
        )

    @property
    def extra(self) -> dict[str, Any]:
        """The arguments of the pipeline for what is drawn now: the inversion's, and over them those given."""
        source = self.source_extra
        if self.edit:
            source = {name: value for name, value in source.items() if not embeddings.is_embedding(name)}
        return {**source, **self.call}

    def call_with(
        self, prompts: list[str], negatives: list[str] | None, guidance_scale: float | None, extra: dict[str, Any]
    ) -> Call:
        """Return the pipeline's call under these prompts, for the inversion's size and steps."""
        record, given = self.inversion.record, self.num_inference_steps
        count = step_count(self.pipe, record.num_inference_steps if given is None else given, None)
        return Call(self.pipe, prompts, negatives, guidance_scale, record.height, record.width, count, extra)

    @property
    def source_call(self) -> Call:
        """The call that draws the photographs again."""
        record, extra = self.inversion.record, self.source_extra if self.edit else self.extra
        if self.edit:
            extra |= self.source_embeddings
        return self.call_with(record.prompt, record.negative_prompt, record.guidance_scale, extra)

    def edit_call(
        self,
        prompts: list[str],
        negatives: list[str] | None,
        guidance_scale: float | None,
        pseudo_guidance: float | None,
        source_correction: float,
    ) -> tuple[Call, Edit]:
        """Return the call that draws under the target prompts, and how its rows are combined."""
        pipe, record, method, extra = self.pipe, self.inversion.record, self.method, self.extra
        pipeline_guides = guidance.guides(pipe, guidance_scale, extra)
        if pseudo_guidance is None and source_correction > 0:  # several rows cannot leave guidance to the pipeline
            scale = guidance.row_guidance(pipe, guidance_scale, extra)
            pseudo_guidance = None if scale == 1 else scale
        settings = Edit(pseudo_guidance, source_correction)
        rows = method.rows(settings)
        own_negative = negatives is not None or embeddings.replaces_text(self.call, negative=True)
        if pipeline_guides and not own_negative:
            if any(embeddings.is_negative(name) for name in record.required_arguments):
                extra |= {n: value for n, value in self.source_embeddings.items() if embeddings.is_negative(n)}
            else:
                negatives = record.negative_prompt
                if negatives is None and guidance.needs_negative(pipe):
                    negatives = [""] * len(prompts)
        if len(rows) == 1:
            return self.call_with(prompts, negatives, guidance_scale, extra), settings
        texts = {SOURCE: record.prompt, NEGATIVE: negatives or [""] * len(prompts), TARGET: prompts}
        sources = [text for row in rows[:-1] for text in texts[row]]
        if pipeline_guides and not method.pipeline_guides_rows and "true_cfg_scale" not in extra:
            guidance_scale = guidance.unguided(pipe)
        negative = embeddings.from_negative(extra)
        extra = {**extra, **guidance.stacked(rows, texts, record.call, extra)}
        if embeddings.replaces_text(self.call) or self.source_embeddings or (NEGATIVE in rows and negative):
            every = {SOURCE: self.source_embeddings, NEGATIVE: negative}
            extra |= embeddings.stacked([every[row] for row in rows[:-1]], self.call)
        return self.call_with([*sources, *prompts], None, guidance_scale, extra), settings

    def run(
        self,
        program: Callable[[Sequence[Step], Source], Program[Any]],
        call: Call,
        *,
        output_type: str = "latent",
        progress: Progress | None = None,
    ) -> Run[Any]:
        """Run a program over the inversion's latents, under this call."""
        inversion, record, device = self.inversion, self.inversion.record, self.pipe._execution_device
        x_T, noises, trajectory, remainder = (
            None if x is None else x.to(device)
            for x in (inversion.latents, inversion.noises, inversion.trajectory, inversion.remainder)
        )
        assert x_T is not None
        photograph = None if trajectory is None else Photograph(trajectory[-1], record.seed, self.aspect)
        source = Source(x_T, noises, trajectory, photograph, remainder)

        def driven(reading: Reading) -> Program[Any]:
            steps = call.steps(reading)
            start = first_step(len(steps), record.strength)
            record.check(reading.schedule, start, repr(call.sampler(reading)), reading.prediction.name)
            held, needed = 0 if noises is None else len(noises), sum(step.stochastic for step in steps[start:])
            if held != needed:
                raise ValueError(f"the inversion is damaged: it holds {held} noises, its sampler draws {needed}")
            return drive_from(program(steps[start:], source), start, len(steps), progress)

        rows = len(call.prompts) // len(inversion)
        wanted = "pt" if output_type == "pil" else output_type
        shape = (rows * len(x_T), *x_T.shape[1:])
        try:
            return call.drive(driven, shape, wanted, gradients=GRADIENTS in self.method.needs)
        except (TypeError, AttributeError, LookupError, RuntimeError) as error:
            if not record.call or (isinstance(error, RuntimeError) and type(error) is not RuntimeError):
                raise
            names = ", ".join(record.call)  # of a file, perhaps: the pipeline alone knows what suits it
            raise ValueError(f"the pipeline cannot be called with the inversion's {names}: {error}") from error

    def with_trajectory(self, pixels: bool = False) -> "Replay":
        """Return the same with what a file does not hold: the latents after each step of the reconstruction.

        With `pixels`, the autoencoder's pictures stand in for the photographs, at no further cost.
        """
        if self.inversion.trajectory is not None:
            return self
        remainder = self.inversion.remainder
        if not self.method.reconstructs and remainder is None:
            raise ValueError(
                f"a file of {self.method.title} does not hold the photograph that this needs: invert it again"
            )
        latents = list[Tensor]()

        def program(steps: Sequence[Step], source: Source) -> Program[Tensor]:
            drawing = generate(steps, source.x_T, source.noises)
            x_0 = yield from watch(drawing, lambda x, *_: latents.append(x))
            latents.append(x_0 if source.remainder is None else x_0 + source.remainder)
            return latents[-1]

        run = self.run(program, self.source_call, output_type="pt" if pixels else "latent")
        photographs = pictures_of(run.output)[: len(self.inversion)] if pixels else None
        found = replace(self.inversion, trajectory=torch.stack(latents[1:]), photographs=photographs)
        return replace(self, inversion=found)

    def given_mask(self, mask: Any) -> Tensor:
        """Return the user's mask (1 or B, 1, H, W) in [0, 1]."""
        record = self.inversion.record
        found = images.masks(mask, record.height, record.width)
        if len(found) not in (1, len(self.inversion)):
            raise ValueError(
                f"mask: {len(found)} masks for {len(self.inversion)} images; give one for all or one for each"
            )
        return found

    def decoded(self) -> Tensor:
        """Return the autoencoder's pictures (B, 3, H, W) of the photographs, for one evaluation: the loop must begin."""
        assert self.inversion.trajectory is not None
        x_0 = self.inversion.trajectory[-1].to(self.pipe._execution_device)

        def program(steps: Sequence[Step], source: Source) -> Program[Tensor]:
            yield source.x_T, 0
            return x_0

        return pictures_of(self.run(program, self.source_call, output_type="pt").output)[: len(x_0)]

    def found_mask(self, prompts: list[str]) -> Tensor:
        """Find where the target prompts disagree with the source: a mask (B, 1, h, w) at the size of the latents."""
        record, trajectory = self.inversion.record, self.inversion.trajectory
        assert trajectory is not None
        x_0 = trajectory[-1].to(self.pipe._execution_device)
        negative = {n: value for n, value in self.source_extra.items() if n.startswith("negative_prompt")}
        own = {n: value for n, value in self.extra.items() if not n.startswith("negative_prompt")}
        call = self.call_with(prompts, record.negative_prompt, record.guidance_scale, own | negative)
        first, last = self.run(lambda steps, source: masks.difference(steps, source, self.aspect), call).result
        once = [masks.differ_once(*pair) for pair in zip(record.prompt, prompts, strict=True)]
        return masks.from_difference(first, last, layout.maps(x_0, self.aspect).to(last), once)
