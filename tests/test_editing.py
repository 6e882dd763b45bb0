"""Edits that keep what the prompt does not change, on pipelines of every kind of latents and on orchard; and the baselines."""

import math

import numpy as np
import PIL.Image
import pytest
import torch

import renoise
from renoise import ReNoise, editing, images, layout, masks, programs
from renoise.blending import without_object
from renoise.editing import redraw
from renoise.edits import TARGET, Edit, Source
from renoise.methods.flowedit import FlowEdit
from renoise.methods.renoise import FOR_STOCHASTIC
from renoise.pipelines.latents import encode
from renoise.prediction import EPSILON, FLOW
from renoise.programs import Photograph
from renoise.samplers import DDIM
from renoise.schedule import Level, Schedule
from renoise.step import plan
from tests.tiny import TINY, Tiny, relative

STEPS = 4
LOOSE = ReNoise(iterations=1, tolerance=0.0, editability=0.0)  # far from converged, on purpose
KINDS = pytest.mark.parametrize("name", ["sd", "sdxl_turbo", "sd3", "flux", "qwen_image", "lcm_lora"])


def inverted(name: str, contractive: bool = False, **options) -> tuple[Tiny, renoise.Inversion]:
    tiny = TINY[name](contractive=contractive)
    call = {**tiny.call, "num_inference_steps": STEPS, "measure": False, "method": LOOSE, **options}
    return tiny, renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **call)


@KINDS
def test_what_the_prompts_agree_on_is_kept_however_poor_the_inversion(name):
    tiny, found = inverted(name)
    x_0 = encode(tiny.pipe, tiny.images())
    drawn = renoise.edit(
        tiny.pipe, found, tiny.prompts, guidance_scale=found.record.guidance_scale, output_type="latent"
    )
    kept = renoise.edit(
        tiny.pipe,
        found,
        tiny.prompts,
        source_correction=1.0,
        guidance_scale=found.record.guidance_scale,
        output_type="latent",
    )
    assert relative(drawn, x_0) > 1e-3
    assert relative(kept, x_0) < 1e-4


@KINDS
def test_pseudo_guidance_leads_away_from_the_negative_prompt_on_pipelines_that_guide_or_not(name):
    tiny, found = inverted(name)
    own = {"guidance_scale": found.record.guidance_scale, "output_type": "latent", "negative_prompt": tiny.prompts}
    edits = [renoise.edit(tiny.pipe, found, "an elephant", pseudo_guidance=w, **own) for w in (0.0, 1.0, 2.0)]
    del own["negative_prompt"]  # which pipelines that do not guide refuse
    assert relative(edits[0], renoise.reconstruct(tiny.pipe, found, output_type="latent")) < 1e-4
    assert relative(edits[1], renoise.edit(tiny.pipe, found, "an elephant", **own)) < 1e-4
    assert relative(edits[2], edits[0]) > relative(edits[1], edits[0])


def test_pseudo_guidance_is_the_pipelines_guidance():
    tiny, found = inverted("sd")
    guided = renoise.edit(tiny.pipe, found, "an elephant", guidance_scale=3.0, output_type="latent")
    rows = renoise.edit(tiny.pipe, found, "an elephant", pseudo_guidance=3.0, guidance_scale=1.0, output_type="latent")
    assert relative(rows, guided) < 1e-5


@KINDS
def test_outside_the_mask_nothing_changes(name):
    tiny, found = inverted(name)
    height, width = found.record.height, found.record.width
    mask = torch.zeros(1, 3, height, width)
    mask[..., : width // 2] = 1
    x_0 = encode(tiny.pipe, tiny.images())
    edited = renoise.edit(tiny.pipe, found, "an elephant", mask=mask, output_type="latent")
    edited, x_0 = (layout.maps(x, height / width) for x in (edited, x_0))
    allowed = masks.at_maps(mask[:, :1], x_0, height / width).expand_as(x_0) > 0
    assert torch.allclose(edited[~allowed], x_0[~allowed], atol=1e-5)
    assert relative(edited[allowed], x_0[allowed]) > 1e-3


def test_a_found_mask_is_the_object_or_the_ground_up_to_the_pictures_own_outlines():
    x_0 = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0)) / 4
    inside = torch.zeros(1, 1, 32, 32)
    inside[..., 8:24, 8:24] = 1

    def found(last, first=None, once=False):
        return masks.from_difference(last if first is None else first, last, x_0 + 3 * inside, [once])

    assert (found(inside) == inside).all()
    assert (found(0.4 * inside) == inside).all()  # the shaded side of an object differs less
    assert not found(0.15 * inside + 0.1).any()
    for r in (0, 1, 2):  # the ground differs less near an object, or the object's rim a little too
        near, far = torch.nn.functional.max_pool2d(inside, 2 * r + 1, 1, r), torch.zeros_like(inside)
        far[..., 8 + r : 24 - r, 8 + r : 24 - r] = 1
        for apart in (1 - near, 1 - far):
            assert (found(apart) == 1 - inside).all()
            # an object that the prompts disagree about where they alone speak changes too
            both = apart + 0.4 * (1 - apart)
            assert (found(both, first=both) == 1).all()
            assert (
                found(both, first=both, once=True) == 1 - inside
            ).all()  # unless the prompts differ in one thing only
    assert (found(torch.ones_like(inside)) == 1).all()


