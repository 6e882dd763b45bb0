"""Every family of pipelines, through its own `__call__`: generation as the stock one's, exact round trips, nothing changed."""

import copy
import functools
import gc
import hashlib
import math
import threading
import weakref

import diffusers
import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor

import renoise
from renoise import ReNoise
from renoise.edits import NEGATIVE, SOURCE, TARGET
from renoise.pipelines.driver import drive
from renoise.pipelines.guidance import stacked
from renoise.pipelines.latents import encode, pictures_of
from renoise.programs import generate
from renoise.step import plan
from tests.tiny import TINY, Tiny, relative, split

STEPS = 4
TIGHT = ReNoise(iterations=200, tolerance=1e-7, editability=0.0)
# released with multistep solvers, of which renoise takes the noise levels alone: a one-step sampler to be compared with
ONE_STEP = {"pixart": diffusers.DDIMScheduler, "sana": diffusers.FlowMatchEulerDiscreteScheduler}
# whatever is scaled down, UNets of random weights are steep next to pure noise, where epsilon is divided by alpha
STEEP = ["sd", "sd_v", "sd_turbo", "sdxl", "sdxl_turbo", "sdxl_lightning", "hyper_sdxl", "tcd_sdxl", "sdxl_controlnet"]
STRENGTH = dict.fromkeys([*STEEP, "animatediff", "text_to_video", "cogvideox", "lcm", "lcm_lora", "lcm_lora_sdxl"], 0.5)


def build(name: str, **options: bool) -> Tiny:
    tiny = TINY[name](**options)
    if name in ONE_STEP:
        config = dict(tiny.pipe.scheduler.config, clip_sample=False, shift=3.0)
        tiny.pipe.scheduler = ONE_STEP[name].from_config(config)
    return tiny


@pytest.mark.parametrize("name", TINY)
def test_generation_through_our_steps_is_the_stock_pipelines(name):
    tiny = build(name)
    made, scheduler = {}, copy.deepcopy(tiny.pipe.scheduler)
    looped = _looped_shape(tiny)
    x_T = torch.randn(looped, generator=torch.Generator().manual_seed(0))
    noises = torch.stack(
        [randn_tensor(looped, generator=g) for g in [torch.Generator().manual_seed(7)] for _ in range(STEPS)]
    )

    def program(reading):
        steps = plan(reading.schedule, reading.sampler, reading.prediction)
        made["first"] = steps[0].t
        return generate(steps, x_T, noises)

    arguments = dict(tiny.call, **tiny.stock, prompt=tiny.prompts, num_inference_steps=STEPS)
    ours = pictures_of(drive(tiny.pipe, program, looped, dict(arguments, output_type="pt")).output)

    # the stock pipeline takes latents in its scheduler's own coordinates, before it multiplies them by init_noise_sigma
    exploding = hasattr(scheduler, "is_scale_input_called")
    if exploding:
        scheduler.set_timesteps(STEPS)
    scale = 1 / (made["first"].alpha * float(scheduler.init_noise_sigma)) if exploding else 1.0
    latents = (
        (x_T * scale).reshape(tiny.latents().shape)
        if name != "flux2_klein"
        else x_T.transpose(1, 2).reshape(2, 4, 8, 8)
    )
    generator = torch.Generator().manual_seed(7)
    stock = pictures_of(tiny.pipe(**arguments, latents=latents, generator=generator, output_type="pt"))
    assert relative(ours, stock) < 1e-4


