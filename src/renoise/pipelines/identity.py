"""Which model a pipeline is, and whether it is the one that an inversion was made with."""

import re
import warnings
from pathlib import Path
from typing import Any

import torch

from renoise.pipelines.finding import find, network
from renoise.pipelines.presets import PRESETS
from renoise.record import Record

SAMPLES = 64  # weights that are compared
DIFFERENCE = 0.01  # by at least this share of their size the weights of another model differ


def identity(pipe: Any) -> str:
    """Return what a pipeline is called: its preset, else where it was loaded from, else its class."""
    if preset := find(pipe):
        return preset.name
    return str(getattr(pipe.config, "_name_or_path", None) or type(pipe).__name__)


def adapters(pipe: Any) -> list[str]:
    """Return the names of the LoRAs that are active in a pipeline's network."""
    return list(network(pipe).active_adapters()) if getattr(network(pipe), "peft_config", None) else []


def revision(pipe: Any) -> str | None:
    """Return the commit of the Hub that a pipeline was loaded from: its parts remember the folder of the cache."""
    config = getattr(network(pipe), "config", None)
    found = re.search(r"snapshots/([0-9a-f]{40})\b", str(getattr(config, "_name_or_path", "")))
    return found and found[1]


def fingerprint(pipe: Any) -> str | None:
    """Return a few weights from all over the network, float16 in hexadecimal; None where they are quantized."""
    module = network(pipe)
    if not isinstance(module, torch.nn.Module):
        return None
    plain = [p for n, p in module.named_parameters() if p.ndim > 1 and p.is_floating_point() and "lora_" not in n]
    if not plain or any(p.is_meta for p in plain):
        return None
    chosen = [plain[len(plain) * i // SAMPLES].detach() for i in range(SAMPLES)]
    places = [torch.tensor(p.numel() * i // SAMPLES, device=p.device) for i, p in enumerate(chosen)]
    drawn = torch.stack(
        [p.take(place).float().cpu() for p, place in zip(chosen, places, strict=True)]
    )  # copies no weight
    return drawn.half().numpy().tobytes().hex()


def _other_weights(mine: str | None, theirs: str | None) -> bool | None:
    """Whether two samples differ by more than what half precision or a light touch does; None if one is missing."""
    if mine is None or theirs is None:
        return None
    a, b = (torch.frombuffer(bytearray.fromhex(text), dtype=torch.float16).float() for text in (mine, theirs))
    return len(a) != len(b) or not bool((a - b).abs().sum() <= DIFFERENCE * a.abs().sum())


def check_model(pipe: Any, record: Record) -> None:
    """Raise ValueError if an inversion was made with another model; warn if only its folder has another name.

    Where weights can be compared they decide, else the names do.
    """
    mine = identity(pipe)
    if bool(adapters(pipe)) != bool(record.adapters):
        then, now = (", ".join(names) or "none" for names in (record.adapters, adapters(pipe)))
        raise ValueError(f"the inversion was made with the LoRA {then}, this pipeline has {now}: make it as it was")
    made, this = f"{record.model} ({record.pipeline})", f"{mine} ({type(pipe).__name__})"
    if type(pipe).__name__ != record.pipeline:
        raise ValueError(f"the inversion was made with {made}, this pipeline is {this}: load {record.model}")
    other = _other_weights(fingerprint(pipe), record.fingerprint)
    if other:
        raise ValueError(
            f"the inversion was made with {made}, this pipeline is {this} with other weights: load the same"
        )
    if other is False or mine == record.model:
        return
    if all(name in PRESETS or re.fullmatch(r"[\w.-]+/[\w.-]+", name) for name in (mine, record.model)):
        raise ValueError(f"the inversion was made with {record.model}, this pipeline is {mine}: load {record.model}")
    if Path(mine).name != Path(record.model).name:  # folders may have moved
        warnings.warn(f"the inversion was made with {record.model}, this pipeline is {mine}", stacklevel=4)