def test_prompts_differ_once_in_an_object_or_its_background_and_twice_in_both():
    source = "a photo of a red apple on a white background"
    assert masks.differ_once(source, "a photo of a yellow lemon on a white background")
    assert masks.differ_once(source, "a photo of a red apple on an orange background")
    assert masks.differ_once(source, "a photo of a red apple and a plum on a white background")
    assert not masks.differ_once(source, "a photo of a lemon on a blue background")
    assert masks.differ_once("", "")  # prompt embeddings


def test_the_prompts_are_compared_at_the_first_step_and_the_cleanest_of_the_noisy_ones():
    levels = [Level.preserving(a, t) for a, t in ((0.005, 999), (0.02, 800), (0.08, 700), (0.4, 400), (1.0, 0))]
    steps = plan(Schedule(tuple(levels)), DDIM(), EPSILON)
    assert masks.comparison_steps(steps) == [0, 2]
    assert masks.comparison_steps(steps[2:]) == [0]
    assert masks.comparison_steps(steps[3:]) == [0]  # where none is noisy: the first that is taken


def test_the_target_is_compared_with_what_the_course_knows_of_the_source():
    levels = [Level.preserving(a, t) for a, t in ((0.005, 999), (0.02, 800), (0.4, 400), (1.0, 0))]
    steps = plan(Schedule(tuple(levels)), DDIM(1.0), EPSILON)
    x_0 = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    asked: list[int] = []

    def source(x: torch.Tensor, _: Level) -> torch.Tensor:
        return x.tanh()

    def target(x: torch.Tensor, _: Level) -> torch.Tensor:
        asked.append(len(x))
        return torch.cat([x[..., :4].tanh() + 1, x[..., 4:].tanh()], -1)

    found = programs.run(FOR_STOCHASTIC.invert(steps, programs.Photograph(x_0)), steps, source)
    program = masks.difference(steps, Source(found.x_T, found.noises, found.trajectory), 1.0)
    maps = programs.run(program, steps, target)
    assert asked == [2, 2]  # each picture once at either level, under the target prompt
    for apart in maps:
        assert (apart[..., :3] > 0.99).all()
        assert (apart[..., 5:] < 1e-3).all()


@pytest.mark.parametrize("name", ["sd", "sdxl_turbo", "flux"])
def test_the_source_correction_adds_nothing_to_an_exact_inversion_and_much_to_a_poor_one(name):
    exact = ReNoise(iterations=200, tolerance=1e-7, editability=0.0)
    apart = []
    for method in (exact, LOOSE):
        tiny, found = inverted(name, contractive=True, method=method)
        # a distilled scale changes what the network says of the source too
        more = dict(guidance_scale=found.record.guidance_scale if name == "flux" else 3.0, output_type="latent")
        if name != "flux":
            more["negative_prompt"] = ""  # without one, SDXL takes zeros, which are no row's text
        apart.append(
            relative(*(renoise.edit(tiny.pipe, found, "an elephant", source_correction=k, **more) for k in (0.0, 1.0)))
        )
    assert apart[0] < 1e-4
    assert apart[1] > 20 * apart[0]


def test_a_mask_of_ones_own_is_averaged_over_each_latent_pixel():
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., :36] = 1
    latents = masks.at_maps(mask, torch.zeros(1, 4, 8, 8), 1.0)
    assert latents[0, 0, 4].tolist() == pytest.approx([1, 1, 1, 1, 1 / 2, 0, 0, 0])


