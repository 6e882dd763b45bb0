"""Programs: how a method asks for the network without knowing it.

A program is a generator. It yields `(latent, i)` where the network is to be evaluated at step number i, and is sent the network's
output. It knows no model, prompt, device or library. `run` answers a program with a plain function, pipelines/driver.py with any
diffusers pipeline. Latents are (B, ...), and every image of a batch is treated as if it were alone. Steps are counted from 0, the
noisiest that is taken.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from renoise.schedule import Level
from renoise.step import Step

Result = TypeVar("Result")
Program = Generator[tuple[Tensor, int], Tensor, Result]
Progress = Callable[[int, int], None]

PURPOSES = ("sampler", "reference", "guess")  # what noise is drawn for; each has its own stream of random numbers


@dataclass(frozen=True)
class Photograph:
    """What is inverted: the clean latents x_0 (B, ...), and the random numbers that may be used.

    Args:
        x_0: clean latents (B, ...).
        seed: decides every random number of the inversion.
        aspect: height / width of the picture, by which token sequences (B, tokens, channels) are read as maps.
    """

    x_0: Tensor
    seed: int = 0
    aspect: float = 1.0

    def noise(self, purpose: str, count: int) -> Tensor:
        """Draw standard normal noise (count, B, ...) for one of `PURPOSES`.

        It is drawn on the CPU and is the same for every image, so neither the device nor the batch changes it.
        """
        generator = torch.Generator().manual_seed(self.seed + (PURPOSES.index(purpose) << 40))
        drawn = torch.randn(count, 1, *self.x_0.shape[1:], generator=generator)
        return drawn.expand(-1, *self.x_0.shape).to(self.x_0.device)


@dataclass(frozen=True)
class Inverted:
    """What a method found, and what each of the n steps took, noisiest first.

    Args:
        x_T: the noise (B, ...) from which the sampler draws the photograph.
        noises: fresh noise (m, B, ...) of the m stochastic steps, or None.
        trajectory: latents (n, B, ...) after each step; the last are x_0.
        residuals: (n, B), ‖z^(k) − z^(k−1)‖/√numel of the iterate that was taken.
        iterations: (n, B), network evaluations that the image needed.
        diverged: (n, B), True where an iteration diverged and an earlier iterate was taken.
        calls: (n,), evaluations of the whole batch.
    """

    x_T: Tensor
    noises: Tensor | None
    trajectory: Tensor
    residuals: Tensor
    iterations: Tensor
    diverged: Tensor
    calls: Tensor

    @classmethod
    def without_iteration(
        cls, x_T: Tensor, noises: Tensor | None, trajectory: Sequence[Tensor], calls: Sequence[int]
    ) -> "Inverted":
        """The result of a method that does not iterate: its residuals are 0, `calls` are its evaluations of each step."""
        none, counts = torch.zeros(len(trajectory), len(x_T), device=x_T.device), torch.tensor(calls)
        return cls(
            x_T, noises, torch.stack(tuple(trajectory)), none, counts[:, None].expand(none.shape), none > 0, counts
        )


def run(program: Program[Result], steps: Sequence[Step], predict: Callable[[Tensor, Level], Tensor]) -> Result:
    """Answer a program with a plain function, `predict(x_t, level) -> output`."""
    with torch.no_grad():
        try:
            x, i = next(program)
            while True:
                x, i = program.send(predict(x, steps[i].t))
        except StopIteration as end:
            return end.value


def generate(steps: Sequence[Step], x_T: Tensor, noises: Tensor | None = None) -> Program[Tensor]:
    """Denoise x_T (B, ...) with the given noises (m, B, ...) of the stochastic steps -> x_0."""
    x = x_T
    for i, step in enumerate(steps):
        out = yield x, i
        x = step.denoise(x, out.to(x.dtype), step.noise_from(noises, i))
    return x


def record(program: Program[Tensor], latents: list[Tensor]) -> Program[Tensor]:
    """Append every latent that a program asks about, and its result, to a list."""
    question = next(program)
    try:
        while True:
            latents.append(question[0])
            question = program.send((yield question))
    except StopIteration as end:
        latents.append(end.value)
        return end.value


class Answer(NamedTuple):
    """A question, the latent x (B, ...) at step number i, and the network's output."""

    x: Tensor
    i: int
    out: Tensor


def remember(program: Program[Result], last: list[Answer]) -> Program[Result]:
    """Keep a program's last two questions and their answers in a list."""
    try:
        x, i = next(program)
        while True:
            out = yield x, i
            last[:] = [*last[-1:], Answer(x, i, out)]
            x, i = program.send(out)
    except StopIteration as end:
        return end.value


def drive_from(program: Program[Result], start: int, total: int, progress: Progress | None = None) -> Program[Result]:
    """Run a program over the steps from number `start` of `total`, and report its progress.

    `progress` is called with (evaluations made, evaluations expected) after every answer. What is still to come is estimated
    from the steps begun so far.
    """
    answered, begun = 0, set[int]()
    try:
        x, i = next(program)
        while True:
            out = yield x, start + i
            answered += 1
            begun.add(i)
            if progress:
                progress(answered, round(answered * (total - start) / len(begun)))
            x, i = program.send(out)
    except StopIteration as end:
        if progress:
            progress(answered, answered)
        return end.value
