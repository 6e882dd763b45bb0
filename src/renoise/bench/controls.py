"""Controls of the benchmark of edits: pictures that no way to edit made, against which its figures are read.

The unedited sources must fail. Photographs of the targets show what the judge makes of a perfect edit, and pictures that
the model draws of the new prompts from random noise what it makes of the model itself. Drawings are not compared with the
right answer to a change of background.
"""

import copy
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from renoise.bench.tasks import Task, as_tensor, resized
from renoise.pipelines.arguments import accepted
from renoise.pipelines.guidance import guides

PHOTOGRAPHS, DRAWN, UNEDITED = "photographs of the target", "drawn from random noise", "unedited source"
SEED = 5


def controls(
    pipe: Any, tasks: Sequence[Task], steps: int, guidance: float, batch: int
) -> Iterator[tuple[str, Tensor, float, float]]:
    """Yield name, pictures (N, 3, H, W) in [0, 1], evaluations and seconds per picture of each control.

    The pictures are drawn with the model's own sampler, with `steps` and `guidance`. Photographs of the targets are left
    out if a task has none.
    """
    sources = [as_tensor(task.picture)[0] for task in tasks]
    answers = [as_tensor(task.control)[0] for task in tasks if task.control]
    if len(answers) == len(tasks):
        yield PHOTOGRAPHS, torch.stack(answers), 0, 0
    began = time.perf_counter()
    drawn = torch.cat([_draw(pipe, tasks[n : n + batch], n, steps, guidance) for n in range(0, len(tasks), batch)])
    drawn = torch.stack([resized(*pair) for pair in zip(drawn, sources, strict=True)])
    yield DRAWN, drawn, steps * (1 + guides(pipe, guidance, {})), (time.perf_counter() - began) / len(tasks)
    yield UNEDITED, torch.stack(sources), 0, 0


def _draw(pipe: Any, tasks: Sequence[Task], first: int, steps: int, guidance: float) -> Tensor:
    """Draw the targets of tasks, the first of which has number `first`, from noise that depends on their numbers."""
    quiet = copy.copy(pipe)
    vars(quiet)["_progress_bar_config"] = {"disable": True}
    device = pipe._execution_device
    noise = [torch.Generator(device).manual_seed(SEED + 1000 * (first + n)) for n in range(len(tasks))]
    call = {"num_inference_steps": steps, "guidance_scale": guidance, "generator": noise, "output_type": "pt"}
    call = {name: value for name, value in call.items() if name in accepted(pipe)}
    return quiet([task.target for task in tasks], **call)[0].float().cpu()