def test_an_edit_is_guided_at_least_as_the_inversion_was():
    pipe, picture = renoise.load("orchard", device="cpu"), torch.full((3, 128, 128), 0.5)
    prompt, settings = "a photo of a lemon on a gray background", ReNoise(iterations=0, tolerance=0)
    more = dict(num_inference_steps=3, measure=False, method=settings)
    found = renoise.invert(pipe, picture, prompt, guidance_scale=5.0, **more)
    edits = [renoise.edit(pipe, found, "a lime", output_type="latent", **g) for g in ({}, {"guidance_scale": 5.0})]
    assert torch.equal(*edits)


def test_an_inversion_from_a_file_finds_its_course_again(tmp_path):
    tiny, found = inverted("sd3", contractive=True, method=ReNoise(iterations=100, tolerance=1e-7))
    loaded = renoise.Inversion.load(found.save(tmp_path / "x.safetensors"))
    assert loaded.trajectory is None
    edits = [
        renoise.edit(tiny.pipe, f, "an elephant", source_correction=0.5, output_type="latent") for f in (found, loaded)
    ]
    assert relative(*edits) < 1e-3


def test_the_photographs_own_pixels_surround_an_edit(tmp_path):
    tiny, found = inverted("sd")
    mask = torch.zeros(1, 3, found.record.height, found.record.width)
    mask[..., : found.record.height // 2, :] = 1
    kept = images.batch(tiny.images(), found.record.height, found.record.width)
    loaded = renoise.Inversion.load(found.save(tmp_path / "x.safetensors"))
    options = dict(mask=mask, output_type="pt")
    edits = [
        renoise.edit(tiny.pipe, found, "an elephant", **options),
        renoise.edit(tiny.pipe, loaded, "an elephant", original=tiny.images(), **options),
        renoise.edit(tiny.pipe, loaded, "an elephant", **options),
    ]
    outside = mask.expand_as(kept) == 0
    assert torch.equal(edits[0][outside], kept[outside])
    assert torch.equal(edits[1][outside], kept[outside])
    decoded = renoise.reconstruct(tiny.pipe, loaded, output_type="pt")  # a file holds no pixels
    assert torch.allclose(edits[2][outside], decoded[outside], atol=1e-3)
    assert torch.equal(found[1].photographs, kept[1:])


def test_the_layout_outside_a_mask_is_the_photographs_while_the_noise_exceeds_the_signal():
    levels = [Level(0.1, 1.0, 3.0), Level(0.6, 0.8, 2.0), Level(0.8, 0.6, 1.0), Level(1.0, 0.0, 0.0)]
    steps = plan(Schedule(levels), DDIM(), EPSILON)
    x, trajectory = torch.randn(1, 1, 2, 2), torch.randn(3, 1, 1, 2, 2)
    source = Source(x, None, trajectory, Photograph(trajectory[-1]))
    mask, seen = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]]), []
    program = redraw(steps, source, Edit(mask=mask), (TARGET,))
    programs.run(programs.watch(program, lambda x, *_: seen.append(x)), steps, lambda x, _: x.square())
    assert torch.equal(seen[1][..., 1, :], trajectory[0][..., 1, :])
    assert not torch.equal(seen[1][..., 0, :], trajectory[0][..., 0, :])
    assert torch.equal(seen[2], steps[1].denoise(seen[1], seen[1].square()))
    seen.clear()
    program = redraw(steps, source, Edit(mask=mask, ground=trajectory[-1] + 1), (TARGET,))  # another ground, as noisy
    programs.run(programs.watch(program, lambda x, *_: seen.append(x)), steps, lambda x, _: x.square())
    assert torch.allclose(seen[1][..., 1, :], trajectory[0][..., 1, :] + steps[0].s.alpha)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(source_correction=1.5), "source_correction"),
        (dict(editability=-0.1), "editability"),
        (dict(editability=float("nan")), "editability"),
        (dict(seed=-1), "seed"),
        (dict(original=torch.zeros(2, 3, 64, 64)), "mask"),
        (dict(source_correction=0.5, num_inference_steps=7), "num_inference_steps"),
        (dict(num_inference_steps=0), "num_inference_steps"),
        (dict(original=torch.zeros(2, 3, 64, 64), mask=torch.ones(64, 64), output_type="latent"), "output_type"),
        (dict(mask=[PIL.Image.new("L", (64, 64))] * 3), "3 masks"),
        (dict(mask="no such file.png"), "no such file"),
        (dict(mask=torch.full((64, 64), 255)), "lie in"),
        (dict(mask=7), "not int"),
    ],
)
def test_arguments_that_cannot_be_used_are_named(arguments, message):
    tiny, found = inverted("sd")
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
        renoise.edit(tiny.pipe, found, "an elephant", **arguments)