@pytest.mark.parametrize("name", TINY)
def test_round_trip(name):
    tiny = build(name, contractive=True)
    size, call = split(tiny)
    strength = STRENGTH.get(name, 1.0)
    found = renoise.invert(
        tiny.pipe,
        tiny.images(),
        tiny.prompts,
        method=TIGHT,
        num_inference_steps=STEPS,
        strength=strength,
        **size,
        **call,
    )
    back = renoise.reconstruct(
        tiny.pipe, found, output_type="latent", **{k: call[k] for k in found.record.required_arguments}
    )
    x_0 = encode(tiny.pipe, tiny.images())
    converged = [max(residual[i] for residual in found.residuals) < 1e-6 for i in range(2)]
    assert all(converged), found.residuals
    assert relative(back, x_0) < 1e-4
    assert found.psnr == pytest.approx(found.autoencoder_psnr, abs=0.05)
    assert found.evaluations == sum(found.record.metrics.step_evaluations)
    assert [max(step) for step in found.record.metrics.iterations] == found.record.metrics.step_evaluations


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "pixart"])
def test_guidance_and_negative_prompts_pass_through_and_are_counted(name):
    tiny = build(name, contractive=True)
    size, call = split(tiny)
    call["guidance_scale"] = 3.0
    settings, options = (
        ReNoise(iterations=60, tolerance=1e-6),
        dict(num_inference_steps=STEPS, strength=0.5, measure=False),
    )
    plain = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, method=settings, **options, **size, **call)
    negative = renoise.invert(
        tiny.pipe,
        tiny.images(),
        tiny.prompts,
        method=settings,
        negative_prompt="a bad dog",
        **options,
        **size,
        **call,
    )
    assert relative(plain.latents, negative.latents) > 1e-5
    assert [2 * max(step) for step in plain.record.metrics.iterations] == plain.record.metrics.step_evaluations
    x_0 = encode(tiny.pipe, tiny.images())
    assert relative(renoise.reconstruct(tiny.pipe, negative, output_type="latent"), x_0) < 1e-3


@pytest.mark.parametrize("name", ["sd", "flux", "sana"])
def test_a_batch_of_different_pictures_and_prompts_is_each_of_them_alone(name):
    tiny = build(name, contractive=True)
    size, call = split(tiny)
    options = dict(method=ReNoise(iterations=3, tolerance=0), num_inference_steps=STEPS, measure=False, **size, **call)
    batch = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **options)
    for i in range(2):
        alone = renoise.invert(tiny.pipe, tiny.images()[i : i + 1], tiny.prompts[i], **options)
        assert relative(batch[i].latents, alone.latents) < 1e-4


@pytest.mark.parametrize("name", ["sd", "sdxl", "flux", "sd3", "flux2_klein", "qwen_image"])
def test_sizes_that_are_not_square(name):
    tiny = build(name, contractive=True)
    _, call = split(tiny)
    pictures = torch.nn.functional.interpolate(tiny.images(), (32, 48))
    settings = ReNoise(iterations=9, tolerance=0, lambda_pair=10, lambda_kl=0.05)
    found = renoise.invert(
        tiny.pipe,
        pictures,
        tiny.prompts,
        method=settings,
        num_inference_steps=2,
        strength=0.5,
        height=32,
        width=48,
        **call,
    )
    assert renoise.reconstruct(tiny.pipe, found, output_type="pt").shape == (2, 3, 32, 48)


def test_the_control_image_matters_and_must_be_given_again_to_a_file(tmp_path):
    tiny = build("sdxl_controlnet", contractive=True)
    size, call = split(tiny)
    options = dict(
        method=ReNoise(iterations=3, tolerance=0), num_inference_steps=2, strength=0.5, measure=False, **size
    )
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **options, **call)
    other = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **options, **dict(call, image=1 - call["image"]))
    assert relative(found.latents, other.latents) > 1e-6
    kept = renoise.reconstruct(tiny.pipe, found, output_type="latent")
    loaded = renoise.Inversion.load(found.save(tmp_path / "x.safetensors"))
    with pytest.raises(ValueError, match="made with image: give it again"):
        renoise.reconstruct(tiny.pipe, loaded)
    given = renoise.reconstruct(tiny.pipe, loaded, image=call["image"], output_type="latent")
    assert torch.equal(kept, given)


def test_a_control_guidance_window_is_counted_in_steps_not_evaluations():
    tiny = build("sdxl_controlnet", contractive=True)
    size, call = split(tiny)
    options = dict(method=TIGHT, num_inference_steps=STEPS, strength=0.75, **size, **call, control_guidance_end=0.5)
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, measure=False, **options)
    back = renoise.reconstruct(tiny.pipe, found, output_type="latent", image=call["image"])
    assert relative(back, encode(tiny.pipe, tiny.images())) < 1e-4


