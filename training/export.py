"""Write the trained parts as one folder in diffusers' own format: float16, safetensors, nothing pickled."""

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline
from safetensors.torch import load_file

from .denoiser import SCHEDULE, WIDTH, make_unet
from .text import make_text_model, tokenizer_for

CARD = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# orchard

A small text-conditional latent diffusion model of fruits and vegetables on coloured backgrounds, 128 x 128 px, trained
from scratch for the tests, examples and benchmarks of `renoise`, on photographs of Fruits-360 (MIT licence, Copyright (c)
2017-2020 Mihai Oltean, Horea Muresan). The folder `training/` of the project holds the scripts and the measurements.

Captions read like "a photo of a red apple and a yellow lemon on a blue background".
"""


def export(data: Path, runs: Path, to: Path) -> int:
    """Assemble the pipeline from the averaged weights; returns the folder's size in bytes."""
    vae = AutoencoderTiny.from_pretrained(runs / "vae")
    state = load_file(runs / "denoiser" / "state.safetensors")
    tokenizer = tokenizer_for(data)
    unet, text = make_unet(vae.config.latent_channels), make_text_model(tokenizer, WIDTH)
    for prefix, module in (("ema_unet.", unet), ("ema_text.", text)):
        module.load_state_dict({k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)})
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    for module in (vae, unet, text):
        module.to(torch.float16, memory_format=torch.contiguous_format).eval()
    part = to.with_name(to.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    pipe.save_pretrained(part, safe_serialization=True)
    # transformers 5 writes tokenizer.json alone; older versions read these two.
    backend = json.loads((part / "tokenizer" / "tokenizer.json").read_text())["model"]
    (part / "tokenizer" / "vocab.json").write_text(json.dumps(backend["vocab"], ensure_ascii=False))
    merges = [m if isinstance(m, str) else " ".join(m) for m in backend["merges"]]
    (part / "tokenizer" / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    for config in part.rglob("*.json"):  # where a part was loaded from is nobody's business
        text_of = json.loads(config.read_text())
        # (AutoencoderTiny writes block_out_channels and then warns of it on reading)
        unwanted = {"_name_or_path", "block_out_channels"} if config.parent.name == "vae" else {"_name_or_path"}
        if unwanted & set(text_of):
            config.write_text(json.dumps({k: v for k, v in text_of.items() if k not in unwanted}, indent=2) + "\n")
    # Transformers loads the type its config names, diffusers float32 whatever is stored: both shall say float32.
    config = part / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2) + "\n")
    for file in part.rglob("*.safetensors"):
        file.chmod(0o644)
    (part / "README.md").write_text(CARD)
    old = to.with_name(to.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if to.exists():
        to.rename(old)
    part.rename(to)
    shutil.rmtree(old, ignore_errors=True)
    return folder_size(to)


def folder_size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--data", type=Path, required=True, help="the data folder (only read)")
    p.add_argument("--out", type=Path, default=Path("runs"), help="where the training runs are")
    p.add_argument("--to", type=Path, default=Path("src/renoise/orchard"))
    args = p.parse_args()
    size = export(args.data, args.out, args.to)
    print(f"{args.to}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
