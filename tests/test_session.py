"""Loops over timesteps that are no plain loops: joined, cut, paired, counted."""

import types

import diffusers
import pytest
import torch

import renoise
from renoise import ReNoise
from renoise.pipelines.latents import encode
from tests.test_pipelines import STEPS, TIGHT
from tests.tiny import TINY, relative, split

OPTIONS = dict(num_inference_steps=STEPS, measure=False)


def rewritten(cls, **changes):
    """A subclass whose call is that of `cls`, a few lines of its source changed; further lines are indented as the first."""
    import inspect
    import sys
    import textwrap

    function = inspect.unwrap(cls.__call__)
    source = textwrap.dedent(inspect.getsource(function))
    source = source[source.index("def __call__") :]
    for old, new in changes.values():
        assert source.count(old) == 1
        before = source[: source.index(old)].rpartition("\n")[2]
        source = source.replace(old, new.replace("\n", "\n" + before))
    space = dict(vars(sys.modules[function.__module__]))
    exec(compile(source, "rewritten", "exec"), space)
    return types.new_class(
        f"Other{cls.__name__}", (cls,), exec_body=lambda body: body.update(__call__=space["__call__"])
    )


LOOP = "for i, t in enumerate(timesteps):"
PAIRED = {
    "joined and paired": (
        "timesteps = torch.cat([timesteps, timesteps.new_zeros(1)])\n"
        "for i, (t, later) in enumerate(zip(timesteps, timesteps[1:])):\n"
        "    assert (t, later) == (timesteps[i], timesteps[i + 1])"
    ),
    "joined and cut": (
        "timesteps = torch.cat((timesteps, torch.zeros(1, dtype=timesteps.dtype)))[:-1]\n"
        "for i, t in enumerate(timesteps):"
    ),
    "in a bar": "for i, t in enumerate(self.progress_bar(timesteps)):\n    assert t == timesteps[i]",
    "stacked": "for i, t in enumerate(torch.stack([timesteps], dim=1)[:, 0].float()):",
}


@pytest.mark.parametrize("way", PAIRED)
def test_timesteps_may_be_joined_cut_and_paired(way):
    tiny = TINY["flux"](contractive=True)
    pipe = rewritten(diffusers.FluxPipeline, loop=(LOOP, PAIRED[way]))(**tiny.pipe.components)
    size, call = split(tiny)
    found = renoise.invert(pipe, tiny.images(), tiny.prompts, method=TIGHT, **OPTIONS, **size, **call)
    stock = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, method=TIGHT, **OPTIONS, **size, **call)
    assert relative(found.latents, stock.latents) < 1e-6
    assert relative(renoise.reconstruct(pipe, found, output_type="latent"), encode(tiny.pipe, tiny.images())) < 1e-4


@pytest.mark.parametrize(
    "loop",
    [
        "for i in range(len(timesteps)):\n    t = timesteps[i]",
        "for i, t in enumerate(timesteps.tolist()):\n    t = torch.tensor(t)",
        "for i, (t, s) in enumerate(zip(timesteps, timesteps[1:])):",
    ],
)
def test_a_loop_that_counts_its_steps_is_refused(loop):
    tiny = TINY["flux"]()
    pipe = rewritten(diffusers.FluxPipeline, loop=(LOOP, loop))(**tiny.pipe.components)
    size, call = split(tiny)
    with pytest.raises(ValueError, match=r"cannot be driven|whole schedule"):
        renoise.invert(pipe, tiny.images(), tiny.prompts, **OPTIONS, **size, **call)


def test_latents_that_are_laid_out_anew_after_they_are_prepared_are_refused():
    tiny = TINY["sd"]()
    _, call = split(tiny)
    pipe = rewritten(diffusers.StableDiffusionPipeline, loop=(LOOP, "latents = latents.transpose(2, 3)\n" + LOOP))
    pipe = pipe(**tiny.pipe.components, requires_safety_checker=False)
    with pytest.raises(ValueError, match="packs its latents after prepare_latents"):
        renoise.invert(pipe, torch.rand(2, 3, 32, 64), tiny.prompts, **OPTIONS, height=32, width=64, **call)


def test_what_a_pipeline_stumbles_over_before_its_first_step_is_a_refusal():
    tiny = TINY["sd"]()
    size, call = split(tiny)

    class Stumbling(diffusers.StableDiffusionPipeline):
        def encode_prompt(self, *args, **kwargs):
            return None.shape

    pipe = Stumbling(**tiny.pipe.components, requires_safety_checker=False)
    with pytest.raises(ValueError, match=r"Stumbling failed before its first step.*AttributeError.*argument"):
        renoise.invert(pipe, tiny.images(), tiny.prompts, **OPTIONS, **size, **call)


def test_a_mistake_of_ones_own_while_it_draws_stays_what_it_is():
    tiny = TINY["sd"]()
    size, call = split(tiny)

    def wrong(*_):
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, progress=wrong, **OPTIONS, **size, **call)


def test_an_output_without_pictures_is_refused():
    tiny = TINY["sd"]()
    size, call = split(tiny)
    change = ("if not return_dict:", "return types.SimpleNamespace(embeddings=image)\nif not return_dict:")
    pipe = rewritten(
        diffusers.StableDiffusionPipeline, out=change, imports=("callback = kwargs", "import types; callback = kwargs")
    )
    pipe = pipe(**tiny.pipe.components, requires_safety_checker=False)
    settings = ReNoise(iterations=0, tolerance=0)
    with pytest.raises(ValueError, match='output_type="latent"'):
        renoise.invert(pipe, tiny.images(), tiny.prompts, method=settings, num_inference_steps=1, **size, **call)