def test_an_ip_adapter_argument_passes_through():
    tiny = TINY["sd"](contractive=True)
    unet, generator = tiny.pipe.unet, torch.Generator().manual_seed(2)

    def weights(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 0.5

    adapter, width = {}, unet.config.cross_attention_dim
    attention = [module for name, module in unet.named_modules() if name.endswith("attn2")]
    for i, module in enumerate(attention):
        for name in ("to_k_ip", "to_v_ip"):
            adapter[f"{2 * i + 1}.{name}.weight"] = weights(module.to_k.out_features, width)
    projection = {"proj.weight": weights(4 * width, 16), "proj.bias": weights(4 * width)}
    projection |= {"norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}
    unet._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": adapter}])

    options = dict(num_inference_steps=STEPS, strength=0.5, **split(tiny)[0], guidance_scale=1.0)
    embeds = [weights(2, 1, 16)]
    found = renoise.invert(
        tiny.pipe, tiny.images(), tiny.prompts, method=TIGHT, measure=False, ip_adapter_image_embeds=embeds, **options
    )
    back = renoise.reconstruct(tiny.pipe, found, output_type="latent", ip_adapter_image_embeds=embeds)
    assert relative(back, encode(tiny.pipe, tiny.images())) < 1e-4
    elsewhere = renoise.reconstruct(tiny.pipe, found, output_type="latent", ip_adapter_image_embeds=[-embeds[0]])
    assert relative(elsewhere, back) > 1e-4
    edits = [
        renoise.edit(
            tiny.pipe, found, "an elephant", source_correction=k, output_type="latent", ip_adapter_image_embeds=embeds
        )
        for k in (0.0, 1.0)
    ]
    assert relative(*edits) < 1e-4  # the inversion is exact: nothing to make up for, under the same adapter


def snapshot(pipe) -> dict:
    """All that a pipeline is: attributes by identity, configs, and every byte of weights; hooks one by one."""
    modules = {n: c for n, c in pipe.components.items() if isinstance(c, torch.nn.Module)}
    hooks = ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks")
    return {
        "attributes": {name: id(value) for name, value in vars(pipe).items()},
        "config": dict(pipe.config),
        "scheduler": (dict(pipe.scheduler.config), plain(vars(pipe.scheduler))),
        "weights": {
            f"{n}.{k}": (v.dtype, hashlib.sha256(v.contiguous().view(torch.uint8).numpy()).hexdigest())
            for n, m in modules.items()
            for k, v in m.state_dict().items()
            if v.ndim
        },
        "hooks": {n: [list(getattr(s, h)) for s in m.modules() for h in hooks] for n, m in modules.items()},
    }


def plain(values: dict) -> dict:
    """Tensors as lists, so that they compare."""
    return {k: v.tolist() if isinstance(v, torch.Tensor) else str(v) for k, v in values.items()}


@pytest.mark.parametrize("name", ["sd", "sdxl_turbo", "flux", "z_image"])
def test_the_users_pipeline_and_arguments_are_left_as_they_were(name):
    tiny = build(name)
    size, call = split(tiny)
    tiny.pipe(**tiny.call, prompt=tiny.prompts, num_inference_steps=2)  # text encoders hook themselves when first used
    prompts, before, state = ["one", "two"], snapshot(tiny.pipe), torch.get_rng_state()
    options = dict(method=ReNoise(iterations=1, tolerance=0), num_inference_steps=2, **size, **call)
    renoise.invert(tiny.pipe, tiny.images(), prompts, **options)
    assert snapshot(tiny.pipe) == before

    def boom(*_):
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        renoise.invert(tiny.pipe, tiny.images(), prompts, progress=boom, **options)
    assert snapshot(tiny.pipe) == before
    assert prompts == ["one", "two"]
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_holds_on_to_a_pipeline_that_is_done_with():
    tiny = build("sd")
    size, call = split(tiny)
    gone = weakref.ref(tiny.pipe.unet)
    gc.disable()
    try:
        renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, num_inference_steps=2, **size, **call)
        del tiny
        assert gone() is None
    finally:
        gc.enable()


def test_an_offloaded_pipeline_stays_offloaded():
    tiny = build("sd", contractive=True)
    tiny.pipe.enable_model_cpu_offload(device="cpu")  # the same hooks as on an accelerator
    size, call = split(tiny)
    options = dict(method=TIGHT, num_inference_steps=STEPS, strength=0.5, **size, **call)
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, measure=False, **options)
    assert (
        relative(renoise.reconstruct(tiny.pipe, found, output_type="latent"), encode(tiny.pipe, tiny.images())) < 1e-4
    )
    assert all(hasattr(m, "_hf_hook") for m in (tiny.pipe.unet, tiny.pipe.vae, tiny.pipe.text_encoder))
    assert len(tiny.pipe._all_hooks) == 3
    assert {type(hook.hook).__name__ for hook in tiny.pipe._all_hooks} == {"CpuOffload"}


