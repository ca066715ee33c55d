"""Image metrics by established libraries."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

logger = logging.getLogger("iga_nerfstudio")

# Seconds to wait for the server of LPIPS's backbone before reporting the other metrics without it.
DOWNLOAD_TIMEOUT = 10.0


class ImageMetrics:
    """PSNR, SSIM and LPIPS of a rendering.

    LPIPS needs AlexNet weights, which torchvision downloads once into torch's cache. It is built at the first
    evaluation, so that training needs neither them nor a network; where they cannot be had the other metrics are
    reported and one logged line says so. The object is no module: nothing of it enters a checkpoint.
    """

    def __init__(self) -> None:
        self._lpips: nn.Module | None = None
        self._lpips_tried = False

    @torch.no_grad()
    def __call__(self, rendering: Tensor, truth: Tensor) -> dict[str, float]:
        """Compare one rendering with its ground truth.

        Args:
            rendering: ``(H, W, 3)`` in [0, 1].
            truth: ``(H, W, 3)`` in [0, 1].

        Returns:
            ``psnr`` in dB, ``ssim`` (absent for images under 11 pixels, its window), and ``lpips`` (AlexNet; absent
            without its weights and for images under 32 pixels).
        """
        image, reference = _batch_of_one(rendering), _batch_of_one(truth)
        smaller_side = min(image.shape[-2:])
        metrics = {"psnr": peak_signal_noise_ratio(image, reference, data_range=1.0).item()}
        if smaller_side >= 11:
            similarity = structural_similarity_index_measure(image, reference, data_range=1.0)
            metrics["ssim"] = float(similarity if isinstance(similarity, Tensor) else similarity[0])
        lpips = self._lpips_network(rendering.device)
        if lpips is not None and smaller_side >= 32:
            metrics["lpips"] = float(lpips(image, reference))
        return metrics

    def _lpips_network(self, device: torch.device) -> nn.Module | None:
        if not self._lpips_tried:
            self._lpips_tried = True
            try:
                self._lpips = _build_lpips()
            except Exception as error:  # whatever keeps the weights away, the other metrics are still worth having
                logger.warning(
                    "LPIPS is not reported: its AlexNet weights could not be loaded (%s: %s).",
                    type(error).__name__,
                    str(error).splitlines()[0] if str(error) else "no message",
                )
        return None if self._lpips is None else self._lpips.to(device)


def _batch_of_one(image: Tensor) -> Tensor:
    """``(H, W, 3)`` to ``(1, 3, H, W)``, float32 in [0, 1]."""
    return image.detach().float().movedim(-1, 0)[None].clamp(0, 1)


def _build_lpips() -> nn.Module:
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    with _socket_timeout(DOWNLOAD_TIMEOUT):
        # normalize=True: the images come in [0, 1] and are scaled to the [-1, 1] that LPIPS expects.
        return LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
