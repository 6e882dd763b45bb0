"""What tests/tiny.py builds its pipelines from: tokenizers, text encoders, autoencoders, UNets, with fixed random weights."""

import string
from collections.abc import Callable
from typing import Any

import diffusers  # both import their classes when they are first named
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors


def seeded(cls: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """cls(…) in evaluation mode, with weights that depend on nothing that ran before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return cls(*args, **kwargs).eval()


# --- text ------------------------------------------------------------------------------------------------------------

_CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}{{ c['text'] }}{% endfor %}"
    "{% endif %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SPECIAL = ["<pad>", "</s>", "<s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
_VOCABULARY = 512


def _bytes() -> list[str]:
    """The 256 characters that byte-level tokenizers write bytes as."""
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def clip_tokenizer() -> Any:
    tokens = ["<|startoftext|>", "!", "<|endoftext|>", *_bytes(), *(c + "</w>" for c in _bytes())]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return transformers.CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77)


def clip(cls: Any = None) -> Any:
    config = transformers.CLIPTextConfig(
        vocab_size=1000, hidden_size=32, intermediate_size=37, num_attention_heads=4, num_hidden_layers=3, projection_dim=32,
        hidden_act="gelu", bos_token_id=0, eos_token_id=2, pad_token_id=1,
    )  # fmt: skip
    return seeded(cls or transformers.CLIPTextModel, config)


def t5_tokenizer() -> Any:
    characters = string.ascii_letters + string.digits + string.punctuation
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *((c, -3.0) for c in characters)]
    return transformers.T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=64)


def t5() -> Any:
    config = transformers.T5Config(
        vocab_size=1103, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, relative_attention_num_buckets=8,
        is_encoder_decoder=False, use_cache=False,
    )  # fmt: skip
    return seeded(transformers.T5EncoderModel, config)


def byte_tokenizer(length: int) -> Any:
    """A byte-level tokenizer with a chat template, for the text encoders that are language models."""
    vocab = {token: i for i, token in enumerate(dict.fromkeys([*_SPECIAL, *_bytes()]))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A $B </s>", special_tokens=[("</s>", 1)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=length, padding_side="right", chat_template=_CHATML,
        pad_token="<pad>", eos_token="</s>", bos_token="<s>", unk_token="<unk>",
    )  # fmt: skip


def qwen3(cls: Any) -> Any:
    config = transformers.Qwen3Config(
        vocab_size=_VOCABULARY, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=1024, pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    return seeded(cls, config)


def qwen_vl() -> Any:
    text = dict(
        vocab_size=_VOCABULARY, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, rope_theta=1e6, rope_scaling=dict(mrope_section=[1, 1, 2], rope_type="default"),
    )  # fmt: skip
    vision = dict(depth=1, hidden_size=16, intermediate_size=16, num_heads=2, out_hidden_size=16)
    tokens = dict(vision_start_token_id=6, vision_end_token_id=7, vision_token_id=7, image_token_id=5, video_token_id=4)
    config = transformers.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **tokens)
    return seeded(transformers.Qwen2_5_VLForConditionalGeneration, config)


def gemma() -> Any:
    config = transformers.Gemma2Config(
        vocab_size=_VOCABULARY, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=4, pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    return seeded(transformers.Gemma2Model, config)


# --- images and noise --------------------------------------------------------------------------------------------------


def vae(latent_channels: int = 4, scaling_factor: float = 5.0, halvings: int = 1, **config: Any) -> Any:
    """A VAE that halves each side; the factors used bring its latents to about unit variance, as a trained one's has."""
    blocks = halvings + 1
    return seeded(
        diffusers.AutoencoderKL, block_out_channels=[4] * halvings + [8], layers_per_block=1,
        latent_channels=latent_channels, down_block_types=["DownEncoderBlock2D"] * blocks,
        up_block_types=["UpDecoderBlock2D"] * blocks, norm_num_groups=2,
        sample_size=32, scaling_factor=scaling_factor, **config,
    )  # fmt: skip


def unet(**config: Any) -> Any:
    return seeded(
        diffusers.UNet2DConditionModel, sample_size=16, in_channels=4, out_channels=4, layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **config,
    )  # fmt: skip


def sana_vae() -> Any:
    return seeded(
        diffusers.AutoencoderDC, in_channels=3, latent_channels=4, attention_head_dim=2, scaling_factor=0.41407,
        encoder_block_types=("ResBlock", "EfficientViTBlock"), decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8), encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)), encoder_layers_per_block=(1, 1), decoder_layers_per_block=[1, 1],
        downsample_block_type="conv", upsample_block_type="interpolate", decoder_norm_types="rms_norm",
        decoder_act_fns="silu",
    )  # fmt: skip


def qwen_image_vae(**config: Any) -> Any:
    """The video autoencoder of Qwen-Image, which quarters each side; its latents are neither centred nor of unit variance."""
    return seeded(
        diffusers.AutoencoderKLQwenImage, base_dim=8, z_dim=4, dim_mult=[1, 2, 4], num_res_blocks=1,
        temperal_downsample=[False, True], latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 0.7, 1.1, 2.0],
        **config,
    )  # fmt: skip


def wan_vae() -> Any:
    return seeded(
        diffusers.AutoencoderKLWan, base_dim=3, z_dim=4, dim_mult=[1, 1, 1], num_res_blocks=1,
        temperal_downsample=[False, True], scale_factor_spatial=4, scale_factor_temporal=2,
        latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.5, 0.7, 1.1, 2.0],
    )  # fmt: skip


def ltx_vae() -> Any:
    """The autoencoder of LTX, which quarters each side; mean and deviation are buffers, scaled besides."""
    vae = seeded(
        diffusers.AutoencoderKLLTXVideo, latent_channels=4, block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4, layers_per_block=(1,) * 5, decoder_layers_per_block=(1,) * 5,
        spatio_temporal_scaling=(True, True, False, False), decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False,) * 5, upsample_residual=(False,) * 4, upsample_factor=(1,) * 4,
        timestep_conditioning=False, patch_size=1, patch_size_t=1, encoder_causal=True, decoder_causal=False,
        scaling_factor=2.0,
    )  # fmt: skip
    vae.latents_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))
    vae.latents_std.copy_(torch.tensor([1.5, 0.7, 1.1, 2.0]))
    return vae


def cogvideox_vae() -> Any:
    return seeded(
        diffusers.AutoencoderKLCogVideoX, down_block_types=("CogVideoXDownBlock3D",) * 2, latent_channels=4,
        up_block_types=("CogVideoXUpBlock3D",) * 2, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=2,
        temporal_compression_ratio=1, scaling_factor=2.0,
    )  # fmt: skip


def flux2_vae() -> Any:
    """The autoencoder of FLUX.2, whose latents go through a batch norm that is not the identity."""
    vae = seeded(
        diffusers.AutoencoderKLFlux2, sample_size=32, block_out_channels=(4, 4), layers_per_block=1, latent_channels=1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=1,
        use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(2)
    vae.bn.running_mean.normal_(generator=generator)
    vae.bn.running_var.uniform_(0.5, 3, generator=generator)
    return vae
