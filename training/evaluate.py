"""Measure `orchard` on held-out photographs and draw a grid of samples; prints one JSON object and a Markdown table.

(a) PSNR of the autoencoder on held-out scenes of fruits never seen, whole and inside the fruits,
(b) how often a judge trained on real photographs names generated scenes as their captions do, against how often it
    names real scenes composed from held-out rotations so, with the same captions,
(c) GFLOP of one call of the denoiser, and (d) the folder's size.
"""

import argparse
import json
import time
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from renoise.bench import judge as judges
from renoise.bench.fruits import kind_of, main_caption, read_photos, read_scenes, read_words
from renoise.bench.judge import Judge, Wanted, succeeded

from .common import device, psnr, to_tensor
from .data import held_out
from .export import folder_size

SHOWN = [
    "a photo of a red apple on a white background",
    "a photo of a red strawberry on a green background",
    "a photo of a brown pineapple on a blue background",
    "a photo of a yellow banana on a pink background",
    "a photo of a brown kiwi on a purple background",
    "a photo of a yellow lemon on a black background",
    "a photo of a purple raspberry on a beige background",
    "a photo of an orange on a gray background",
    "a photo of a red strawberry and a yellow lemon on a blue background",
    "a photo of a brown pineapple and a purple plum on an orange background",
    "a photo of a red tomato and a green pear on a brown background",
    "a photo of a red and yellow apple and a yellow banana on a white background",
    "a photo of a purple onion and a brown potato on a yellow background",
    "a photo of a brown coconut and a red pepper on a gray background",
    "a photo of a pink dragon fruit and a yellow star fruit on a red background",
    "a photo of an orange mandarin and a green lime on a pink background",
]


def load(folder: Path, where: torch.device) -> StableDiffusionPipeline:
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, dtype=torch.float32).to(where)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.no_grad()
def reconstruct(pipe: StableDiffusionPipeline, images: np.ndarray) -> np.ndarray:
    """A round trip in float32 through the weights as shipped, quantised to 8 bits as a saved picture is."""
    out = []
    for n in range(0, len(images), 25):
        y = pipe.vae.decode(pipe.vae.encode(to_tensor(images[n : n + 25], pipe.device)).latents).sample
        out.append(((y.clamp(-1, 1) + 1) * 127.5 + 0.5).byte().permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(out)


@torch.no_grad()
def generate(
    pipe: StableDiffusionPipeline,
    captions: list[str],
    seed: int,
    guidance: float = 3.0,
    steps: int = 50,
    batch: int = 20,
) -> np.ndarray:
    """One picture a caption, uint8; picture n starts from the noise of seed + n, whatever the batch."""
    # few-step models divide what the network says by a small alpha_T: they need its last digits
    out, bf16 = [], pipe.device.type == "cpu" and steps > 8
    for n in range(0, len(captions), batch):
        part = captions[n : n + batch]
        rng = [torch.Generator("cpu").manual_seed(seed + n + k) for k in range(len(part))]
        with torch.autocast(pipe.device.type, torch.bfloat16, enabled=bf16):
            y = pipe(part, num_inference_steps=steps, guidance_scale=guidance, generator=rng, output_type="pt").images
        out.append((y.float().clamp(0, 1) * 255 + 0.5).byte().permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(out)


def grid(images: np.ndarray, columns: int, path: Path, zoom: int = 1) -> None:
    """Pictures side by side in one PNG."""
    rows = [np.concatenate(list(images[n : n + columns]), 1) for n in range(0, len(images), columns)]
    picture = Image.fromarray(np.concatenate(rows))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST).save(path)


def one_of_each(root: Path) -> list[str]:
    """A caption for every kind of fruit, in alphabetical order, each as most of its photographs are described."""
    phrases: dict[str, Counter[str]] = defaultdict(Counter)
    for first, plain, *_ in read_words(root, "fruits_train")[0]:
        phrases[kind_of(plain)][first] += 1
    return [main_caption(phrases[kind].most_common(1)[0][0], None, "white") for kind in sorted(phrases)]


def gflop(pipe: StableDiffusionPipeline) -> float:
    """Of one unguided call on one picture."""
    unet = pipe.unet
    x = torch.zeros(1, unet.config.in_channels, *[unet.config.sample_size] * 2, device=pipe.device)
    hidden = torch.zeros(1, pipe.tokenizer.model_max_length, unet.config.cross_attention_dim, device=pipe.device)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        unet(x, torch.tensor([1], device=pipe.device), hidden)
    return counter.get_total_flops() / 1e9


def named(judge: Judge, images: np.ndarray, shown: list[Wanted]) -> dict[str, float]:
    """Shares of pictures whose kinds and background are all named right; that are also accepted; in order; and each alone."""
    pairs = list(zip(judge.judge(images), shown, strict=True))
    kinds = [([kind for kind, _ in a.fruits], [kind for kind, _ in b[0]]) for a, b in pairs]
    return {
        "both": float(np.mean([succeeded(replace(a, accepted=True), b) for a, b in pairs])),
        "both_and_accepted": float(np.mean([succeeded(*pair) for pair in pairs])),
        "both_in_order": float(
            np.mean([x == y and a.background == b[1] for (a, b), (x, y) in zip(pairs, kinds, strict=True)])
        ),
        "kinds": float(np.mean([sorted(x) == sorted(y) for x, y in kinds])),
        "background": float(np.mean([a.background == b[1] for a, b in pairs])),
    }


def sharpness(images: np.ndarray) -> float:
    """RMS of the Laplacian of pictures uint8 (N, H, W, 3), their values in [-1, 1]."""
    x = to_tensor(images, torch.device("cpu"))
    middle = x[..., 1:-1, 1:-1]
    around = x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]
    return (around - 4 * middle).square().mean().sqrt().item()


