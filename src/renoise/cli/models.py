"""Loading the model that the options or an inversion's file name. Options that cannot work are refused before that."""

import copy
import dataclasses
import inspect
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from renoise.cli.console import Report
from renoise.cli.errors import has_accelerator, stopping
from renoise.cli.inputs import Source
from renoise.cli.options import DEFAULT_MODEL, ModelOptions

if TYPE_CHECKING:
    from renoise.inversion import Inversion


class Models:
    """Loads a model when the first file needs it, and keeps it for the next ones.

    Args:
        options: the model that the command names.
        report: the report of the command.
        steps: numbers of sampler steps that the model must be able to take.
    """

    def __init__(self, options: ModelOptions, report: Report, steps: Sequence[int | None] = ()) -> None:
        self.options, self.report, self.steps = options, report, [count for count in steps if count is not None]
        self._loaded: tuple[ModelOptions, Any] | None = None

    def own(self) -> Any:
        """Return the pipeline that the command names. An error ends the command."""
        with stopping():
            pipe = self._load(self.options)
            for count in self.steps:
                check_steps(pipe, count)
        return pipe

    def of(self, source: Source, found: "Inversion") -> Any:
        """Return the pipeline of an inversion."""
        return self._load(same_model(self.options, source, found))

    def _load(self, options: ModelOptions) -> Any:
        if self._loaded is None or self._loaded[0] != options:
            self._loaded = None  # frees the memory of the last one
            self._loaded = options, load(options, self.report)
        return self._loaded[1]


def load(options: ModelOptions, report: Report) -> Any:
    """Load the pipeline that the options select, and report its device and dtype."""
    import renoise
    from renoise.pipelines.finding import network
    from renoise.pipelines.quiet import quiet

    name, dtype = _absolute(options.model or DEFAULT_MODEL), options.dtype
    if options.cpu_offload and not has_accelerator():
        raise ValueError("--cpu-offload needs an accelerator, such as a GPU, but there is none: leave it out")
    if options.cpu_offload and dtype == "auto":
        dtype = "bf16"  # the model is loaded on the CPU but runs on the accelerator
    _check_device(options.device)
    if not report.options.verbose:
        quiet()
    report.note(f"loading {name} …")
    with report.working("load", f"loading {Path(name).name}"):
        pipe = renoise.load(
            name,
            dtype=dtype,
            device="cpu" if options.cpu_offload else options.device,
            revision=options.revision,
            variant=options.variant,
            config=options.config,
            trust_remote_code=options.trust_remote_code,
        )
        if options.lora:
            _add_lora(pipe, options.lora)
        if options.vae_tiling and not can_tile(pipe):
            kind = type(getattr(pipe, "vae", None)).__name__
            raise ValueError(f"--vae-tiling: the autoencoder of {name} ({kind}) cannot work in tiles: leave it out")
        if options.vae_tiling:
            pipe.vae.enable_tiling()
        if options.cpu_offload:
            pipe.enable_model_cpu_offload(device=options.device)
    report.tiling_helps = lambda: not options.vae_tiling and can_tile(pipe)
    device, kind = str(pipe._execution_device), str(network(pipe).dtype).removeprefix("torch.")
    report.data |= {"device": device, "dtype": kind}
    report.say("model", f"{options.model or DEFAULT_MODEL} in {kind} on {device}")
    return pipe


def same_model(options: ModelOptions, source: Source, found: "Inversion") -> ModelOptions:
    """Return the options with the model of an inversion. Raise ValueError if they name another model."""
    from renoise.pipelines.finding import find

    own, wanted, revision = found.record.model, options.model, found.record.revision
    if wanted is not None and Path(wanted).exists():  # a folder or file may be a copy of the same model
        return options
    if wanted is not None and wanted != own and (find(wanted) is None or find(wanted) is not find(own)):
        raise ValueError(f"{source} was made with {own}, not with {wanted}: leave --model out, or invert it again")
    return dataclasses.replace(options, model=wanted or own, revision=options.revision or revision)


def can_tile(pipe: Any) -> bool:
    """Return whether the autoencoder gives latents of the right shape in tiles.

    AutoencoderTiny of diffusers does not, unless it has 4 channels and makes pictures 8 times smaller.
    """
    import torch

    from renoise.pipelines import latents

    if not hasattr(getattr(pipe, "vae", None), "enable_tiling"):
        return False
    blank, shapes = torch.zeros(1, 3, 64, 64), []
    try:
        shapes.append(latents.encode(pipe, blank).shape)
        pipe.vae.enable_tiling()
        shapes.append(latents.encode(pipe, blank).shape)
    except (RuntimeError, ValueError):
        return False
    finally:
        pipe.vae.disable_tiling()
    return shapes[0] == shapes[1]


def check_steps(pipe: Any, count: int) -> None:
    """Raise ValueError if the scheduler of a pipeline cannot take this many steps."""
    scheduler = copy.deepcopy(pipe.scheduler)
    levels = scheduler.config.get("num_train_timesteps")
    if "mu" in inspect.signature(scheduler.set_timesteps).parameters or levels is None:
        return  # its noise levels depend on the picture
    try:
        scheduler.set_timesteps(count)
        fits = count <= levels and float(scheduler.timesteps.max()) < levels
    except Exception:  # schedulers raise errors of many types
        fits = False
    if not fits:
        kind = type(scheduler).__name__
        raise ValueError(f"--steps {count} is too many for {kind}, which has {levels} noise levels: take fewer")


def warn_of_fruits(report: Report, options: ModelOptions, source: Source, prompt: str) -> None:
    """Warn that the default model knows only fruits, unless the photograph is one it knows or its prompt names one."""
    if options.model is None and not names_fruit(prompt) and not _is_example(source):
        report.warn(
            f"{DEFAULT_MODEL}, the default model, knows only fruits and vegetables: "
            "see renoise presets for other models"
        )


def names_fruit(prompt: str) -> bool:
    """Return whether a prompt names a kind of fruit or vegetable that orchard knows."""
    known = json.loads((files("renoise") / "bench" / "judge.json").read_text(encoding="utf-8"))
    for kind in known["kinds"]:
        stem = re.escape(kind[:-1]) + "(?:y|ies)" if kind.endswith("y") else re.escape(kind) + "(?:s|es)?"
        # An orange cat is no orange.
        end = r"(?=\s*$|\s*[.,]|\s+(?:and|on|in|with)\b)" if kind in known["backgrounds"] else r"\b"
        if re.search(rf"\b{stem}{end}", prompt, re.IGNORECASE):
            return True
    return False


def _is_example(source: Source) -> bool:
    example = Path(str(files("renoise") / "orchard" / "example.png"))
    return example.exists() and source.path.exists() and source.path.samefile(example)


def _check_device(device: str | None) -> None:
    from renoise.pipelines.loading import usable

    if device is not None:
        try:
            usable(device)
        except ValueError as error:
            raise ValueError(f"--{error}") from error


def _add_lora(pipe: Any, lora: str) -> None:
    if not hasattr(pipe, "load_lora_weights"):
        raise ValueError(f"{type(pipe).__name__} takes no --lora")
    try:
        pipe.load_lora_weights(lora, use_safetensors=True)
    except Exception as error:  # diffusers and peft raise errors of many types for weights that do not fit
        raise ValueError(f"--lora {lora} cannot be loaded: {str(error).splitlines()[0]}") from error


def _absolute(model: str) -> str:
    """Return the name of a model. Paths become absolute, so that an inversion finds its model from any folder."""
    from renoise.pipelines.presets import PRESETS

    return str(Path(model).resolve()) if model not in PRESETS and Path(model).exists() else model
