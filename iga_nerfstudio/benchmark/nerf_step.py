"""An adjusted NeRF training step against a plain one."""

from __future__ import annotations

import copy
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from nerfstudio.pipelines.base_pipeline import VanillaPipeline

from iga_nerfstudio.benchmark.timing import median_ratio, time_alternately
from iga_nerfstudio.nerf.method_configs import iga_nerf
from iga_nerfstudio.scenes import write_demo_scene


class NerfTraining:
    """One network and its optimiser, advanced step by step through nerfstudio's pipeline."""

    def __init__(self, scene: Path, num_rays: int, enabled: bool, device: str, seed: int) -> None:
        torch.manual_seed(seed)
        config: Any = copy.deepcopy(iga_nerf.config.pipeline)
        config.datamanager.data = scene
        config.datamanager.train_num_rays_per_batch = num_rays
        config.datamanager.dataparser.downscale_factor = 1
        config.model.adjustment.enabled = enabled
        self.pipeline: VanillaPipeline = config.setup(device=device, test_mode="val")
        self.pipeline.train()
        self.optimiser = torch.optim.Adam(self.pipeline.get_param_groups()["fields"], lr=5e-4)
        self.count = 0

    def step(self) -> None:
        self.optimiser.zero_grad()
        _, losses, _ = self.pipeline.get_train_loss_dict(self.count)
        torch.stack(list(losses.values())).sum().backward()
        self.optimiser.step()
        self.count += 1


def measure_nerf_step(num_rays: int, rounds: int, device: str, seed: int) -> dict[str, Any]:
    """Time plain and adjusted steps of the full ``iga-nerf`` alternately.

    Args:
        num_rays: Rays per step, n.
        rounds: Timed rounds of one step each.
        device: ``"cpu"`` or ``"cuda"``.
        seed: Seed of networks and rays.

    Returns:
        Median seconds of both, the median ratio, and how many adjusted steps fell back to the plain gradient.
    """
    with tempfile.TemporaryDirectory() as folder:
        scene = write_demo_scene(Path(folder) / "scene", resolution=100, num_train=4, num_val=1, num_test=1)
        plain, adjusted = (NerfTraining(scene, num_rays, enabled, device, seed) for enabled in (False, True))
    seconds = time_alternately({"plain": plain.step, "adjusted": adjusted.step}, rounds)
    model = adjusted.pipeline.model
    return {
        "num_rays": num_rays,
        "samples_per_ray": [model.config.num_coarse_samples, model.config.num_importance_samples],
        "end": model.config.adjustment.end,
        "rounds": rounds,
        "seed": seed,
        "median_seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "ratio": median_ratio(seconds["adjusted"], seconds["plain"]),
        "steps_unadjusted": model.adjuster.diagnostics.steps_unadjusted,
    }
