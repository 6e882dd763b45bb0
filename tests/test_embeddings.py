"""Prompt embeddings do what the texts that they were made of do, wherever a prompt is taken."""

from typing import Any

import pytest
import torch

import renoise
from renoise import ReNoise, drawing, masks
from tests.tiny import TINY, Tiny, relative

TIGHT = ReNoise(iterations=100, tolerance=1e-7)
OTHER = ["an elephant", "a horse"]


def embedded(tiny: Tiny, texts: list[str]) -> dict[str, Any]:
    """The embeddings of texts, under the names of the pipeline's own arguments."""
    name = type(tiny.pipe).__name__
    length = {"max_sequence_length": n} if (n := tiny.call.get("max_sequence_length")) else {}
    if name == "StableDiffusionXLPipeline":
        embeds, _, pooled, _ = tiny.pipe.encode_prompt(texts, device="cpu", do_classifier_free_guidance=False)
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}
    if name == "StableDiffusion3Pipeline":
        embeds, _, pooled, _ = tiny.pipe.encode_prompt(texts, texts, texts, do_classifier_free_guidance=False, **length)
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}
    if name == "FluxPipeline":
        embeds, pooled, _ = tiny.pipe.encode_prompt(texts, texts, **length)
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}
    if name == "QwenImagePipeline":
        embeds, mask = tiny.pipe.encode_prompt(texts)
        return {"prompt_embeds": embeds, "prompt_embeds_mask": mask}
    if name == "PixArtAlphaPipeline":
        embeds, mask, *_ = tiny.pipe.encode_prompt(texts, do_classifier_free_guidance=False)
        return {"prompt_embeds": embeds, "prompt_attention_mask": mask}
    if name == "ZImagePipeline":
        return {"prompt_embeds": tiny.pipe.encode_prompt(texts, do_classifier_free_guidance=False)[0]}
    return {"prompt_embeds": tiny.pipe.encode_prompt(texts, "cpu", 1, False)[0]}


KINDS = pytest.mark.parametrize("name", ["sd", "sdxl", "sdxl_turbo", "sd3", "flux", "qwen_image", "pixart", "z_image"])


def inverted(name: str, **options) -> tuple[Tiny, renoise.Inversion, renoise.Inversion]:
    """A pipeline, an inversion under texts and one under their embeddings."""
    tiny = TINY[name](contractive=True)
    call = {**tiny.call, "num_inference_steps": 3, "measure": False, "method": TIGHT, **options}
    by_text = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **call)
    return tiny, by_text, renoise.invert(tiny.pipe, tiny.images(), **call, **embedded(tiny, tiny.prompts))


def soft_masks(monkeypatch) -> None:
    """Use the map of differences itself as the mask: random weights have no objects, and a threshold would amplify rounding."""
    monkeypatch.setattr(masks, "from_difference", lambda first, last, x_0, once: last)
    monkeypatch.setattr(drawing, "join_found", drawing.join)


@KINDS
def test_embeddings_invert_reconstruct_and_edit_as_their_texts_do(name):
    tiny, by_text, by_embeddings = inverted(name)
    assert relative(by_embeddings.latents, by_text.latents) < 1e-4
    assert by_embeddings.prompt == ["", ""]
    assert "prompt_embeds" in by_embeddings.record.required_arguments
    latent = dict(output_type="latent")
    pairs = [renoise.reconstruct(tiny.pipe, found, **latent) for found in (by_text, by_embeddings)]
    assert relative(*pairs) < 1e-4
    own = dict(guidance_scale=by_text.record.guidance_scale) if by_text.record.guidance_scale is not None else {}
    edits = [
        renoise.edit(tiny.pipe, by_text, OTHER, **own, **latent),
        renoise.edit(tiny.pipe, by_embeddings, OTHER, **own, **latent),
        renoise.edit(tiny.pipe, by_embeddings, **own, **latent, **embedded(tiny, OTHER)),
    ]
    assert relative(edits[1], edits[0]) < 1e-4
    assert relative(edits[2], edits[0]) < 1e-4


@pytest.mark.parametrize(
    "how", [dict(source_correction=0.5), dict(pseudo_guidance=2.0), dict(mask="auto"), dict(guidance_scale=3.0)]
)
@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_every_way_to_edit_takes_embeddings(name, how, monkeypatch):
    soft_masks(monkeypatch)
    tiny, by_text, by_embeddings = inverted(name)
    wanted = renoise.edit(tiny.pipe, by_text, OTHER, output_type="latent", **how)
    more = embedded(tiny, OTHER)
    if "pseudo_guidance" in how:  # a text and embeddings do not fit into one batch
        with pytest.raises(ValueError, match="negative_prompt_embeds"):
            renoise.edit(tiny.pipe, by_embeddings, **more, **how)
        more |= {f"negative_{name}": value for name, value in embedded(tiny, ["", ""]).items()}
    got = renoise.edit(tiny.pipe, by_embeddings, output_type="latent", **more, **how)
    assert relative(got, wanted) < 1e-4


