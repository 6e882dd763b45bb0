"""Counts the rows that go through a pipeline's networks, and checks callbacks for changes that they must not make.

Both are done outside the networks. A hook inside would break the graph of a compiled one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

_COUNTERS: ContextVar[tuple[list[int], ...]] = ContextVar("counters", default=())


@contextmanager
def counting() -> Iterator[list[int]]:
    """Count the rows that go through the networks of all pipelines driven in this context, in the one item of a list."""
    rows = [0]
    token = _COUNTERS.set((*_COUNTERS.get(), rows))
    try:
        yield rows
    finally:
        _COUNTERS.reset(token)


def add_to_counters(rows: int) -> None:
    """Add to every counter of this context."""
    for counter in _COUNTERS.get():
        counter[0] += rows


class LoopChanged(RuntimeError):
    """Something other than the program changed the pipeline's loop: its latents, guidance or embeddings, or its end."""


class Counted:
    """Takes the place of a network and counts the rows that go through it. Guidance doubles them."""

    def __init__(self, module: torch.nn.Module, rows: list[int]) -> None:
        vars(self).update(_module=module, _rows=rows)

    @property
    def __class__(self) -> type:  # pyright: ignore  # pipelines ask isinstance(self.unet, ...)
        return type(vars(self)["_module"])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        batch = args[0] if args else kwargs.get("hidden_states", kwargs.get("sample", kwargs.get("x")))
        vars(self)["_rows"][0] += len(batch) if batch is not None else 0
        return vars(self)["_module"](*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_module"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(vars(self)["_module"], name, value)


def checked_callback(call: dict[str, Any]) -> dict[str, Any]:
    """Return a call whose `callback_on_step_end` raises RuntimeError if it changes guidance, embeddings or the like.

    An inversion visits the steps backwards and repeatedly, so that such a change would hold at the wrong steps.
    """
    callback = call.get("callback_on_step_end")
    if callback is None:
        return call

    def checked(pipe: Any, i: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        given, attributes = dict(tensors), dict(vars(pipe))
        versions = {name: version(value) for name, value in given.items() if isinstance(value, Tensor)}
        result = callback(pipe, i, t, tensors) or {}
        changed = [name for name, value in result.items() if name != "latents" and value is not given.get(name)]
        changed += [name for name in versions if name != "latents" and version(given[name]) > versions[name]]
        changed += [name for name, value in vars(pipe).items() if _differs(name, attributes.get(name), value)]
        if changed:
            raise LoopChanged(
                f"callback_on_step_end changed {', '.join(dict.fromkeys(changed))}: an inversion visits the steps backwards and "
                "repeatedly, so that this cannot hold; leave the callback out"
            )
        return result

    # Pipelines take the names of its tensors from diffusers' own callbacks, which this function hides.
    names = getattr(callback, "tensor_inputs", None)
    return {**call, "callback_on_step_end": checked} | ({"callback_on_step_end_tensor_inputs": names} if names else {})


def version(x: Tensor) -> float:
    """Return a number that grows when a tensor is changed in place; nan, which equals nothing, for inference tensors."""
    return float("nan") if x.is_inference() else x._version


def _differs(name: str, before: Any, after: Any) -> bool:
    """Whether an attribute of the pipeline was changed; to interrupt it is allowed."""
    if before is after or name in ("_interrupt", "_current_timestep"):
        return False
    return not (isinstance(after, bool | int | float | str) and before == after)