def test_two_threads_on_one_pipeline_agree_with_one():
    tiny = build("sd", contractive=True)
    size, call = split(tiny)

    def work(i: int, found: dict) -> None:
        picture = tiny.images()[i : i + 1]
        settings = ReNoise(iterations=2 + i, tolerance=0)
        found[i] = renoise.invert(
            tiny.pipe, picture, tiny.prompts[i], method=settings, num_inference_steps=4, **size, **call
        )

    alone, together = {}, {}
    for i in range(2):
        work(i, alone)
    threads = [threading.Thread(target=work, args=(i, together)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(2):
        assert torch.equal(alone[i].latents, together[i].latents)
        assert alone[i].evaluations == together[i].evaluations == 4 * (3 + i)


def test_half_precision_networks_keep_float32_latents():
    tiny = build("flux", contractive=True)
    tiny.pipe.to(torch.bfloat16)
    size, call = split(tiny)
    options = dict(num_inference_steps=STEPS, measure=False, **size, **call)
    found = renoise.invert(
        tiny.pipe, tiny.images(), tiny.prompts, method=ReNoise(iterations=300, tolerance=1e-9), **options
    )
    assert found.latents.dtype == torch.float32
    assert found.evaluations < 30 * STEPS  # rounding stalls the residual, and the iteration stops there
    back = renoise.reconstruct(tiny.pipe, found, output_type="latent")
    assert relative(back, encode(tiny.pipe, tiny.images())) < 2e-3


@pytest.mark.parametrize("name", ["sdxl_turbo", "sd_turbo", "lcm_lora", "lcm_lora_sdxl", "tcd_sdxl"])
@pytest.mark.parametrize(
    "way", [{}, dict(first_guess="posterior"), dict(first_guess="posterior", noise_correction=math.inf)]
)
def test_noises_of_stochastic_samplers_are_stored_seeded_and_used_again(name, way):
    tiny = build(name, contractive=True)
    size, call = split(tiny)
    options = dict(
        method=ReNoise(iterations=5, tolerance=0, **way), num_inference_steps=STEPS, measure=False, **size, **call
    )
    first, again, other = (renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, seed=s, **options) for s in (1, 1, 2))
    assert first.noises is not None
    assert first.noises.shape == (STEPS - 1, *first.latents.shape)
    assert torch.equal(first.noises, again.noises)
    assert not torch.equal(first.noises, other.noises)
    with pytest.raises(ValueError, match="num_inference_steps"):
        renoise.reconstruct(tiny.pipe, first, num_inference_steps=STEPS + 1)


def test_eta_makes_ddim_stochastic():
    tiny = build("sd", contractive=True)
    size, call = split(tiny)
    options = dict(method=TIGHT, num_inference_steps=STEPS, strength=0.5, eta=1.0, **size, **call)
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, measure=False, **options)
    assert found.record.sampler == "DDIM(eta=1.0)"
    own = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **options | dict(method=None))
    assert own.record.settings["first_guess"] == "posterior"  # as for every sampler that draws noise
    assert "stochastic" in own.record.settings["source"]
    assert relative(renoise.reconstruct(tiny.pipe, own, output_type="latent"), encode(tiny.pipe, tiny.images())) < 1e-4
    little = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, measure=False, **options | dict(eta=0.05))
    with pytest.raises(ValueError, match="holds the noises of its 4 steps"):
        renoise.reconstruct(tiny.pipe, little, num_inference_steps=STEPS - 1)
    assert found.noises is not None
    assert (
        relative(renoise.reconstruct(tiny.pipe, found, output_type="latent"), encode(tiny.pipe, tiny.images())) < 1e-4
    )


def test_a_callback_that_changes_the_latents_is_an_error():
    tiny = build("sd")
    size, call = split(tiny)

    def meddle(pipe, i, t, kwargs):
        return {"latents": kwargs["latents"] * 1.5}

    with pytest.raises(RuntimeError, match="changed the latents"):
        renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, callback_on_step_end=meddle, **size, **call)


def test_a_callback_that_interrupts_is_an_error():
    tiny = build("sd")
    size, call = split(tiny)

    def stop(pipe, i, t, kwargs):
        pipe._interrupt = True
        return kwargs

    with pytest.raises(RuntimeError, match="interrupted"):
        renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, callback_on_step_end=stop, **size, **call)


