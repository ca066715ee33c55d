"""Image metrics, with and without LPIPS's weights."""

from __future__ import annotations

import os
import socket
import warnings
from pathlib import Path

import lpips as lpips_package
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    structural_similarity_index_measure,
)

from iga_nerfstudio.evaluation import metrics as metrics_module
from iga_nerfstudio.evaluation.metrics import ImageMetrics

# torchvision's AlexNet: output and input channels and side of its convolutions, by layer number.
CONVOLUTIONS = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}


def random_state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    state = {}
    for layer, (out, channels, side) in CONVOLUTIONS.items():
        scale = (channels * side * side) ** -0.5
        state[f"features.{layer}.weight"] = torch.randn(out, channels, side, side, generator=generator) * scale
        state[f"features.{layer}.bias"] = torch.randn(out, generator=generator) * 0.1
    return state


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("backbone") / "features.pth"
    torch.save(random_state(), path)
    return path


@pytest.fixture(scope="module")
def twin() -> torch.nn.Module:
    """The lpips package used directly, its five convolutions filled in order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = lpips_package.LPIPS(net="alex", pnet_rand=True, verbose=False)
    convolutions = [layer for layer in network.net.modules() if isinstance(layer, torch.nn.Conv2d)]
    state = random_state()
    with torch.no_grad():
        for layer, convolution in zip(CONVOLUTIONS, convolutions, strict=True):
            convolution.weight.copy_(state[f"features.{layer}.weight"])
            convolution.bias.copy_(state[f"features.{layer}.bias"])
    return network


@pytest.fixture(scope="module")
def metrics(backbone: Path) -> ImageMetrics:
    """One object for all tests that do not care when its network is built."""
    return ImageMetrics(backbone)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """An empty torch cache and no server behind it; lists the socket timeouts of the attempts."""
    timeouts: list[float | None] = []

    def no_route(*_args, **_kwargs):
        timeouts.append(socket.getdefaulttimeout())
        raise OSError("no route to host\nsecond line")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_route)
    return timeouts


def images(channels: int = 3, height: int = 40, width: int = 50) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(height, width, channels, generator=generator)
    return (truth + 0.2 * torch.randn(truth.shape, generator=generator)).clamp(0, 1), truth


def distance(network: torch.nn.Module, rendering: Tensor, truth: Tensor) -> float:
    """Of images (H, W, 3) as they are."""
    with torch.no_grad():
        return network(rendering.permute(2, 0, 1)[None], truth.permute(2, 0, 1)[None]).item()


def test_values_and_one_line_without_lpips(offline, caplog):
    truth = images()[1] * 0.8 + 0.1
    metrics = ImageMetrics()
    found = metrics(truth + 0.1, truth)
    assert found["psnr"] == pytest.approx(20.0, abs=1e-3)
    assert 0.9 < found["ssim"] < 1
    assert set(found) == {"psnr", "ssim"}
    equal = metrics(truth, truth)
    assert equal["ssim"] == pytest.approx(1.0)
    assert equal["psnr"] == float("inf")
    assert [record.getMessage() for record in caplog.records] == [
        "LPIPS is not reported: its AlexNet weights could not be loaded (OSError: no route to host)."
    ]
    assert offline == [10.0]
    assert socket.getdefaulttimeout() is None


def test_psnr_compares_clamped_values(offline):
    truth = torch.tensor([0.0, 1.0]).repeat(8, 4)[..., None]
    assert ImageMetrics()(3 * truth - 1, truth)["psnr"] == float("inf")
    assert ImageMetrics()(truth, 0.9 * truth)["psnr"] == pytest.approx(10 * np.log10(2 / 0.01), abs=1e-3)


def test_half_and_double_precision_give_nearly_the_same(offline):
    rendering, truth = images()
    single = ImageMetrics()(rendering, truth)
    assert ImageMetrics()(rendering.double(), truth.double()) == pytest.approx(single)
    assert ImageMetrics()(rendering.half(), truth.half()) == pytest.approx(single, rel=1e-3)


def naive_ms_ssim(image: Tensor, reference: Tensor) -> float:
    """Wang et al. 2003 by explicit windows, float64, of one channel (H, W) in [0, 1]."""
    offsets = torch.arange(-5, 6, dtype=torch.float64)
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = (line[:, None] * line[None, :] / line.sum() ** 2)[None, None]
    a, b = (x.double()[None, None] for x in (image, reference))
    result = 1.0
    for scale, exponent in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        mean_a, mean_b = conv2d(a, window), conv2d(b, window)
        covariance = conv2d(a * b, window) - mean_a * mean_b
        variances = conv2d(a * a, window) - mean_a**2 + conv2d(b * b, window) - mean_b**2
        structure = (2 * covariance + 0.03**2) / (variances + 0.03**2)
        if scale == 4:
            structure = structure * (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
        result *= structure.mean().item() ** exponent
        a, b = avg_pool2d(a, 2), avg_pool2d(b, 2)
    return result


def test_ms_ssim_against_explicit_windows(offline):
    # Fainter than the full range, so that the range matters.
    rendering, truth = (0.4 * image + 0.3 for image in images(channels=1, height=181, width=200))
    found = ImageMetrics()(rendering, truth)
    # At the coarsest scale torchmetrics also counts windows over reflected borders.
    assert found["ms_ssim"] == pytest.approx(naive_ms_ssim(rendering[..., 0], truth[..., 0]), abs=5e-3)
    assert found["ssim"] + 0.05 < found["ms_ssim"] < 0.95


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (8, 10, {"psnr"}),
        (10, 40, {"psnr"}),
        (40, 10, {"psnr"}),
        (11, 11, {"psnr", "ssim"}),
        (30, 40, {"psnr", "ssim"}),
        (31, 31, {"psnr", "ssim", "lpips"}),
        (176, 175, {"psnr", "ssim", "lpips"}),
        (176, 176, {"psnr", "ssim", "lpips", "ms_ssim"}),
    ],
)
def test_metrics_that_an_image_is_too_small_for_are_absent(metrics, height, width, expected):
    found = metrics(*images(height=height, width=width))
    assert set(found) == expected
    assert np.isfinite(list(found.values())).all()


def test_the_smallest_sides_are_exact(twin):
    """One pixel less, and the libraries themselves refuse."""
    blank = torch.rand(1, 3, 176, 176)
    with pytest.raises(ValueError, match="larger than 160"):
        multiscale_structural_similarity_index_measure(blank[..., :175], blank[..., :175], data_range=1.0)
    with pytest.raises(RuntimeError, match="too small"):
        twin(blank[..., :30], blank[..., :30])


def test_lpips_is_that_of_the_package(metrics, twin):
    rendering, truth = images()
    found = metrics(rendering, truth)
    assert "lpips_unscaled" not in found
    assert found["lpips"] == pytest.approx(distance(twin, 2 * rendering - 1, 2 * truth - 1), rel=1e-5)
    assert found["lpips"] > 1e-3


def test_parity_adds_lpips_of_unscaled_images(backbone, metrics, twin, monkeypatch):
    monkeypatch.setattr(metrics_module, "_build_lpips", lambda weights: twin)
    rendering, truth = images()
    plain, both = metrics(rendering, truth), ImageMetrics(backbone, parity=True)(rendering, truth)
    assert set(both) - set(plain) == {"lpips_unscaled"}
    assert {name: both[name] for name in plain} == pytest.approx(plain)
    assert both["lpips_unscaled"] == pytest.approx(distance(twin, rendering, truth), rel=1e-5)
    assert abs(both["lpips_unscaled"] - both["lpips"]) > 0.01 * both["lpips"]


def test_grey_is_repeated_for_lpips(metrics, twin):
    rendering, truth = images(channels=1)
    found = metrics(rendering, truth)
    expected = distance(twin, 2 * rendering.repeat(1, 1, 3) - 1, 2 * truth.repeat(1, 1, 3) - 1)
    assert found["lpips"] == pytest.approx(expected, rel=1e-5)
    assert found["psnr"] == pytest.approx(-10 * (rendering - truth).square().mean().log10().item(), abs=1e-4)


def test_rgba_is_laid_over_white_for_lpips_only(metrics, twin):
    rendering, truth = images(channels=4)
    found = metrics(rendering, truth)
    on_white = [image[..., :3] * image[..., 3:] + 1 - image[..., 3:] for image in (rendering, truth)]
    assert found["lpips"] == pytest.approx(distance(twin, 2 * on_white[0] - 1, 2 * on_white[1] - 1), rel=1e-5)
    assert found["psnr"] == pytest.approx(-10 * (rendering - truth).square().mean().log10().item(), abs=1e-4)
    rendering[..., 3] = truth[..., 3] = 0.0
    unseen = metrics(rendering, truth)
    assert unseen["lpips"] == 0.0
    assert unseen["psnr"] < 30
    assert unseen["ssim"] < 0.99


def test_the_network_is_built_once_at_the_first_evaluation(backbone, monkeypatch, recwarn):
    """And neither draws of training's random numbers nor passes on the warnings of lpips."""
    built = []
    build = metrics_module._build_lpips
    monkeypatch.setattr(metrics_module, "_build_lpips", lambda weights: built.append(1) or build(weights))
    metrics = ImageMetrics(backbone)
    assert not built
    before = torch.random.get_rng_state()
    first, second = (metrics(*images()) for _ in range(2))
    assert first == second
    assert len(built) == 1
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not [str(warning.message) for warning in recwarn if "pretrained" in str(warning.message)]
    assert not isinstance(metrics, torch.nn.Module)


