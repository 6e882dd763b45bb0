"""One call of a pipeline. The arguments of renoise and of the user are collected and checked once, before the pipeline runs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from renoise.pipelines.arguments import FRAMES, accepted, check_arguments, eta_of
from renoise.pipelines.driver import Run, drive
from renoise.pipelines.embeddings import replaces_text
from renoise.pipelines.guidance import guides
from renoise.pipelines.schedulers import Reading
from renoise.programs import Program, Result
from renoise.samplers import Sampler
from renoise.step import Step


@dataclass(frozen=True)
class Call:
    """A pipeline's call.

    Args:
        prompts, negative_prompts: one for each row of the batch; empty texts where `extra` has prompt embeddings.
        guidance_scale: None leaves it to the pipeline.
        height, width: of the picture, in pixels.
        extra: the user's own arguments, which go to the pipeline as they are.

    Raises:
        ValueError: an argument is renoise's to give, the pipeline does not have it, or it would have no effect.
    """

    pipe: Any
    prompts: list[str]
    negative_prompts: list[str] | None
    guidance_scale: float | None
    height: int
    width: int
    num_inference_steps: int
    extra: dict[str, Any]

    def __post_init__(self) -> None:
        check_arguments(self.pipe, self.extra)
        name, parameters = type(self.pipe).__name__, accepted(self.pipe)
        if self.guidance_scale is not None and "guidance_scale" not in parameters:
            raise ValueError(f"{name} takes no guidance_scale: see its own arguments, such as true_cfg_scale")
        if self.prompts and any(self.prompts) and replaces_text(self.extra):
            raise ValueError("pass the prompt as a text or as prompt embeddings, not as both")
        negative = self.negative_prompts is not None or replaces_text(self.extra, negative=True)
        if negative and not guides(self.pipe, self.guidance_scale, self.extra):
            scale = "true_cfg_scale" if "true_cfg_scale" in parameters else "guidance_scale"
            raise ValueError(f"negative_prompt has no effect here: set {scale} above 1, or leave it out")
        if self.negative_prompts is not None and replaces_text(self.extra, negative=True):
            raise ValueError("pass the negative prompt as a text or as prompt embeddings, not as both")

    def sampler(self, reading: Reading) -> Sampler:
        """Return the sampler that the pipeline uses when it is called so."""
        return reading.sampler_with(eta_of(self.pipe, self.extra))

    def steps(self, reading: Reading) -> tuple[Step, ...]:
        """Return the steps that the pipeline takes, noisiest first."""
        return reading.steps_with(eta_of(self.pipe, self.extra))

    def drive(
        self,
        program: Callable[[Reading], Program[Result]],
        shape: tuple[int, ...],
        output_type: str = "latent",
        decode: Callable[[Result], Tensor] | None = None,
        gradients: bool = False,
    ) -> Run[Result]:
        """Run `program(reading)` over latents of `shape` inside the pipeline, see `driver.drive`."""
        return drive(self.pipe, program, shape, {**self._arguments(), "output_type": output_type}, decode, gradients)

    def _arguments(self) -> dict[str, Any]:
        ours: dict[str, Any] = {
            "prompt": None if replaces_text(self.extra) else self.prompts,
            "negative_prompt": self.negative_prompts,
            "guidance_scale": self.guidance_scale,
            "height": self.height,
            "width": self.width,
            "num_inference_steps": self.num_inference_steps,
            # For the latents that are thrown away: the global generator is the user's.
            "generator": torch.Generator().manual_seed(0),
        }
        ours |= dict.fromkeys(FRAMES, 1)  # a photograph is a video of one frame
        ours["use_resolution_binning"] = (
            False  # the size is the photograph's, not the nearest that the model was trained at
        )
        parameters = accepted(self.pipe)
        if "use_kv_cache" in parameters:  # filled at the first step, which is not the first that is asked about
            ours["use_kv_cache"] = False
        user = {name: value for name, value in self.extra.items() if name != "eta"}
        return {name: value for name, value in ours.items() if name in parameters and value is not None} | user


def first_step(steps: int, strength: float) -> int:
    """Return the number of the first step that is taken at this strength."""
    return steps - max(1, round(steps * strength))
