"""Programs: algorithms that request network evaluations without depending on a network.

A program is a generator. It yields `(latent, i)` to request the network's output at a latent (B, ...) and step i, and
receives the output by `send`. It does not depend on a model, prompt, device or library. `run` answers a program with a
plain function, and pipelines/driver.py with any diffusers pipeline. Each image of a batch is processed independently of
the others. Steps are counted from 0, the noisiest one.
"""

import hashlib
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

PURPOSES = ("sampler", "reference", "guess", "edit")  # purposes of noise, each with its own stream of random numbers


def draw_noise(seed: int, purpose: str, count: int, like: Tensor) -> Tensor:
    """Draw standard normal noise (count, B, ...) like latents (B, ...), for one of `PURPOSES`.

    The noise is drawn on the CPU and is the same for every image, so it depends neither on the device nor on the batch.
    """
    # PyTorch's generator on the CPU uses 32 bits of a seed, so a purpose must change all of them.
    digest = hashlib.sha256(f"{purpose} {seed}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:4], "little"))
    drawn = torch.randn(count, 1, *like.shape[1:], generator=generator)
    return drawn.expand(-1, *like.shape).to(like.device)


@dataclass(frozen=True)
class Photograph:
    """The photographs to invert, and their random numbers.

    Args:
        x_0: clean latents (B, ...).
        seed: seed of all random numbers of the inversion.
        aspect: height / width of the picture, used to reshape token sequences (B, tokens, channels) to maps.
    """

    x_0: Tensor
    seed: int = 0
    aspect: float = 1.0

    def noise(self, purpose: str, count: int) -> Tensor:
        """Draw standard normal noise (count, B, ...) for one of `PURPOSES`, see `draw_noise`."""
        return draw_noise(self.seed, purpose, count, self.x_0)


@dataclass(frozen=True)
class Inverted:
    """The result of a method, with statistics of each of the n steps, noisiest first.

    Args:
        x_T: the noise (B, ...) from which the sampler draws the photograph.
        noises: fresh noise (m, B, ...) of the m stochastic steps, or None for a deterministic sampler.
        trajectory: latents (n, B, ...) after each step. The last ones are x_0.
        residuals: ‖x^(k) − x^(k−1)‖/√numel (n, B) of the accepted iterate.
        iterations: network evaluations (n, B) that each image needed.
        diverged: True (n, B) where the iteration diverged and an earlier iterate was used.
        calls: network evaluations (n,) of the whole batch.
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
        """Build the result of a method without iterations. `calls` are its network evaluations in each step."""
        none, counts = torch.zeros(len(trajectory), len(x_T), device=x_T.device), torch.tensor(calls)
        return cls(
            x_T, noises, torch.stack(tuple(trajectory)), none, counts[:, None].expand(none.shape), none > 0, counts
        )


def run(program: Program[Result], steps: Sequence[Step], predict: Callable[[Tensor, Level], Tensor]) -> Result:
    """Run a program, with `predict(x_t, level) -> output` as the network."""
    with torch.no_grad():
        try:
            x, i = next(program)
            while True:
                x, i = program.send(predict(x, steps[i].t))
        except StopIteration as end:
            return end.value


def generate(steps: Sequence[Step], x_T: Tensor, noises: Tensor | None = None) -> Program[Tensor]:
    """Denoise x_T (B, ...) to x_0 (B, ...), given the noises (m, B, ...) of the m stochastic steps."""
    x = x_T
    for i, step in enumerate(steps):
        out = yield x, i
        x = step.denoise(x, out.to(x.dtype), step.noise_from(noises, i))
    return x


class Answer(NamedTuple):
    """A question, the latent x (B, ...) at step number i, and the network's output."""

    x: Tensor
    i: int
    out: Tensor


def watch(program: Program[Result], each: Callable[[Tensor, int, Tensor], None]) -> Program[Result]:
    """Run a program, and call `each` with every latent that it requests, the number of the step and the network's output."""
    try:
        x, i = next(program)
        while True:
            out = yield x, i
            each(x, i, out)
            x, i = program.send(out)
    except StopIteration as end:
        return end.value


def drive_from(program: Program[Result], start: int, total: int, progress: Progress | None = None) -> Program[Result]:
    """Run a program over the steps `start` to `total`, and report its progress.

    Args:
        program: the program. It counts its steps from 0.
        start: index of its first step in the whole schedule.
        total: number of steps of the whole schedule.
        progress: called with (evaluations done, evaluations expected) after every evaluation. The expected number is
            estimated from the steps begun so far.
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
