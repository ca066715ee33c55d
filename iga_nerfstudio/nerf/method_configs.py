"""What ``ns-train`` offers.

``iga-nerf`` is the paper's NeRF, a step of which takes rays of one image; ``iga-nerf-muon`` the same under Muon;
``iga-nerf-tiny`` a small one for CPUs and the demo, which takes rays of all images. ``iga-nerfacto`` is nerfstudio's
default method with the adjustment on its final field.
"""

from __future__ import annotations

import copy
from dataclasses import replace

from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.data.pixel_samplers import PixelSamplerConfig
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.plugins.types import MethodSpecification

from iga_nerfstudio.nerf.datamanager import IGANerfDataManagerConfig
from iga_nerfstudio.nerf.dataparser import IGABlenderDataParserConfig
from iga_nerfstudio.nerf.model import AdjustmentConfig, IGANerfModelConfig
from iga_nerfstudio.nerf.nerfacto import IGANerfactoModelConfig
from iga_nerfstudio.nerf.optimizers import MuonOptimizerConfig
from iga_nerfstudio.nerf.pipeline import IGANerfPipelineConfig
from iga_nerfstudio.nerf.ports import LOOPBACK
from iga_nerfstudio.nerf.schedulers import PowerDecaySchedulerConfig
from iga_nerfstudio.nerf.trainer_config import IGATrainerConfig

_paper = IGATrainerConfig(
    method_name="iga-nerf",
    max_num_iterations=200_000,
    steps_per_save=10_000,
    steps_per_eval_batch=1_000,
    steps_per_eval_image=5_000,
    steps_per_eval_all_images=200_000,
    pipeline=IGANerfPipelineConfig(
        datamanager=IGANerfDataManagerConfig(
            dataparser=IGABlenderDataParserConfig(downscale_factor=2, test_skip=8),
            train_num_rays_per_batch=1024,
            eval_num_rays_per_batch=1024,
        ),
        model=IGANerfModelConfig(),
    ),
    optimizers={
        "fields": {
            "optimizer": AdamOptimizerConfig(lr=5e-4, eps=1e-8),
            "scheduler": PowerDecaySchedulerConfig(),
        }
    },
    viewer=ViewerConfig(websocket_host=LOOPBACK, num_rays_per_chunk=1 << 12),
    vis="viewer",
)

iga_nerf = MethodSpecification(
    config=_paper,
    description="The original NeRF trained with Inductive Gradient Adjustment (IGA, ICML 2025).",
)

iga_nerf_muon = MethodSpecification(
    config=replace(
        copy.deepcopy(_paper),
        method_name="iga-nerf-muon",
        pipeline=replace(
            copy.deepcopy(_paper.pipeline),
            # Muon finds the shape of a scene as soon without a floor, and detail sooner.
            model=IGANerfModelConfig(adjustment=AdjustmentConfig(floor=0.0)),
        ),
        optimizers={
            "fields": {
                "optimizer": MuonOptimizerConfig(),
                "scheduler": PowerDecaySchedulerConfig(decay_rate=0.03, decay_steps=200_000),
            }
        },
    ),
    description="IGA-NeRF under Muon instead of Adam: sharper in the same number of steps.",
)

iga_nerf_tiny = MethodSpecification(
    config=replace(
        _paper,
        method_name="iga-nerf-tiny",
        max_num_iterations=3_000,
        steps_per_save=1_000,
        steps_per_eval_batch=500,
        steps_per_eval_image=1_000,
        steps_per_eval_all_images=100_000,
        pipeline=IGANerfPipelineConfig(
            datamanager=IGANerfDataManagerConfig(
                dataparser=IGABlenderDataParserConfig(),
                pixel_sampler=PixelSamplerConfig(),
                train_num_rays_per_batch=256,
                eval_num_rays_per_batch=256,
            ),
            model=IGANerfModelConfig(
                num_coarse_samples=24,
                num_importance_samples=24,
                num_layers=4,
                hidden_dim=64,
                skip_layer=1,
                view_dim=32,
            ),
        ),
        optimizers={
            "fields": {
                "optimizer": AdamOptimizerConfig(lr=3e-3, eps=1e-8),
                "scheduler": PowerDecaySchedulerConfig(decay_steps=3_000),
            }
        },
    ),
    description="A small IGA-NeRF that trains on a CPU in minutes.",
)

# nerfacto's settings (a test compares them): its own module cannot be read here, since it imports this one.
_nerfacto_optimizer = {
    "optimizer": AdamOptimizerConfig(lr=1e-2, eps=1e-15),
    "scheduler": PowerDecaySchedulerConfig(decay_rate=1e-2, decay_steps=200_000, until=200_000),
}

iga_nerfacto = MethodSpecification(
    config=IGATrainerConfig(
        method_name="iga-nerfacto",
        max_num_iterations=30_000,
        steps_per_save=2_000,
        steps_per_eval_batch=500,
        mixed_precision=True,
        pipeline=IGANerfPipelineConfig(
            datamanager=VanillaDataManagerConfig(
                dataparser=NerfstudioDataParserConfig(),
                train_num_rays_per_batch=4096,
                eval_num_rays_per_batch=4096,
                images_on_gpu=True,
            ),
            model=IGANerfactoModelConfig(eval_num_rays_per_chunk=1 << 15, average_init_density=0.01),
        ),
        optimizers={
            "proposal_networks": _nerfacto_optimizer,
            "fields": copy.deepcopy(_nerfacto_optimizer),
            "camera_opt": {
                "optimizer": AdamOptimizerConfig(lr=1e-3, eps=1e-15),
                "scheduler": PowerDecaySchedulerConfig(decay_rate=0.1, decay_steps=5_000, until=5_000),
            },
        },
        viewer=ViewerConfig(websocket_host=LOOPBACK, num_rays_per_chunk=1 << 15),
        vis="viewer",
    ),
    description="nerfacto trained with Inductive Gradient Adjustment (IGA, ICML 2025) on its final field.",
)