def test_flowedit_takes_embeddings():
    tiny, by_text, by_embeddings = inverted("sd3", method="flowedit")
    wanted = renoise.edit(tiny.pipe, by_text, OTHER, output_type="latent", guidance_scale=0.0)
    got = renoise.edit(tiny.pipe, by_embeddings, output_type="latent", guidance_scale=0.0, **embedded(tiny, OTHER))
    assert relative(got, wanted) < 1e-4


def test_a_guided_inversion_takes_negative_embeddings():
    tiny = TINY["sd"](contractive=True)
    call = {**tiny.call, "num_inference_steps": 3, "measure": False, "method": TIGHT, "guidance_scale": 2.0}
    by_text = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, negative_prompt="a dog", **call)
    negative = embedded(tiny, ["a dog"])["prompt_embeds"]  # one for all
    found = renoise.invert(
        tiny.pipe, tiny.images(), negative_prompt_embeds=negative, **call, **embedded(tiny, tiny.prompts)
    )
    assert relative(found.latents, by_text.latents) < 1e-4
    again = renoise.reconstruct(tiny.pipe, found, output_type="latent")
    assert relative(again, renoise.reconstruct(tiny.pipe, by_text, output_type="latent")) < 1e-4


def test_a_file_does_not_hold_embeddings_and_says_how_to_give_them_again(tmp_path, monkeypatch):
    soft_masks(monkeypatch)
    tiny, by_text, found = inverted("sd")
    loaded = renoise.Inversion.load(found.save(tmp_path / "x.safetensors"))
    with pytest.raises(ValueError, match="made with prompt_embeds: give it again"):
        renoise.reconstruct(tiny.pipe, loaded)
    source = embedded(tiny, tiny.prompts)
    again = renoise.reconstruct(tiny.pipe, loaded, output_type="latent", **source)
    assert relative(again, renoise.reconstruct(tiny.pipe, by_text, output_type="latent")) < 1e-4
    plain = renoise.edit(tiny.pipe, loaded, OTHER, output_type="latent")
    assert relative(plain, renoise.edit(tiny.pipe, by_text, OTHER, output_type="latent")) < 1e-4
    with pytest.raises(ValueError, match=r"inversion\.with_arguments\(prompt_embeds="):
        renoise.edit(tiny.pipe, loaded, OTHER, mask="auto")
    masked = renoise.edit(tiny.pipe, loaded.with_arguments(**source), OTHER, mask="auto", output_type="latent")
    assert relative(masked, renoise.edit(tiny.pipe, by_text, OTHER, mask="auto", output_type="latent")) < 1e-3


def test_one_image_of_a_batch_keeps_its_own_embeddings():
    tiny, _, found = inverted("sd")
    alone = renoise.reconstruct(tiny.pipe, found[1], output_type="latent")
    assert relative(alone, renoise.reconstruct(tiny.pipe, found, output_type="latent")[1:]) < 1e-4


@pytest.mark.parametrize(
    ("prompt", "texts", "more", "says"),
    [
        ("a cat", 2, {}, "not as both"),
        ("", 3, {}, "3 embeddings for 2 images"),
        (
            "",
            2,
            dict(negative_prompt="a dog", negative_prompt_embeds=torch.zeros(2, 77, 32), guidance_scale=2.0),
            "not as both",
        ),
        ("", 2, dict(negative_prompt_embeds=torch.zeros(2, 77, 32)), "no effect"),
    ],
)
def test_what_contradicts_itself_is_refused(prompt, texts, more, says):
    tiny = TINY["sd"]()
    call = {**tiny.call, "num_inference_steps": 2, **more, **embedded(tiny, ["a"] * texts)}
    with pytest.raises(ValueError, match=says):
        renoise.invert(tiny.pipe, tiny.images(), prompt, **call)


def test_a_batch_of_texts_and_embeddings_is_refused():
    tiny, by_text, _ = inverted("sd")
    with pytest.raises(ValueError, match="must all be texts or all be prompt embeddings"):
        renoise.edit(tiny.pipe, by_text, source_correction=0.5, **embedded(tiny, OTHER))
