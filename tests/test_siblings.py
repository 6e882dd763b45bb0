"""orchard-turbo and orchard-lcm: what they weigh, that they draw, and few-step inversion of photographs with stored noises."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import renoise
from renoise import PRESETS, images
from renoise.metrics import psnr
from renoise.pipelines.finding import find
from renoise.pipelines.observing import counting

PACKAGE = Path(renoise.__file__).parent
FOLDERS = [PACKAGE / "orchard-turbo", PACKAGE / "orchard-lcm"]
SIBLINGS = pytest.mark.parametrize("name", ["orchard-turbo", "orchard-lcm"])


@pytest.fixture(scope="module")
def pipes() -> dict:
    return {name: renoise.load(name, device="cpu") for name in ("orchard-turbo", "orchard-lcm")}


def test_they_are_small_and_safe():
    files = [path for folder in FOLDERS for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 30e6
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt", ".md"}
    for path in files:
        if path.suffix == ".safetensors":
            assert {tensor.dtype for tensor in load_file(path).values()} <= {torch.float16, torch.int64}


@SIBLINGS
def test_they_are_known_by_their_names(pipes, name):
    assert find(pipes[name]) is PRESETS[name]


@SIBLINGS
@pytest.mark.parametrize(("colour", "rgb"), [("blue", (60, 110, 200)), ("yellow", (245, 220, 80))])
def test_they_draw_what_they_are_asked_for_in_four_steps(pipes, name, colour, rgb):
    prompt, generator = f"a photo of a red tomato on a {colour} background", torch.Generator().manual_seed(1)
    picture = pipes[name](
        prompt, guidance_scale=1.0, num_inference_steps=4, generator=generator, output_type="pt"
    ).images[0]
    corner, middle = picture[:, :16, :16].mean((1, 2)) * 255, picture[:, 48:80, 48:80].mean((1, 2))
    assert (corner - torch.tensor(rgb)).abs().max() < 60
    assert middle[0] > 1.3 * middle[2]  # red, in the middle


@SIBLINGS
def test_a_photograph_comes_back_after_3_evaluations_and_its_noise_is_noise(pipes, name, scenes):
    chosen = scenes[::16][:4]
    found = renoise.invert(pipes[name], [path for path, _ in chosen], [caption for _, caption in chosen])
    assert found.psnr is not None
    lost = [ceiling - got for got, ceiling in zip(found.psnr, found.autoencoder_psnr, strict=True)]
    assert max(lost) > 3  # the noise alone does not bring it back, because the last step is only noised
    assert max(found.record.metrics.remainder) < 0.35
    assert found.evaluations == 4 - 1
    pictures = renoise.reconstruct(pipes[name], found, output_type="pt")
    photographs = images.batch([path for path, _ in chosen], 128, 128)
    assert psnr(pictures, photographs).tolist() == pytest.approx(found.autoencoder_psnr, abs=0.01)
    assert found.noises is not None
    assert len(found.noises) == 3
    spectrum = torch.tensor(found.record.metrics.spectrum)
    assert spectrum[:, 2:].max() < 10
    assert spectrum.max() < 100  # the mean colour of the last noise, which an edit takes out
    assert found.warnings == []


@SIBLINGS
def test_seed_decides_the_noises_and_strength_how_many_there_are(pipes, name, scenes):
    path, caption = scenes[0]
    first, again, other = (renoise.invert(pipes[name], path, caption, seed=seed, measure=False) for seed in (1, 1, 2))
    assert torch.equal(first.latents, again.latents)
    assert not torch.equal(first.latents, other.latents)
    half = renoise.invert(pipes[name], path, caption, strength=0.5)
    assert half.noises is not None
    assert len(half.noises) == 1
    assert half.record.metrics.remainder[0] < 0.5
    with pytest.raises(ValueError, match="num_inference_steps"):
        renoise.reconstruct(pipes[name], first, num_inference_steps=3)


@SIBLINGS
def test_a_file_of_a_few_step_inversion_is_reconstructed(pipes, name, scenes, tmp_path):
    path, caption = scenes[1]
    found = renoise.invert(pipes[name], path, caption)
    loaded = renoise.Inversion.load(found.save(tmp_path / "x.safetensors"))
    assert torch.equal(
        renoise.reconstruct(pipes[name], loaded, output_type="pt"),
        renoise.reconstruct(pipes[name], found, output_type="pt"),
    )


@SIBLINGS
def test_an_edit_changes_the_background(pipes, name, scenes):
    path, caption = next((path, caption) for path, caption in scenes if "blue background" in caption)
    found = renoise.invert(pipes[name], path, caption, measure=False)
    edited = renoise.edit(pipes[name], found, caption.replace("a blue", "a yellow"), output_type="pt")
    source = images.batch(path, 128, 128)
    corners = [picture[0, :, :12, :12].mean((1, 2)) for picture in (source, edited)]
    assert corners[0][2] > corners[0][0] + 0.2  # it was blue
    assert corners[1][0] > corners[1][2] + 0.2  # and is yellow


@SIBLINGS
def test_a_default_edit_asks_once_a_step_each_way_and_twice_for_its_mask(pipes, name, scenes):
    path, caption = scenes[0]
    drawing = 8 if PRESETS[name].edit_guidance_scale > 1 else 4  # guidance asks under both prompts
    with counting() as rows:
        found = renoise.invert(pipes[name], path, caption, measure=False)
        renoise.edit(pipes[name], found, "a photo of a yellow lemon on a white background")
    assert (found.evaluations, rows[0]) == (3, 3 + 2 + drawing)  # the last step is only noised


def test_an_edit_of_a_single_step_has_no_noise_to_correct(pipes, scenes):
    path, caption = scenes[0]
    found = renoise.invert(pipes["orchard-turbo"], path, caption, strength=0.25, measure=False)
    assert found.noises is None
    assert found.record.settings["noise_correction"] == 0


def test_one_is_not_taken_for_the_other(pipes, scenes):
    path, caption = scenes[0]
    found = renoise.invert(pipes["orchard-turbo"], path, caption, measure=False)
    for other in (pipes["orchard-lcm"], renoise.load("orchard", device="cpu")):
        with pytest.raises(ValueError, match="orchard"):
            renoise.reconstruct(other, found)
