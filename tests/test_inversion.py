"""The file of an inversion: whole, readable without a model, and honest about what it is not."""

import json
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import renoise
from renoise import Inversion, ReNoise
from tests import mutate
from tests.tiny import TINY


@pytest.fixture(scope="module")
def found() -> Inversion:
    tiny = TINY["sdxl_turbo"](contractive=True)
    settings = ReNoise(iterations=2, tolerance=0, noise_correction=0.1)
    return renoise.invert(
        tiny.pipe, tiny.images(), tiny.prompts, method=settings, num_inference_steps=3, seed=4, **tiny.call
    )


def test_it_comes_back_as_it_was(found, tmp_path):
    path = found.save(tmp_path / "deep" / "apple.safetensors")
    again = Inversion.load(path)
    assert torch.equal(again.latents, found.latents)
    assert torch.equal(again.noises, found.noises)
    assert replace(again.record, checksum=None) == found.record
    assert again.residuals == found.residuals
    assert again.record.settings["noise_correction"] == 0.1
    assert again.psnr == found.psnr
    assert [p.name for p in path.parent.iterdir()] == ["apple.safetensors"]


def test_the_same_inversion_makes_the_same_bytes(found, tmp_path):
    assert found.save(tmp_path / "a").read_bytes() == found.save(tmp_path / "b").read_bytes()


def test_half_precision_is_half_the_size_and_loads_as_float32(found, tmp_path):
    whole, half = found.save(tmp_path / "whole"), found.save(tmp_path / "half", dtype=torch.float16)
    assert half.stat().st_size < whole.stat().st_size
    again = Inversion.load(half)
    assert again.latents.dtype == torch.float32
    torch.testing.assert_close(again.latents, found.latents, rtol=1e-3, atol=1e-3)


def test_an_image_can_be_taken_out(found):
    one = found[-1]
    assert len(one) == 1
    assert one.prompt == [found.prompt[1]]
    assert one.psnr == found.psnr[1:]
    assert torch.equal(one.noises, found.noises[:, 1:])
    with pytest.raises(IndexError):
        found[2]


def test_loading_needs_no_diffusers(found, tmp_path):
    path = found.save(tmp_path / "x.safetensors")
    code = f"import sys, renoise; renoise.Inversion.load({str(path)!r}); assert 'diffusers' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_file_reconstructs_with_a_pipeline_loaded_anew_as_here(found, tmp_path):
    path = found.save(tmp_path / "x.safetensors")
    tiny = TINY["sdxl_turbo"](contractive=True)
    there = renoise.reconstruct(tiny.pipe, Inversion.load(path), output_type="latent")
    here = renoise.reconstruct(tiny.pipe, found, output_type="latent")
    torch.testing.assert_close(there, here)


