"""Presets: where a model is, how to load and call it, and which settings invert it. Data only.

Settings were measured on the embedded models alone: the weights of the large ones were not at hand. A large model therefore
gets the settings of the rule (`ReNoise.for_steps`). `paper` names the paper's settings for its kind.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from renoise.methods.renoise import FOR_STOCHASTIC, ReNoise


@dataclass(frozen=True)
class Preset:
    """A model and how it is used.

    Args:
        repository: Hub id, or the name of an embedded model (finding.py). `revision` None is its main branch.
        size: side in pixels of the square pictures that it was made for.
        steps: num_inference_steps, to invert and to generate.
        scheduler: class in diffusers, and what to change in its configuration.
        guidance_scale: while inverting and reconstructing. 1.0 or less is the prompt alone, one evaluation a call.
        edit_guidance_scale: while editing.
        edit_mask: "auto" lets an edit find where the picture may change, "none" lets all of it change.
        settings: the settings measured best; None leaves them to the rule.
        paper: the settings of the paper that suit this kind of model, for `ReNoise.paper`; None if there are none.
        lora: Hub id of an adapter, loaded under the preset's name; `lora_file` where its repository has several.
        call: further arguments of the pipeline's call.
        source: where steps, guidance and scheduler come from (settings.source: the settings).
        license, about: of the weights, for people.
        parameters, download_gb: about how many billions, and GB of weights (0: embedded); None if unknown.
    """

    name: str
    repository: str
    size: int
    steps: int
    scheduler: tuple[str, dict[str, Any]]
    source: str
    license: str
    about: str
    guidance_scale: float = 1.0
    edit_guidance_scale: float = 1.0
    edit_mask: str = "none"
    settings: ReNoise | None = None
    paper: str | None = None
    revision: str | None = None
    lora: str | None = None
    lora_file: str | None = None
    call: dict[str, Any] = field(default_factory=dict)
    parameters: float | None = None
    download_gb: float | None = None


_ORCHARD = replace(FOR_STOCHASTIC, editability=0.75, source="measured by renoise bench edit")

# What model cards of distilled models say.
_UNGUIDED: dict[str, Any] = dict(guidance_scale=0.0, edit_guidance_scale=0.0)

# Billions of parameters, and GB to download: the published sizes of the parts, rounded; adapters add less than 1 GB.
_EMBEDDED: dict[str, Any] = dict(parameters=0.013, download_gb=0)
_SD: dict[str, Any] = dict(parameters=1.4, download_gb=5.5)
_SDXL: dict[str, Any] = dict(parameters=3.5, download_gb=14)
_SD35_MEDIUM: dict[str, Any] = dict(parameters=8, download_gb=16)
_SD35_LARGE: dict[str, Any] = dict(parameters=14, download_gb=28)
_FLUX: dict[str, Any] = dict(parameters=17, download_gb=34)
_FLOW: tuple[str, dict[str, Any]] = ("FlowMatchEulerDiscreteScheduler", {})
# Stable Diffusion's own scheduler settings, written out: repositories differ in which of them they spell.
_GRID = dict(clip_sample=False, set_alpha_to_one=False, steps_offset=1)
_DDIM = ("DDIMScheduler", dict(_GRID, timestep_spacing="leading"))
# 4 steps from t = 999, which is where LCM was trained to start (999, 759, 499, 259); "leading" would start at 751.
_DDIM_FEW = ("DDIMScheduler", dict(_GRID, timestep_spacing="trailing"))
_EULER_FEW = ("EulerDiscreteScheduler", dict(timestep_spacing="trailing"))
_ANCESTRAL = ("EulerAncestralDiscreteScheduler", dict(timestep_spacing="trailing"))

_ALL = [
    Preset(
        name="orchard",
        repository="orchard",
        size=128,
        steps=10,
        edit_guidance_scale=1.5,
        edit_mask="auto",
        scheduler=("DDIMScheduler", {}),
        settings=_ORCHARD,
        paper="sd15",
        source="10 steps: renoise bench reconstruction; edit guidance and mask: renoise bench edit",
        license="Apache-2.0",
        about="the embedded model: fruits on coloured backgrounds, small enough for a CPU",
        **_EMBEDDED,
    ),
    Preset(
        name="orchard-turbo",
        repository="orchard-turbo",
        size=128,
        steps=4,
        guidance_scale=0.0,
        edit_mask="auto",
        scheduler=_ANCESTRAL,
        settings=_ORCHARD,
        paper="sdxl-turbo",
        source="4 steps of ancestral Euler, unguided: training/distill.py; mask: renoise bench edit",
        license="Apache-2.0",
        about="orchard distilled to 1-4 steps",
        **_EMBEDDED,
    ),
    Preset(
        name="orchard-lcm",
        repository="orchard",
        size=128,
        steps=4,
        edit_mask="auto",
        scheduler=("LCMScheduler", dict(original_inference_steps=100)),
        lora="orchard-lcm",
        settings=_ORCHARD,
        paper="sdxl-turbo",
        source="4 steps of LCM, unguided: training/distill.py; edit guidance and mask: renoise bench edit",
        license="Apache-2.0",
        about="orchard with a LoRA that distils it to 2-8 steps",
        **_EMBEDDED,
    ),
    Preset(
        name="sd15",
        repository="stable-diffusion-v1-5/stable-diffusion-v1-5",
        size=512,
        steps=50,
        scheduler=_DDIM,
        paper="sd15",
        source="arXiv 2403.14602, table 3: DDIM, 50 steps; guidance 1.0 is the paper's own, while editing too",
        license="CreativeML OpenRAIL-M",
        about="Stable Diffusion 1.5",
        **_SD,
    ),
    Preset(
        name="sdxl",
        repository="stabilityai/stable-diffusion-xl-base-1.0",
        size=1024,
        steps=50,
        scheduler=_DDIM,
        paper="sdxl",
        source="arXiv 2403.14602, table 3: DDIM, 50 steps; guidance 1.0 is the paper's own, while editing too",
        license="CreativeML Open RAIL++-M",
        about="Stable Diffusion XL",
        **_SDXL,
    ),
    Preset(
        name="sdxl-turbo",
        repository="stabilityai/sdxl-turbo",
        size=512,
        steps=4,
        **_UNGUIDED,
        scheduler=_ANCESTRAL,
        paper="sdxl-turbo",
        source="arXiv 2403.14602, table 3: ancestral Euler, 4 steps; guidance 0.0 and 512 pixels are the model card's",
        license="Stability AI Non-Commercial Research Community License",
        about="SDXL distilled to 1-4 steps",
        **_SDXL,
    ),
    Preset(
        name="lcm-sd15",
        repository="stable-diffusion-v1-5/stable-diffusion-v1-5",
        size=512,
        steps=4,
        scheduler=_DDIM_FEW,
        lora="latent-consistency/lcm-lora-sdv1-5",
        paper="lcm-sdxl",
        source="arXiv 2403.14602, table 3: DDIM, 4 steps; trailing timesteps are nearest to LCM's own; guidance: model card",
        license="CreativeML OpenRAIL-M; adapter CreativeML Open RAIL++-M",
        about="Stable Diffusion 1.5 with LCM-LoRA: 2-8 steps",
        **_SD,
    ),
    Preset(
        name="lcm-sdxl",
        repository="stabilityai/stable-diffusion-xl-base-1.0",
        size=1024,
        steps=4,
        scheduler=_DDIM_FEW,
        lora="latent-consistency/lcm-lora-sdxl",
        paper="lcm-sdxl",
        source="arXiv 2403.14602, table 3: DDIM, 4 steps; trailing timesteps are nearest to LCM's own; guidance: model card",
        license="CreativeML Open RAIL++-M",
        about="Stable Diffusion XL with LCM-LoRA: 2-8 steps",
        **_SDXL,
    ),
    Preset(
        name="sd-turbo",
        repository="stabilityai/sd-turbo",
        size=512,
        steps=4,
        **_UNGUIDED,
        scheduler=_ANCESTRAL,
        paper="sdxl-turbo",
        source="guidance 0.0 and 512 pixels are the model card's; sampler and steps as for SDXL Turbo",
        license="Stability AI Community License",
        about="Stable Diffusion 2.1 distilled to 1-4 steps",
        **_SD,
    ),
    Preset(
        name="sdxl-lightning",
        repository="stabilityai/stable-diffusion-xl-base-1.0",
        size=1024,
        steps=4,
        **_UNGUIDED,
        scheduler=_EULER_FEW,
        lora="ByteDance/SDXL-Lightning",
        lora_file="sdxl_lightning_4step_lora.safetensors",
        source="the adapter for 4 steps, Euler with trailing timesteps and guidance 0.0 are the model card's",
        license="CreativeML Open RAIL++-M",
        about="Stable Diffusion XL with SDXL-Lightning: 4 steps",
        **_SDXL,
    ),
    Preset(
        name="hyper-sdxl",
        repository="stabilityai/stable-diffusion-xl-base-1.0",
        size=1024,
        steps=4,
        **_UNGUIDED,
        scheduler=_DDIM_FEW,
        lora="ByteDance/Hyper-SD",
        lora_file="Hyper-SDXL-4steps-lora.safetensors",
        source="the adapter for 4 steps, DDIM with trailing timesteps and guidance 0.0 are the model card's",
        license="CreativeML Open RAIL++-M",
        about="Stable Diffusion XL with Hyper-SD: 4 steps",
        **_SDXL,
    ),
    Preset(
        name="tcd-sdxl",
        repository="stabilityai/stable-diffusion-xl-base-1.0",
        size=1024,
        steps=4,
        **_UNGUIDED,
        scheduler=("TCDScheduler", {}),
        lora="h1t/TCD-SDXL-LoRA",
        call=dict(eta=0.3),
        source="4 steps, eta (the paper's gamma) 0.3 and guidance 0.0 are the model card's",
        license="CreativeML Open RAIL++-M; adapter MIT",
        about="Stable Diffusion XL with TCD-LoRA: 2-8 steps",
        **_SDXL,
    ),
    Preset(
        name="sd35-turbo",
        repository="stabilityai/stable-diffusion-3.5-large-turbo",
        size=1024,
        steps=4,
        scheduler=_FLOW,
        **_UNGUIDED,
        source="4 steps and guidance 0.0 are the model card's",
        license="Stability AI Community License",
        about="Stable Diffusion 3.5 Large distilled to 4 steps, flow matching",
        **_SD35_LARGE,
    ),
    Preset(
        name="sd35-medium",
        repository="stabilityai/stable-diffusion-3.5-medium",
        size=1024,
        steps=28,
        scheduler=_FLOW,
        edit_guidance_scale=2.0,
        source="28 steps are StableDiffusion3Pipeline's own; guidance not published for inversion: chosen",
        license="Stability AI Community License",
        about="Stable Diffusion 3.5 Medium, flow matching",
        **_SD35_MEDIUM,
    ),
    Preset(
        name="flux-schnell",
        repository="black-forest-labs/FLUX.1-schnell",
        size=1024,
        steps=4,
        scheduler=_FLOW,
        **_UNGUIDED,
        call=dict(max_sequence_length=256),
        source="4 steps, guidance 0.0 and 256 tokens are the model card's",
        license="Apache-2.0",
        about="FLUX.1 distilled to 1-4 steps",
        **_FLUX,
    ),
    Preset(
        name="flux-dev",
        repository="black-forest-labs/FLUX.1-dev",
        size=1024,
        steps=28,
        scheduler=_FLOW,
        edit_guidance_scale=3.5,
        source="28 steps and guidance 3.5 are FluxPipeline's own; 1.0 while inverting as in RF-Solver (arXiv 2411.04746)",
        license="FLUX.1 [dev] Non-Commercial License",
        about="FLUX.1, its guidance told to the network",
        **_FLUX,
    ),
]
PRESETS: dict[str, Preset] = {preset.name: preset for preset in _ALL}
