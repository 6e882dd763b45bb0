"""Tiny pipelines that renoise cannot drive, of the parts of those that it can (tests/tiny.py).

    REFUSED["StableDiffusionImg2ImgPipeline"]()

Each is called what its class is, and what is special about it.
"""

import inspect
from collections.abc import Callable
from typing import Any

import diffusers
import torch

from tests.tiny import TINY
from tests.tiny_parts import clip, clip_tokenizer, seeded, t5, t5_tokenizer, unet, vae

# class: the tiny pipeline of whose parts it is made; it can be made back into that
CONVERTED = {
    "StableDiffusionImg2ImgPipeline": "sd",
    "StableDiffusionInpaintPipeline": "sd",
    "CycleDiffusionPipeline": "sd",
    "StableDiffusionXLImg2ImgPipeline": "sdxl",
    "StableDiffusionXLInpaintPipeline": "sdxl",
    "StableDiffusionXLControlNetImg2ImgPipeline": "sdxl_controlnet",
    "StableDiffusion3Img2ImgPipeline": "sd3",
    "StableDiffusion3InpaintPipeline": "sd3",
    "FluxImg2ImgPipeline": "flux",
    "FluxInpaintPipeline": "flux",
    "Flux2KleinInpaintPipeline": "flux2_klein",
    "ChromaImg2ImgPipeline": "chroma",
    "ZImageImg2ImgPipeline": "z_image",
    "QwenImageImg2ImgPipeline": "qwen_image",
    "QwenImageInpaintPipeline": "qwen_image",
    "LatentConsistencyModelImg2ImgPipeline": "lcm",
    "Kandinsky5I2IPipeline": "kandinsky5",
    "CogVideoXVideoToVideoPipeline": "cogvideox",
    "LTXImageToVideoPipeline": "ltx",
    "WanVideoToVideoPipeline": "wan",
    "AnimateDiffVideoToVideoPipeline": "animatediff",
}
MODULAR = {"StableDiffusionXLAutoBlocks": "sdxl", "FluxAutoBlocks": "flux"}


def converted(cls: str, name: str, **other: Any) -> Any:
    """Make a pipeline of the parts of a tiny one; `other` parts take their places."""
    made = getattr(diffusers, cls)
    parts, parameters = {**TINY[name]().pipe.components, **other}, inspect.signature(made.__init__).parameters
    if "requires_safety_checker" in parameters:
        parts["requires_safety_checker"] = False
    return made(**{n: part for n, part in parts.items() if n in parameters})


def modular(blocks: str, name: str) -> Any:
    """Make a modular pipeline of the parts of a tiny one."""
    pipe = getattr(diffusers, blocks)().init_pipeline()
    pipe.update_components(**{n: part for n, part in TINY[name]().pipe.components.items() if part is not None})
    return pipe


def _unet(channels: int) -> Any:
    """Stable Diffusion's network, which reads this many channels."""
    made = unet(block_out_channels=(4, 8), cross_attention_dim=32, norm_num_groups=2)
    made.conv_in = torch.nn.Conv2d(channels, 4, 3, padding=1)
    made.register_to_config(in_channels=channels)
    return made


def _ddpm() -> Any:
    blocks = dict(down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)
    network = seeded(diffusers.UNet2DModel, sample_size=8, block_out_channels=(4, 8), norm_num_groups=2, **blocks)
    return diffusers.DDPMPipeline(unet=network, scheduler=diffusers.DDPMScheduler())


def _dit() -> Any:
    network = seeded(
        diffusers.DiTTransformer2DModel, sample_size=8, num_layers=1, patch_size=2, attention_head_dim=4,
        num_attention_heads=2, in_channels=4, out_channels=8, num_embeds_ada_norm=10,
    )  # fmt: skip
    return diffusers.DiTPipeline(transformer=network, vae=vae(), scheduler=diffusers.DDIMScheduler())


def _kandinsky() -> Any:
    movq = seeded(diffusers.VQModel, block_out_channels=(4,), norm_num_groups=2)
    return diffusers.KandinskyV22CombinedPipeline(None, None, movq, *[None] * 6)


def _if() -> Any:
    parts = (t5_tokenizer(), t5(), _unet(4), diffusers.DDPMScheduler(), None, None, None)
    return diffusers.IFPipeline(*parts, requires_safety_checker=False)


def _sound() -> Any:
    return diffusers.AudioLDMPipeline(
        vae(),
        clip(),
        clip_tokenizer(),
        _unet(4),
        diffusers.DDIMScheduler(),
        None,
    )


def _upscale() -> Any:
    return converted("StableDiffusionUpscalePipeline", "sd", unet=_unet(7), low_res_scheduler=diffusers.DDPMScheduler())


# what it is: how it is built, and what the message says
OTHERS: dict[str, tuple[Callable[[], Any], str]] = {
    "inpainting network": (lambda: converted("StableDiffusionInpaintPipeline", "sd", unet=_unet(9)), "reads 9 channels"),
    "inpainting network, text-to-image class": (
        lambda: converted("StableDiffusionPipeline", "sd", unet=_unet(9)), "reads 9 channels",
    ),
    "instruct": (lambda: converted("StableDiffusionInstructPix2PixPipeline", "sd", unet=_unet(8)), "reads 8 channels"),
    "upscale": (_upscale, "reads 7 channels"),
    "unconditional": (_ddpm, "noise alone"),
    "class-conditional": (_dit, "class_labels"),
    "combined": (_kandinsky, "chain of pipelines"),
    "cascaded": (lambda: diffusers.UnCLIPPipeline(*[None] * 10), "chain of networks"),
    "DeepFloyd": (_if, "pixels"),
    "sound": (_sound, "sound"),
}  # fmt: skip
