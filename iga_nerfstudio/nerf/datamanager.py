"""Rays as the original NeRF draws them: from one image a step, its centre first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.data.pixel_samplers import PixelSampler, PixelSamplerConfig
from torch import Tensor

from iga_nerfstudio.nerf.near_far import TRAINING_POSES


@dataclass
class SingleImagePixelSamplerConfig(PixelSamplerConfig):
    """Draws every batch from one image."""

    _target: type = field(default_factory=lambda: SingleImagePixelSampler)
    """Target class to instantiate."""
    crop_steps: int = 500
    """Draw from the images' centre for that many first steps. White surroundings dominate there is little to see in a
    corner, and a field that starts with them can settle on empty space. 0 switches this off."""
    crop_fraction: float = 0.5
    """Side of that centre, as a fraction of the image's."""


class SingleImagePixelSampler(PixelSampler):
    """Uniformly random pixels of one random image, without repetition where it has enough of them."""

    config: SingleImagePixelSamplerConfig
    # Set by the data manager. Batches that are not for training know no step and see whole images.
    step: int | None = None

    def __init__(self, config: SingleImagePixelSamplerConfig, **kwargs: Any) -> None:
        if not 0 < config.crop_fraction <= 1:
            raise ValueError(
                "--pipeline.datamanager.pixel-sampler.crop-fraction is a share of the image's side, above 0 and at "
                f"most 1; got {config.crop_fraction}. --pipeline.datamanager.pixel-sampler.crop-steps 0 leaves it out."
            )
        super().__init__(config, **kwargs)

    def sample_method(
        self,
        batch_size: int,
        num_images: int,
        image_height: int,
        image_width: int,
        mask: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> Tensor:
        """Draw pixel indices.

        Args:
            batch_size: Pixels to draw.
            num_images: Images to choose from.
            image_height: Rows.
            image_width: Columns.
            mask: Allowed pixels; nerfstudio's own sampler takes over where there is one.
            device: Where to draw.

        Returns:
            ``(batch_size, 3)`` int64: image, row, column.
        """
        if mask is not None and not self.config.ignore_mask:
            return super().sample_method(batch_size, num_images, image_height, image_width, mask, device)
        rows, columns = self._window(image_height), self._window(image_width)
        size = len(rows) * len(columns)
        if batch_size <= size:
            pixels = torch.randperm(size, device=device)[:batch_size]
        else:
            pixels = torch.randint(size, (batch_size,), device=device)
        image = torch.randint(num_images, (1,), device=device).expand(batch_size)
        y = rows.start + pixels.div(len(columns), rounding_mode="floor")
        x = columns.start + pixels % len(columns)
        return torch.stack([image, y, x], dim=1)

    def _window(self, extent: int) -> range:
        """Rows or columns to draw from at the current step."""
        if self.step is None or self.step >= self.config.crop_steps:
            return range(extent)
        half = max(1, int(extent // 2 * self.config.crop_fraction))
        return range(max(0, extent // 2 - half), min(extent, extent // 2 + half))


@dataclass
class IGANerfDataManagerConfig(VanillaDataManagerConfig):
    """nerfstudio's data manager, telling its pixel sampler the step."""

    _target: type = field(default_factory=lambda: IGANerfDataManager)
    """Target class to instantiate."""
    pixel_sampler: PixelSamplerConfig = field(default_factory=SingleImagePixelSamplerConfig)
    """Specifies the pixel sampler used to sample pixels from images."""
    images_on_gpu: bool = True
    """Keep all images on the GPU, where there is one."""


class IGANerfDataManager(VanillaDataManager):
    """Hands the training step on to the pixel sampler, so that a resumed run does not crop anew.

    The model finds the training views' poses in their metadata.
    """

    config: IGANerfDataManagerConfig

    def create_train_dataset(self) -> InputDataset:
        """The training views; the model finds their poses in the metadata."""
        dataset = super().create_train_dataset()
        dataset.metadata[TRAINING_POSES] = dataset.cameras.camera_to_worlds
        return dataset

    def next_train(self, step: int) -> tuple[RayBundle, dict[str, Any]]:
        """The batch of a training step; outside training, as for an export, of whole images."""
        if isinstance(self.train_pixel_sampler, SingleImagePixelSampler):
            self.train_pixel_sampler.step = step if self.training else None
        return super().next_train(step)
