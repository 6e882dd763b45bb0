"""Runs a program (programs.py) inside a diffusers pipeline's own `__call__`: any text-to-image pipeline, no code per family.

A shallow copy of the pipeline carries a scheduler of ours. The pipeline encodes prompts, guides, applies LoRAs and
ControlNets and offloads as its owner set it up; whenever it calls `scheduler.step(out, t, x)`, `out` goes to the program, and
the next latent that the program asks about is returned as if it were the next x. `scheduler.timesteps` lasts for as long as
the program asks. The owner's pipeline and scheduler are never written to; latents stay float32 here and are cast where the
network begins.
"""

import builtins
import copy
import functools
import inspect
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple

import torch
from torch import Tensor

from renoise.pipelines import schedulers
from renoise.pipelines.finding import network
from renoise.pipelines.observing import Counted, add_to_counters, checked_callback
from renoise.pipelines.schedulers import Reading
from renoise.pipelines.session import Finished, Session, Timesteps
from renoise.programs import Program, Result

DENOISERS = ("unet", "transformer", "transformer_2", "prior", "decoder")  # the names diffusers gives its networks
GUIDERS = ("guider", "ocr_guider")


@dataclass(frozen=True)
class Run(Generic[Result]):
    """The outcome of a program: its result, the pipeline's output, how its scheduler was read, and evaluations per image.

    `output` is None where the program asked nothing: the pipeline was left before its loop.
    """

    result: Result
    output: Any
    reading: Reading
    evaluations: float


def drive(
    pipe: Any,
    program: Callable[[Reading], Program[Result]],
    shape: tuple[int, ...],
    call: dict[str, Any],
    decode: Callable[[Result], Tensor] | None = None,
    gradients: bool = False,
) -> Run[Result]:
    """Run `program(reading)` over latents of `shape` (B, ...) inside pipe(**call).

    The pipeline decodes the program's result if that is a tensor; `decode` picks the latents from any other. `gradients` lets the
    program differentiate through the network.

    Raises:
        ValueError: the pipeline cannot be driven, or wants latents of another shape.
        RuntimeError: something else changed the latents, or stopped the loop.
    """
    _refuse_memory(pipe)
    session = Session(program, decode)
    driven = copy.copy(pipe)
    # straight into __dict__: a pipeline's own __setattr__ would register the scheduler in its config
    scheduler = vars(driven)["scheduler"] = _Scheduler(pipe.scheduler, session)
    vars(driven)["prepare_latents"] = _prepare_latents(
        pipe, driven, session, shape, (call.get("height"), call.get("width"))
    )
    vars(driven)["maybe_free_model_hooks"] = pipe.maybe_free_model_hooks  # offload hooks belong to the owner's pipeline
    vars(driven)["_progress_bar_config"] = {"disable": True}
    # a tokenizer keeps the padding and truncation of the call before, which another thread's call would change under way
    own = {n: part for n, part in vars(pipe).items() if n.startswith("tokenizer") or n in GUIDERS}
    vars(driven).update(
        {name: copy.deepcopy(part) for name, part in own.items()}
    )  # (guiders keep the step they are at)
    # Z-Image writes into the caller's prompt list
    call = {name: list(value) if isinstance(value, list) else value for name, value in call.items()}
    call, rows = checked_callback(call), [0]
    with ExitStack() as stack:
        for one in (driven, scheduler):  # they refer to themselves, and would keep the networks from being freed
            stack.callback(vars(one).clear)
        _restore_attention(pipe, stack)
        for name in DENOISERS:
            if isinstance(module := getattr(pipe, name, None), torch.nn.Module):
                vars(driven)[name] = Counted(module, rows)
        stack.enter_context(torch.enable_grad() if gradients else torch.no_grad())
        output = None
        try:
            output = _begun(_loop_of(pipe), driven, call, session)
            session.finish(interrupted=getattr(driven, "_interrupt", False))
        except Finished:
            pipe.maybe_free_model_hooks()
    assert session.reading is not None
    total = rows[0] or session.asked * shape[0]
    add_to_counters(total)
    return Run(session.result, output, session.reading, total / shape[0])


def _begun(loop: Callable[..., Any], driven: Any, call: dict[str, Any], session: Session[Any]) -> Any:
    """Call the loop. An error before its first step becomes a ValueError, because the call itself was wrong."""
    try:
        return loop(driven, **call)
    except (AttributeError, TypeError, NameError, LookupError) as error:
        if session.answered:
            raise
        why = " ".join(str(error).split())
        raise ValueError(
            f"{type(driven).__name__} failed before its first step ({type(error).__name__}: {why}): "
            "if an argument such as image= is missing, pass it too"
        ) from error


class _Stepped(NamedTuple):
    prev_sample: Tensor
    pred_original_sample: Tensor


