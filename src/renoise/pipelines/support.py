"""Whether renoise can drive a pipeline at all, asked first of all: what it is if not, and which one can instead.

There is no list of classes. What a pipeline needs is told by the signature of its call and by its parts, and which class draws
the same model from a prompt alone by diffusers' own tables, or by the classes beside it that are made of the same parts.
"""

import difflib
import inspect
import os
from collections.abc import Collection, Iterator
from typing import Any

import torch

from renoise.pipelines.finding import network

PICTURES = (
    "image",
    "images",
    "video",
    "mask_image",
    "reference_image",
    "source_prompt",
)  # what is drawn over or edited
NETWORKS = ("unet", "transformer")
SOUND = "draws sound"
ANOTHER = "use one that draws from a prompt alone, such as StableDiffusionXLPipeline or FluxPipeline"


def check_pipeline(pipe: Any, given: Collection[str] = ()) -> None:
    """Raise ValueError, one line with what it is and what to use instead, unless `pipe` can be driven.

    Args:
        given: names of the user's own arguments of the call; some pipelines work with a picture of their own.
    """
    if why := _no_pipeline(pipe):
        raise ValueError(why)
    name = type(pipe).__name__
    if why := _chain(pipe) or class_refusal(type(pipe), given):
        raise ValueError(f"{name} cannot be inverted, it {why}: {_instead(pipe, why)}")
    if getattr(pipe, "unet", None) is not None and (channels := _further_channels(pipe)):
        raise ValueError(f"{name} cannot be inverted, {channels}; {ANOTHER}")
    optional = getattr(pipe, "_optional_components", ())
    expected = [n for n in (*NETWORKS, "scheduler") if n in vars(pipe) and n not in optional]
    if missing := [n for n in expected if getattr(pipe, n) is None]:
        raise ValueError(f"{name} has no {' and no '.join(missing)}: load the pipeline with all its parts")


def class_refusal(cls: Any, given: Collection[str] = ()) -> str | None:
    """Return why no pipeline of a class can be driven, as what follows "it", or None if nothing speaks against it."""
    if _is_modular(cls):
        return "is made of blocks that each run a loop of their own"
    call = inspect.signature(cls.__call__).parameters
    needed = [n for n, p in call.items() if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD and n != "self"]
    wanted = [n for n in needed if n != "prompt" and n not in given]
    sized = "height" in call or "width" in call
    picture = next((n for n in PICTURES if n in call), None)
    if any("audio" in n for n in call) or hasattr(cls, "prepare_audio_latents"):
        return SOUND
    if "prompt" not in call and (wanted or not needed or not hasattr(cls, "prepare_latents")):
        told = "what it is told to change" if any("prompt" in n for n in call) else "noise alone"
        return f"draws from {' and '.join(needed or [picture or told])}, not from a prompt"
    if "mask_image" in call and ("strength" in call or "mask_image" not in given):
        return "repaints part of a given picture (inpainting)"
    if picture and "strength" in call and hasattr(cls, "get_timesteps"):
        kind = (
            "video, not from noise (video-to-video)"
            if picture == "video"
            else "picture, not from noise (image-to-image)"
        )
        return f"begins from a given {kind}"
    if any(n in wanted for n in PICTURES) or (picture and not sized):
        return f"draws after a given picture ({picture}=), not from a prompt alone"
    if not sized:
        return "draws nothing that has a height and a width"
    if not hasattr(cls, "prepare_latents"):
        pixels = "vae" not in cls.__init__.__code__.co_varnames and "unet" in cls.__init__.__code__.co_varnames
        return f"{'draws pixels, and ' if pixels else ''}makes its noise inside its own call, where no other can be put"
    edits = {"image", "images", "video"} & set(inspect.signature(cls.prepare_latents).parameters) - set(given)
    if edits and cls not in text_to_image_classes():
        return f"edits a given picture, so it needs one ({picture}=)"
    return None


def _no_pipeline(thing: Any) -> str | None:
    """Return the message for what is no pipeline at all, or None."""
    from diffusers import DiffusionPipeline

    if isinstance(thing, DiffusionPipeline) or _is_modular(type(thing)):
        return None
    kind = type(thing).__name__
    if isinstance(thing, (str, os.PathLike)):
        return f"pass a pipeline, not its name: renoise.load({os.fspath(thing)!r}) makes one"
    if isinstance(thing, type):
        return f"pass a pipeline, not its class: {thing.__name__}.from_pretrained(…) makes one"
    if isinstance(thing, torch.nn.Module):
        return f"pass the whole pipeline, not a part of it such as this {kind}"
    if thing is None:
        return "pass a pipeline, not None: renoise.load or diffusers' from_pretrained makes one"
    return f"pass one diffusers pipeline, not a {kind}: renoise.load or diffusers' from_pretrained makes one"


def _chain(pipe: Any) -> str | None:
    """Return what makes of a pipeline a chain of several, or None: pipelines within, or schedulers for more than one network."""
    from diffusers import DiffusionPipeline

    if within := [name for name, part in vars(pipe).items() if isinstance(part, DiffusionPipeline)]:
        return f"is a chain of pipelines ({', '.join(within)})"
    parts = vars(pipe)
    stages = [name.removesuffix("_scheduler") for name in parts if name.endswith("_scheduler")]
    if stages := [s for s in stages if any(n.startswith(s) and n != f"{s}_scheduler" for n in parts)]:
        return f"is a chain of networks ({', '.join(stages)}) with a scheduler each"
    return None