def test_orchard_finds_which_fruit_is_meant(scenes):
    pipe = renoise.load("orchard", device="cpu")
    path, caption = next((p, c) for p, c in scenes if c.count(" a ") >= 3 and " and a " in c.split(" on a")[0])
    first, rest = caption.removeprefix("a photo of ").split(" and a ", 1)
    found = renoise.invert(pipe, path, caption, measure=False)
    trajectory = found.trajectory
    assert trajectory is not None
    maps = {}
    for target in (
        f"a photo of a green lime and a {rest}",
        f"a photo of {first} and a green lime on{rest.split(' on')[-1]}",
    ):
        edited = renoise.edit(pipe, found, target, mask="auto", output_type="latent")
        maps[target] = (edited - trajectory[-1]).abs().mean((0, 1))
    left, right = maps.values()
    assert left[:, :14].sum() > 5 * left[:, 18:].sum()
    assert right[:, 18:].sum() > 5 * right[:, :14].sum()


@pytest.mark.parametrize("name", ["sdxl_turbo", "lcm"])
def test_sdedit_noises_and_does_not_ask_the_network(name):
    _, found = inverted(name, method="sdedit", strength=0.5)
    assert found.evaluations == 0
    assert (found.record.method, found.record.settings) == ("sdedit", {})


@pytest.mark.parametrize(("name", "more"), [("sd", {"eta": 1.0}), ("sdxl_turbo", {}), ("lcm_lora", {})])
def test_edit_friendly_inversion_asks_once_a_step_and_replays_its_noises(name, more):
    tiny, found = inverted(name, method="edit-friendly", **more)
    assert found.noises is not None
    assert found.evaluations == len(found.noises)
    back = renoise.reconstruct(tiny.pipe, found, output_type="latent")
    if len(found.noises) == STEPS:  # else the last step is the network's, as the paper says of few-step samplers
        assert relative(back, encode(tiny.pipe, tiny.images())) < 1e-3


def test_edit_friendly_inversion_needs_a_stochastic_sampler():
    with pytest.raises(ValueError, match="stochastic"):
        inverted("sd3", method="edit-friendly")


@pytest.mark.parametrize("name", ["sd3", "flux", "sd", "sdxl_turbo"])
def test_flow_edit_goes_straight_from_the_photograph_to_the_edit(name):
    tiny, found = inverted(name, method="flowedit", strength=0.75)
    x_0 = encode(tiny.pipe, tiny.images())
    same = renoise.edit(
        tiny.pipe, found, tiny.prompts, guidance_scale=found.record.guidance_scale, output_type="latent"
    )
    other = renoise.edit(
        tiny.pipe, found, "an elephant", guidance_scale=found.record.guidance_scale, output_type="latent"
    )
    assert relative(same, x_0) < 1e-5
    assert 1e-4 < relative(other, x_0) < 1


def test_flow_edit_takes_no_mask():
    tiny, found = inverted("sd3", method="flowedit")
    for more in (dict(mask="auto"), dict(negative_prompt="a dog")):
        with pytest.raises(ValueError, match=r"FlowEdit takes no (mask|negative_prompt)"):
            renoise.edit(tiny.pipe, found, "an elephant", **more)


def test_flow_edit_is_the_same_whether_the_network_tells_noise_or_velocity():
    """One network v(x/(α + σ), σ/(α + σ)), told once as a flow's velocity and once as the noise of variance-preserving levels."""
    times = (0.9, 0.6, 0.3, 0.0)
    flow = [Level(1 - tau, tau, 1000 * tau) for tau in times]
    sizes = [math.hypot(level.alpha, level.sigma) for level in flow]
    preserving = [Level(lv.alpha / n, lv.sigma / n, lv.time) for lv, n in zip(flow, sizes, strict=True)]
    x_0 = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    source = Source(x_0, photograph=programs.Photograph(x_0))

    def velocity(x: torch.Tensor, tau: float) -> torch.Tensor:
        return torch.cat([x[:1].sin() * tau, x[1:].cos()])

    def noise(x: torch.Tensor, level: Level) -> torch.Tensor:
        size = level.alpha + level.sigma
        return x / size + level.alpha / size * velocity(x / size, level.sigma / size)

    edits = [
        programs.run(FlowEdit().draw(steps, source, Edit()), steps, network)
        for steps, network in (
            (plan(Schedule(tuple(flow)), DDIM(), FLOW), lambda x, level: velocity(x, level.sigma)),
            (plan(Schedule(tuple(preserving)), DDIM(), EPSILON), noise),
        )
    ]
    assert relative(edits[0], x_0) > 0.1
    assert relative(*edits) < 1e-7