def evaluate(args: argparse.Namespace) -> dict[str, object]:
    where, start = device(args.device), time.time()
    if args.threads:
        torch.set_num_threads(args.threads)
    pipe, judge = load(args.model, where), judges.load()
    report: dict[str, object] = {}

    images, captions, _ = read_scenes(args.data)
    back = reconstruct(pipe, images)
    a, b = to_tensor(back, where), to_tensor(images, where)
    # A picture's fruits: what differs from its background, which is constant along each row but for rounding.
    fruit = ((b - b[..., :1]).abs().amax(1, keepdim=True) > 0.06).float()
    report["psnr_scenes"] = psnr(a, b).mean().item()
    report["psnr_scenes_worst"] = psnr(a, b).min().item()
    report["psnr_scenes_inside_fruits"] = psnr(a, b, fruit).mean().item()
    report["scenes"] = len(images)
    photos = read_photos(args.data, "fruits_test_objects").images[::7]
    report["psnr_objects"] = psnr(to_tensor(reconstruct(pipe, photos), where), to_tensor(photos, where)).mean().item()
    report["objects"] = len(photos)
    textured = [n for n, c in enumerate(captions) if "strawberry" in c or "pineapple" in c][:8]
    grid(np.concatenate([images[textured], back[textured]]), len(textured), args.grids / "autoencoder.png", 2)

    real, names, captions = held_out(read_photos(args.data, "fruits_test_sequences"), args.count)
    report["real"] = named(judge, real, names)
    back = reconstruct(pipe, real)
    report["real_through_autoencoder"] = named(judge, back, names)
    unseen, unseen_names, _ = held_out(read_photos(args.data, "fruits_test_objects"), args.count)
    report["real_unseen_objects"] = named(judge, unseen, unseen_names)
    begin = time.time()
    made = generate(pipe, captions, args.seed, args.guidance, args.steps)
    report["seconds_per_picture"] = (time.time() - begin) / len(made)
    report["generated"] = named(judge, made, names)
    report["generated_count"] = len(made)
    report["guidance"], report["steps"] = args.guidance, args.steps
    report["sharpness"] = {
        "real": sharpness(real),
        "real_through_autoencoder": sharpness(back),
        "generated": sharpness(made),
    }
    report["ratio"] = report["generated"]["both"] / report["real"]["both"]
    report["ratio_in_order"] = report["generated"]["both_in_order"] / report["real"]["both_in_order"]
    grid(made[:40], 8, args.grids / "held_out_captions.png")
    for name, wanted, columns in (("samples", SHOWN, 8), ("kinds", one_of_each(args.data), 9)):
        shown = generate(pipe, wanted, args.seed, args.guidance, args.steps)
        grid(shown, columns, args.grids / f"{name}.png", 2 if name == "samples" else 1)

    report["gflop_per_call"] = gflop(pipe)
    report["folder_mb"] = folder_size(args.model) / 1e6
    report["parameters"] = {
        name: sum(p.numel() for p in getattr(pipe, name).parameters()) for name in ("vae", "unet", "text_encoder")
    }
    report["seconds"] = time.time() - start
    return report


