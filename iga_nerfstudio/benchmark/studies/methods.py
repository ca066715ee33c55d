"""The methods that are compared on Blender scenes: how each is trained, and what it needs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Literal

from iga_nerfstudio.benchmark.paper import scene_settings

# Sizes of networks: each method's own, or some that two CPU cores can train.
Size = Literal["own", "small"]

Options = dict[str, object]

# Our methods once rendered test views from the camera on, in space that nothing had trained: part of trainings' keys.
RENDERING: Options = {"rendered": "from near on"}


@dataclass(frozen=True)
class Method:
    """How a method is trained on a Blender scene.

    Attributes:
        name: nerfstudio's name of it.
        options: What is set on its command line for every Blender scene.
        small: Further options at size "small".
        panels: Pictures side by side in what it renders of a test view, the truth first.
        rendering: Which of them is its rendering.
        needs_gpu: Whether it runs on a CUDA GPU only.
        packages: Modules that it needs beyond nerfstudio's dependencies.
        decay_steps: Option that stretches its learning rate's schedule over the run, if there is one.
        batches: Of which images a step's rays are, where that has changed: part of trainings' keys.
        paper: Whether the paper's settings of a scene apply to it.
    """

    name: str
    options: Options = field(default_factory=dict)
    small: Options = field(default_factory=dict)
    panels: int = 2
    rendering: int = 1
    needs_gpu: bool = False
    packages: tuple[str, ...] = ()
    decay_steps: str | None = None
    batches: str = field(default="of one image", metadata={"earlier": "of one image"})
    paper: bool = False

    def at(self, size: Size, scene: str) -> Method:
        """The method with all that is set for a scene at a size, and nothing else."""
        papers = scene_settings(scene) if self.paper else {}
        options = papers | self.options | (self.small if size == "small" else {})
        if options.get(_ENABLED) is False:
            options.pop(UNTIL, None)  # decides nothing: a plain training is the same one whatever this is
        return replace(self, options=options, small={})


def _pair(method: Method) -> dict[str, Method]:
    plain = replace(method, options=method.options | {_ENABLED: False})
    return {method.name: method, f"{method.name}-plain": plain}


def _model(**settings: object) -> Options:
    return {f"--pipeline.model.{name.replace('_', '-')}": value for name, value in settings.items()}


_KERNEL, _FLOOR = "--pipeline.model.adjustment.kernel-of", "--pipeline.model.adjustment.floor"
_ENABLED, UNTIL = "--pipeline.model.adjustment.enabled", "--pipeline.model.adjustment.until"
_DECAY = "--optimizers.fields.scheduler.decay-steps"
_RAYS = "--pipeline.datamanager.train-num-rays-per-batch"
_WHITE = _model(background_color="white")
_FEW_SAMPLES = _model(num_coarse_samples=24, num_importance_samples=24) | {_RAYS: 256}
_SMALL_NERF = (
    _FEW_SAMPLES
    | _model(num_layers=4, hidden_dim=64, skip_layer=1, view_dim=32)
    | {"--pipeline.datamanager.pixel-sampler.crop-steps": 200}
)
# What a bounded scene before a white background asks of methods that are made for others.
_BOUNDED = _model(near_plane=2.0, far_plane=6.0, disable_scene_contraction=True, use_appearance_embedding=False)
_NERFACTO = (
    _BOUNDED
    | _WHITE
    | _model(proposal_initial_sampler="uniform", distortion_loss_mult=0.0, use_average_appearance_embedding=False)
    | {"--pipeline.model.camera-optimizer.mode": "off"}
)
_TABLE = _model(implementation="torch") | {"--pipeline.model.adjustment.hash-table": True}
_SMALL_NERFACTO = (
    _model(implementation="torch", log2_hashmap_size=15, num_levels=8, max_res=256)
    | _model(num_proposal_samples_per_ray="48 24", num_nerf_samples_per_ray=24)
    | {_RAYS: 1024}
)

# What the methods do unless told otherwise, said so that a changed default is another training.
_OURS: Options = {_KERNEL: "visible", _FLOOR: 0.03, UNTIL: 0.25}
_NERF = Method("iga-nerf", small=_SMALL_NERF, panels=3, decay_steps=_DECAY, paper=True)

METHODS: dict[str, Method] = {
    **_pair(replace(_NERF, options=_OURS)),
    # The paper's kernel.
    "iga-nerf-paper": replace(_NERF, options={_KERNEL: "samples", _FLOOR: 0.0, UNTIL: 1.0}),
    **_pair(replace(_NERF, name="iga-nerf-muon", options=_OURS | {_FLOOR: 0.0})),
    **_pair(Method("iga-nerf-tiny", _OURS, panels=3, decay_steps=_DECAY, batches="of all images")),
    "vanilla-nerf": Method("vanilla-nerf", _WHITE | {_RAYS: 1024}, _FEW_SAMPLES, panels=3, rendering=2),
    "iga-nerfacto": Method("iga-nerfacto", _NERFACTO, _SMALL_NERFACTO),
    "iga-nerfacto-table": Method("iga-nerfacto", _NERFACTO | _TABLE, _SMALL_NERFACTO),
    "nerfacto": Method("nerfacto", _NERFACTO, _SMALL_NERFACTO),
    "instant-ngp": Method("instant-ngp", _WHITE | _BOUNDED, needs_gpu=True, packages=("nerfacc", "tinycudann")),
    "splatfacto": Method("splatfacto", _WHITE, needs_gpu=True, packages=("gsplat",)),
}
# What an adjusted method is compared with: the same without the adjustment.
PLAIN = {name: f"{name}-plain" for name in METHODS if f"{name}-plain" in METHODS} | {
    "iga-nerf-paper": "iga-nerf-plain",
    "iga-nerfacto": "nerfacto",
}


def why_not(name: str, device: str) -> str | None:
    """Why a method cannot run here, or None if it can."""
    method = METHODS[name]
    missing = [package for package in method.packages if find_spec(package) is None]
    if missing:
        return f"needs {' and '.join(missing)}, which is not installed"
    return "needs a CUDA GPU" if method.needs_gpu and device == "cpu" else None
