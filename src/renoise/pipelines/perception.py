"""Measures edits with pretrained networks: CLIP similarity and DINO structure distance, as in PIE-Bench.

A metric is available if its weights are on this machine already: nothing is downloaded, and no other weights stand in.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, interpolate, normalize
from transformers import AutoTokenizer, CLIPModel, ViTModel

CLIP, DINO = "openai/clip-vit-large-patch14", "facebook/dino-vitb8"
# mean and deviation of the colours that the networks were trained on
CLIP_COLOURS = (0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)
DINO_COLOURS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# (before, after, preserved, target) -> figures by name: pictures (3, H, W) in [0, 1], the mask (1, H, W) of the pixels that must
# not change, and the target prompt
PerceptualMetric = Callable[[Tensor, Tensor, Tensor, str], dict[str, float]]


def load(device: Any) -> tuple[list[PerceptualMetric], dict[str, str]]:
    """Load the metrics whose weights are at hand; return them and, by name, why the others are missing."""
    found, missing = list[PerceptualMetric](), dict[str, str]()
    for name, weights, kind in (("CLIP similarity", CLIP, clip), ("structure distance (DINO)", DINO, dino)):
        try:
            found.append(kind(weights, device))
        except (OSError, ValueError):
            missing[name] = (
                f"needs the weights of {weights}, as safetensors, in the cache of the Hub: hf download {weights}"
            )
    return found, missing


def clip(weights: str, device: Any) -> PerceptualMetric:
    """Measure 100 times the cosine of picture and target prompt.

    `clip` is of the whole picture, `clip_edited` of the picture with the pixels that must not change in black.
    """
    model: Any = CLIPModel.from_pretrained(weights, local_files_only=True, use_safetensors=True).eval().to(device)
    tokenizer = AutoTokenizer.from_pretrained(weights, local_files_only=True)
    size, length = model.config.vision_config.image_size, model.config.text_config.max_position_embeddings

    @torch.no_grad()
    def scores(before: Tensor, after: Tensor, preserved: Tensor, target: str) -> dict[str, float]:
        text = tokenizer([target], truncation=True, max_length=length, return_tensors="pt").to(device)
        texts = model.get_text_features(**text)
        both = torch.stack([after, after * (1 - preserved)])
        pictures = model.get_image_features(_preprocess(both, size, CLIP_COLOURS).to(device))
        # transformers 4 gives the tensor itself
        texts, pictures = (getattr(x, "pooler_output", x) for x in (texts, pictures))
        whole, edited = (100 * cosine_similarity(pictures, texts)).tolist()
        return {"clip": whole, "clip_edited": edited}

    return scores


def dino(weights: str, device: Any) -> PerceptualMetric:
    """Measure `structure_distance`, the MSE of self-similarities of the last layer's keys (Splicing ViT, arXiv 2201.00424)."""
    model: Any = ViTModel.from_pretrained(weights, local_files_only=True, use_safetensors=True).eval().to(device)
    last = [layer for name, layer in model.named_modules() if name.split(".")[-1] in ("k_proj", "key")][-1]
    keys: list[Tensor] = []
    last.register_forward_hook(lambda module, args, out: keys.append(out))

    @torch.no_grad()
    def scores(before: Tensor, after: Tensor, preserved: Tensor, target: str) -> dict[str, float]:
        keys.clear()
        model(_preprocess(torch.stack([before, after]), model.config.image_size, DINO_COLOURS).to(device))
        directions = normalize(keys[0], dim=-1)
        one, other = directions @ directions.transpose(1, 2)
        return {"structure_distance": (one - other).square().mean().item()}

    return scores


def _preprocess(pictures: Tensor, size: int, colours: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    mean, deviation = (torch.tensor(c).view(1, 3, 1, 1) for c in colours)
    small = interpolate(pictures.float().cpu(), (size, size), mode="bicubic", antialias=True).clamp(0, 1)
    return (small - mean) / deviation