def markdown(r: dict) -> str:
    """The report as a table."""
    rows = [
        ("(a) autoencoder PSNR, held-out scenes of unseen fruits", f"{r['psnr_scenes']:.2f} dB", "≥ 33"),
        ("&nbsp;&nbsp;&nbsp;the worst scene", f"{r['psnr_scenes_worst']:.2f} dB", ""),
        ("&nbsp;&nbsp;&nbsp;inside the fruits only", f"{r['psnr_scenes_inside_fruits']:.2f} dB", ""),
        ("&nbsp;&nbsp;&nbsp;untouched photographs of unseen fruits", f"{r['psnr_objects']:.2f} dB", ""),
        ("(b) generated scenes named right, kinds and background", f"{r['generated']['both']:.3f}", ""),
        ("&nbsp;&nbsp;&nbsp;real scenes of held-out rotations named right", f"{r['real']['both']:.3f}", ""),
        ("&nbsp;&nbsp;&nbsp;generated over real", f"{r['ratio']:.3f}", "≥ 0.9"),
        ("&nbsp;&nbsp;&nbsp;the same, left and right in order too", f"{r['ratio_in_order']:.3f}", ""),
        ("&nbsp;&nbsp;&nbsp;generated: kinds alone", f"{r['generated']['kinds']:.3f}", ""),
        ("&nbsp;&nbsp;&nbsp;generated: background alone", f"{r['generated']['background']:.3f}", ""),
        (
            "&nbsp;&nbsp;&nbsp;the real scenes through the autoencoder",
            f"{r['real_through_autoencoder']['both']:.3f}",
            "",
        ),
        ("&nbsp;&nbsp;&nbsp;real scenes of unseen fruits named right", f"{r['real_unseen_objects']['both']:.3f}", ""),
        ("&nbsp;&nbsp;&nbsp;sharpness (RMS of the Laplacian): generated", f"{r['sharpness']['generated']:.3f}", ""),
        ("&nbsp;&nbsp;&nbsp;real scenes", f"{r['sharpness']['real']:.3f}", ""),
        (
            "&nbsp;&nbsp;&nbsp;real scenes through the autoencoder",
            f"{r['sharpness']['real_through_autoencoder']:.3f}",
            "",
        ),
        ("(c) one call of the denoiser", f"{r['gflop_per_call']:.2f} GFLOP", "≤ 2"),
        ("(d) the folder", f"{r['folder_mb']:.1f} MB", "≤ 48"),
    ]
    lines = ["| | measured | wanted |", "|---|---|---|", *(f"| {a} | {b} | {c} |" for a, b, c in rows)]
    note = (
        f"{r['scenes']} scenes and {r['objects']} photographs for (a); {r['generated_count']} captions for each row of (b), "
        f"guidance {r['guidance']:g}, {r['steps']} DDIM steps, {r['seconds_per_picture']:.2f} s per picture; "
        f"{r['seconds']:.0f} s in all."
    )
    return "\n".join([*lines, "", note, ""])


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True, help="the data folder (only read)")
    p.add_argument("--model", type=Path, default=Path("src/renoise/orchard"))
    p.add_argument("--report", type=Path, default=Path("training/report"), help="written with .json and .md")
    p.add_argument("--grids", type=Path, default=Path("training/grids"))
    p.add_argument("--count", type=int, default=400, help="captions, one picture each")
    p.add_argument("--guidance", type=float, default=3.0)
    p.add_argument("--steps", type=int, default=50)
    p.add_argument("--seed", type=int, default=1000)
    p.add_argument("--device")
    p.add_argument("--threads", type=int)
    args = p.parse_args()
    report = evaluate(args)
    args.report.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    args.report.with_suffix(".md").write_text("# What `orchard` measures\n\n" + markdown(report))
    print(json.dumps(report))
    print(markdown(report))


if __name__ == "__main__":
    main()
