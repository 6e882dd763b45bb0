"""Every method of the registry on a tiny pipeline, the protocol's own words, and the example of docs/adding-a-method.md."""

import re
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch

import renoise
from renoise import methods
from renoise.methods.method import AUTO_MASK, EDIT_OPTIONS, GRADIENTS, PHOTOGRAPH, STOCHASTIC, Method
from renoise.methods.sdedit import SDEdit
from renoise.pipelines.latents import encode
from renoise.programs import Inverted
from tests.tiny import TINY, relative

DOCS = Path(__file__).resolve().parents[1] / "docs" / "adding-a-method.md"
ALL = pytest.mark.parametrize("name", methods.METHODS)


@ALL
def test_the_registry_names_each_method_as_it_names_itself(name):
    kind = methods.method_class(name)
    assert kind.name == name
    assert kind.title
    assert kind.needs <= {STOCHASTIC, PHOTOGRAPH, GRADIENTS}
    assert kind.takes <= EDIT_OPTIONS
    assert is_dataclass(kind)
    assert kind().__dataclass_params__.frozen
    assert re.search(r"arXiv:? \d{4}\.\d{4,5}", __import__(kind.__module__, fromlist=["x"]).__doc__)


@ALL
def test_every_method_inverts_draws_and_is_known_again_from_its_file(name, tmp_path):
    tiny = TINY["sdxl_turbo"]()
    found = renoise.invert(
        tiny.pipe, tiny.images(), tiny.prompts, method=name, num_inference_steps=3, measure=False, **tiny.call
    )
    assert found.record.method == name
    again = renoise.Inversion.load(found.save(tmp_path / "x.safetensors")).record.restored_method()
    assert again == found.record.restored_method()
    assert isinstance(again, methods.method_class(name))
    edited = renoise.edit(
        tiny.pipe, found, "an elephant", guidance_scale=found.record.guidance_scale, output_type="latent"
    )
    assert edited.shape == found.latents.shape
    assert edited.isfinite().all()


def test_a_name_nothing_and_the_methods_own_settings_are_the_same_inversion():
    tiny = TINY["sd"]()
    call = dict(num_inference_steps=3, measure=False, **tiny.call)
    own = renoise.default_method(tiny.pipe, 3)
    found = [renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, method=m, **call) for m in (None, "renoise", own)]
    assert torch.equal(found[0].latents, found[1].latents)
    assert torch.equal(found[0].latents, found[2].latents)
    assert found[0].record.settings == found[2].record.settings


@pytest.mark.parametrize(
    ("method", "error", "says"), [("DDIM", ValueError, "one of renoise, sdedit"), (7, TypeError, "not int")]
)
def test_what_is_no_method_is_refused(method, error, says):
    tiny = TINY["sd"]()
    with pytest.raises(error, match=says):
        renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, method=method, **tiny.call)


def test_the_protocol_words_what_a_method_does_not_take():
    with pytest.raises(ValueError, match=r'^SDEdit takes no mask="auto": leave it out$'):
        SDEdit().check({"mask": "auto", AUTO_MASK: True, "negative_prompt": None})
    with pytest.raises(ValueError, match=r"^FlowEdit takes no mask and no source_correction: leave them out$"):
        methods.get("flowedit").check({"mask": "x.png", "source_correction": 0.5})


def test_ddim_draws_noise_for_a_method_that_needs_it_and_the_inversion_says_so():
    tiny = TINY["sd"]()
    call = dict(method="edit-friendly", num_inference_steps=3, measure=False, **tiny.call)
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, **call)
    assert found.record.sampler == "DDIM(eta=1.0)"
    assert (
        relative(renoise.reconstruct(tiny.pipe, found, output_type="latent"), encode(tiny.pipe, tiny.images())) < 1e-3
    )
    with pytest.raises(ValueError, match="edit-friendly inversion needs a stochastic sampler"):
        renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, eta=0.0, **call)


@dataclass(frozen=True)
class Descent(Method):
    """One gradient step from x_0 down the size of the network's first output."""

    name: ClassVar[str] = "descent"
    title: ClassVar[str] = "descent"
    wrong: str = ""
    needs: ClassVar[frozenset[str]] = frozenset({GRADIENTS})

    def invert(self, steps, photograph):
        x = photograph.x_0.clone().requires_grad_()
        out = yield x, 0
        (gradient,) = torch.autograd.grad(out.square().sum(), x)
        count = 1 if self.wrong == "too few steps" else len(steps)
        x_0 = photograph.x_0 * (2 if self.wrong == "another end" else 1)
        found = Inverted.without_iteration(gradient, None, [x_0] * count, [1] * count)
        return None if self.wrong == "nothing" else found


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ("too few steps", ValueError, "an Inverted of 2 steps needs as many entries each"),
        ("another end", ValueError, "the trajectory must end with x_0"),
        ("nothing", TypeError, "must return a renoise.programs.Inverted, not NoneType"),
    ],
)
def test_what_a_method_returns_is_checked(wrong, error, says, monkeypatch):
    monkeypatch.setitem(renoise.METHODS, "descent", Descent)
    tiny = TINY["sd"]()
    with pytest.raises(error, match=says):
        renoise.invert(
            tiny.pipe, tiny.images(), method=Descent(wrong), num_inference_steps=2, measure=False, **tiny.call
        )


def test_a_key_that_is_not_the_methods_name_is_refused(monkeypatch):
    monkeypatch.setitem(renoise.METHODS, "slope", Descent)
    with pytest.raises(ValueError, match="its own name is 'descent'"):
        methods.get("slope")


def test_a_method_that_needs_gradients_differentiates_through_the_network(monkeypatch):
    tiny = TINY["sd"]()
    call = dict(num_inference_steps=2, measure=False, **tiny.call)
    with pytest.raises(ValueError, match="register the method first"):
        renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, method=Descent(), **call)
    monkeypatch.setitem(renoise.METHODS, "descent", Descent)
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, method=Descent(), **call)
    x = encode(tiny.pipe, tiny.images()).requires_grad_()
    text = tiny.pipe.encode_prompt(tiny.prompts, "cpu", 1, False)[0]
    time = int(found.record.levels[0][2])
    out = tiny.pipe.unet(x, time, encoder_hidden_states=text, return_dict=False)[0]
    (wanted,) = torch.autograd.grad(out.square().sum(), x)
    assert relative(found.latents, wanted) < 1e-4


def test_the_example_of_the_docs_is_a_method(tmp_path, monkeypatch):
    code, line = re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "my_methods.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    own = dict(renoise.METHODS)
    monkeypatch.setattr(renoise, "METHODS", own)
    monkeypatch.setattr(methods, "METHODS", own)
    exec(line, {"renoise": renoise})
    body = code[code.index("class NoisedEuler") :].strip().splitlines()
    assert len([text for text in body if text.strip()]) <= 17
    tiny = TINY["sd"]()
    call = dict(num_inference_steps=3, measure=False, **tiny.call)
    found = renoise.invert(tiny.pipe, tiny.images(), tiny.prompts, method="noised-euler", **call)
    assert found.evaluations == 3
    loaded = renoise.Inversion.load(found.save(tmp_path / "x.safetensors"))
    assert loaded.record.settings == {"scale": 1.0}
    assert renoise.edit(tiny.pipe, loaded, "an elephant", output_type="latent").isfinite().all()
