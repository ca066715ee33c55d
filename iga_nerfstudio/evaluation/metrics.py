"""Image metrics by established libraries."""

from __future__ import annotations

import logging
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

logger = logging.getLogger("iga_nerfstudio")

# Seconds to wait for the server of LPIPS's backbone before reporting the other metrics without it.
DOWNLOAD_TIMEOUT = 10.0

# Shortest side in pixels that a metric is defined for.
SSIM_SMALLEST_SIDE = 11  # one 11 x 11 window
MS_SSIM_SMALLEST_SIDE = 176  # one 11 x 11 window after halving four times: side // 16 >= 11
LPIPS_SMALLEST_SIDE = 31  # AlexNet's second pooling gets 3 x 3 cells

# The five convolutions of torchvision's AlexNet that LPIPS sees, and the slice of lpips's own network each is in.
ALEXNET_URL = "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth"
BACKBONE_SHAPES = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
}


class ImageMetrics:
    """PSNR, SSIM, MS-SSIM and LPIPS of a rendering.

    LPIPS (Zhang et al. 2018, version 0.1, AlexNet) is that of the ``lpips`` package, whose wheel holds its linear
    weights; the AlexNet features below them come from a file of yours or from torchvision's, which is downloaded once
    into torch's cache. The network is built at the first evaluation, so that training needs neither it nor a
    connection; where torchvision's file cannot be had the other metrics are reported and one logged line says so.
    The object is no module: nothing of it enters a checkpoint.

    Args:
        lpips_backbone: State dict of AlexNet in torchvision's layout, with or without the classifier. None takes
            torchvision's ImageNet weights from torch's cache, or from their server.
        parity: Also report ``lpips_unscaled``. The network expects images in [-1, 1], which ``lpips`` gives it; the
            paper's authors give it [0, 1], so that their figures compare with ``lpips_unscaled`` only.

    Raises:
        ValueError: If lpips_backbone is missing, cannot be read, or lacks weights or their shapes.
    """

    def __init__(self, lpips_backbone: Path | None = None, parity: bool = False) -> None:
        self.parity = parity
        self._backbone = None if lpips_backbone is None else _read_backbone(lpips_backbone)
        self._lpips: nn.Module | None = None
        self._lpips_tried = False

    @torch.no_grad()
    def __call__(self, rendering: Tensor, truth: Tensor) -> dict[str, float]:
        """Compare one rendering with its ground truth; values beyond [0, 1] are clamped first.

        PSNR, SSIM and MS-SSIM see all channels. LPIPS sees three: grey is repeated, and RGBA (straight alpha) is laid
        over white.

        Args:
            rendering: ``(H, W, C)``, floating, in [0, 1]; grey, RGB or RGBA (C = 1, 3 or 4).
            truth: ``(H, W, C)``, the same.

        Returns:
            ``psnr`` in dB (infinite for equal images), ``ssim`` (absent where a side is under 11 pixels), ``ms_ssim``
            (under 176), ``lpips`` and, with parity, ``lpips_unscaled`` (under 31, or without AlexNet's weights).

        Raises:
            ValueError: If an image is not floating, has no such shape, or the two differ in shape.
        """
        _check_images(rendering, truth)
        image, reference = _batch_of_one(rendering), _batch_of_one(truth)
        smaller_side = min(image.shape[-2:])
        metrics = {"psnr": peak_signal_noise_ratio(image, reference, data_range=1.0).item()}
        if smaller_side >= SSIM_SMALLEST_SIDE:
            similarity = structural_similarity_index_measure(image, reference, data_range=1.0)
            metrics["ssim"] = float(similarity if isinstance(similarity, Tensor) else similarity[0])
        if smaller_side >= MS_SSIM_SMALLEST_SIDE:
            metrics["ms_ssim"] = multiscale_structural_similarity_index_measure(image, reference, data_range=1.0).item()
        if smaller_side >= LPIPS_SMALLEST_SIDE:
            metrics |= self._lpips_distances(_three_channels(image), _three_channels(reference))
        return metrics

    def _lpips_distances(self, image: Tensor, reference: Tensor) -> dict[str, float]:
        """``lpips`` and ``lpips_unscaled`` of ``(1, 3, H, W)`` in [0, 1], as far as they can be had."""
        network = self._lpips_network(image.device)
        if network is None:
            return {}
        distances = {"lpips": float(network(2 * image - 1, 2 * reference - 1))}
        if self.parity:
            distances["lpips_unscaled"] = float(network(image, reference))
        return distances

    def _lpips_network(self, device: torch.device) -> nn.Module | None:
        if not self._lpips_tried:
            self._lpips_tried = True
            backbone = self._backbone or _torchvision_backbone_or_log()
            self._lpips = None if backbone is None else _build_lpips(backbone)
            self._backbone = None
        return None if self._lpips is None else self._lpips.to(device)