def test_damaged_foreign_and_newer_files_are_refused(found, tmp_path):
    good = found.save(tmp_path / "good.safetensors").read_bytes()
    tensors = {
        "latents": found.latents.clone(memory_format=torch.contiguous_format),
        "noises": found.noises.clone(memory_format=torch.contiguous_format),
    }
    values = asdict(Inversion.load(tmp_path / "good.safetensors").record)

    def record(found: Inversion, **changes) -> str:
        return json.dumps(values | changes)

    def written(name: str, data: bytes):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    def saved(name: str, header: str | None, **parts):
        save_file({**tensors, **parts}, tmp_path / name, None if header is None else {"renoise": header})
        return tmp_path / name

    cases = {
        "no inversion": [
            written("empty", b""),
            written("text", b"not a file of tensors at all, but a longish text"),
            written("huge", b"\xff" * 8 + b"{}"),
            written("truncated", good[: len(good) // 2]),
            written("cut", good[:-1]),
            saved("foreign", None),
        ],
        "update renoise": [saved("newer", record(found, format_version=99))],
        "invert the photograph again": [saved("older", record(found, format_version=1))],
        "not those that were saved": [
            saved("forged", record(found, prompt=["another", "one"])),
            saved("zeroed", record(found), latents=torch.zeros_like(tensors["latents"])),
            saved("scrambled", record(found), latents=tensors["latents"].flip(0).contiguous()),
        ],
        "too large a number": [saved("call", record(found, call={"max_sequence_length": 10**9}))],
        "num_images_per_prompt": [saved("many", record(found, call={"num_images_per_prompt": 2}))],
        "cannot be read": [saved("deep", "[" * 100_000), saved("steps", record(found, num_inference_steps=10**7))],
        "damaged": [
            saved("json", "{"),
            saved("fields", "{}"),
            saved("list", "[]"),
            saved("prompts", record(found, prompt=["one"])),
            saved("levels", record(found, levels=[])),
            saved("start", record(found, start=7)),
            saved("types", record(found, prompt=3)),
            saved("metrics", record(found, metrics={})),
            saved("strength", record(found, strength="1")),
            saved("guidance", record(found, guidance_scale="1")),
            saved("noises", record(found), noises=torch.zeros(1)),
            saved("more", record(found), surprise=torch.zeros(1)),
        ],
        "not finite": [saved("nan", record(found), latents=found.latents.contiguous() * float("nan"))],
    }
    for message, paths in cases.items():
        for path in paths:
            with pytest.raises(ValueError, match=message):
                Inversion.load(path)
    with pytest.raises(FileNotFoundError):
        Inversion.load(tmp_path / "nothing")


def test_what_loads_of_a_hundred_damaged_files_can_be_used():
    outcomes = mutate.run(100, seed=1)
    assert outcomes.total() == 100
    assert outcomes["refused at load"] > 50


def test_a_loaded_inversion_owns_its_numbers(found, tmp_path):
    """A file that is cut while it is mapped would kill the process."""
    path = found.save(tmp_path / "x.safetensors")
    code = (
        "import sys, renoise; found = renoise.Inversion.load(sys.argv[1]); open(sys.argv[1], 'wb').close(); "
        "print(float(found.latents.sum() + found.noises.sum()))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert float(done.stdout) == pytest.approx(float(found.latents.sum() + found.noises.sum()), rel=1e-4)


@pytest.mark.parametrize("one", [float, np.float32, np.float64, np.float16, lambda x: torch.tensor(x)])
def test_numbers_of_numpy_and_torch_can_be_saved(one, tmp_path):
    whole = (lambda x: x) if one is float else np.int64
    tiny = TINY["sdxl_turbo"](contractive=True)
    method = ReNoise(iterations=whole(2), tolerance=one(0.0), noise_correction=one(0.5))
    made = renoise.invert(
        tiny.pipe, tiny.images(), np.array(tiny.prompts), method=method, num_inference_steps=whole(2), strength=one(1.0),
        guidance_scale=one(0.0), seed=whole(3), height=whole(32), width=whole(32), guidance_rescale=one(0.0), measure=False,
    )  # fmt: skip
    loaded = Inversion.load(made.save(tmp_path / "x.safetensors"))
    assert (loaded.record.seed, loaded.record.num_inference_steps, loaded.record.call) == (
        3,
        2,
        {"guidance_rescale": 0.0},
    )
    renoise.edit(
        tiny.pipe, loaded, "a dog", guidance_scale=one(0.0), num_inference_steps=whole(2), output_type="latent"
    )


@pytest.mark.parametrize(
    "wrong", [dict(seed=1.5), dict(strength="1"), dict(height=[32]), dict(num_inference_steps="4")]
)
def test_what_is_no_number_is_refused_by_name(wrong):
    tiny = TINY["sd"]()
    with pytest.raises(ValueError, match=next(iter(wrong))):
        renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **{**tiny.call, "num_inference_steps": 2, **wrong})


def test_a_folder_that_cannot_be_written_leaves_nothing(found, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        found.save(tmp_path / "file" / "x.safetensors")
