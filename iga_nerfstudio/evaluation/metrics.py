"""Image metrics by established libraries.

They hold dozens of numbers for each pixel, so that images of more than :data:`PIXELS_AT_ONCE` pixels are compared part
by part. Each part sees as much beyond its edges as its pixels' values depend on: the metrics are those of the whole
images, up to the order of sums.
"""

from __future__ import annotations

import logging
import math
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

logger = logging.getLogger("iga_nerfstudio")

# Seconds to wait for the server of LPIPS's backbone before reporting the other metrics without it.
DOWNLOAD_TIMEOUT = 10.0

PIXELS_AT_ONCE = 1 << 20
"""Images up to that size are compared whole, larger ones in strips."""
_STRIP_PIXELS = 1 << 18

# Shortest side in pixels that a metric is defined for.
SSIM_SMALLEST_SIDE = 11  # one 11 x 11 window
MS_SSIM_SMALLEST_SIDE = 176  # one 11 x 11 window after halving four times: side // 16 >= 11
LPIPS_SMALLEST_SIDE = 31  # AlexNet's second pooling gets 3 x 3 cells

# Pixels from the middle of SSIM's 11 x 11 window to its edge, and MS-SSIM's weights of its scales.
_WINDOW_REACH = 5
_MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)

# LPIPS tiles: pixels per cell of AlexNet's last layers, cells per cell of those at each of the five layers compared,
# cells beyond a tile's edge that its values depend on (5 above and left, 6 below and right), and cells of its own.
_LPIPS_CELL = 16
_LPIPS_CELLS_OF_LAYER = (4, 2, 1, 1, 1)
_LPIPS_REACH = 6
_LPIPS_TILE = 52

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
        smaller_side = min(truth.shape[:2])
        metrics = {"psnr": psnr(rendering, truth)}
        if smaller_side >= SSIM_SMALLEST_SIDE:
            metrics["ssim"] = _ssim(rendering, truth)
        if smaller_side >= MS_SSIM_SMALLEST_SIDE:
            metrics["ms_ssim"] = _ms_ssim(rendering, truth)
        if smaller_side >= LPIPS_SMALLEST_SIDE:
            metrics |= self._lpips_distances(rendering, truth)
        return metrics

    def _lpips_distances(self, rendering: Tensor, truth: Tensor) -> dict[str, float]:
        """``lpips`` and ``lpips_unscaled`` of ``(H, W, C)``, as far as they can be had."""
        network = self._lpips_network(truth.device)
        if network is None:
            return {}
        distances = {"lpips": _lpips(network, rendering, truth, lambda planes: 2 * planes - 1)}
        if self.parity:
            distances["lpips_unscaled"] = _lpips(network, rendering, truth, lambda planes: planes)
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


def psnr(image: Tensor, reference: Tensor) -> float:
    """Peak signal-to-noise ratio of images in [0, 1]; values beyond are clamped first.

    Args:
        image: ``(H, W, C)``, floating.
        reference: ``(H, W, C)``, the same.

    Returns:
        PSNR in dB, infinite for equal images.
    """
    if _at_once(reference):
        return peak_signal_noise_ratio(_planes(image), _planes(reference), data_range=1.0).item()
    squared = sum(
        (_planes(image[rows]) - _planes(reference[rows])).square_().sum(dtype=torch.float64).item()
        for rows in _strips(len(reference), reference.shape[1])
    )
    return -10 * math.log10(squared / reference.numel()) if squared else math.inf


def _ssim(image: Tensor, reference: Tensor) -> float:
    """SSIM of ``(H, W, C)``."""
    if _at_once(reference):
        similarity = structural_similarity_index_measure(_planes(image), _planes(reference), data_range=1.0)
        return float(similarity if isinstance(similarity, Tensor) else similarity[0])
    total = 0.0
    for rows in _strips(len(reference), reference.shape[1]):
        seen = slice(max(rows.start - _WINDOW_REACH, 0), rows.stop + _WINDOW_REACH)
        _mean, similarities = structural_similarity_index_measure(
            _planes(image[seen]), _planes(reference[seen]), data_range=1.0, return_full_image=True
        )
        own = slice(rows.start - seen.start, rows.stop - seen.start)
        total += similarities[:, :, own].sum(dtype=torch.float64).item()
    return total / reference.numel()


def _ms_ssim(image: Tensor, reference: Tensor) -> float:
    """MS-SSIM of ``(H, W, C)``."""
    if _at_once(reference):
        return multiscale_structural_similarity_index_measure(_planes(image), _planes(reference), data_range=1.0).item()
    product = 1.0
    for weight in _MS_SSIM_WEIGHTS[:-1]:
        product *= max(_contrast(image, reference), 0.0) ** weight
        image, reference = _halved(image), _halved(reference)
    return product * max(_ssim(image, reference), 0.0) ** _MS_SSIM_WEIGHTS[-1]


