"""What each process of ``test_distributed.py`` runs; started by torchrun.

Several trainings follow one another, since importing nerfstudio is what takes long.
"""

from __future__ import annotations

import copy
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.utils.comms import get_rank, get_world_size
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from iga_nerfstudio.nerf.datamanager import IGANerfDataManager, IGANerfDataManagerConfig
from iga_nerfstudio.nerf.method_configs import iga_nerf_tiny
from iga_nerfstudio.nerf.model import IGANerfModel, IGANerfModelConfig
from iga_nerfstudio.nerf.random_state import seed_generators
from iga_nerfstudio.nerf.trainer import IGATrainer
from iga_nerfstudio.nerf.trainer_config import IGATrainerConfig

ALL_RAYS, STEPS, END = 64, 3, 6


class KnownRays(IGANerfDataManager):
    """Every step has its rays, in double precision, of which each process takes its share."""

    def next_train(self, step: int) -> tuple[RayBundle, dict[str, Any]]:
        """This process's part of the step's rays."""
        generator = torch.Generator().manual_seed(step)
        images = [self.train_dataset[i]["image"] for i in range(len(self.train_dataset))]
        limits = (len(images), *images[0].shape[:2])
        indices = torch.stack([torch.randint(limit, (ALL_RAYS,), generator=generator) for limit in limits], 1)
        indices = indices.chunk(get_world_size())[get_rank()]
        bundle = self.train_ray_generator(indices)
        for name in ("origins", "directions", "pixel_area"):
            setattr(bundle, name, getattr(bundle, name).double())
        return bundle, {"image": torch.stack([images[i][y, x] for i, y, x in indices.tolist()]).double()}


class ExactModel(IGANerfModel):
    """Double precision, and samples that are not jittered."""

    def populate_modules(self) -> None:
        """Build the modules."""
        super().populate_modules()
        self.double()
        self.sampler_uniform.train_stratified = self.sampler_pdf.train_stratified = False


@dataclass
class KnownRaysConfig(IGANerfDataManagerConfig):
    """Configuration of :class:`KnownRays`."""

    _target: type = field(default_factory=lambda: KnownRays)


@dataclass
class ExactModelConfig(IGANerfModelConfig):
    """Configuration of :class:`ExactModel`."""

    _target: type = field(default_factory=lambda: ExactModel)


def configure(scene: Path, folder: Path, name: str, **settings: Any) -> IGATrainerConfig:
    """``iga-nerf-tiny``, tinier; keyword arguments are the trainer's."""
    config = copy.deepcopy(iga_nerf_tiny.config)
    config.data, config.output_dir, config.experiment_name, config.timestamp = scene, folder, name, "now"
    config.machine.device_type, config.vis = "cpu", "tensorboard"
    config.max_num_iterations, config.steps_per_save = STEPS, 2
    config.steps_per_eval_batch, config.steps_per_eval_image = 2, 2
    config.pipeline.datamanager.data = scene
    config.pipeline.datamanager.train_num_rays_per_batch = ALL_RAYS // get_world_size()
    config.pipeline.datamanager.eval_num_rays_per_batch = 32
    config.pipeline.model.num_coarse_samples = config.pipeline.model.num_importance_samples = 8
    config.pipeline.model.hidden_dim = 16
    config.pipeline.model.adjustment.end, config.pipeline.model.adjustment.until = END, 1.0
    for key, value in settings.items():
        setattr(config, key, value)
    # ns-train makes it before it starts the processes; nerfstudio's trainers would race for it.
    config.get_base_dir().mkdir(parents=True, exist_ok=True)
    return config


def exactly(config: IGATrainerConfig, gather: bool, end: int = END) -> IGATrainerConfig:
    """The same with known rays and nothing random after the first weights."""
    manager, model = config.pipeline.datamanager, config.pipeline.model
    config.pipeline.datamanager = KnownRaysConfig(**{k: v for k, v in vars(manager).items() if k != "_target"})
    config.pipeline.model = ExactModelConfig(**{k: v for k, v in vars(model).items() if k != "_target"})
    config.pipeline.model.adjustment.gather, config.pipeline.model.adjustment.end = gather, end
    return config


def train(config: IGATrainerConfig) -> dict[str, Any]:
    """What nerfstudio's ``train_loop`` does; the parameters and the adjuster's state at its end."""
    rank, world = get_rank(), get_world_size()
    seed_generators(config.machine.seed + rank)
    trainer: IGATrainer = config.setup(local_rank=rank, world_size=world)
    trainer.setup()
    rays: list[Tensor] = []
    manager = trainer.pipeline.datamanager
    draw = manager.next_train

    def recorded(step: int) -> tuple[RayBundle, dict[str, Any]]:
        bundle, batch = draw(step)
        rays.append(torch.cat([bundle.origins, bundle.directions], 1))
        return bundle, batch

    manager.next_train = recorded
    trainer.train()
    model = trainer.pipeline.model
    return {
        "wrapped": isinstance(trainer.pipeline._model, DistributedDataParallel),
        "parameters": {name: parameter.detach().clone() for name, parameter in model.named_parameters()},
        "rays": torch.stack(rays),
        "steps": model.adjuster.diagnostics.step,
        "unadjusted": model.adjuster.diagnostics.steps_unadjusted,
    }


def main(scene: Path, folder: Path) -> None:
    """Train with all processes, then process 0 alone."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", timeout=timedelta(seconds=60))
    rank = get_rank()
    results = {
        "drawn": train(configure(scene, folder, "drawn")),
        "gathered": train(exactly(configure(scene, folder, "gathered"), gather=True)),
        # More eigenvalues than one process has rays.
        "many": train(exactly(configure(scene, folder, "many"), gather=True, end=ALL_RAYS // 2 + 2)),
        "separate": train(exactly(configure(scene, folder, "separate"), gather=False)),
    }
    distributed.barrier()  # until process 0 has saved
    saved = folder / "drawn" / "iga-nerf-tiny" / "now" / "nerfstudio_models"
    results["resumed"] = train(configure(scene, folder, "resumed", load_dir=saved, max_num_iterations=2 * STEPS))
    distributed.destroy_process_group()
    if rank == 0:
        results["alone"] = train(exactly(configure(scene, folder, "alone"), gather=True))
        results["many alone"] = train(
            exactly(configure(scene, folder, "many alone"), gather=True, end=ALL_RAYS // 2 + 2)
        )
        results["loaded"] = load(configure(scene, folder, "loaded", load_dir=saved))
    torch.save(results, folder / f"results-{rank}.pt")


def load(config: IGATrainerConfig) -> dict[str, Any]:
    """The parameters that one process reads from a checkpoint of several."""
    trainer: IGATrainer = config.setup()
    trainer.setup()
    return {
        "parameters": {
            name: parameter.detach().clone() for name, parameter in trainer.pipeline.model.named_parameters()
        },
        "start": trainer._start_step,
    }


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
