"""Networks as people have them: compiled, offloaded, cast layer by layer, quantized, with hooks that remember, with LoRAs."""

import copy

import diffusers
import peft
import pytest
import torch
from diffusers.callbacks import PipelineCallback
from diffusers.hooks import FirstBlockCacheConfig, apply_first_block_cache, apply_group_offloading

import renoise
from renoise import ReNoise
from renoise.pipelines.finding import PACKAGE
from renoise.pipelines.identity import _other_weights, fingerprint
from renoise.pipelines.latents import encode
from tests.tiny import TINY, Tiny, relative

TIGHT = ReNoise(iterations=100, tolerance=1e-7)
STEPS = dict(num_inference_steps=3, method=TIGHT)


def round_trip(tiny: Tiny, **options) -> float:
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, measure=False, **{**tiny.call, **STEPS, **options})
    assert found.evaluations >= 3
    back = renoise.reconstruct(tiny.pipe, found, output_type="latent")
    return relative(back, encode(tiny.pipe, tiny.images()))


def test_a_compiled_network_is_asked_no_truth_value():
    tiny = TINY["sd"](contractive=True)
    tiny.pipe.unet = torch.compile(tiny.pipe.unet)
    with torch.compiler.set_stance("force_eager"):  # compiling it takes long, and changes nothing here
        assert round_trip(tiny) < 1e-4


def test_a_network_compiled_in_place_stays_one_graph_and_is_counted():
    tiny = TINY["sd3"](contractive=True)
    torch._dynamo.reset()
    tiny.network.compile(fullgraph=True, backend="eager")
    assert round_trip(tiny) < 1e-4


def test_channels_last_round_trips():
    tiny = TINY["sd"](contractive=True)
    tiny.pipe.unet.to(memory_format=torch.channels_last)
    assert round_trip(tiny) < 1e-4


@pytest.mark.skipif(
    diffusers.__version__ == "0.40.0" and not torch.accelerator.is_available(), reason="it asks for an accelerator"
)
def test_group_offloading_round_trips():
    tiny = TINY["sd3"](contractive=True)
    apply_group_offloading(tiny.pipe.transformer, onload_device=torch.device("cpu"), offload_type="leaf_level")
    assert round_trip(tiny) < 1e-4


def test_layerwise_casting_round_trips_and_has_no_fingerprint():
    tiny = TINY["sd3"](contractive=True)
    tiny.pipe.transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert round_trip(tiny) < 1e-3
    assert fingerprint(tiny.pipe) is None


class _Quantized(torch.Tensor):
    """Claims to be floating-point, as quantized tensors do, and cannot be read element by element."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func in (torch.take, torch.Tensor.take):
            raise NotImplementedError("take is not implemented for a quantized tensor")
        return super().__torch_function__(func, types, args, kwargs or {})


def test_a_quantized_network_has_no_fingerprint():
    tiny = TINY["sd"](contractive=True)
    weight = tiny.pipe.unet.conv_in.weight
    tiny.pipe.unet.conv_in.weight = torch.nn.Parameter(weight.detach().as_subclass(_Quantized), requires_grad=False)
    assert fingerprint(tiny.pipe) is None


@pytest.mark.parametrize("name", ["sd", "lcm", "flux"])
def test_inference_mode_around_the_calls_changes_nothing(name):
    tiny = TINY[name](contractive=True)
    call = {**tiny.call, "num_inference_steps": 3}
    with torch.inference_mode():
        found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **call)
        renoise.edit(tiny.pipe, found, "an elephant", mask="auto", output_type="latent")
    assert found.psnr == pytest.approx(renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **call).psnr, abs=1e-3)


def test_a_hook_that_remembers_is_refused():
    tiny = TINY["flux"]()
    apply_first_block_cache(tiny.pipe.transformer, FirstBlockCacheConfig(threshold=0.1))
    with pytest.raises(ValueError, match=r"pipe\.transformer carries features from call to call \(FBC\w+\)"):
        round_trip(tiny)


@pytest.mark.parametrize("kind", ["dropout", "cache", "rewriting"])
def test_a_network_that_answers_differently_when_asked_again_is_said(kind, monkeypatch):
    tiny = TINY["sd"](contractive=True)
    plain = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **{**tiny.call, **STEPS})
    assert not any("differently" in note for note in plain.warnings)
    forward, encode_prompt, calls = tiny.pipe.unet.forward, tiny.pipe.encode_prompt, []
    if kind == "dropout":
        generator = torch.Generator().manual_seed(0)
        monkeypatch.setattr(
            tiny.pipe.unet,
            "forward",
            lambda x, *a, **k: forward(x * (torch.rand(x.shape, generator=generator) > 0.05), *a, **k),
        )
    elif kind == "cache":  # as DeepCache has it: features of an earlier call stand in for this one's

        def cached(x, *args, **kwargs):
            calls.append(calls[-1] if len(calls) % 2 else forward(x, *args, **kwargs))
            return calls[-1]

        monkeypatch.setattr(tiny.pipe.unet, "forward", cached)
    else:

        def rewritten(prompt, *args, **kwargs):
            calls.append(prompt)
            return encode_prompt([f"{text}, version {len(calls)}" for text in prompt], *args, **kwargs)

        monkeypatch.setattr(type(tiny.pipe), "encode_prompt", lambda self, *a, **k: rewritten(*a, **k))
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **{**tiny.call, **STEPS})
    assert any("answered the same question differently" in note for note in found.warnings)


class _Cutoff(PipelineCallback):
    """Ends guidance half way, as diffusers' own cut-off callbacks do."""

    tensor_inputs = ("prompt_embeds",)

    def callback_fn(self, pipeline, step_index, timestep, callback_kwargs):
        if step_index == 1:
            pipeline._guidance_scale = 0.0
            callback_kwargs["prompt_embeds"] = callback_kwargs["prompt_embeds"][-1:]
        return callback_kwargs