@pytest.mark.parametrize("name", TINY)
def test_a_mask_is_found_and_kept_to_on_every_pipeline(name):
    tiny, found = inverted(name)
    given = {n: tiny.call[n] for n in found.record.required_arguments}
    edited = renoise.edit(
        tiny.pipe, found, "an elephant", mask="auto", source_correction=0.5, output_type="latent", **given
    )
    assert edited.shape == found.latents.shape
    assert edited.isfinite().all()


def test_with_next_to_no_source_correction_a_guided_edit_stays_the_same_also_of_a_guided_inversion():
    for name, options in (("sd", dict(guidance_scale=3.0)), ("sd", {}), ("qwen_image", dict(true_cfg_scale=3.0))):
        tiny, found = inverted(name, **options)
        more = {} if "true_cfg_scale" in options else {"guidance_scale": 3.0}
        plain = renoise.edit(tiny.pipe, found, "an elephant", output_type="latent", **more)
        rows = renoise.edit(tiny.pipe, found, "an elephant", source_correction=1e-9, output_type="latent", **more)
        assert relative(rows, plain) < (0.02 if name == "qwen_image" else 1e-4)  # its pipeline rescales what it guided


@pytest.mark.parametrize(("name", "guidance"), [("sd", "guidance_scale"), ("qwen_image", "true_cfg_scale")])
def test_the_mask_of_a_guided_inversion_asks_about_the_target_under_the_same_guidance(name, guidance, monkeypatch):
    exact = ReNoise(iterations=100, tolerance=1e-6)
    tiny, found = inverted(name, contractive=True, method=exact, negative_prompt="a dog", **{guidance: 3.0})
    apart: list[float] = []
    compare = masks.difference

    def noted(steps, source, aspect):
        program = compare(steps, source, aspect)
        try:
            question = next(program)
            while True:
                (x, i), out = question, (yield question)
                apart.append(relative(out, steps[i].required_output(x, source.trajectory[i], None)))
                question = program.send(out)
        except StopIteration as end:
            return end.value

    monkeypatch.setattr(masks, "difference", noted)
    for prompts in (tiny.prompts, "an elephant"):
        renoise.edit(tiny.pipe, found, prompts, mask="auto", output_type="latent")
    same, other = apart[: len(apart) // 2], apart[len(apart) // 2 :]
    assert max(same) < 1e-4  # the source prompt again: what the inversion knows of it
    assert min(other) > 10 * max(same)


def test_the_source_of_an_edit_keeps_its_own_second_prompt(tmp_path):
    tiny, found = inverted("sdxl", contractive=True, prompt_2=["a cat, detailed"] * 2, strength=0.5)
    loaded = renoise.Inversion.load(found.save(tmp_path / "x.safetensors"))
    kept = [
        renoise.edit(
            tiny.pipe, f, tiny.prompts, source_correction=1.0, prompt_2=["a cat, detailed"] * 2, output_type="latent"
        )
        for f in (found, loaded)
    ]
    other = renoise.edit(
        tiny.pipe, loaded, tiny.prompts, source_correction=1.0, prompt_2="an elephant", output_type="latent"
    )
    x_0 = encode(tiny.pipe, tiny.images())
    assert relative(kept[0], x_0) < 1e-4
    assert relative(kept[1], x_0) < relative(other, x_0)


def test_a_second_prompt_of_the_edit_alone_is_not_the_sources():
    exact = ReNoise(iterations=200, tolerance=1e-7, editability=0.0)
    tiny, found = inverted("sdxl", contractive=True, method=exact)
    more = dict(prompt_2=["an elephant, detailed"] * 2, output_type="latent")
    edits = [renoise.edit(tiny.pipe, found, "an elephant", source_correction=k, **more) for k in (0.0, 1.0)]
    assert relative(*edits) < 1e-4  # the source's branch lacks nothing under its own prompts


def test_masks_as_people_have_them():
    tiny, found = inverted("sd")
    height, width = found.record.height, found.record.width
    grey = PIL.Image.new("L", (width, height))
    grey.paste(255, (0, 0, width // 2, height))
    strokes = PIL.Image.new("RGBA", (width, height), (255, 255, 255, 0))
    strokes.paste((255, 255, 255, 255), (0, 0, width // 2, height))
    tensor = torch.zeros(height, width)
    tensor[:, : width // 2] = 1
    array = tensor.numpy()
    arrays = [array, array > 0, (255 * array).astype("uint8"), np.repeat(array[..., None], 3, 2)]
    kinds = [grey, strokes, tensor, tensor[None], tensor[None, None], [grey, strokes], *arrays]
    edits = [renoise.edit(tiny.pipe, found, "an elephant", mask=mask, output_type="latent") for mask in kinds]
    for edited in edits[1:]:
        assert torch.equal(edited, edits[0])


def test_the_default_mask_does_not_depend_on_naming_the_steps_and_is_not_for_baselines(scenes):
    pipe = renoise.load("orchard", device="cpu")
    path, caption = scenes[0]
    target = caption.rpartition(" on a")[0] + " on a yellow background"
    found = renoise.invert(pipe, path, caption, measure=False)
    edits = [
        renoise.edit(pipe, found, target, output_type="latent", **more)
        for more in ({}, {"mask": "auto"}, {"num_inference_steps": 10}, {"mask": "none"})
    ]
    assert torch.equal(edits[0], edits[1])
    assert torch.equal(edits[0], edits[2])
    assert not torch.equal(edits[0], edits[3])
    noised = renoise.invert(pipe, path, caption, method="sdedit", strength=0.5, measure=False)
    drawn = [renoise.edit(pipe, noised, target, output_type="latent", **more) for more in ({}, {"mask": "none"})]
    assert torch.equal(*drawn)
    with pytest.raises(ValueError, match="SDEdit takes no mask"):
        renoise.edit(pipe, noised, target, mask="auto")


def test_edit_friendly_inversion_of_a_single_step_is_refused():
    with pytest.raises(ValueError, match="stochastic"):
        inverted("sdxl_turbo", method="edit-friendly", strength=0.25)


@pytest.mark.parametrize("name", ["sd", "flux"])
def test_an_edit_hands_its_mask_to_the_drawing(name, monkeypatch):
    tiny, found = inverted(name)
    drawn = []

    def noted(steps, source, edit, rows):
        drawn.append((edit, source))
        return redraw(steps, source, edit, rows)

    def square(first, last, x_0, once):
        mask = torch.zeros_like(last)
        mask[..., 2:-2, 2:-2] = 1
        return mask

    monkeypatch.setattr(editing, "redraw", noted)
    monkeypatch.setattr(masks, "from_difference", square)
    grey = torch.full((1, 1, found.record.height, found.record.width), 0.5)
    for mask in ("auto", grey, "none"):
        renoise.edit(tiny.pipe, found, "an elephant", mask=mask, output_type="latent")
    (auto, source), (own, _), (none, _) = drawn
    aspect = found.record.height / found.record.width
    x_0 = layout.maps(source.photograph.x_0, aspect)
    full = square(None, x_0[:, :1], None, None)
    assert torch.equal(auto.mask, masks.core(full))
    assert torch.equal(layout.maps(auto.ground, aspect), without_object(x_0, full))
    assert own.ground is None
    assert (own.mask == 1).all()  # a weight would be applied at each step
    assert none.mask is None


def test_latents_of_every_layout_are_blended():
    tokens, mask = torch.rand(2, 1, 12, 5), torch.zeros(1, 1, 2, 6)  # a wide picture
    mask[..., 4:] = 1
    a, b = tokens
    out = layout.blend(mask, a, b, 1 / 3)
    inside = mask.flatten().bool()
    assert torch.equal(out[:, inside], a[:, inside])
    assert torch.equal(out[:, ~inside], b[:, ~inside])


def test_a_found_object_is_drawn_within_its_core():
    mask = torch.zeros(3, 1, 8, 8)
    mask[0, :, 2:6, 2:6] = mask[1, :, 2:6, 3:5] = 1  # an object, and a thin one
    mask[2, :, :, :] = 1
    mask[2, :, 3:5, 3:5] = 0  # the ground
    core = masks.core(mask)
    assert core[0].sum() == 4
    assert core[0, :, 3:5, 3:5].all()
    assert torch.equal(core[1:], mask[1:])
