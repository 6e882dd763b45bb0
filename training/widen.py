"""Start a wider U-Net from a narrower one that has learnt already.

Net2Net (arXiv 1511.05641): channels are repeated, and what reads them is divided unevenly between the copies, so that these grow
apart. The wide network does what the narrow one did, but for norms: those of skip connections, whose groups shift, and those of
the lowest level, where half of the channels count twice.
"""

import torch
from torch import nn


@torch.no_grad()
def load_widened(network: nn.Module, narrow: dict[str, torch.Tensor]) -> None:
    """Load a U-Net whose top level has half the channels, or whose lowest has two thirds of them, or the same network.

    ValueError if both are to be widened at once, or a layer is missing.
    """
    top, low = (
        len(network.state_dict()[name]) > len(narrow[name])
        for name in ("conv_in.bias", "mid_block.resnets.0.conv1.bias")
    )
    if top and low:
        raise ValueError("the U-Net's top level or its lowest can be widened, one at a time")
    for name, wide in network.state_dict().items():
        tensor = narrow.get(name)
        if tensor is None and ".conv_shortcut." in name:  # a block that keeps its channels has none: the identity
            tensor = torch.eye(wide.shape[1])[..., None, None] if wide.ndim > 1 else torch.zeros_like(wide)
        if tensor is None:
            raise ValueError(f"the narrower U-Net has no {name}")
        if wide.ndim > 1 and wide.shape[1] > tensor.shape[1]:
            if name == "time_embedding.linear_1.weight":  # every other frequency of the finer embedding is an old one
                tensor = torch.stack([tensor, torch.zeros_like(tensor)], 2).flatten(1)
            else:
                source = _sources(tensor.shape[1], wide.shape[1], top)
                share = 1 + torch.rand(len(source))
                share = share / torch.bincount(source, share)[source].to(share)
                tensor = tensor[:, source] * share.view(1, -1, *[1] * (tensor.ndim - 2))
        if (growth := len(wide) / len(tensor)) > 1:
            source = _sources(len(tensor), len(wide), top)
            tensor = tensor[source]
            # queries times keys is now a sum over more channels, and is scaled for them
            if name.endswith("to_k.weight"):
                tensor = tensor / torch.bincount(source)[source].view(-1, 1)
            elif name.endswith("to_q.weight"):
                tensor = tensor * growth**0.5
        wide.copy_(tensor)


def _sources(old: int, new: int, top: bool) -> torch.Tensor:
    """Which channel each of the `new` is a copy of.

    The top level's channels come last where they meet others, and each becomes two. The lowest level's come first; of each 32
    (a head, or a norm's group) the first 16 are repeated.
    """
    if top:
        kept = 2 * old - new
        return torch.cat([torch.arange(kept), torch.arange(kept, old).repeat_interleave(2)])
    blocks, changed = torch.arange(old).view(-1, 32), (new - old) // 16
    longer = torch.cat([blocks[:changed], blocks[:changed, :16]], 1)
    return torch.cat([longer.flatten(), blocks[changed:].flatten()])