def _contrast(image: Tensor, reference: Tensor) -> float:
    """Mean of SSIM's contrast and structure term over the windows that lie inside ``(H, W, C)``."""
    windows = len(reference) - 2 * _WINDOW_REACH
    total = 0.0
    for rows in _strips(windows, reference.shape[1]):
        seen = slice(rows.start, rows.stop + 2 * _WINDOW_REACH)
        _similarity, contrast = structural_similarity_index_measure(
            _planes(image[seen]), _planes(reference[seen]), data_range=1.0, return_contrast_sensitivity=True
        )
        total += contrast.item() * (rows.stop - rows.start)
    return total / windows


def _halved(image: Tensor) -> Tensor:
    """Means over 2 x 2 pixels, ``(H, W, C)`` to ``(H // 2, W // 2, C)``, float32."""
    even = len(image) - len(image) % 2
    parts = [avg_pool2d(_planes(image[rows]), 2) for rows in _strips(even, image.shape[1])]
    return torch.cat(parts, dim=2)[0].movedim(0, -1)


def _lpips(network: nn.Module, image: Tensor, reference: Tensor, scale: Callable[[Tensor], Tensor]) -> float:
    """LPIPS of ``(H, W, C)``, whose ``(1, 3, H, W)`` in [0, 1] go through ``scale`` before the network sees them."""

    def prepared(part: Tensor) -> Tensor:
        return scale(_three_channels(_planes(part)))

    if _at_once(reference):
        return float(network(prepared(image), prepared(reference)))
    totals, counts = [0.0] * len(_LPIPS_CELLS_OF_LAYER), [0] * len(_LPIPS_CELLS_OF_LAYER)
    for row in _lpips_tiles(reference.shape[0]):
        for column in _lpips_tiles(reference.shape[1]):
            tile = (row.pixels, column.pixels)
            distances = _lpips_layers(network, prepared(image[tile]), prepared(reference[tile]))
            for layer, (values, cells) in enumerate(zip(distances, _LPIPS_CELLS_OF_LAYER, strict=True)):
                own = values[..., row.own(cells), column.own(cells)]
                totals[layer] += own.sum(dtype=torch.float64).item()
                counts[layer] += own.numel()
    return sum(total / count for total, count in zip(totals, counts, strict=True))


def _lpips_layers(network: Any, image: Tensor, reference: Tensor) -> Iterator[Tensor]:
    """LPIPS of each layer before its mean over the picture: ``(1, 3, H, W)`` to five of ``(1, 1, h, w)``."""
    from lpips import normalize_tensor

    features = [network.net(network.scaling_layer(x)) for x in (image, reference)]
    for linear, *pair in zip(network.lins, *features, strict=True):
        first, second = map(normalize_tensor, pair)
        yield linear(first.sub_(second).square_())


@dataclass(frozen=True)
class _LpipsTile:
    """A stretch of one axis: the pixels that LPIPS is to see, and which of its values count.

    Attributes:
        pixels: What the network sees.
        start: First cell that counts, within the tile.
        stop: The one behind the last, or None where all the rest do.
    """

    pixels: slice
    start: int
    stop: int | None

    def own(self, cells: int) -> slice:
        """What counts at a layer of so many cells per cell of the last layers."""
        return slice(self.start * cells, None if self.stop is None else self.stop * cells)


def _lpips_tiles(length: int) -> Iterator[_LpipsTile]:
    """Cut an axis of so many pixels into tiles that overlap by what their values depend on."""
    cells = max(length // _LPIPS_CELL, 1)
    for first in range(0, cells, _LPIPS_TILE):
        start, stop = max(first - _LPIPS_REACH, 0), first + _LPIPS_TILE
        last = stop >= cells
        end = length if last or stop + _LPIPS_REACH >= cells else (stop + _LPIPS_REACH) * _LPIPS_CELL
        yield _LpipsTile(slice(start * _LPIPS_CELL, end), first - start, None if last else stop - start)


def _at_once(image: Tensor) -> bool:
    """Whether ``(H, W, C)`` is small enough to be compared whole."""
    return image.shape[0] * image.shape[1] <= PIXELS_AT_ONCE


def _strips(height: int, width: int) -> Iterator[slice]:
    """Cut so many rows into strips, all but the last of an even number of rows."""
    rows = max(_STRIP_PIXELS // width // 2 * 2, 2)
    for start in range(0, height, rows):
        yield slice(start, min(start + rows, height))


def _planes(image: Tensor) -> Tensor:
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
