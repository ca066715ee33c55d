"""A NeRF in training, advanced step by step: nerfstudio's pipeline, optimisers and schedules without its trainer."""

from __future__ import annotations

import copy
from typing import Any

import torch
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import TrainerConfig
from torch.nn.functional import mse_loss

from iga_nerfstudio.nerf.random_state import seed_generators


class NerfTraining:
    """One model and its optimisers, as ``ns-train`` would have them; the seed is that of network and rays.

    Without a number of steps the adjustment does not end.
    """

    def __init__(self, config: TrainerConfig, device: str, seed: int, num_steps: int | None = None) -> None:
        seed_generators(seed)
        self.pipeline: Any = config.pipeline.setup(device=device, test_mode="test")
        self.pipeline.train()
        self.optimizers = Optimizers(copy.deepcopy(config.optimizers), self.pipeline.get_param_groups())
        self.count, self.num_steps = 0, num_steps
        # Of the latest step's rays.
        self.outputs: dict[str, Any] = {}

    def step(self) -> None:
        """Take a training step."""
        if self.num_steps is not None:
            self.pipeline.model.begin_step(self.count, self.num_steps)
        self.optimizers.zero_grad_all()
        self.outputs, losses, _ = self.pipeline.get_train_loss_dict(self.count)
        torch.stack(list(losses.values())).sum().backward()
        self.optimizers.optimizer_step_all()
        for scheduler in self.optimizers.schedulers.values():
            scheduler.step()
        self.count += 1

    @torch.no_grad()
    def psnr_of_views(self) -> list[float]:
        """PSNR of every test view in dB."""
        model = self.pipeline.model
        model.eval()
        views = []
        for camera, batch in self.pipeline.datamanager.fixed_indices_eval_dataloader:
            rendering = model.get_outputs_for_camera(camera)["rgb"].clamp(0, 1)
            truth = model.renderer_rgb.blend_background(batch["image"].to(rendering.device))
            views.append(-10 * mse_loss(rendering, truth).log10().item())
        model.train()
        return views