def _is_modular(cls: Any) -> bool:
    import diffusers

    base = getattr(diffusers, "ModularPipeline", None)
    return base is not None and issubclass(cls, base)


def text_to_image_classes() -> list[Any]:
    """Return the classes of diffusers' own text-to-image table."""
    from diffusers.pipelines import auto_pipeline

    return list(auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values())


def _further_channels(pipe: Any) -> str | None:
    """Return what a network reads besides latents, or None: inpainting networks have 9 channels, those that follow orders 8."""
    reads = getattr(getattr(network(pipe), "config", None), "in_channels", None)
    config = getattr(getattr(pipe, "vae", None), "config", None)
    latents = getattr(config, "latent_channels", None) or getattr(config, "z_dim", None)
    if not isinstance(reads, int) or not isinstance(latents, int) or reads in (latents, 4 * latents):
        return None  # (some pipelines pack 2x2 cells into channels)
    return f"its network reads {reads} channels, not the {latents} of latents: no text-to-image pipeline can use it"


def _instead(pipe: Any, why: str) -> str:
    """Return what to do instead: a text-to-image pipeline of the same parts, and the line that makes it without loading."""
    if further := _further_channels(pipe):
        return f"{further}; {ANOTHER}"
    if why == SOUND:
        return ANOTHER
    if _chain(pipe):
        return f"no pipeline of diffusers draws with it from a prompt alone; {ANOTHER}"
    from diffusers.pipelines import auto_pipeline as auto

    name, chosen = type(pipe).__name__, None
    known = auto._get_task_class(auto.AUTO_TEXT2IMAGE_PIPELINES_MAPPING, name, throw_error_if_not_exist=False)
    if known is not None and _can_stand_in(known, pipe, ()):
        return f"use {known.__name__}, made of the same parts by diffusers.AutoPipelineForText2Image.from_pipe(pipe)"
    if near := [cls for cls in _beside(pipe) if _can_stand_in(cls, pipe, NETWORKS)]:
        chosen = max(near, key=lambda cls: difflib.SequenceMatcher(None, cls.__name__, name).ratio())
    elif any_family := [cls for cls in text_to_image_classes() if _can_stand_in(cls, pipe, pipe.components)]:
        chosen = min(any_family, key=lambda cls: len(cls.__name__))  # the plainest
    if chosen is None:
        return f"diffusers has no text-to-image pipeline for its network; {ANOTHER}"
    return f"use {chosen.__name__}, made of the same parts by diffusers.{chosen.__name__}({_arguments(chosen, pipe)})"


def _arguments(cls: Any, pipe: Any) -> str:
    """Return what a class is made with, of a pipeline's parts. (Not from_pipe: it casts the parts, which both share.)"""
    parameters = inspect.signature(cls.__init__).parameters
    names = [n for n, p in parameters.items() if n in pipe.components or (n != "self" and p.default is p.empty)]
    if set(names) == set(pipe.components):
        return "**pipe.components"
    return ", ".join(f"{name}={f'pipe.{name}' if name in pipe.components else None}" for name in names)


def _beside(pipe: Any) -> Iterator[Any]:
    """Yield the pipeline classes in the same folder of diffusers; for a modular pipeline those in the folder of its family."""
    import diffusers

    package = type(pipe).__module__.rpartition(".")[0].replace(".modular_pipelines.", ".pipelines.")
    for name in dir(diffusers):
        if name.endswith("Pipeline") and ".deprecated." not in package:
            cls = class_of(name)
            if cls is not None and cls.__module__.rpartition(".")[0] == package:
                yield cls


def class_of(name: str) -> Any:
    """Return a class of diffusers, or None if it is none or needs a newer version of another library."""
    import diffusers

    try:
        found = getattr(diffusers, name)
    except (ImportError, RuntimeError):
        return None
    return found if isinstance(found, type) else None


def _can_stand_in(cls: Any, pipe: Any, checked: Collection[str]) -> bool:
    """Whether a class can be driven and can be made of a pipeline's parts, those that are `checked` of the types it names."""
    if cls is type(pipe) or not hasattr(cls, "_get_signature_types") or class_refusal(cls) is not None:
        return False
    optional, types = set(cls._optional_components), cls._get_signature_types()
    required = [
        n for n, p in inspect.signature(cls.__init__).parameters.items() if n != "self" and p.default is p.empty
    ]
    return all(
        pipe.components.get(n) is not None and (n not in checked or _is_of(pipe.components[n], types.get(n, ())))
        for n in required
        if n not in optional
    )


def _is_of(part: Any, types: Collection[Any]) -> bool:
    """Whether a network is of one of the types; other parts come in kinds that stand in for each other."""
    classes = [t for t in types if isinstance(t, type) and issubclass(t, torch.nn.Module)]
    return not isinstance(part, torch.nn.Module) or not classes or isinstance(part, tuple(classes))
