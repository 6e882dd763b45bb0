"""Loading: whatever people have as a model is loaded, or refused in a line that says what is wrong with it."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import renoise
from renoise.cli import errors, main
from renoise.pipelines import loading
from renoise.pipelines.checkpoints import variant_of
from renoise.pipelines.finding import PACKAGE
from tests.single_file import single_file
from tests.tiny import TINY

OURS = ("orchard", "orchard-turbo", "orchard-lcm")
UNET, TEXT = "unet/diffusion_pytorch_model", "text_encoder/model"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Stable Diffusion."""
    folder = tmp_path_factory.mktemp("models") / "whole"
    TINY["sd"]().pipe.save_pretrained(folder)
    return folder


@pytest.fixture
def model(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to be broken, in the current folder."""
    monkeypatch.chdir(tmp_path)
    return Path(shutil.copytree(whole, "model"))


def same(pipe: Any, whole: Path) -> bool:
    """Whether a pipeline has the weights of the folder, up to float16."""
    stored = load_file(whole / f"{UNET}.safetensors")
    return all(torch.allclose(stored[name], value, atol=1e-3) for name, value in pipe.unet.state_dict().items())


# --- variants, shards, single files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [None, "20KB"], ids=["whole", "sharded"])
@pytest.mark.parametrize("variant", [None, "fp16", "bf16"])
def test_a_folder_with_one_variant_needs_no_word(whole: Path, tmp_path: Path, variant: str | None, shards: str | None):
    TINY["sd"]().pipe.save_pretrained(tmp_path, variant=variant, **({"max_shard_size": shards} if shards else {}))
    assert (len(list(tmp_path.glob("unet/*.safetensors"))) > 1) == bool(shards)
    pipe = renoise.load(str(tmp_path), device="cpu")
    assert same(pipe, whole)
    assert pipe.dtype == torch.float32


def test_a_variant_of_some_parts_and_a_variant_beside_plain_weights(model: Path, whole: Path):
    (model / f"{UNET}.safetensors").rename(model / f"{UNET}.fp16.safetensors")
    assert same(renoise.load(str(model), device="cpu"), whole)
    other = {name: value + 1 for name, value in load_file(model / f"{UNET}.fp16.safetensors").items()}
    save_file(other, model / f"{UNET}.safetensors", {"format": "pt"})
    assert not same(renoise.load(str(model), device="cpu"), whole)  # plain ones are preferred
    assert same(renoise.load(str(model), device="cpu", variant="fp16"), whole)
    with pytest.raises(ValueError, match=r"model cannot be loaded.*ema"):
        renoise.load(str(model), device="cpu", variant="ema")


@pytest.mark.parametrize(
    ("files", "variant"),
    [
        (["unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors"], None),
        (["unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors", "vae/model.safetensors"], "fp16"),
        (["unet/diffusion_pytorch_model-00001-of-00002.fp16.safetensors"], "fp16"),
        (["unet/diffusion_pytorch_model-00001-of-00002.safetensors"], None),
        (["unet/model.non_ema.safetensors", "unet/model.fp16.safetensors", "vae/model.fp16.safetensors"], "fp16"),
        (["unet/model.bf16.safetensors", "vae/model.fp16.safetensors", "vae/model.bf16.safetensors"], "bf16"),
        (["other/model.fp16.safetensors", "model.fp16.safetensors", "unet/config.json"], None),
        (["unet/model.fp16.bin"], None),
    ],
)
def test_variants_are_seen_from_names(files: list[str], variant: str | None):
    assert variant_of(files, {"unet": ["diffusers", "X"], "vae": ["diffusers", "Y"]}) == variant


def test_a_cached_repository_with_a_variant_only(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    commit, repository = "0123456789" * 4, tmp_path / "models--owner--tiny"
    TINY["sd"]().pipe.save_pretrained(repository / "snapshots" / commit, variant="fp16")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert same(renoise.load("owner/tiny", device="cpu"), whole)


def test_a_reachable_hub_is_asked_for_names_only_when_plain_weights_are_missing(monkeypatch: pytest.MonkeyPatch):
    import diffusers

    asked: list[str | None] = []

    def from_pretrained(where: str, variant: str | None, **call: Any) -> str:
        asked.append(variant)
        if variant is None:
            raise OSError("Could not find the necessary `safetensors` weights in {...} (variant=None)")
        return "pipe"

    monkeypatch.setattr(
        diffusers.DiffusionPipeline, "load_config", lambda *args, **options: {"unet": ["diffusers", "X"]}
    )
    monkeypatch.setattr(diffusers.DiffusionPipeline, "from_pretrained", from_pretrained)
    monkeypatch.setattr(loading.checkpoints, "files_of", lambda *args, **options: [f"{UNET}.fp16.safetensors"])
    options: dict[str, Any] = dict(revision=None, local_files_only=False)
    assert loading._from_parts("owner/name", "auto", torch.device("cpu"), None, False, options) == "pipe"
    assert asked == [None, "fp16"]


def test_a_single_file_is_loaded_with_the_configuration_of_a_model_of_its_kind(model: Path, whole: Path):
    tiny = TINY["sd"]()
    save_file(single_file(tiny.pipe), "all.safetensors")
    for weights in model.glob("*/*.safetensors"):
        weights.unlink()
    pipe = renoise.load("all.safetensors", config="model", device="cpu")
    assert same(pipe, whole)
    assert type(pipe).__name__ == "StableDiffusionPipeline"
    for part in ("vae", "text_encoder"):
        got, wanted = getattr(pipe, part).state_dict(), getattr(tiny.pipe, part).state_dict()
        assert all(torch.equal(got[name], wanted[name]) for name in wanted)
    assert pipe.config._name_or_path == "all.safetensors"
    with pytest.raises(OSError, match=r"all.safetensors .* configuration of stable-diffusion-v1-5/.*config="):
        renoise.load("all.safetensors", device="cpu")  # that of the usual one is not on this machine
    with pytest.raises(ValueError, match=r"revision='main' has no effect on all.safetensors"):
        renoise.load("all.safetensors", revision="main")


def test_a_single_file_on_the_command_line_and_moved(model: Path, capsys: pytest.CaptureFixture[str]):
    from PIL import Image

    save_file(single_file(TINY["sd"](contractive=True).pipe), "all.safetensors")
    Image.linear_gradient("L").resize((32, 32)).convert("RGB").save("apple.png")
    options = ["--model", "all.safetensors", "--config", "model"]
    assert main(["invert", "apple.png", *options, "--width", "32", "--height", "32", "--steps", "3"]) == 0
    assert renoise.Inversion.load("apple.safetensors").record.model == str(Path("all.safetensors").resolve())
    Path("all.safetensors").rename("moved.safetensors")
    options = ["--model", "moved.safetensors", "--config", "model"]
    assert main(["reconstruct", "apple.safetensors", *options]) == 0, capsys.readouterr().err


# --- what is refused, naming it and what is wrong --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("./my-model", "no folder or file ./my-model"),
        ("models/foo/bar", "no folder or file models/foo/bar"),
        ("missing.safetensors", "no folder or file"),
        ("models/missing.safetensors", "no folder or file"),
        ("C:\\models\\foo", "no folder or file"),
        ("models/foo", "there is no such folder here"),
        ("https://host/owner/name", "is a link"),
        ("weights.ckpt", "pickle"),
        ("./weights.bin", "pickle"),
        ("text.safetensors", "no complete safetensors file"),
        ("pointer.safetensors", "git lfs pull"),
        ("notes.txt", "is no model"),
        ("lora.safetensors", "is a LoRA"),
        ("lora", "holds a LoRA"),
        ("model/unet", "is one part of a model"),
        ("model/unet/diffusion_pytorch_model.safetensors", "is one part of a model"),
        ("part.safetensors", "no whole model"),
        ("checkpoints", "load one of its files, such as checkpoints/part.safetensors"),
        ("empty", "has no model_index.json"),
    ],
)
def test_what_is_no_model_is_refused_in_a_line(model: Path, name: str, says: str):
    for folder in ("lora", "empty", "checkpoints"):
        Path(folder).mkdir()
    adapter = PACKAGE / "orchard-lcm" / "pytorch_lora_weights.safetensors"
    shutil.copy(adapter, "lora")
    shutil.copy(adapter, "lora.safetensors")
    for part in ("part.safetensors", "checkpoints/part.safetensors"):
        shutil.copy(model / f"{UNET}.safetensors", part)
    for file in ("weights.ckpt", "weights.bin", "notes.txt", "text.safetensors"):
        Path(file).write_text("these are no weights")
    Path("pointer.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises((ValueError, OSError)) as caught:
        renoise.load(name, device="cpu")
    assert says in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "no preset" not in str(caught.value)


def put(file: str, content: str) -> Callable[[Path], Any]:
    return lambda model: (model / file).write_text(content)


def change(file: str, **values: Any) -> Callable[[Path], Any]:
    return lambda model: (model / file).write_text(json.dumps(json.loads((model / file).read_text()) | values))


def scheduler(**values: Any) -> Callable[[Path], Any]:
    return change("scheduler/scheduler_config.json", **values)


def without(folder: str) -> Callable[[Path], Any]:
    return lambda model: shutil.rmtree(model / folder)


def weights(file: str, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], Any]:
    path = f"{file}.safetensors"
    return lambda model: save_file(change(load_file(model / path)), model / path, {"format": "pt"})


def half(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(list(tensors.items())[::2])


def reshaped(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.new_zeros(3, 3) if value.ndim == 2 else value for name, value in tensors.items()}


INDEX = "model_index.json"
BROKEN = {
    "index a list": (put(INDEX, "[]"), "model_index.json is no JSON object"),
    "index a text": (put(INDEX, '"model"'), "model_index.json is no JSON object"),
    "index empty": (put(INDEX, ""), "model_index.json is no JSON object"),
    "index truncated": (put(INDEX, '{"_class_name": "Stable'), "model_index.json is no JSON object"),
    "index without anything": (put(INDEX, "{}"), "_class_name is None"),
    "index a folder": (lambda model: ((model / INDEX).unlink(), (model / INDEX).mkdir()), "model_index.json"),
    "unknown class": (change(INDEX, _class_name="NoSuchPipeline"), "'NoSuchPipeline'"),
    "class of no pipeline": (change(INDEX, _class_name="UNet2DConditionModel"), "'UNet2DConditionModel'"),
    "class of all pipelines": (change(INDEX, _class_name="DiffusionPipeline"), "'DiffusionPipeline'"),
    "class a number": (change(INDEX, _class_name=3), "_class_name is 3"),
    "class a list": (change(INDEX, _class_name=["a", "B"]), "['a', 'B']"),
    "part of three": (change(INDEX, unet=["diffusers", "A", "B"]), "of unet"),
    "part of numbers": (change(INDEX, unet=[1, 2]), "of unet"),
    "part null": (change(INDEX, unet=None), "names no unet"),
    "part of nulls": (change(INDEX, tokenizer=[None, None]), "names no tokenizer"),
    "part of unknown class": (change(INDEX, unet=["diffusers", "NoSuchModel"]), "NoSuchModel"),
    "part of unknown library": (change(INDEX, unet=["nolib", "X"]), "nolib"),
    "no tokenizer": (without("tokenizer"), "tokenizer"),
    "no unet": (without("unet"), "unet"),
    "no text encoder": (without("text_encoder"), "text_encoder"),
    "no scheduler": (without("scheduler"), "scheduler"),
    "tokenizer empty": (lambda model: [file.unlink() for file in (model / "tokenizer").iterdir()], "no vocabulary"),
    "tokenizer truncated": (put("tokenizer/tokenizer.json", "{"), "tokenizer.json is no JSON"),
    "configuration a list": (put("unet/config.json", "[]"), "unet/config.json is no JSON object"),
    "configuration nonsense": (change("unet/config.json", in_channels=-4), "unet"),
    "configuration of a text": (change("text_encoder/config.json", hidden_size="big"), "hidden_size"),
    "no weights": (lambda model: (model / f"{UNET}.safetensors").unlink(), "unet"),
    "weights empty": (put(f"{TEXT}.safetensors", ""), "model.safetensors is no complete"),
    "weights a pointer": (put(f"{TEXT}.safetensors", "version https://git-lfs.github.com"), "git lfs pull"),
    "weights pickled": (lambda model: (model / f"{UNET}.safetensors").rename(model / f"{UNET}.bin"), "no .safetensors"),
    "weights lacking": (weights(UNET, half), "unet has no weights for"),
    "weights of another shape": (weights(UNET, reshaped), "unet"),
    "text weights of another shape": (weights(TEXT, reshaped), "text_encoder"),
    "beta a text": (scheduler(beta_end="0.012"), "beta_end='0.012'"),
    "beta null": (scheduler(beta_end=None), "beta_end=None"),
    "beta not a number": (scheduler(beta_start=float("nan")), "beta_start=nan"),
    "beta infinite": (scheduler(beta_end=float("inf")), "noise levels"),
    "beta above 1": (scheduler(beta_end=2.0), "noise levels"),
    "beta negative": (scheduler(beta_start=-0.5), "beta_start=-0.5"),
    "betas 0": (scheduler(beta_start=0.0, beta_end=0.0), "noise levels"),
    "betas too few": (scheduler(trained_betas=[0.1, 0.2]), "2 noise levels for 1000"),
    "timesteps negative": (scheduler(num_train_timesteps=-1000), "num_train_timesteps=-1000"),
    "timesteps 0": (scheduler(num_train_timesteps=0), "num_train_timesteps=0"),
    "timesteps a text": (scheduler(num_train_timesteps="1000"), "num_train_timesteps='1000'"),
    "timesteps too many": (scheduler(num_train_timesteps=10**13), "num_train_timesteps"),
    "schedule unknown": (scheduler(beta_schedule="zigzag"), "zigzag"),
    "scheduler a list": (put("scheduler/scheduler_config.json", "[]"), "scheduler_config.json is no JSON object"),
}


@pytest.mark.parametrize(("breaks", "says"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_folder_is_named_with_what_is_wrong(model: Path, breaks: Callable[[Path], Any], says: str):
    breaks(model)
    with pytest.raises((ValueError, OSError)) as caught:
        renoise.load("model", device="cpu")
    assert errors.explain(caught.value) == (2, str(caught.value))
    assert str(caught.value).startswith("model cannot be ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_weights_that_transformers_made_up_are_a_warning(model: Path, capfd: pytest.CaptureFixture[str]):
    import transformers

    weights(TEXT, half)(model)
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()  # as the command line does
    try:
        with pytest.warns(UserWarning, match="model has no weights for .* of its CLIPTextModel: they are random"):
            renoise.load("model", device="cpu")
        assert "MISSING" not in capfd.readouterr().err
        assert transformers.utils.logging.get_verbosity() == transformers.logging.ERROR
    finally:
        transformers.utils.logging.set_verbosity(level)


def test_a_whole_model_of_others_is_loaded_without_a_warning(model: Path, recwarn: pytest.WarningsRecorder):
    renoise.load("model", device="cpu")
    assert [str(warning.message) for warning in recwarn if "weights" in str(warning.message)] == []


def test_zero_terminal_snr_is_no_fault(model: Path):
    scheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction")(model)
    assert renoise.load("model", device="cpu").scheduler.alphas_cumprod[-1] == 0


def test_a_library_that_cannot_be_imported_is_named(model: Path, monkeypatch: pytest.MonkeyPatch):
    import diffusers

    def fail(name: str) -> Any:
        raise RuntimeError(f"Failed to import {name}, look up:\ncannot import name 'X' from 'transformers'")

    monkeypatch.delattr(diffusers, "StableDiffusionPipeline")
    monkeypatch.setattr(diffusers, "__getattr__", fail, raising=False)
    with pytest.raises(ValueError, match=r"model cannot be loaded: .*cannot import name 'X' from 'transformers'$"):
        renoise.load("model", device="cpu")


# --- our own models: whole and silent --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("part", ["text_encoder", "unet", "vae"])
def test_a_model_of_ours_with_random_weights_is_refused(name: str, part: str, monkeypatch: pytest.MonkeyPatch):
    from diffusers import DiffusionPipeline

    whole = DiffusionPipeline.from_pretrained

    def forgetful(*args: Any, **kwargs: Any) -> Any:
        pipe = whole(*args, **kwargs)
        largest = max(getattr(pipe, part).parameters(), key=torch.numel)
        torch.nn.init.normal_(largest)
        return pipe

    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", forgetful)
    with pytest.raises(ValueError, match=f"{name} .* its {part}.*update transformers, diffusers and peft"):
        renoise.load(name, device="cpu")


def test_an_adapter_of_ours_that_was_not_found_is_refused(monkeypatch: pytest.MonkeyPatch):
    from diffusers import StableDiffusionPipeline

    monkeypatch.setattr(StableDiffusionPipeline, "load_lora_weights", lambda *args, **kwargs: None)
    with pytest.raises(ValueError, match=r"orchard-lcm .* unet"):
        renoise.load("orchard-lcm", device="cpu")


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_models_of_ours_are_whole_in_every_dtype(dtype: str):
    for name in OURS:
        renoise.load(name, device="cpu", dtype=dtype)


SILENT = """
import logging, warnings
logging.basicConfig(level=logging.WARNING)
warnings.simplefilter("always", UserWarning)
import diffusers, transformers, renoise
verbosity = [library.utils.logging for library in (diffusers, transformers)]
before = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in verbosity]
for name in ("orchard", "orchard-turbo", "orchard-lcm"):
    renoise.load(name, device="cpu")
assert [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in verbosity] == before
"""


def test_models_of_ours_are_loaded_silently():
    # CI: transformers then hands its messages on to the handlers of the program
    kept = {name: value for name, value in os.environ.items() if name != "HF_HUB_DISABLE_PROGRESS_BARS"}
    command, environment = [sys.executable, "-c", SILENT], kept | {"CI": "true"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- devices ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "cpu:0", "cpu:1", torch.device("cpu", 0)])
def test_every_cpu_gets_float32(device: str | torch.device):
    assert renoise.load("orchard", device=device).dtype == torch.float32


@pytest.mark.parametrize("device", ["meta", "cuda:99", "nosuch", "cpu 1", "hpu", "privateuseone"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_loaded(device: str):
    with pytest.raises(ValueError, match=f"device {device} cannot be used"):
        renoise.load("nobody/nothing", device=device)