@pytest.fixture
def weights_used(monkeypatch, twin) -> list[dict[str, Tensor]]:
    """The weights that networks are built on, without building them."""
    used: list[dict[str, Tensor]] = []
    monkeypatch.setattr(metrics_module, "_build_lpips", lambda weights: used.append(weights) or twin)
    return used


def check_features(weights: dict[str, Tensor]) -> None:
    expected = random_state()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_full_alexnet_file_will_do(tmp_path, weights_used):
    torch.save(random_state() | {"classifier.1.weight": torch.zeros(3)}, tmp_path / "full.pth")
    assert "lpips" in ImageMetrics(tmp_path / "full.pth")(*images())
    check_features(*weights_used)


def test_without_a_path_torchvisions_file_in_the_cache_is_used(backbone, offline, tmp_path, caplog, weights_used):
    cached = tmp_path / "torch" / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(backbone.read_bytes())
    assert "lpips" in ImageMetrics()(*images())
    check_features(*weights_used)
    assert not offline
    assert not caplog.records


def test_a_broken_file_in_the_cache_is_logged(offline, tmp_path, caplog):
    cached = tmp_path / "torch" / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    cached.parent.mkdir(parents=True)
    torch.save({"features.0.weight": torch.zeros(1)}, cached)
    assert "lpips" not in ImageMetrics()(*images())
    assert len(caplog.records) == 1
    assert "alexnet-owt-7be5be79.pth is no state dict" in caplog.text


