"""Connects one program with one pipeline loop: latents that it requests go out, the network's outputs come in."""

from collections.abc import Callable, Iterator
from typing import Any, Generic

import torch
from torch import Tensor

from renoise.pipelines.observing import LoopChanged, version
from renoise.pipelines.schedulers import Reading
from renoise.programs import Program, Result


class Finished(Exception):
    """Raised to leave the pipeline before its loop, because the program already has its result."""


class Session(Generic[Result]):
    """The exchange between one program and one pipeline loop."""

    def __init__(
        self, program: Callable[[Reading], Program[Result]], decode: Callable[[Result], Tensor] | None = None
    ) -> None:
        self.program_of, self.decode = program, decode
        self.program: Program[Result] | None = None
        self.reading: Reading | None = None
        self.x = torch.empty(0)  # what the program asked about last
        self.buffer: Tensor | None = None  # the latents that the pipeline holds when its loop begins
        self.handed: tuple[Tensor, float, Tensor] | None = None  # the tensor given out, its version, its values
        self.index, self.asked, self.answered, self.done = 0, 0, 0, False
        self.result: Any = None

    def timesteps(self, grid: Tensor) -> Iterator[Tensor]:
        """Yield the element of `grid` for each question to the pipeline's loop, until the program has its result.

        Several grids may be followed at once, zip(timesteps, timesteps[1:]): they all give the element of one question.
        """
        if self.buffer is None or self.reading is None:
            raise ValueError(
                "this pipeline began its loop without prepare_latents and set_timesteps: it cannot be driven"
            )
        if len(grid) <= max(self.reading.step_indices):  # some pipelines leave out the clean end themselves
            raise ValueError(
                "only the whole schedule can be inverted: leave out denoising_start, denoising_end and the like"
            )
        self.begin()
        if self.done:
            raise Finished
        given = 0
        while not self.done:
            if given == self.asked > self.answered:
                return  # the loop asked on without stepping: interrupted, as finish() will say
            if self.asked == self.answered:
                self.asked += 1
            given = self.asked
            yield grid[self.true_index]

    def begin(self) -> None:
        """Start the program once latents and schedule are known, in whichever order the pipeline prepares them."""
        if self.buffer is None or self.reading is None or self.program is not None:
            return
        self.program = self.program_of(self.reading)
        self._advance(None)
        if self.done:
            return
        x = self.x.to(self.buffer.dtype)
        self.buffer.copy_(x)
        self.handed = (self.buffer, version(self.buffer), x)

    @property
    def true_index(self) -> int:
        """The index of the host's timestep for the current request."""
        assert self.reading is not None
        return self.reading.step_indices[self.index]

    def step(self, out: Tensor, sample: Tensor) -> Tensor:
        """Answer the question with the network's output -> the next latent, in the dtype of `sample`."""
        if self.answered == self.asked or self.handed is None:
            raise ValueError(
                "this pipeline's loop does not iterate over its timesteps, it counts them: it cannot be driven"
            )
        given, handed_version, values = self.handed
        if (sample is not given or version(sample) != handed_version) and not _same(sample, values):
            if sample.shape != values.shape:
                shapes = f"{tuple(values.shape)} becomes {tuple(sample.shape)}"
                raise ValueError(
                    f"this pipeline packs its latents after prepare_latents, {shapes}: it cannot be driven"
                )
            raise LoopChanged(
                "something changed the latents between two steps (a callback, an argument of the pipeline?): leave it out"
            )
        self.answered += 1
        # a pipeline may take the axis of frames away for its scheduler alone
        self._advance(out.reshape(len(out), *self.x.shape[1:]) if out.shape == sample.shape else out)
        self.handed = self._hand_out(sample)
        return self.handed[0]

    def finish(self, interrupted: bool) -> None:
        """Raise RuntimeError unless the program has come to its end."""
        if not self.done:
            why = "a callback interrupted it" if interrupted else "the pipeline left its loop early"
            raise LoopChanged(f"stopped after {self.answered} network evaluations: {why}")

    def _advance(self, out: Tensor | None) -> None:
        assert self.program is not None
        try:
            self.x, self.index = next(self.program) if out is None else self.program.send(out)
        except StopIteration as end:
            self.result, self.done = end.value, True
            if self.decode is not None:
                self.x = self.decode(end.value)
            elif isinstance(end.value, Tensor):
                self.x = end.value

    def _hand_out(self, like: Tensor) -> tuple[Tensor, float, Tensor]:
        x = self.x.to(like.dtype)
        if x.shape[1:] != like.shape[1:]:  # a pipeline that lays rows out anew counts on all; the result may have fewer
            x = x.repeat(max(1, len(like) // len(x)), *(1,) * (x.ndim - 1)).reshape(-1, *like.shape[1:])
        return x, version(x), x.clone()


def _same(sample: Tensor, values: Tensor) -> bool:
    """Whether two tensors hold the same numbers, in whichever of their dtypes; one may have an axis of length 1 more."""
    if sample.numel() != values.numel():
        return False
    return torch.equal(sample.to(values.dtype).reshape(values.shape), values)


def _flat(values: Any) -> Iterator[Any]:
    """Yield what nested tuples, lists and dicts hold."""
    if isinstance(values, dict):
        values = tuple(values.values())
    if not isinstance(values, (tuple, list)):
        yield values
        return
    for value in values:
        yield from _flat(value)


class Timesteps(torch.Tensor):
    """The host's n timesteps: a real tensor, but iterating over it follows the program."""

    session: Any = None  # what is made of timesteps has theirs

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = super().__torch_function__(func, types, args, kwargs or {})
        made = [one for one in _flat(result) if isinstance(one, Timesteps) and one.session is None]
        if made:
            of = (
                one.session for one in _flat((args, kwargs)) if isinstance(one, Timesteps) and one.session is not None
            )
            session = next(of, None)
            for one in made:
                one.session = session
        return result

    def __iter__(self) -> Iterator[Tensor]:
        grid = self.as_subclass(torch.Tensor)
        return self.session.timesteps(grid) if self.session is not None else iter(grid)
