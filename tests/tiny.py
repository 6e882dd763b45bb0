"""Tiny pipelines of the real architectures: random weights, built in memory in a fraction of a second, nothing downloaded.

    tiny = TINY["flux"]()
    tiny.pipe(prompt=tiny.prompts, latents=tiny.latents(), **tiny.call)

Component sizes follow diffusers' own tests. A random network is seldom contractive, so ReNoise need not converge on it:
`TINY[name](contractive=True)` scales its output down until it does.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import diffusers  # both import their classes when they are first named
import torch
import transformers
from torch import Tensor

from tests.tiny_parts import (
    byte_tokenizer,
    clip,
    clip_tokenizer,
    cogvideox_vae,
    flux2_vae,
    gemma,
    ltx_vae,
    qwen3,
    qwen_image_vae,
    qwen_vl,
    sana_vae,
    seeded,
    t5,
    t5_tokenizer,
    unet,
    vae,
    wan_vae,
)

SENSITIVITY = 0.1  # by how much contractive=True scales the network's output


@dataclass
class Tiny:
    """A pipeline, what to call it with besides a prompt, and the shape of what its `latents=` takes, for two images.

    `stock` is what the stock pipeline must be told besides, and renoise says by itself.
    """

    pipe: Any
    call: dict[str, Any]
    latents_shape: tuple[int, ...]
    prompts: list[str] = field(default_factory=lambda: ["a cat on a mat", "a dog"])
    stock: dict[str, Any] = field(default_factory=dict)

    @property
    def network(self) -> torch.nn.Module:
        return self.pipe.unet if hasattr(self.pipe, "unet") else self.pipe.transformer

    def latents(self, batch: int = 2, seed: int = 0) -> Tensor:
        """Noise, in the shape that the pipeline's `latents=` takes."""
        return torch.randn(batch, *self.latents_shape[1:], generator=torch.Generator().manual_seed(seed))

    def images(self, batch: int = 2, seed: int = 0) -> Tensor:
        """Smooth random pictures (B, 3, H, W) in [0, 1], in the size that `call` asks for."""
        coarse = torch.rand(batch, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
        size = (self.call["height"], self.call["width"])
        return torch.nn.functional.interpolate(coarse, size, mode="bilinear", align_corners=False)


TINY: dict[str, Callable[..., Tiny]] = {}


def _register(builder: Callable[[], Tiny]) -> Callable[[], Tiny]:
    """Enter a builder into TINY under its own name, with the `contractive` option."""

    def build(contractive: bool = False) -> Tiny:
        tiny = builder()
        tiny.pipe.set_progress_bar_config(disable=True)
        if contractive:
            network = tiny.network
            names = ("conv_out", "proj_out", "out_layer")
            last = next((part for name in names if (part := getattr(network, name, None)) is not None), None)
            with torch.no_grad():
                for weight in (
                    last or network.get_submodule("all_final_layer")
                ).parameters():  # Z-Image: one a patch size
                    weight.mul_(SENSITIVITY)
        return tiny

    TINY[builder.__name__] = build
    return builder


_STABLE_DIFFUSION = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
_SDXL_UNET = dict(
    block_out_channels=(4, 8), attention_head_dim=(2, 4), cross_attention_dim=64, norm_num_groups=2,
    transformer_layers_per_block=(1, 2), use_linear_projection=True, addition_embed_type="text_time",
    addition_time_embed_dim=8, projection_class_embeddings_input_dim=80,
)  # fmt: skip
_FLUX = dict(
    patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
    joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=[4, 4, 8], guidance_embeds=True,
)  # fmt: skip
_SIZE = dict(height=32, width=32)


def _with_lora(tiny: Tiny) -> Tiny:
    """The same with an adapter that matters: init_lora_weights=False, because peft's own start is the identity."""
    import peft

    config = peft.LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"], init_lora_weights=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        tiny.pipe.unet.add_adapter(config)
    return tiny


def _flow(**config: Any) -> Any:
    return diffusers.FlowMatchEulerDiscreteScheduler(**config)


@_register
def sd() -> Tiny:
    """Stable Diffusion 1.5 with DDIM."""
    scheduler = diffusers.DDIMScheduler(**_STABLE_DIFFUSION, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    pipe = diffusers.StableDiffusionPipeline(
        unet=unet(block_out_channels=(4, 8), cross_attention_dim=32, norm_num_groups=2), vae=vae(), scheduler=scheduler,
        text_encoder=clip(), tokenizer=clip_tokenizer(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    return Tiny(pipe, dict(guidance_scale=1.0, **_SIZE), (2, 4, 16, 16))


@_register
def sd_v() -> Tiny:
    """Velocity prediction with zero terminal SNR: the first level has alpha = 0."""
    tiny = sd()
    tiny.pipe.scheduler = diffusers.DDIMScheduler(
        **_STABLE_DIFFUSION, clip_sample=False, prediction_type="v_prediction", rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )  # fmt: skip
    return tiny


@_register
def lcm_lora() -> Tiny:
    """Stable Diffusion with an LCM-LoRA: a peft adapter, and a stochastic sampler."""
    tiny = _with_lora(sd())
    tiny.pipe.scheduler = diffusers.LCMScheduler(**_STABLE_DIFFUSION)
    return tiny


@_register
def sdxl() -> Tiny:
    """Stable Diffusion XL with Euler."""
    scheduler = diffusers.EulerDiscreteScheduler(**_STABLE_DIFFUSION, steps_offset=1, timestep_spacing="leading")
    pipe = diffusers.StableDiffusionXLPipeline(
        unet=unet(**_SDXL_UNET), vae=vae(), scheduler=scheduler,
        text_encoder=clip(), text_encoder_2=clip(transformers.CLIPTextModelWithProjection),
        tokenizer=clip_tokenizer(), tokenizer_2=clip_tokenizer(),
    )  # fmt: skip
    return Tiny(pipe, dict(guidance_scale=1.0, **_SIZE), (2, 4, 16, 16))


@_register
def sdxl_turbo() -> Tiny:
    """SDXL Turbo: ancestral Euler, trailing timesteps, no guidance."""
    tiny = sdxl()
    tiny.pipe.scheduler = diffusers.EulerAncestralDiscreteScheduler(**_STABLE_DIFFUSION, timestep_spacing="trailing")
    tiny.call["guidance_scale"] = 0.0
    return tiny


@_register
def sd_turbo() -> Tiny:
    """SD-Turbo: Stable Diffusion 2 with ancestral Euler, trailing timesteps, no guidance."""
    tiny = sd()
    tiny.pipe.scheduler = diffusers.EulerAncestralDiscreteScheduler(**_STABLE_DIFFUSION, timestep_spacing="trailing")
    tiny.call["guidance_scale"] = 0.0
    return tiny


@_register
def lcm_lora_sdxl() -> Tiny:
    """SDXL with an LCM-LoRA."""
    tiny = _with_lora(sdxl())
    tiny.pipe.scheduler = diffusers.LCMScheduler(**_STABLE_DIFFUSION)
    return tiny


@_register
def sdxl_lightning() -> Tiny:
    """SDXL-Lightning: an adapter, Euler with trailing timesteps, no guidance."""
    tiny = _with_lora(sdxl())
    tiny.pipe.scheduler = diffusers.EulerDiscreteScheduler(**_STABLE_DIFFUSION, timestep_spacing="trailing")
    tiny.call["guidance_scale"] = 0.0
    return tiny


@_register
def hyper_sdxl() -> Tiny:
    """Hyper-SD on SDXL: an adapter, DDIM with trailing timesteps, no guidance."""
    tiny = _with_lora(sdxl())
    tiny.pipe.scheduler = diffusers.DDIMScheduler(
        **_STABLE_DIFFUSION, clip_sample=False, set_alpha_to_one=False, timestep_spacing="trailing"
    )
    tiny.call["guidance_scale"] = 0.0
    return tiny


@_register
def tcd_sdxl() -> Tiny:
    """TCD-LoRA on SDXL: a stochastic sampler that goes by a level between; `eta` is its gamma."""
    tiny = _with_lora(sdxl())
    tiny.pipe.scheduler = diffusers.TCDScheduler(**_STABLE_DIFFUSION)
    tiny.call |= dict(guidance_scale=0.0, eta=0.3)
    return tiny


@_register
def sdxl_controlnet() -> Tiny:
    """SDXL with a ControlNet whose control image matters."""
    base = sdxl()
    control = seeded(
        diffusers.ControlNetModel, in_channels=4, layers_per_block=1, conditioning_embedding_out_channels=(2, 4),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), **_SDXL_UNET,
    )  # fmt: skip
    with torch.no_grad():  # a fresh ControlNet's zero convolutions would hide the image
        generator = torch.Generator().manual_seed(1)
        zero = [
            control.controlnet_cond_embedding.conv_out,
            control.controlnet_mid_block,
            *control.controlnet_down_blocks,
        ]
        for convolution in zero:
            convolution.weight.normal_(0, 0.5, generator=generator)
    pipe = diffusers.StableDiffusionXLControlNetPipeline(**base.pipe.components, controlnet=control)
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    return Tiny(pipe, dict(base.call, image=image), base.latents_shape)


@_register
def pixart() -> Tiny:
    """PixArt-alpha: a transformer in Stable Diffusion's world, a multistep scheduler; draws at sizes of its own unless told."""
    transformer = seeded(
        diffusers.PixArtTransformer2DModel, sample_size=32, num_layers=2, patch_size=2, attention_head_dim=8,
        num_attention_heads=3, caption_channels=32, in_channels=4, cross_attention_dim=24, out_channels=8,
        num_embeds_ada_norm=1000, norm_type="ada_norm_single", norm_elementwise_affine=False, norm_eps=1e-6,
    )  # fmt: skip
    pipe = diffusers.PixArtAlphaPipeline(
        transformer=transformer, vae=vae(), text_encoder=t5(), tokenizer=t5_tokenizer(),
        scheduler=diffusers.DPMSolverMultistepScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear"),
    )  # fmt: skip
    call = dict(guidance_scale=1.0, clean_caption=False, max_sequence_length=48, **_SIZE)
    return Tiny(pipe, call, (2, 4, 16, 16), stock=dict(use_resolution_binning=False))


@_register
def sana() -> Tiny:
    """Sana: flow matching, released with a multistep scheduler."""
    transformer = seeded(
        diffusers.SanaTransformer2DModel, patch_size=1, in_channels=4, out_channels=4, num_layers=1,
        num_attention_heads=2, attention_head_dim=4, num_cross_attention_heads=2, cross_attention_head_dim=4,
        cross_attention_dim=8, caption_channels=8, sample_size=32,
    )  # fmt: skip
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, beta_schedule="linear"
    )
    pipe = diffusers.SanaPipeline(
        transformer=transformer,
        vae=sana_vae(),
        scheduler=scheduler,
        text_encoder=gemma(),
        tokenizer=byte_tokenizer(300),
    )
    call = dict(
        guidance_scale=1.0,
        complex_human_instruction=None,
        max_sequence_length=32,
        **_SIZE,
    )
    return Tiny(pipe, call, (2, 4, 16, 16), stock=dict(use_resolution_binning=False))


@_register
def sd3() -> Tiny:
    """Stable Diffusion 3.5."""
    transformer = seeded(
        diffusers.SD3Transformer2DModel, sample_size=16, patch_size=1, in_channels=4, out_channels=4, num_layers=1,
        attention_head_dim=8, num_attention_heads=4, caption_projection_dim=32, joint_attention_dim=32,
        pooled_projection_dim=64,
    )  # fmt: skip
    pipe = diffusers.StableDiffusion3Pipeline(
        transformer=transformer, vae=vae(shift_factor=0.0609), scheduler=_flow(shift=3.0),
        text_encoder=clip(transformers.CLIPTextModelWithProjection), tokenizer=clip_tokenizer(),
        text_encoder_2=clip(transformers.CLIPTextModelWithProjection), tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(), tokenizer_3=t5_tokenizer(),
    )  # fmt: skip
    return Tiny(pipe, dict(guidance_scale=1.0, max_sequence_length=32, **_SIZE), (2, 4, 16, 16))


@_register
def sd3_turbo() -> Tiny:
    """Stable Diffusion 3.5 Large Turbo: no guidance."""
    tiny = sd3()
    tiny.call["guidance_scale"] = 0.0
    return tiny


@_register
def flux_schnell() -> Tiny:
    """FLUX.1-schnell: no guidance is told to the network, timesteps are not shifted."""
    tiny = flux()
    tiny.pipe.transformer = seeded(diffusers.FluxTransformer2DModel, **(_FLUX | dict(guidance_embeds=False)))
    tiny.pipe.scheduler = _flow(shift=1.0)
    tiny.call["guidance_scale"] = 0.0
    return tiny


@_register
def flux() -> Tiny:
    """FLUX.1-dev: packed latents, the guidance scale told to the network."""
    pipe = diffusers.FluxPipeline(
        transformer=seeded(diffusers.FluxTransformer2DModel, **_FLUX), vae=vae(1, shift_factor=0.1159, scaling_factor=10.0),
        scheduler=_flow(shift=3.0, use_dynamic_shifting=True),
        text_encoder=clip(), tokenizer=clip_tokenizer(), text_encoder_2=t5(), tokenizer_2=t5_tokenizer(),
    )  # fmt: skip
    return Tiny(pipe, dict(guidance_scale=1.0, max_sequence_length=32, **_SIZE), (2, 64, 4))


@_register
def flux2_klein() -> Tiny:
    """FLUX.2 Klein: latents given as a picture, looped over as a sequence."""
    transformer = seeded(
        diffusers.Flux2Transformer2DModel, patch_size=1, in_channels=4, num_layers=1, num_single_layers=1,
        attention_head_dim=16, num_attention_heads=2, joint_attention_dim=16, timestep_guidance_channels=256,
        axes_dims_rope=[4, 4, 4, 4], guidance_embeds=False,
    )  # fmt: skip
    pipe = diffusers.Flux2KleinPipeline(
        transformer=transformer, vae=flux2_vae(), scheduler=_flow(use_dynamic_shifting=True, shift=3.0),
        text_encoder=qwen3(transformers.Qwen3ForCausalLM), tokenizer=byte_tokenizer(1024),
    )  # fmt: skip
    call = dict(guidance_scale=1.0, max_sequence_length=64, text_encoder_out_layers=(1,), **_SIZE)
    return Tiny(pipe, call, (2, 4, 8, 8))


@_register
def z_image() -> Tiny:
    """Z-Image: the pipeline negates its network's output."""
    transformer = seeded(
        diffusers.ZImageTransformer2DModel, all_patch_size=(2,), all_f_patch_size=(1,), in_channels=16, dim=32,
        n_layers=2, n_refiner_layers=1, n_heads=2, n_kv_heads=2, norm_eps=1e-5, qk_norm=True, cap_feat_dim=16,
        rope_theta=256.0, t_scale=1000.0, axes_dims=[8, 4, 4], axes_lens=[512, 32, 32],
    )  # fmt: skip
    with torch.no_grad():  # left uninitialised by the model itself
        transformer.x_pad_token.fill_(1.0)
        transformer.cap_pad_token.fill_(1.0)
    pipe = diffusers.ZImagePipeline(
        transformer=transformer, vae=vae(16, shift_factor=0.1159), scheduler=_flow(shift=3.0),
        text_encoder=qwen3(transformers.Qwen3Model), tokenizer=byte_tokenizer(512),
    )  # fmt: skip
    return Tiny(pipe, dict(guidance_scale=0.0, max_sequence_length=96, **_SIZE), (2, 16, 16, 16))


@_register
def qwen_image() -> Tiny:
    """Qwen-Image: packed latents, a video autoencoder, guidance by the name of true_cfg_scale."""
    transformer = seeded(
        diffusers.QwenImageTransformer2DModel, patch_size=2, in_channels=16, out_channels=4, num_layers=2,
        attention_head_dim=16, num_attention_heads=3, joint_attention_dim=16, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    scheduler = _flow(
        use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
    )
    pipe = diffusers.QwenImagePipeline(
        transformer=transformer, vae=qwen_image_vae(), scheduler=scheduler, text_encoder=qwen_vl(),
        tokenizer=byte_tokenizer(1024),
    )  # fmt: skip
    return Tiny(pipe, dict(true_cfg_scale=1.0, max_sequence_length=512, **_SIZE), (2, 16, 16))


@_register
def lcm() -> Tiny:
    """The pipeline of latent consistency models, which decodes what its last step returned."""
    base = sd()
    config = dict(block_out_channels=(4, 8), cross_attention_dim=32, norm_num_groups=2, time_cond_proj_dim=16)
    parts = {name: part for name, part in base.pipe.components.items() if name not in ("unet", "scheduler")}
    pipe = diffusers.LatentConsistencyModelPipeline(
        **parts,
        unet=unet(**config),
        scheduler=diffusers.LCMScheduler(**_STABLE_DIFFUSION),
        requires_safety_checker=False,
    )
    return Tiny(pipe, dict(_SIZE), base.latents_shape)


@_register
def chroma() -> Tiny:
    """Chroma: FLUX's latents, guided by a second evaluation."""
    transformer = seeded(
        diffusers.ChromaTransformer2DModel, patch_size=1, in_channels=4, num_layers=1, num_single_layers=1,
        attention_head_dim=16, num_attention_heads=2, joint_attention_dim=32, axes_dims_rope=(4, 4, 8),
        approximator_num_channels=8, approximator_hidden_dim=32, approximator_layers=1,
    )  # fmt: skip
    pipe = diffusers.ChromaPipeline(
        transformer=transformer, vae=vae(1, shift_factor=0.1159, scaling_factor=0.3611), scheduler=_flow(shift=3.0),
        text_encoder=t5(), tokenizer=t5_tokenizer(),
    )  # fmt: skip
    return Tiny(pipe, dict(guidance_scale=1.0, max_sequence_length=32, **_SIZE), (2, 64, 4))


@_register
def qwen_image_rgba() -> Tiny:
    """Qwen-Image with the autoencoder of its layered sibling, whose pictures have a fourth channel."""
    tiny = qwen_image()
    tiny.pipe.vae = qwen_image_vae(input_channels=4)
    return tiny


@_register
def wan() -> Tiny:
    """Wan, which draws videos: latents with an axis of frames, a default size in the signature of the call alone."""
    transformer = seeded(
        diffusers.WanTransformer3DModel, patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12,
        in_channels=4, out_channels=4, text_dim=32, freq_dim=16, ffn_dim=32, num_layers=2, cross_attn_norm=True,
        qk_norm="rms_norm_across_heads", rope_max_seq_len=32,
    )  # fmt: skip
    pipe = diffusers.WanPipeline(
        transformer=transformer, vae=wan_vae(), scheduler=_flow(shift=3.0), text_encoder=t5(), tokenizer=t5_tokenizer()
    )
    call = dict(guidance_scale=1.0, max_sequence_length=32, **_SIZE)
    return Tiny(pipe, call, (2, 4, 1, 8, 8), stock=dict(num_frames=1))


@_register
def ltx() -> Tiny:
    """LTX, which draws videos: a packer that is told its patches, an autoencoder that keeps mean and deviation as buffers."""
    transformer = seeded(
        diffusers.LTXVideoTransformer3DModel, in_channels=4, out_channels=4, patch_size=1, patch_size_t=1,
        num_attention_heads=2, attention_head_dim=8, cross_attention_dim=16, num_layers=1, caption_channels=32,
    )  # fmt: skip
    pipe = diffusers.LTXPipeline(
        transformer=transformer, vae=ltx_vae(), scheduler=_flow(), text_encoder=t5(), tokenizer=t5_tokenizer()
    )
    call = dict(guidance_scale=1.0, max_sequence_length=32, **_SIZE)
    return Tiny(pipe, call, (2, 64, 4), stock=dict(num_frames=1))


@_register
def cogvideox() -> Tiny:
    """CogVideoX, which draws videos: frames come before channels in its latents."""
    transformer = seeded(
        diffusers.CogVideoXTransformer3DModel, num_attention_heads=2, attention_head_dim=16, in_channels=4,
        out_channels=4, time_embed_dim=2, text_embed_dim=32, num_layers=1, sample_width=16, sample_height=16,
        sample_frames=9, patch_size=2, temporal_compression_ratio=4, max_text_seq_length=16,
    )  # fmt: skip
    pipe = diffusers.CogVideoXPipeline(
        transformer=transformer, vae=cogvideox_vae(), text_encoder=t5(), tokenizer=t5_tokenizer(),
        scheduler=diffusers.CogVideoXDDIMScheduler(**_STABLE_DIFFUSION, clip_sample=False),
    )  # fmt: skip
    call = dict(guidance_scale=1.0, max_sequence_length=16, **_SIZE)
    return Tiny(pipe, call, (2, 1, 4, 16, 16), stock=dict(num_frames=1))


@_register
def animatediff() -> Tiny:
    """AnimateDiff: Stable Diffusion and its autoencoder of single pictures, with an axis of frames in the latents."""
    base = sd()
    adapter = seeded(
        diffusers.MotionAdapter, block_out_channels=(4, 8), motion_layers_per_block=1, motion_norm_num_groups=2,
        motion_num_attention_heads=2,
    )  # fmt: skip
    names = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")
    pipe = diffusers.AnimateDiffPipeline(**{name: getattr(base.pipe, name) for name in names}, motion_adapter=adapter)
    return Tiny(pipe, dict(guidance_scale=1.0, **_SIZE), (2, 4, 1, 16, 16), stock=dict(num_frames=1))


@_register
def text_to_video() -> Tiny:
    """ModelScope's text-to-video: the scheduler is given latents without their axis of frames."""
    base = sd()
    network = seeded(
        diffusers.UNet3DConditionModel, block_out_channels=(4, 8), layers_per_block=1, sample_size=16, in_channels=4,
        out_channels=4, down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"), norm_num_groups=2,
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"), cross_attention_dim=32, attention_head_dim=4,
    )  # fmt: skip
    names = ("vae", "text_encoder", "tokenizer", "scheduler")
    pipe = diffusers.TextToVideoSDPipeline(**{name: getattr(base.pipe, name) for name in names}, unet=network)
    return Tiny(pipe, dict(guidance_scale=1.0, **_SIZE), (2, 4, 1, 16, 16), stock=dict(num_frames=1))


@_register
def kandinsky5() -> Tiny:
    """Kandinsky 5: channels come last in its latents, its output has an `image`, and it draws at sizes of its own."""
    transformer = seeded(
        diffusers.Kandinsky5Transformer3DModel, in_visual_dim=4, in_text_dim=16, in_text_dim2=32, time_dim=16,
        out_visual_dim=4, patch_size=(1, 2, 2), model_dim=16, ff_dim=32, num_text_blocks=1, num_visual_blocks=2,
        axes_dims=(1, 1, 2), visual_cond=False, attention_type="regular",
    )  # fmt: skip
    pipe = diffusers.Kandinsky5T2IPipeline(
        transformer=transformer, vae=vae(4, scaling_factor=3.0, halvings=3), scheduler=_flow(shift=3.0),
        text_encoder=qwen_vl(), tokenizer=byte_tokenizer(1024), text_encoder_2=clip(), tokenizer_2=clip_tokenizer(),
    )  # fmt: skip
    pipe.resolutions = [(32, 32), (32, 64)]
    return Tiny(pipe, dict(guidance_scale=1.0, max_sequence_length=256, **_SIZE), (2, 1, 4, 4, 4))


def split(tiny: Tiny) -> tuple[dict, dict]:
    """The size, and the rest of the call."""
    call = dict(tiny.call)
    return dict(height=call.pop("height"), width=call.pop("width")), call


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()
