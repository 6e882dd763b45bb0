"""What cannot be driven is said first, in one line, with what can: and the line that it gives makes a pipeline that works."""

import re

import diffusers
import pytest
import torch

import renoise
from renoise import ReNoise
from renoise.pipelines.support import check_pipeline
from tests.test_pipelines import STEPS, STRENGTH, TIGHT
from tests.tiny import TINY, relative, split
from tests.tiny_refused import CONVERTED, MODULAR, OTHERS, converted, modular

CAUSES_OF_LATER = ("denoising_start", "prepare_latents", "multiple of", "default size", "set_timesteps")


def refusal(pipe, *args, **kwargs) -> str:
    with pytest.raises(ValueError) as caught:
        renoise.invert(pipe, torch.rand(1, 3, 32, 32), *args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    assert not [word for word in CAUSES_OF_LATER if word in message]
    return message


def remade(pipe, message: str):
    """The pipeline that the message's own line makes."""
    line = re.search(r"by (diffusers\..+\))$", message)
    assert line, message
    return eval(line[1], {"diffusers": diffusers, "pipe": pipe})


@pytest.mark.parametrize("cls", CONVERTED)
def test_a_pipeline_that_begins_from_a_picture_names_the_one_that_can_be_inverted_and_how_to_make_it(cls):
    tiny = TINY[CONVERTED[cls]](contractive=True)
    pipe = converted(cls, CONVERTED[cls], **tiny.pipe.components)
    message = refusal(pipe, "a cat")
    assert message.startswith(f"{cls} cannot be inverted")
    assert f"use {type(tiny.pipe).__name__}," in message
    pipe.text_encoder.to(torch.bfloat16)
    made = remade(pipe, message)
    assert type(made) is type(tiny.pipe)
    assert made.text_encoder is pipe.text_encoder
    assert pipe.text_encoder.dtype == torch.bfloat16  # nothing that is loaded was cast
    assert next(pipe.vae.parameters()).dtype == torch.float32
    pipe.text_encoder.to(torch.float32)
    made.set_progress_bar_config(disable=True)
    if hasattr(made, "resolutions"):
        made.resolutions = tiny.pipe.resolutions
    size, call = split(tiny)
    options = dict(num_inference_steps=STEPS, strength=STRENGTH.get(CONVERTED[cls], 1.0), **size, **call)
    found = renoise.invert(made, tiny.images(), tiny.prompts, method=TIGHT, measure=False, **options)
    again = {name: call[name] for name in found.record.required_arguments}
    back = renoise.reconstruct(made, found, output_type="latent", **again)
    assert found.trajectory is not None
    assert relative(back, found.trajectory[-1]) < 1e-4


@pytest.mark.parametrize("blocks", MODULAR)
def test_a_modular_pipeline_names_the_one_of_its_family(blocks):
    pipe = modular(blocks, MODULAR[blocks])
    tiny = TINY[MODULAR[blocks]]()
    message = refusal(pipe, "a cat")
    assert "blocks" in message
    made = remade(pipe, message)
    assert type(made) is type(tiny.pipe)
    size, call = split(tiny)
    options = dict(method=ReNoise(iterations=1, tolerance=0), num_inference_steps=2, **size, **call)
    assert renoise.invert(made, tiny.images(), tiny.prompts, **options).latents.isfinite().all()


@pytest.mark.parametrize("kind", OTHERS)
def test_what_no_text_to_image_pipeline_can_do_says_so(kind):
    build, words = OTHERS[kind]
    pipe = build()
    message = refusal(pipe)
    assert message.startswith(f"{type(pipe).__name__} cannot be inverted")
    assert words in message
    assert "such as StableDiffusionXLPipeline" in message
    assert ("no text-to-image pipeline can use it" in message) == ("channels" in words)


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        ("orchard", "renoise.load"),
        (None, "not None"),
        ([], "not a list"),
        ({}, "not a dict"),
        (diffusers.StableDiffusionPipeline, "from_pretrained"),
        (torch.nn.Linear(1, 1), "not a part of it such as this Linear"),
    ],
)
def test_what_is_no_pipeline_is_said_too(thing, words):
    assert words in refusal(thing)


def test_a_pipeline_with_a_part_missing_is_refused_by_the_parts_name():
    pipe = TINY["sd"]().pipe
    pipe.scheduler = None
    assert "no scheduler" in refusal(pipe)


def test_reconstruct_and_edit_refuse_first_too():
    tiny = TINY["sd"]()
    size, call = split(tiny)
    options = dict(method=ReNoise(iterations=0, tolerance=0), num_inference_steps=2, measure=False, **size, **call)
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **options)
    pipe = converted("StableDiffusionImg2ImgPipeline", "sd")
    with pytest.raises(ValueError, match="AutoPipelineForText2Image"):
        renoise.reconstruct(pipe, found)
    with pytest.raises(ValueError, match="not its name"):
        renoise.edit("sd", found, "a dog")


@pytest.mark.parametrize("name", TINY)
def test_what_can_be_driven_is_not_refused(name):
    tiny = TINY[name]()
    check_pipeline(tiny.pipe, tiny.call)