def _check_images(rendering: Tensor, truth: Tensor) -> None:
    if rendering.shape != truth.shape:
        raise ValueError(
            f"The rendering, {tuple(rendering.shape)}, and the truth, {tuple(truth.shape)}, differ in shape. "
            "Compare images of one size and with the same channels."
        )
    if rendering.ndim != 3 or rendering.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"Need images (H, W, C) of 1 (grey), 3 (RGB) or 4 (RGBA) channels, got {tuple(rendering.shape)}."
        )
    for name, image in (("rendering", rendering), ("truth", truth)):
        if not image.is_floating_point():
            raise ValueError(
                f"The {name} holds {image.dtype}. Give floating values in [0, 1]: divide 8-bit ones by 255."
            )


def _batch_of_one(image: Tensor) -> Tensor:
    """``(H, W, C)`` to ``(1, C, H, W)``, float32 in [0, 1]."""
    return image.detach().float().movedim(-1, 0)[None].clamp(0, 1)


def _three_channels(image: Tensor) -> Tensor:
    """``(1, C, H, W)`` to ``(1, 3, H, W)``: grey repeated, RGBA over white."""
    if image.shape[1] == 4:
        colours, alpha = image[:, :3], image[:, 3:]
        return colours * alpha + (1 - alpha)
    return image.expand(-1, 3, -1, -1)


def _build_lpips(backbone: dict[str, Tensor]) -> nn.Module:
    """LPIPS on AlexNet features, torchvision's names as :func:`_select_features` gives them."""
    import lpips

    # lpips draws random features before they are replaced; training's random numbers must not notice.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # lpips calls torchvision by an old signature.
        warnings.filterwarnings("ignore", category=UserWarning, module="torchvision.models._utils")
        network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    # lpips keeps torchvision's layer numbers and puts each convolution into a slice of its own.
    slices = {layer.removeprefix("features."): f"slice{i}" for i, layer in enumerate(BACKBONE_SHAPES, start=1)}
    renamed = {}
    for name, value in backbone.items():
        _, layer, kind = name.split(".")
        renamed[f"{slices[layer]}.{layer}.{kind}"] = value
    network.net.load_state_dict(renamed)
    return network.requires_grad_(False).eval()


def _torchvision_backbone_or_log() -> dict[str, Tensor] | None:
    try:
        return _torchvision_backbone()
    except Exception as error:  # whatever keeps the weights away, the other metrics are still worth having
        logger.warning(
            "LPIPS is not reported: its AlexNet weights could not be loaded (%s: %s).",
            type(error).__name__,
            str(error).splitlines()[0] if str(error) else "no message",
        )
        return None


def _torchvision_backbone() -> dict[str, Tensor]:
    """torchvision's ImageNet features from torch's cache, into which they are downloaded if need be."""
    with _socket_timeout(DOWNLOAD_TIMEOUT):
        state = torch.hub.load_state_dict_from_url(ALEXNET_URL, map_location="cpu", check_hash=True, weights_only=True)
    return _select_features(state, ALEXNET_URL.rsplit("/", 1)[-1])


def _read_backbone(path: Path) -> dict[str, Tensor]:
    """The features in a file that the user named.

    Raises:
        ValueError: If the file is missing, cannot be read, or lacks weights or their shapes.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load names a broken file by many types
        reason = str(error).splitlines()[0] if str(error) else "no message"
        raise ValueError(
            f"Cannot read the LPIPS backbone {path} ({type(error).__name__}: {reason}). Give a state dict of AlexNet "
            "saved by torch.save, or leave lpips_backbone out to use torchvision's."
        ) from error
    return _select_features(state, str(path))


def _select_features(state: object, source: str) -> dict[str, Tensor]:
    """The ten tensors LPIPS needs, out of a state dict in torchvision's layout.

    Raises:
        ValueError: If one is missing or misshapen.
    """
    if not isinstance(state, dict):
        raise ValueError(f"{source} holds a {type(state).__name__}, not a state dict of AlexNet.")
    features = {}
    for layer, shape in BACKBONE_SHAPES.items():
        for name, expected in ((f"{layer}.weight", shape), (f"{layer}.bias", shape[:1])):
            value = state.get(name)
            if not isinstance(value, Tensor) or tuple(value.shape) != expected:
                found = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else "no such tensor"
                raise ValueError(
                    f"{source} is no state dict of torchvision's AlexNet: {name} must have shape {expected}, "
                    f"found {found}."
                )
            features[name] = value
    return features


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
