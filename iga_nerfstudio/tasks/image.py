"""Images: a coordinate network from pixel positions to colours (paper Sec. 5.1)."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from iga_nerfstudio.adjustment import Axes, Patches
from iga_nerfstudio.data.images import read_image, write_image
from iga_nerfstudio.data.samples import MAX_CHANNELS
from iga_nerfstudio.evaluation.figures import error_map, residual_spectrum
from iga_nerfstudio.evaluation.metrics import ImageMetrics, psnr
from iga_nerfstudio.evaluation.squares import side_of_squares
from iga_nerfstudio.files import write_whole
from iga_nerfstudio.networks import CoordinateMLP
from iga_nerfstudio.tasks.config import ImageConfig
from iga_nerfstudio.tasks.report import as_picture
from iga_nerfstudio.tasks.samples import FullBatch, Grid, GridSamples, RandomGroups, as_array
from iga_nerfstudio.tasks.setup import PAPER_GROUPS, chunk_size, grouped, require_groups
from iga_nerfstudio.tasks.step import decode
from iga_nerfstudio.tasks.task import Fit, Task, fit, refuse_settings
from iga_nerfstudio.tasks.trainer import Watcher


def automatic_patch_size(height: int, width: int) -> int:
    """The power of two whose square patches come nearest in number to the paper's 384, at most half the image."""
    sizes = [2**k for k in range(int(math.log2(max(min(height, width) // 2, 1))) + 1)]
    return min(sizes, key=lambda size: abs(math.log(math.ceil(height / size) * math.ceil(width / size) / PAPER_GROUPS)))


def _settings_of_patches(config: ImageConfig) -> dict[str, Any]:
    """Those that are given and have no meaning along axes."""
    plain = ImageConfig()
    pairs = {name: (getattr(config, name), getattr(plain, name)) for name in ("patch_size", "patches_per_batch")}
    for name in ("representative", "num_representatives"):
        pairs[f"adjustment.{name}"] = (getattr(config.adjustment, name), getattr(plain.adjustment, name))
    return {name: value for name, (value, default) in pairs.items() if value != default}


def _refuse_settings_of_patches(config: ImageConfig) -> None:
    given = _settings_of_patches(config)
    if given.get("adjustment.representative") == "largest_residual":
        del given["adjustment.representative"]  # the default of runs begun before it was left open
    for name, value in given.items():
        raise ValueError(
            f"{name}={value} has no meaning with grouping=axes, which has no patches and chooses its own "
            "representatives. Leave it out, or use grouping=patches."
        )


# Rows and columns from which on there are some eigenvalues to balance along each axis.
FEWEST_SLICES = 24


def automatic_grouping(config: ImageConfig, height: int, width: int) -> Literal["patches", "axes"]:
    """What to adjust by, where the settings leave it open.

    Axes end above patches (docs/results/grouping.md), but all residuals have to be known before any is adjusted: a step
    in chunks takes another forward pass for that. What a CPU would take in chunks counts, so that a run can be
    continued on another device.

    Args:
        config: The run's settings.
        height: Of the image, in pixels.
        width: Likewise.
    """
    few = min(height, width) < max(FEWEST_SLICES, (config.adjustment.end or 0) + 1)
    at_once = chunk_size(replace(config, machine=replace(config.machine, device_type="cpu")))
    return "patches" if few or height * width > at_once or _settings_of_patches(config) else "axes"


class ImageTask(Task[ImageConfig]):
    """An image to fit.

    Args:
        config: Settings of the run.
        image: ``(H, W, C)`` in [0, 1].

    Raises:
        ValueError: If image or settings do not fit.
    """

    metric = "psnr"

    def __init__(self, config: ImageConfig, image: np.ndarray) -> None:
        super().__init__(config)
        if image.ndim != 3 or min(image.shape) < 1 or min(image.shape[:2]) < 2:
            raise ValueError(f"An image has shape (H, W, C) and 2 pixels or more along each side, got {image.shape}.")
        if image.shape[2] > MAX_CHANNELS:
            raise ValueError(
                f"An image of shape (H, W, C) has at most {MAX_CHANNELS} channels, got {image.shape}. Is it (C, H, W)? "
                "Transpose it."
            )
        if not np.isfinite(image).all():
            raise ValueError(f"The image holds {int((~np.isfinite(image)).sum())} values that are NaN or infinite.")
        if not 0 < config.render_scale <= 64:
            raise ValueError(f"render_scale must lie in (0, 64], got {config.render_scale}.")
        height, width, channels = image.shape
        self.image = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))
        self.sizes = (2, channels)
        self._samples = GridSamples(Grid.unit((height, width), self.device), self.image.reshape(-1, channels))
        self._metrics = ImageMetrics(config.lpips_backbone, config.lpips_parity)
        if (config.grouping or automatic_grouping(config, height, width)) == "axes":
            _refuse_settings_of_patches(config)
            self.grouping = axes = Axes((height, width))
            self.batches = FullBatch(self._samples, axes.slices[0])
            return
        size = config.patch_size or automatic_patch_size(height, width)
        self.grouping = patches = grouped(lambda: Patches((height, width), size), "--patch-size")
        num_groups = config.patches_per_batch or patches.num_groups(patches.num_inputs)
        require_groups(config, num_groups, "--patches-per-batch" if config.patches_per_batch else "--patch-size")
        if config.patches_per_batch is None:
            self.batches = FullBatch(self._samples, patches)
            return
        self.batches = RandomGroups(self._samples, patches, config.patches_per_batch, config.machine.seed)

    def reconstruct(self, network: CoordinateMLP, scale: float = 1.0) -> Tensor:
        """Decode the image at any resolution.

        Args:
            network: The network.
            scale: Resolution relative to the image's; pixels of the corners stay where they are.

        Returns:
            ``(H', W', C)`` in [0, 1], on the CPU.
        """
        height, width = self.image.shape[:2]
        return render_image(network, (max(round(height * scale), 1), max(round(width * scale), 1)), self._chunk)

    @property
    def _chunk(self) -> int:
        return chunk_size(self.config)

    def evaluate(self, network: CoordinateMLP) -> dict[str, float]:
        """PSNR in dB."""
        return {"psnr": psnr(self.reconstruct(network), self.image)}

    def final_metrics(self, network: CoordinateMLP) -> dict[str, float]:
        """PSNR, SSIM, and what of MS-SSIM and LPIPS the image's size and the weights at hand allow."""
        return self._metrics(self.reconstruct(network), self.image)

    def description(self) -> dict[str, Any]:
        """Height and width in pixels."""
        return {"task": self.config.task, "image_size": list(self.image.shape[:2])}

    def comparison(self, network: CoordinateMLP) -> tuple[np.ndarray, np.ndarray]:
        """The image and its reconstruction."""
        return as_picture(self.image.numpy()), as_picture(self.reconstruct(network).numpy())

    def preview(self, network: CoordinateMLP, largest_side: int) -> tuple[np.ndarray, np.ndarray]:
        """Every k-th pixel of :meth:`comparison`'s pictures along each axis; no others are decoded."""
        step = side_of_squares(self.image.shape[:2], largest_side)
        found = decode(network, self._samples.grid.thinned(step), self._chunk).clamp_(0, 1)
        return as_picture(self.image[::step, ::step].numpy()), as_picture(found.numpy())

    def caption(self) -> str:
        """Size of the image."""
        height, width, channels = self.image.shape
        return f"The image: {width} x {height} pixels, {channels} channel{'s' if channels > 1 else ''}."

    def resolved_settings(self) -> dict[str, Any]:
        """What the image is adjusted by, and the side of a patch, where there are patches."""
        if isinstance(self.grouping, Axes):
            return {"grouping": "axes"}
        return {"grouping": "patches", "patch_size": self.grouping.block_size[0]}

    def write_results(self, network: CoordinateMLP, folder: Path) -> list[Path]:
        """``reconstruction.png``, ``error.png``, ``spectrum.png``."""
        names = ("reconstruction", "error", "spectrum")
        paths = [folder / f"{name}.png" for name in names]
        if self.config.render_scale != 1.0:  # first, so that both resolutions are never held at once
            write_image(self.reconstruct(network, self.config.render_scale).numpy(), paths[0])
        truth, found = self.image.numpy(), self.reconstruct(network).numpy()
        if self.config.render_scale == 1.0:
            write_image(found, paths[0])
        write_whole(paths[1], partial(error_map, truth, found))
        write_whole(paths[2], partial(residual_spectrum, truth, found))
        return paths


def render_image(network: CoordinateMLP, image_size: tuple[int, int], points_per_chunk: int = 1 << 14) -> Tensor:
    """Decode a fitted image at any resolution.

    Args:
        network: The network, from two coordinates to C values.
        image_size: Height and width in pixels.
        points_per_chunk: Pixels that go through the network at once.

    Returns:
        ``(H, W, C)`` in [0, 1], on the CPU.
    """
    device = next(network.parameters()).device
    return decode(network, Grid.unit(image_size, device), points_per_chunk).clamp_(0, 1)


def _read(path: Path, config: ImageConfig) -> np.ndarray:
    return read_image(path, crop=config.crop, size=config.size, max_side=config.max_side, max_pixels=config.max_pixels)


def load_image_task(config: ImageConfig) -> ImageTask:
    """The task of an image file.

    Raises:
        ValueError: If no file is given, it cannot be used, or a setting does not fit it.
    """
    if config.data is None:
        raise ValueError("Which image? Give --data photo.png.")
    return ImageTask(config, _read(config.data, config))


def fit_image(
    image: Path | str | np.ndarray | Tensor, config: ImageConfig | None = None, watchers: tuple[Watcher, ...] = ()
) -> Fit:
    """Fit an image.

    Args:
        image: A file, or values in [0, 1], ``(H, W)`` or ``(H, W, C)``, which are fitted as they are.
        config: Settings; the defaults if not given.
        watchers: Called with the step and named figures whenever some are logged.

    Returns:
        The trained network, its metrics, and the record of the training. Nothing is written to disk.

    Raises:
        ValueError: If image or settings cannot be used.
        TrainingDiverged: If the loss is no longer finite.
    """
    config = config or ImageConfig()
    if isinstance(image, (str, Path)):
        values = _read(Path(image), config)
    else:
        refuse_settings(config, ("crop", "size", "max_side", "max_pixels"), "for an array, which is fitted as it is")
        values = as_array(image).astype(np.float32, copy=False)
        values = values[..., None] if values.ndim == 2 else values
        if values.size and (values.min() < 0 or values.max() > 1):
            raise ValueError(
                f"Image values lie in [0, 1], got {values.min():.3g} to {values.max():.3g}. Divide by 255?"
            )
    return fit(ImageTask(config, values), watchers)
