"""Recognizes models and LoRAs, to check that a pipeline is the one that an inversion was made with."""

import math
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from renoise.pipelines.finding import find, network
from renoise.pipelines.presets import PRESETS
from renoise.record import Record

SAMPLES = 64  # weights that are compared
ADAPTER_SAMPLES = 8  # layers of an adapter that are compared
FUSED_DIFFERENCE, FUSED_SAMPLES = 0.02, 3  # a share that is five times the rounding of bfloat16
DIFFERENCE = 0.01  # by at least this share of their size the weights of another model differ


def identity(pipe: Any) -> str:
    """Return what a pipeline is called: its preset, else where it was loaded from, else its class."""
    if preset := find(pipe):
        return preset.name
    return str(getattr(pipe.config, "_name_or_path", None) or type(pipe).__name__)


def adapters(pipe: Any) -> dict[str, dict[str, tuple[float, float]]]:
    """Return the LoRAs that are enabled: part of the pipeline -> name -> (mean weight, root mean square of its numbers)."""
    found = {}
    for part, module in pipe.components.items():
        if isinstance(module, torch.nn.Module) and getattr(module, "peft_config", None):
            enabled = {name: _adapter(layers) for name, layers in _enabled_layers(module).items()}
            found |= {part: enabled} if enabled else {}
    return found


def _enabled_layers(module: torch.nn.Module) -> dict[str, list[tuple[Any, str]]]:
    """Return the adapter layers of a module by the name of the adapter, as far as they are enabled."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: dict[str, list[tuple[Any, str]]] = {}
    for layer in module.modules():
        if isinstance(layer, BaseTunerLayer) and not layer.disable_adapters:
            for name in layer.active_adapters:
                if name in getattr(layer, "scaling", {}):
                    layers.setdefault(name, []).append((layer, name))
    return layers


def _adapter(layers: list[tuple[Any, str]]) -> tuple[float, float]:
    """Return an adapter's mean scaling over its layers, and the root mean square of a few of its numbers."""
    scaling = sum(float(layer.scaling[name]) for layer, name in layers) / len(layers)
    chosen = [layers[len(layers) * i // ADAPTER_SAMPLES] for i in range(ADAPTER_SAMPLES)]
    parameters = [
        p for layer, name in chosen for n, p in layer.named_parameters() if f".{name}." in f".{n}." and not p.is_meta
    ]
    squares = [p.detach().float().square().mean().item() for p in parameters]
    return scaling, (sum(squares) / max(len(squares), 1)) ** 0.5


def _same_adapters(mine: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Whether the same adapters are enabled with the same weights and numbers, up to another precision's rounding."""
    names = [{part: sorted(adapters) for part, adapters in side.items()} for side in (mine, theirs)]
    return names[0] == names[1] and all(
        math.isclose(a, b, rel_tol=DIFFERENCE, abs_tol=1e-6)
        for part in mine
        for name in mine[part]
        for a, b in zip(mine[part][name], theirs[part][name], strict=True)
    )


def _described(adapters: dict[str, Any]) -> str:
    """Name adapters and their weights, for people."""
    parts = (
        f"{name} at {values[0]:.3g} in {part}" for part, names in adapters.items() for name, values in names.items()
    )
    return ", ".join(parts) or "none"


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
    if not plain or any(p.is_meta or p.element_size() < 2 or type(p.data) is not torch.Tensor for p in plain):
        return None  # offloaded to nowhere, stored in eight bits, or quantized
    chosen = [plain[len(plain) * i // SAMPLES].detach() for i in range(SAMPLES)]
    places = [torch.tensor(p.numel() * i // SAMPLES, device=p.device) for i, p in enumerate(chosen)]
    drawn = [p.take(place).float().cpu() for p, place in zip(chosen, places, strict=True)]  # copies no weight
    return torch.stack(drawn).half().numpy().tobytes().hex()


def _other_weights(mine: str | None, theirs: str | None) -> bool | None:
    """Return whether two fingerprints differ by more than rounding; None if one is missing."""
    if mine is None or theirs is None:
        return None
    a, b = (torch.frombuffer(bytearray.fromhex(text), dtype=torch.float16).float() for text in (mine, theirs))
    if len(a) != len(b) or not bool((a - b).abs().sum() <= DIFFERENCE * a.abs().sum()):
        return True
    # A LoRA that was fused changes some weights by more than any rounding, and others not at all.
    return int(((a - b).abs() > FUSED_DIFFERENCE * a.abs() + 1e-6).sum()) >= FUSED_SAMPLES


def check_model(pipe: Any, record: Record) -> None:
    """Raise ValueError if an inversion was made with another model; warn if only its folder has another name.

    Where weights can be compared they decide, else the names do.
    """
    mine = identity(pipe)
    enabled = adapters(pipe)
    if not _same_adapters(enabled, record.adapters):
        then, now = _described(record.adapters), _described(enabled)
        if then == now:
            now = "another of the same name"
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
