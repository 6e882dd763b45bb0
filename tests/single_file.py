"""A pipeline's weights in one file under the names of the model's authors, as people share checkpoints."""

import re
from typing import Any

from torch import Tensor

_RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
_UNET = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0", "conv_out": "out.2", "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1", "mid_block.resnets.1": "middle_block.2",
}  # fmt: skip
_VAE = {
    "down_blocks": "down", "resnets": "block", "downsamplers.0": "downsample", "upsamplers.0": "upsample",
    "mid_block.block.0": "mid.block_1", "mid_block.block.1": "mid.block_2", "mid_block.attentions.0": "mid.attn_1",
    "attn_1.group_norm": "attn_1.norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
    "conv_norm_out": "norm_out", "conv_shortcut": "nin_shortcut",
}  # fmt: skip


def single_file(pipe: Any) -> dict[str, Tensor]:
    """The tensors of a tiny Stable Diffusion, whose UNet has one layer a block and attention in the inner blocks."""
    parts = [
        ("model.diffusion_model.", pipe.unet, _unet),
        ("first_stage_model.", pipe.vae, _vae),
        ("cond_stage_model.transformer.text_model.", pipe.text_encoder, lambda name: name.removeprefix("text_model.")),
    ]
    return {
        prefix + rename(name): tensor.contiguous()
        for prefix, module, rename in parts
        for name, tensor in module.state_dict().items()
    }


def _unet(name: str) -> str:
    if found := re.match(r"(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.*)", name):
        side, block, kind, layer, rest = found[1], int(found[2]), found[3], int(found[4]), found[5]
        first = 2 * block + (side == "down")
        if kind == "downsamplers":
            return f"input_blocks.{first + 1}.0.op.{rest.removeprefix('conv.')}"
        if kind == "upsamplers":  # behind the attention that the inner block has
            return f"output_blocks.{first + 1}.{2 if block == 0 else 1}.{rest}"
        blocks = "input_blocks" if side == "down" else "output_blocks"
        name = f"{blocks}.{first + layer}.{int(kind == 'attentions')}.{rest}"
    for old, new in _UNET.items():
        name = re.sub(rf"^{re.escape(old)}\.", f"{new}.", name)
    if "transformer_blocks" in name:
        return name
    head, _, last = name.rpartition(".")
    stem, _, layer_name = head.rpartition(".")
    return f"{stem}.{_RESNET[layer_name]}.{last}" if layer_name in _RESNET else name


def _vae(name: str) -> str:
    name = re.sub(r"up_blocks\.(\d)", lambda found: f"up.{1 - int(found[1])}", name)
    for old, new in _VAE.items():
        name = name.replace(f"{old}.", f"{new}.")
    return name