def test_callbacks_see_true_steps():
    tiny, seen = build("sd", contractive=True), []
    size, call = split(tiny)

    def note(pipe, i, t, kwargs):
        seen.append((i, int(t)))
        return kwargs

    options = dict(method=ReNoise(iterations=1, tolerance=0), num_inference_steps=2, measure=False)
    renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, callback_on_step_end=note, **options, **size, **call)
    assert seen == [(1, 1), (1, 1), (0, 501), (0, 501)]


def counted(tiny: Tiny, function, *args, **kwargs) -> tuple[list[int], object]:
    """The number of rows of every network call, and the result."""
    rows = []
    hook = tiny.network.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(args[0] if args else kwargs["hidden_states"])), with_kwargs=True
    )
    result = function(*args, **kwargs)
    hook.remove()
    return rows, result


@pytest.mark.parametrize("name", ["sd", "sd3", "flux"])
def test_an_edit_draws_the_inverted_noise_under_another_prompt(name):
    tiny = build(name, contractive=True)
    size, call = split(tiny)
    options = dict(num_inference_steps=STEPS, measure=False, **size, **call)
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, method=ReNoise(iterations=2, tolerance=0), **options)
    same = renoise.reconstruct(tiny.pipe, found, output_type="latent")
    rows, edited = counted(tiny, renoise.edit, tiny.pipe, found, "an elephant", output_type="latent")
    assert rows == [2] * STEPS
    assert relative(edited, same) > 1e-6
    assert torch.equal(renoise.edit(tiny.pipe, found, found.prompt, output_type="latent"), same)
    pictures = renoise.edit(tiny.pipe, found, "an elephant")
    assert [picture.size for picture in pictures] == [(32, 32)] * 2


def test_a_guided_edit_leads_away_from_no_prompt_and_an_unchanged_one_from_itself():
    tiny = build("sd", contractive=True)
    size, call = split(tiny)
    options = dict(num_inference_steps=STEPS, measure=False, **size, **call)
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, method=ReNoise(iterations=2, tolerance=0), **options)
    guided = dict(guidance_scale=4.0, output_type="latent")
    rows, edited = counted(tiny, renoise.edit, tiny.pipe, found, "an elephant", **guided)
    assert rows == [4] * STEPS
    assert torch.equal(edited, renoise.edit(tiny.pipe, found, "an elephant", negative_prompt="", **guided))
    assert relative(edited, renoise.edit(tiny.pipe, found, "an elephant", negative_prompt="a dog", **guided)) > 1e-6
    same = renoise.edit(tiny.pipe, found, [tiny.prompts[0], "an elephant"], **guided)
    assert relative(same[:1], renoise.reconstruct(tiny.pipe, found, output_type="latent")[:1]) < 1e-5
    assert relative(same[1:], edited[1:]) < 1e-5
    with pytest.raises(ValueError, match="guidance_scale above 1"):
        renoise.edit(tiny.pipe, found, "an elephant", negative_prompt="a dog")


def test_an_unchanged_prompt_comes_back_where_the_pipeline_did_not_guide_the_inversion():
    tiny = build("qwen_image", contractive=True)
    size, call = split(tiny)
    options = dict(num_inference_steps=STEPS, measure=False, **size, **call) | {"true_cfg_scale": 3.0}
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, method=ReNoise(iterations=2, tolerance=0), **options)
    edited = renoise.edit(tiny.pipe, found, tiny.prompts, output_type="latent")
    assert relative(edited, renoise.reconstruct(tiny.pipe, found, output_type="latent")) < 1e-5


def test_a_guided_inversion_comes_back_under_its_own_prompt_and_scale():
    tiny = build("sdxl", contractive=True)
    size, call = split(tiny)
    options = dict(num_inference_steps=STEPS, measure=False, **size, **call) | {"guidance_scale": 5.0}
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, method=ReNoise(iterations=2, tolerance=0), **options)
    edited = renoise.edit(tiny.pipe, found, tiny.prompts, guidance_scale=5.0, output_type="latent")
    assert relative(edited, renoise.reconstruct(tiny.pipe, found, output_type="latent")) < 1e-5