def test_a_backbone_that_cannot_be_read_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"Cannot read the LPIPS backbone .*missing\.pth .*FileNotFoundError"):
        ImageMetrics(tmp_path / "missing.pth")
    (tmp_path / "noise.pth").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"Cannot read the LPIPS backbone .*noise\.pth"):
        ImageMetrics(tmp_path / "noise.pth")
    torch.save(torch.nn.Linear(1, 1), tmp_path / "module.pth")  # would run code: weights_only refuses it
    with pytest.raises(ValueError, match=r"Cannot read the LPIPS backbone .*module\.pth"):
        ImageMetrics(tmp_path / "module.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("features.8.bias"), r"features\.8\.bias must have shape \(256,\), found no such"),
        (lambda state: state.update({"features.3.weight": torch.zeros(192, 64, 3, 3)}), r"found shape \(192, 64, 3"),
        (lambda state: state.update({"features.0.bias": 1.0}), r"features\.0\.bias .* found no such tensor"),
    ],
)
def test_a_backbone_of_other_weights_is_refused_at_once(tmp_path, change, message):
    state = random_state()
    change(state)
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=message):
        ImageMetrics(tmp_path / "other.pth")


def test_a_backbone_that_is_no_state_dict_is_refused_at_once(tmp_path):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds a list, not a state dict"):
        ImageMetrics(tmp_path / "list.pth")


@pytest.fixture
def in_parts(monkeypatch):
    """Makes images be compared in strips of a few rows and tiles of a few cells."""

    def turn_on(pixels: int = 1200) -> None:
        monkeypatch.setattr(metrics_module, "PIXELS_AT_ONCE", 1)
        monkeypatch.setattr(metrics_module, "_STRIP_PIXELS", pixels)
        monkeypatch.setattr(metrics_module, "_LPIPS_TILE", 3)

    return turn_on