@pytest.mark.parametrize("kind", ["diffusers", "attribute", "embeddings", "in place"])
def test_a_callback_that_changes_guidance_or_embeddings_is_refused(kind):
    def attribute(pipe, i, t, tensors):
        pipe._guidance_scale = 1.0 + i
        return tensors

    def embeddings(pipe, i, t, tensors):
        return {"prompt_embeds": tensors["prompt_embeds"] * 2}

    def in_place(pipe, i, t, tensors):
        tensors["prompt_embeds"].mul_(2)
        return tensors

    callback = {"diffusers": _Cutoff(0.4), "attribute": attribute, "embeddings": embeddings, "in place": in_place}[kind]
    names = {} if kind == "diffusers" else {"callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"]}
    tiny = TINY["sd"](contractive=True)
    with pytest.raises(RuntimeError, match=r"callback_on_step_end changed (prompt_embeds|_guidance_scale)"):
        round_trip(tiny, guidance_scale=2.0, callback_on_step_end=callback, **names)


def test_a_callback_that_only_looks_is_called():
    tiny, seen = TINY["sd"](contractive=True), []

    def look(pipe, i, t, tensors):
        seen.append(i)
        return tensors

    assert round_trip(tiny, callback_on_step_end=look) < 1e-4
    assert set(seen) == {0, 1, 2}


def test_the_check_of_the_reconstruction_belongs_to_every_setting():
    pipe, picture = renoise.load("orchard", device="cpu"), PACKAGE / "orchard" / "example.png"
    prompt = "a photo of a red apple on a green background"
    with pytest.warns(UserWarning, match="below what the autoencoder keeps: try more iterations"):
        renoise.invert(pipe, picture, prompt, method=ReNoise.paper("sd15"), guidance_scale=7.5, num_inference_steps=5)


def with_loras(*names: str) -> Tiny:
    tiny = TINY["sd"](contractive=True)
    for seed, name in enumerate(names):
        torch.manual_seed(seed)
        config = peft.LoraConfig(r=4, target_modules=["to_q", "to_v"], init_lora_weights=False)
        tiny.pipe.unet.add_adapter(copy.deepcopy(config), adapter_name=name)
    return tiny


@pytest.mark.parametrize("change", ["disabled", "swapped", "weight", "other numbers", "text encoder", "none"])
def test_the_loras_that_are_enabled_are_recorded_and_compared(change, tmp_path):
    tiny = with_loras("one", "two")
    unet = tiny.pipe.unet
    unet.set_adapters(["one"], [0.8])
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, measure=False, **{**tiny.call, **STEPS})
    assert found.record.adapters["unet"]["one"][0] == pytest.approx(0.8 * 8 / 4)
    found = renoise.Inversion.load(found.save(tmp_path / "x.safetensors"))
    if change == "none":
        assert renoise.reconstruct(tiny.pipe, found, output_type="latent").isfinite().all()
        return
    if change == "disabled":
        unet.disable_adapters()
    elif change == "swapped":
        unet.set_adapters(["two"], [0.8])
    elif change == "weight":
        unet.set_adapters(["one"], [0.4])
    elif change == "other numbers":
        with torch.no_grad():
            for name, weight in unet.named_parameters():
                if ".one." in name:
                    weight.mul_(1.5)
    else:
        config = peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
        peft.inject_adapter_in_model(config, tiny.pipe.text_encoder, adapter_name="three")
    with pytest.raises(ValueError, match=r"made with the LoRA one at 1\.6 in unet"):
        renoise.reconstruct(tiny.pipe, found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_lora_that_was_fused_into_the_weights_makes_another_model(dtype):
    tiny, plain = with_loras("one"), TINY["sd"](contractive=True)
    for layer in tiny.pipe.unet.modules():
        if hasattr(layer, "merge"):
            layer.merge(adapter_names=["one"])
    with torch.no_grad():
        for name, weight in plain.pipe.unet.named_parameters():
            part, _, kind = name.rpartition(".")
            if part.endswith(("to_q", "to_v")):
                weight.copy_(getattr(tiny.pipe.unet.get_submodule(part).base_layer, kind))
    fused, own = fingerprint(plain.pipe), fingerprint(TINY["sd"](contractive=True).pipe.to(dtype))
    again = fingerprint(TINY["sd"](contractive=True).pipe)
    assert _other_weights(again, own) is False  # another precision of the same model
    assert _other_weights(fused, again) is True