class _Scheduler:
    """Takes the place of the pipeline's scheduler. `host` is a private copy of the real one, which is read but never stepped."""

    order = 1
    init_noise_sigma = 1.0  # our latents have unit variance

    def __init__(self, scheduler: Any, session: Session[Any]) -> None:
        host = copy.deepcopy(scheduler)
        self.host, self.session = host, session
        self.timesteps: Any = None

        @functools.wraps(host.set_timesteps)  # pipelines look at its signature before they pass sigmas, timesteps or mu
        def set_timesteps(*args: Any, **kwargs: Any) -> None:
            host.set_timesteps(*args, **kwargs)
            session.reading = schedulers.read(host)
            self.timesteps = torch.as_tensor(session.reading.timesteps).as_subclass(Timesteps)
            self.timesteps.session = session

        self.set_timesteps = set_timesteps

    @property
    def __class__(self) -> type:  # pyright: ignore  # some pipelines ask isinstance(self.scheduler, …)
        return type(self.host)

    def __getattr__(self, name: str) -> Any:
        if name == "host":
            raise AttributeError(name)
        return getattr(self.host, name)

    @property
    def config(self) -> Any:
        """The host's configuration, except for the unit of its latents (SCM, EDM), which is 1 here."""
        config = self.host.config
        return type(config)({**config, "sigma_data": 1.0}) if "sigma_data" in config else config

    def scale_model_input(self, sample: Tensor, *_: Any, **__: Any) -> Tensor:
        return sample

    def set_begin_index(self, begin_index: int = 0) -> None:
        pass

    def step(
        self, model_output: Tensor, timestep: Any, sample: Tensor, *_: Any, return_dict: bool = True, **__: Any
    ) -> _Stepped:
        x = self.session.step(model_output, sample)
        return _Stepped(x, x)


def _prepare_latents(
    pipe: Any, driven: Any, session: Session[Any], shape: tuple[int, ...], size: tuple[Any, Any]
) -> Callable[..., Any]:
    """Wrap the pipeline's prepare_latents: its latents become the session's buffer, which is filled when the loop begins."""
    original = getattr(type(pipe), "prepare_latents", None)
    if original is None:
        raise ValueError(f"{type(pipe).__name__} prepares its latents in its own way: it cannot be driven")

    @functools.wraps(original)
    def prepare_latents(*args: Any, **kwargs: Any) -> Any:
        prepared = original(driven, *args, **kwargs)
        latents = prepared[0] if isinstance(prepared, tuple) else prepared
        if tuple(latents.shape) != shape:
            given = inspect.signature(original).bind(driven, *args, **kwargs).arguments
            raise ValueError(_other_shape(tuple(latents.shape), shape, size, (given.get("height"), given.get("width"))))
        session.buffer = latents = latents.clone()
        session.begin()
        return (latents, *prepared[1:]) if isinstance(prepared, tuple) else latents

    return prepare_latents


@dataclass(frozen=True)
class _Paired:
    """Timesteps that are zipped with another iterable."""

    pairs: Iterator[Any]
    session: Session[Any]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.pairs)


def _other_shape(wanted: tuple[int, ...], shape: tuple[int, ...], size: Any, drawn: Any) -> str:
    """Return the error message for latents of a shape that the pipeline does not want, with its own size if that is known."""
    if None not in (*size, *drawn) and drawn != size:
        h, w = drawn
        asked = f"asked for {size[0]} x {size[1]} pixels (height x width), the pipeline draws {h} x {w}"
        return f"{asked}, one of its own sizes: pass height={h} and width={w}, or leave out what makes it choose"
    advice = "check the size and the prompts, or pass latents= of that shape"
    return f"the pipeline wants latents of shape {wanted}, these have {shape}: {advice}"


def _loop_of(pipe: Any) -> Callable[..., Any]:
    """Return a private copy of the pipeline's `__call__` in which enumerate(timesteps) counts steps, not evaluations.

    Guidance windows, ControlNet keep lists and the like are indexed by it.
    """
    function = inspect.unwrap(type(pipe).__call__)

    def zip(*iterables: Any, strict: bool = False) -> Any:
        paired = builtins.zip(*iterables, strict=strict)
        session = next((one.session for one in iterables if isinstance(one, Timesteps)), None)
        return paired if session is None else _Paired(paired, session)

    def enumerate(iterable: Any, start: int = 0) -> Iterator[tuple[int, Any]]:
        within = getattr(iterable, "iterable", iterable)  # of a progress bar
        session = within.session if isinstance(within, (Timesteps, _Paired)) else None
        if session is None:
            return builtins.enumerate(iterable, start)
        return ((start + session.true_index, t) for t in iterable)

    namespace = {**function.__globals__, "enumerate": enumerate, "zip": zip}
    loop = types.FunctionType(
        function.__code__, namespace, function.__name__, function.__defaults__, function.__closure__
    )
    loop.__kwdefaults__ = function.__kwdefaults__
    return loop


def _restore_attention(pipe: Any, stack: ExitStack) -> None:
    """Put perturbed attention's processors back when `stack` closes: a pipeline does so only where its loop ends."""
    module = network(pipe)
    if hasattr(pipe, "_set_pag_attn_processor") and hasattr(module, "attn_processors"):
        stack.callback(module.set_attn_processor, dict(module.attn_processors))


def _refuse_memory(pipe: Any) -> None:
    """Raise ValueError if what a network answers depends on the calls before."""
    for name in DENOISERS:
        module = getattr(pipe, name, None)
        if getattr(module, "is_cache_enabled", False):
            raise ValueError(
                f"pipe.{name} caches its features from call to call: call pipe.{name}.disable_cache() first"
            )
        parts = module.modules() if isinstance(module, torch.nn.Module) else ()
        hooks = (hook for part in parts for hook in getattr(vars(part).get("_diffusers_hook"), "hooks", {}).values())
        if stateful := next((type(hook).__name__ for hook in hooks if getattr(hook, "_is_stateful", False)), None):
            raise ValueError(f"pipe.{name} carries features from call to call ({stateful}): load it without that hook")
    momentum = "adaptive_projected_guidance_momentum"
    for name in GUIDERS:
        guider = getattr(pipe, name, None)
        if getattr(guider, "_enabled", False) and getattr(guider, momentum, None) is not None:
            raise ValueError(f"pipe.{name} carries guidance from call to call: set pipe.{name}.{momentum} = None first")