def smooth(channels: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Pictures that are alike at coarse scales, so that no scale's term is clamped to 0."""
    generator = torch.Generator().manual_seed(height * width)
    coarse = torch.rand(1, channels, height // 8 + 2, width // 8 + 2, generator=generator, dtype=torch.float64)
    truth = interpolate(coarse, size=(height, width), mode="bilinear")[0].movedim(0, -1)
    return truth + 0.1 * torch.randn(truth.shape, generator=generator, dtype=torch.float64), truth


@pytest.fixture
def in_double(monkeypatch):
    """Similarities in float64, where a row counted twice or beside a wrong border would show."""

    def planes(image: Tensor) -> Tensor:
        return image.detach().double().movedim(-1, 0)[None].clamp(0, 1)

    monkeypatch.setattr(metrics_module, "_planes", planes)


@pytest.mark.parametrize("pixels", [1, 300, 900])
@pytest.mark.parametrize(
    ("height", "width", "channels"), [(11, 11, 1), (12, 40, 3), (37, 23, 4), (48, 31, 3), (23, 90, 1)]
)
def test_similarity_in_strips_is_that_of_the_whole(in_double, in_parts, height, width, channels, pixels):
    rendering, truth = smooth(channels, height, width)
    ssim, psnr = metrics_module._ssim(rendering, truth), metrics_module.psnr(rendering, truth)
    planes = [metrics_module._planes(image) for image in (rendering, truth)]
    contrast = structural_similarity_index_measure(*planes, data_range=1.0, return_contrast_sensitivity=True)[1].item()
    halved = avg_pool2d(planes[0], 2)[0].movedim(0, -1)
    in_parts(pixels)
    assert metrics_module._ssim(rendering, truth) == pytest.approx(ssim, rel=1e-12)
    assert metrics_module._contrast(rendering, truth) == pytest.approx(contrast, rel=1e-12)
    assert torch.equal(metrics_module._halved(rendering), halved)
    # The library's logarithm of 10 is of float32.
    assert metrics_module.psnr(rendering, truth) == pytest.approx(psnr, rel=1e-7)


@pytest.mark.parametrize(("height", "width", "channels"), [(176, 176, 1), (181, 177, 3), (177, 263, 4)])
def test_every_similarity_in_strips_is_that_of_the_whole(in_parts, offline, height, width, channels):
    rendering, truth = smooth(channels, height, width)
    whole = ImageMetrics()(rendering, truth)
    in_parts(5000)
    assert set(whole) == {"psnr", "ssim", "ms_ssim"}
    assert ImageMetrics()(rendering, truth) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize(("height", "width"), [(200, 200), (150, 211), (97, 260), (31, 300)])
def test_lpips_in_tiles_is_that_of_the_whole(metrics, in_parts, height, width):
    rendering, truth = images(height=height, width=width)
    whole = metrics(rendering, truth)
    in_parts()
    assert metrics(rendering, truth) == pytest.approx(whole, rel=1e-6)


def test_tiles_cover_every_pixel_and_cell_once():
    for length in (*range(31, 200), 4000, 4001, 16 * 52, 16 * 53 - 1):
        tiles = list(metrics_module._lpips_tiles(length))
        assert tiles[0].pixels.start == 0
        assert tiles[-1].pixels.stop == length
        starts = [tile.pixels.start // 16 + tile.start for tile in tiles]
        stops = [None if tile.stop is None else tile.pixels.start // 16 + tile.stop for tile in tiles]
        assert starts == [0, *stops[:-1]]
        assert stops[-1] is None


def test_equal_images_in_strips(in_parts, offline):
    truth = images(height=180, width=180)[1]
    in_parts()
    found = ImageMetrics()(truth, truth)
    assert found == {"psnr": float("inf"), "ssim": pytest.approx(1.0), "ms_ssim": pytest.approx(1.0)}


def test_opposite_images_have_no_ms_ssim_in_strips_either(in_parts, offline):
    """Negative terms count as 0, as in the library."""
    truth = images(height=180, width=180, channels=1)[1]
    whole = ImageMetrics()(1 - truth, truth)
    in_parts()
    assert whole["ms_ssim"] == ImageMetrics()(1 - truth, truth)["ms_ssim"] == 0.0


def test_images_that_do_not_compare():
    metrics = ImageMetrics()
    with pytest.raises(ValueError, match=r"\(8, 8, 3\), and the truth, \(8, 8, 4\), differ in shape"):
        metrics(torch.rand(8, 8, 3), torch.rand(8, 8, 4))
    for shape in ((8, 8, 2), (8, 8), (1, 3, 8, 8), (8, 8, 5)):
        with pytest.raises(ValueError, match="Need images"):
            metrics(torch.rand(shape), torch.rand(shape))
    with pytest.raises(ValueError, match=r"truth holds torch.uint8. .* divide 8-bit ones by 255"):
        metrics(torch.rand(8, 8, 3), torch.zeros(8, 8, 3, dtype=torch.uint8))


@pytest.mark.skipif(
    "IGA_LPIPS_EXAMPLE" not in os.environ,
    reason="Needs lpips's example: set IGA_LPIPS_EXAMPLE to a folder with ex_ref.png, ex_p0.png, ex_p1.png (imgs/ of "
    "github.com/richzhang/PerceptualSimilarity) and alexnet_features.pth (torchvision's AlexNet).",
)
def test_published_distances_of_the_lpips_example():
    folder = Path(os.environ["IGA_LPIPS_EXAMPLE"])
    metrics = ImageMetrics(folder / "alexnet_features.pth")

    def read(name: str) -> Tensor:
        return torch.from_numpy(np.asarray(Image.open(folder / name).convert("RGB")) / 255.0)

    reference = read("ex_ref.png")
    assert metrics(read("ex_p0.png"), reference)["lpips"] == pytest.approx(0.722, abs=5e-4)
    assert metrics(read("ex_p1.png"), reference)["lpips"] == pytest.approx(0.138, abs=5e-4)