def test_the_row_of_the_negative_prompt_has_its_own_second_prompt():
    texts = {SOURCE: ["a cat"], NEGATIVE: ["grey"], TARGET: ["a fox"]}
    stack = functools.partial(stacked, (SOURCE, NEGATIVE, TARGET), texts)
    assert stack({"prompt_2": "a big cat"}, {"prompt_2": "a big fox"})["prompt_2"] == ["a big cat", "grey", "a big fox"]
    both = {"prompt_2": "a big fox", "negative_prompt_2": "blurred"}
    assert stack({"prompt_2": "a big cat"}, both)["prompt_2"] == ["a big cat", "blurred", "a big fox"]


def test_true_cfg_scale_is_remembered_when_editing():
    tiny = build("flux", contractive=True)
    size, call = split(tiny)
    options = dict(num_inference_steps=2, measure=False, true_cfg_scale=2.0, negative_prompt="grey", **size, **call)
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, method=ReNoise(iterations=1, tolerance=0), **options)
    rows, _ = counted(tiny, renoise.edit, tiny.pipe, found, "an elephant")
    assert rows == [2, 2] * 2  # the edit, and the inversion's negative prompt
    with pytest.raises(ValueError, match="true_cfg_scale above 1"):
        renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, negative_prompt="grey", **size, **call)


def test_no_guidance_is_asked_of_pipelines_that_count_from_zero():
    tiny = build("z_image", contractive=True)
    size, call = split(tiny)
    call.pop("guidance_scale")
    options = dict(method=ReNoise(iterations=0, tolerance=0), num_inference_steps=2, measure=False, **size, **call)
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **options)
    assert found.record.guidance_scale == 0.0
    assert found.evaluations == 2


def test_a_single_step_of_a_stochastic_sampler_draws_no_noise_and_needs_no_correction():
    tiny = build("sdxl_turbo", contractive=True)
    size, call = split(tiny)
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, num_inference_steps=1, measure=False, **size, **call)
    assert found.noises is None
    assert found.record.settings["noise_correction"] == 0


def test_latents_are_the_way_around_an_unknown_autoencoder():
    tiny = build("flux", contractive=True)
    size, call = split(tiny)
    x_0 = encode(tiny.pipe, tiny.images())
    options = dict(method=TIGHT, num_inference_steps=STEPS, **size, **call)
    found = renoise.invert(tiny.pipe, None, tiny.prompts, latents=x_0, **options)
    assert found.psnr is None
    assert relative(renoise.reconstruct(tiny.pipe, found, output_type="latent"), x_0) < 1e-4
    with pytest.raises(ValueError, match="latents="):
        renoise.invert(tiny.pipe, None, tiny.prompts, **options)
    with pytest.raises(ValueError, match="not both"):
        renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, latents=x_0, **options)
    with pytest.raises(ValueError, match="not finite"):
        renoise.invert(tiny.pipe, None, tiny.prompts, latents=x_0 * float("nan"), **options)


def test_sizes_that_are_tuples_survive_a_file(tmp_path):
    tiny = build("sdxl")
    size, call = split(tiny)
    options = dict(method=ReNoise(iterations=0, tolerance=0), num_inference_steps=2, **size, **call)
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, original_size=(32, 48), **options)
    one = renoise.Inversion.load(found.save(tmp_path / "a.safetensors"))[1]
    back = renoise.reconstruct(tiny.pipe, one, output_type="latent")
    assert relative(back, renoise.reconstruct(tiny.pipe, found, output_type="latent")[1:]) < 1e-5


def test_the_record_names_the_commit_that_the_model_came_from():
    tiny, commit = build("sd"), "0123456789abcdef0123456789abcdef01234567"
    tiny.pipe.unet.register_to_config(_name_or_path=f"/cache/models--a--b/snapshots/{commit}/unet")
    size, call = split(tiny)
    options = dict(method=ReNoise(iterations=0, tolerance=0), num_inference_steps=2, measure=False, **size, **call)
    assert renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **options).record.revision == commit


def test_the_rule_for_unknown_pipelines_says_what_it_chose():
    few, flow = (renoise.default_method(build(name).pipe, 4) for name in ("sdxl_turbo", "sd3"))
    assert few.noise_correction > 0
    assert "few steps (4) of a stochastic sampler" in few.source
    assert flow.noise_correction == 0
    assert "few steps (4) of a deterministic sampler" in flow.source
    assert "many steps (50)" in renoise.default_method(build("sd").pipe).source


def _looped_shape(tiny: Tiny) -> tuple[int, ...]:
    """The shape of the latents in the pipeline's loop."""
    return tuple(encode(tiny.pipe, tiny.images()).shape)
