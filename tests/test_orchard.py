"""The embedded model: what it weighs and costs, and ReNoise on it, on real photographs of fruits that it never saw."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch.utils.flop_counter import FlopCounterMode

import renoise
from renoise import PRESETS, ReNoise, images
from renoise.cli import main
from renoise.pipelines.latents import encode

FOLDER = Path(renoise.__file__).parent / "orchard"
PHOTOS = 4


@pytest.fixture(scope="module")
def pipe():
    return renoise.load("orchard", device="cpu")


@pytest.fixture(scope="module")
def photographs(scenes) -> tuple[list[Path], list[str]]:
    chosen = scenes[::16][:PHOTOS]
    return [path for path, _ in chosen], [caption for _, caption in chosen]


def error(pipe, paths: list[Path], captions: list[str], settings: ReNoise, steps: int) -> tuple[float, float]:
    """Mean relative error of the latents after a round trip, and evaluations per image, denoising included."""
    found = renoise.invert(pipe, paths, captions, settings=settings, num_inference_steps=steps, measure=False)
    back, x_0 = renoise.reconstruct(pipe, found, output_type="latent"), encode(pipe, images.batch(paths, 128, 128))
    relative = (back - x_0).flatten(1).norm(dim=1) / x_0.flatten(1).norm(dim=1)
    return relative.mean().item(), found.evaluations + steps


def test_it_is_small_and_safe():
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 48e6
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt", ".png", ".md"}
    for path in FOLDER.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            assert {str(file.get_slice(name).get_dtype()) for name in file.keys()} <= {"F16", "I64"}  # noqa: SIM118


def test_a_network_call_costs_at_most_two_gflop(pipe):
    unet = pipe.unet
    x = torch.zeros(1, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    text = torch.zeros(1, pipe.tokenizer.model_max_length, unet.config.cross_attention_dim)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        unet(x, 500, text)
    assert counter.get_total_flops() <= 2e9


@pytest.mark.slow
def test_renoised_strides_beat_plain_ones_at_equal_calls(pipe, photographs):
    plain, calls = error(pipe, *photographs, ReNoise(iterations=0, tolerance=0), steps=50)
    renoised, same = error(pipe, *photographs, ReNoise(iterations=8, tolerance=0), steps=10)
    assert calls == same == 100
    assert renoised < plain / 2


def test_the_defaults_reach_the_autoencoders_own_quality(pipe, photographs):
    paths, captions = photographs
    found = renoise.invert(pipe, paths, captions)
    assert found.psnr is not None
    for got, ceiling in zip(found.psnr, found.ceiling_psnr, strict=True):
        assert got > ceiling - 1
    assert found.warnings == []
    assert all(0.8 < std < 1.2 for std in found.record.metrics["std"])


def test_the_defaults_stop_by_themselves_at_under_half_the_calls_of_a_fixed_number(pipe, photographs):
    preset = PRESETS["orchard"]
    fixed, many = error(pipe, *photographs, ReNoise(iterations=8, tolerance=0), steps=10)
    tolerant, few = error(pipe, *photographs, preset.settings, preset.steps)
    assert tolerant <= 1.25 * fixed  # on four photographs; the benchmark makes the claim, on many
    assert few <= 0.5 * many


def test_the_command_line_takes_a_real_photograph(photographs, tmp_path, monkeypatch, capsys):
    paths, captions = photographs
    monkeypatch.chdir(tmp_path)
    assert main(["edit", str(paths[0]), "--prompt", captions[0], "--to", captions[1], "-o", "out.png"]) == 0
    assert "dB PSNR" in capsys.readouterr().err
    assert images.open_image("out.png").size == (128, 128)
