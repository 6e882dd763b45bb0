"""Write the trained parts in diffusers' own format: float16, safetensors, nothing pickled.

`orchard` and `turbo` become folders with a whole pipeline, `lcm` a LoRA.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, DDIMScheduler, EulerAncestralDiscreteScheduler, StableDiffusionPipeline
from peft import get_peft_model_state_dict

from .denoiser import SCHEDULE, WIDTH, averaged, make_unet
from .distill import lora
from .text import make_text_model, tokenizer_for

CARD = """---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
---
# {name}

{about}, trained from scratch for the tests, examples and benchmarks of `renoise`, on photographs of
Fruits-360 (MIT licence, Copyright (c) 2017-2020 Mihai Oltean, Horea Muresan). The folder `training/` of the project holds
the scripts and the measurements.

Captions read like "a photo of a red apple and a yellow lemon on a blue background".
"""
ABOUT = {
    "orchard": "A small text-conditional latent diffusion model of fruits and vegetables on coloured backgrounds, 128 x 128 px",
    "orchard-turbo": "`orchard` distilled to 1-4 steps of ancestral Euler without guidance",
    "orchard-lcm": "A LoRA that distils `orchard` to 2-8 steps of LCM without guidance",
}


def orchard(args: argparse.Namespace) -> StableDiffusionPipeline:
    """The teacher, from the averaged weights."""
    vae = AutoencoderTiny.from_pretrained(args.out / "vae")
    tokenizer = tokenizer_for(args.data)
    unet, text = make_unet(vae.config.latent_channels), make_text_model(tokenizer, WIDTH)
    unet.load_state_dict(averaged(args.out / "denoiser", "unet"))
    text.load_state_dict(averaged(args.out / "denoiser", "text"))
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sibling(args: argparse.Namespace) -> StableDiffusionPipeline:
    """A student in its teacher's place."""
    pipe = StableDiffusionPipeline.from_pretrained(args.teacher, safety_checker=None)
    if args.kind == "lcm":
        pipe.unet.add_adapter(lora())
    pipe.unet.load_state_dict(averaged(args.out / args.kind, "student"))
    pipe.scheduler = EulerAncestralDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    return pipe


def write_pipeline(pipe: StableDiffusionPipeline, folder: Path) -> None:
    for module in (pipe.vae, pipe.unet, pipe.text_encoder):
        module.to(torch.float16, memory_format=torch.contiguous_format).eval()
    pipe.save_pretrained(folder, safe_serialization=True)
    # transformers 5 writes tokenizer.json alone; older versions read these two.
    backend = json.loads((folder / "tokenizer" / "tokenizer.json").read_text())["model"]
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps(backend["vocab"], ensure_ascii=False))
    merges = [m if isinstance(m, str) else " ".join(m) for m in backend["merges"]]
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    for config in folder.rglob("*.json"):  # where a part was loaded from is nobody's business
        text_of = json.loads(config.read_text())
        # (AutoencoderTiny writes block_out_channels and then warns of it on reading)
        unwanted = {"_name_or_path", "block_out_channels"} if config.parent.name == "vae" else {"_name_or_path"}
        if unwanted & set(text_of):
            config.write_text(json.dumps({k: v for k, v in text_of.items() if k not in unwanted}, indent=2) + "\n")
    # Transformers loads the type its config names, diffusers float32 whatever is stored: both shall say float32.
    config = folder / "text_encoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "float32"}, indent=2) + "\n")


def export(args: argparse.Namespace) -> Path:
    """Write one model beside the others; its folder."""
    name = args.kind if args.kind == "orchard" else f"orchard-{args.kind}"
    to = args.to / name
    part, old = (to.with_name(to.name + end) for end in (".part", ".old"))
    for folder in (part, old):
        shutil.rmtree(folder, ignore_errors=True)
    if args.kind == "lcm":
        layers = {k: v.half() for k, v in get_peft_model_state_dict(sibling(args).unet).items()}
        StableDiffusionPipeline.save_lora_weights(part, unet_lora_layers=layers, safe_serialization=True)
    else:
        write_pipeline(orchard(args) if args.kind == "orchard" else sibling(args), part)
    for file in part.rglob("*.safetensors"):
        file.chmod(0o644)
    (part / "README.md").write_text(CARD.format(name=name, about=ABOUT[name]))
    if to.exists():
        to.rename(old)
    part.rename(to)
    shutil.rmtree(old, ignore_errors=True)
    return to


def folder_size(folder: Path) -> int:
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("kind", choices=("orchard", "turbo", "lcm"), nargs="?", default="orchard")
    p.add_argument("--data", type=Path, required=True, help="the data folder (only read)")
    p.add_argument("--out", type=Path, default=Path("runs"), help="where the training runs are")
    p.add_argument("--teacher", type=Path, default=Path("src/renoise/orchard"), help="of a sibling")
    p.add_argument("--to", type=Path, default=Path("src/renoise"), help="where the model's folder goes")
    args = p.parse_args()
    to = export(args)
    print(f"{to}: {folder_size(to) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
