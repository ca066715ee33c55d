"""The methods that are compared on Blender scenes: how each is trained, and what it needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Literal

import yaml

from iga_nerfstudio.tasks.config_files import recipe_folder

Peer = Literal[
    "iga-nerf",
    "iga-nerf-plain",
    "iga-nerf-muon",
    "iga-nerf-muon-plain",
    "vanilla-nerf",
    "iga-nerfacto",
    "iga-nerfacto-table",
    "nerfacto",
    "instant-ngp",
    "splatfacto",
]
# Sizes of networks: each method's own, or some that two CPU cores can train.
Size = Literal["own", "small"]

Options = dict[str, object]


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
    paper: bool = False


def _plain(options: Options) -> Options:
    return options | {"--pipeline.model.adjustment.enabled": False}


_RAYS = "--pipeline.datamanager.train-num-rays-per-batch"
_NERF_DECAY = "--optimizers.fields.scheduler.decay-steps"
_NERF: Options = {}
_SMALL_NERF: Options = {
    _RAYS: 256,
    "--pipeline.model.num-coarse-samples": 24,
    "--pipeline.model.num-importance-samples": 24,
    "--pipeline.model.num-layers": 4,
    "--pipeline.model.hidden-dim": 64,
    "--pipeline.model.skip-layer": 1,
    "--pipeline.model.view-dim": 32,
    "--pipeline.datamanager.pixel-sampler.crop-steps": 200,
}
# What a bounded scene before a white background asks of nerfacto.
_NERFACTO: Options = {
    "--pipeline.model.near-plane": 2.0,
    "--pipeline.model.far-plane": 6.0,
    "--pipeline.model.camera-optimizer.mode": "off",
    "--pipeline.model.background-color": "white",
    "--pipeline.model.disable-scene-contraction": True,
    "--pipeline.model.proposal-initial-sampler": "uniform",
    "--pipeline.model.distortion-loss-mult": 0.0,
    "--pipeline.model.use-average-appearance-embedding": False,
    "--pipeline.model.use-appearance-embedding": False,
}
_SMALL_NERFACTO: Options = {
    _RAYS: 1024,
    "--pipeline.model.implementation": "torch",
    "--pipeline.model.log2-hashmap-size": 15,
    "--pipeline.model.num-levels": 8,
    "--pipeline.model.max-res": 256,
    "--pipeline.model.num-proposal-samples-per-ray": "48 24",
    "--pipeline.model.num-nerf-samples-per-ray": 24,
}

METHODS: dict[Peer, Method] = {
    "iga-nerf": Method("iga-nerf", _NERF, _SMALL_NERF, panels=3, decay_steps=_NERF_DECAY, paper=True),
    "iga-nerf-plain": Method("iga-nerf", _plain(_NERF), _SMALL_NERF, panels=3, decay_steps=_NERF_DECAY, paper=True),
    "iga-nerf-muon": Method("iga-nerf-muon", _NERF, _SMALL_NERF, panels=3, decay_steps=_NERF_DECAY, paper=True),
    "iga-nerf-muon-plain": Method(
        "iga-nerf-muon", _plain(_NERF), _SMALL_NERF, panels=3, decay_steps=_NERF_DECAY, paper=True
    ),
    "vanilla-nerf": Method(
        "vanilla-nerf",
        {"--pipeline.model.background-color": "white", _RAYS: 1024},
        {_RAYS: 256, "--pipeline.model.num-coarse-samples": 24, "--pipeline.model.num-importance-samples": 24},
        panels=3,
        rendering=2,
    ),
    "iga-nerfacto": Method("iga-nerfacto", _NERFACTO, _SMALL_NERFACTO),
    "iga-nerfacto-table": Method(
        "iga-nerfacto",
        _NERFACTO | {"--pipeline.model.implementation": "torch", "--pipeline.model.adjustment.hash-table": True},
        _SMALL_NERFACTO,
    ),
    "nerfacto": Method("nerfacto", _NERFACTO, _SMALL_NERFACTO),
    "instant-ngp": Method(
        "instant-ngp",
        {
            "--pipeline.model.background-color": "white",
            "--pipeline.model.disable-scene-contraction": True,
            "--pipeline.model.near-plane": 2.0,
            "--pipeline.model.far-plane": 6.0,
            "--pipeline.model.use-appearance-embedding": False,
        },
        needs_gpu=True,
        packages=("nerfacc", "tinycudann"),
    ),
    "splatfacto": Method(
        "splatfacto", {"--pipeline.model.background-color": "white"}, needs_gpu=True, packages=("gsplat",)
    ),
}


def scene_options(scene: str) -> Options:
    """The paper's settings of a scene, from ``configs/blender/``; none for scenes that it does not have.

    Args:
        scene: Its name.

    Returns:
        Options of ``ns-train iga-nerf``.
    """
    path = recipe_folder() / "blender" / f"{scene}.yaml"
    if not path.is_file():
        return {}
    return {
        f"--{name.replace('_', '-')}": value for name, value in yaml.safe_load(path.read_text(encoding="utf-8")).items()
    }


def why_not(peer: Peer, device: str) -> str | None:
    """Why a method cannot run here, or None if it can.

    Args:
        peer: The method.
        device: ``"cpu"`` or ``"cuda"``.
    """
    method = METHODS[peer]
    missing = [package for package in method.packages if find_spec(package) is None]
    if missing:
        return f"needs {' and '.join(missing)}, which is not installed"
    if method.needs_gpu and device == "cpu":
        return "needs a CUDA GPU"
    return None
