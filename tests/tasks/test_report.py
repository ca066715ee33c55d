"""The HTML report: complete in one file, and safe with any name."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from iga_nerfstudio.data.voxels import VoxelGrid
from iga_nerfstudio.networks import NetworkConfig
from iga_nerfstudio.tasks import report
from iga_nerfstudio.tasks.cli import main
from iga_nerfstudio.tasks.config import MachineConfig, TaskAdjustmentConfig
from iga_nerfstudio.tasks.image import ImageConfig, ImageTask
from iga_nerfstudio.tasks.report import as_picture, write_report
from iga_nerfstudio.tasks.run import _show
from iga_nerfstudio.tasks.sdf import SDFConfig, ShapeTask
from iga_nerfstudio.tasks.setup import initial_network
from iga_nerfstudio.tasks.signal import SignalConfig, load_signal_task

SMALL = {"network": NetworkConfig("pe", 8), "machine": MachineConfig(device_type="cpu")}


def pictures_in(page: str) -> dict[str, np.ndarray]:
    found = re.findall(r'alt="([^"]*)"[^>]*?src="data:image/png;base64,([^"]+)"', page)
    found += [(alt, data) for data, alt in re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]*)"', page)]
    return {alt: np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for alt, data in found}


def test_everything_is_inside(tmp_path: Path) -> None:
    truth, found = np.random.default_rng(0).random((2, 6, 9, 3))
    Image.new("RGB", (4, 3), (9, 8, 7)).save(tmp_path / "training.png")
    page_path = tmp_path / "report.html"
    write_report(
        page_path,
        "iga-image: <b>& photo",
        {"last": {"psnr": 31.25, "ssim": 0.9}, "best": {"psnr": 32.5}},
        {"data": "a&b.png"},
        {"ground truth": truth, "plain": truth[::-1], "reconstruction": found},
        {"training": tmp_path / "training.png"},
        "network:\n  kind: <pe>\n",
    )
    page = page_path.read_text()
    inside = pictures_in(page)
    assert np.array_equal(inside["ground truth"], np.round(255 * truth))
    assert np.array_equal(inside["plain"], np.round(255 * truth[::-1]))
    assert np.array_equal(inside["reconstruction"], np.round(255 * found))
    assert np.array_equal(inside["training"], np.full((3, 4, 3), (9, 8, 7)))
    assert "<td>31.25</td><td>32.5</td>" in page
    assert "iga-image: &lt;b&gt;&amp; photo" in page
    assert "kind: &lt;pe&gt;" in page
    assert "a&amp;b.png" in page
    # Nothing is fetched from anywhere.
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "http" not in page
    assert "$" not in page
    assert "JPEG" not in page


def jpegs_in(page: str) -> dict[str, Image.Image]:
    found = re.findall(r'alt="([^"]*)"[^>]*?src="data:image/jpeg;base64,([^"]+)"', page)
    found += [(alt, data) for data, alt in re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="([^"]*)"', page)]
    return {alt: Image.open(io.BytesIO(base64.b64decode(data))) for alt, data in found}


def photograph(height: int, width: int, noise: float) -> np.ndarray:
    """A smooth picture with as much noise as a sensor's, which is most of what a file of it takes."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    smooth = np.stack([0.5 + 0.3 * np.sin(9 * x + 4 * y), 0.2 + 0.5 * x, 0.3 + 0.4 * y * x], axis=-1)
    return (smooth + np.random.default_rng(0).normal(0, noise, smooth.shape)).clip(0, 1).astype(np.float32)


def report_on(path: Path, truth: np.ndarray, found: np.ndarray, pictures: list[Path] | None = None) -> str:
    compared, figures = {"ground truth": truth, "reconstruction": found}, {p.stem: p for p in pictures or []}
    write_report(path, "large", {"last": {"psnr": 30.0}}, {}, compared, figures, "")
    return path.read_text()


def test_pictures_too_large_for_png_are_jpeg_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "PAGE_BYTES", 400_000)
    truth = photograph(300, 400, 0.05)
    page = report_on(tmp_path / "report.html", truth, truth[:, ::-1])
    inside = jpegs_in(page)
    assert set(inside) == {"ground truth", "reconstruction"}
    for name, expected in (("ground truth", truth), ("reconstruction", truth[:, ::-1])):
        picture = np.asarray(inside[name]) / 255
        assert picture.shape == expected.shape
        assert np.abs(picture - expected).mean() < 0.02
    assert "shown as JPEG of quality 95." in page
    assert len(page) < 400_000 + 20_000


def test_a_page_of_noise_that_no_file_holds_in_less_stays_under_10_mb(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    names = [tmp_path / f"{name}.png" for name in ("error", "spectrum", "training")]
    for name in names:
        Image.fromarray(random.integers(0, 256, (500, 700, 3), dtype=np.uint8)).save(name)
    truth, found = random.random((2, 1300, 1700, 3), dtype=np.float32)
    page = report_on(tmp_path / "report.html", truth, found, names)
    assert 5e6 < len(page) < 10e6
    assert {"ground truth", "reconstruction"} <= set(jpegs_in(page))


def test_pictures_too_large_for_jpeg_are_shrunk_and_the_page_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "PAGE_BYTES", 80_000)
    truth = photograph(333, 500, 0.1)
    page = report_on(tmp_path / "report.html", truth, truth)
    inside = jpegs_in(page)
    assert inside["ground truth"].size == inside["reconstruction"].size == (250, 167)
    assert "shrunk from 500 x 333 to 250 x 167 pixels." in page
    # The page goes on counting in the picture's own pixels.
    assert 'width="500" height="333"' in page
    assert "{ width: 500, height: 333 }" in page
    assert len(page) < 80_000 + 20_000


def test_pictures_with_more_pixels_along_a_side_than_jpeg_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "PAGE_BYTES", 80_000)
    truth = photograph(2, 70_000, 0.1)
    assert jpegs_in(report_on(tmp_path / "report.html", truth, truth))["ground truth"].size[0] <= 35_000


def test_figures_too_large_are_jpeg_and_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "FIGURE_BYTES", 20_000)
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "spectrum.png")
    Image.new("RGB", (400, 300), (9, 8, 7)).save(tmp_path / "training.png")
    small = np.zeros((4, 4, 3))
    page = report_on(tmp_path / "report.html", small, small, [tmp_path / "spectrum.png", tmp_path / "training.png"])
    assert set(jpegs_in(page)) == {"spectrum"}
    assert {"training", "ground truth"} <= set(pictures_in(page))
    assert re.search(r"<figcaption>spectrum\. To keep this page small, shown as JPEG of quality \d+", page)
    assert "<figcaption>training</figcaption>" in page
    assert len(page) < 40_000


@pytest.mark.parametrize("swapped", [False, True])
def test_a_metric_that_one_of_two_models_has_is_shown(swapped: bool) -> None:
    """As of shapes: without a surface there is no distance of it."""
    metrics = [{"iou": 0.0, "chamfer": 0.25}, {"iou": 0.125}]
    last, best = reversed(metrics) if swapped else metrics
    table = report._metrics_table({"last": last, "best": best})
    assert re.findall(r"<th>(\w+)</th>", table) == ["last", "best", "iou", "chamfer"]
    assert table.count("0.25") == 1
    told = io.StringIO()
    fit = SimpleNamespace(record=SimpleNamespace(steps=9), best_step=0, metrics=last, best_metrics=best)
    _show(SimpleNamespace(fit=fit, files=["a"], folder=Path("b")), Console(file=told))  # type: ignore[arg-type]
    assert told.getvalue().count("0.25") == 1


def test_pictures_of_different_sizes_are_refused(tmp_path: Path) -> None:
    pictures = {"truth": np.zeros((2, 3, 3)), "found": np.zeros((3, 3, 3))}
    with pytest.raises(ValueError, match=r"one size, got \(2, 3, 3\) and \(3, 3, 3\)"):
        write_report(tmp_path / "r.html", "", {"a": {}}, {}, pictures, {}, "")
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(("channels", "expected"), [(1, [0.5, 0.5, 0.5]), (2, [0.5, 1, 0]), (4, [0.5, 1.0, 0.0])])
def test_pictures_of_any_number_of_channels(channels: int, expected: list[float]) -> None:
    values = np.array([0.5, 1.5, -1.0, 0.3])[:channels].reshape(1, 1, channels)
    assert as_picture(values)[0, 0].tolist() == expected


def test_an_image_is_compared_with_its_reconstruction() -> None:
    image = np.random.default_rng(0).random((6, 8, 1), dtype=np.float32)
    task = ImageTask(ImageConfig(adjustment=TaskAdjustmentConfig(enabled=False), **SMALL), image)
    network = initial_network(task.config, task.sizes, task.batches.samples)
    truth, found = task.comparison(network)
    assert np.array_equal(truth, image.repeat(3, axis=2))
    assert np.array_equal(found[..., 0], task.reconstruct(network).numpy()[..., 0])
    # The image itself, not a copy of it.
    coloured = ImageTask(task.config, image.repeat(3, axis=2))
    network = initial_network(task.config, coloured.sizes, coloured.batches.samples)
    assert np.shares_memory(coloured.comparison(network)[0], coloured.image)


def test_a_preview_is_the_comparison_thinned() -> None:
    image = np.random.default_rng(0).random((60, 101, 3), dtype=np.float32)
    config = ImageConfig(adjustment=TaskAdjustmentConfig(enabled=False), **SMALL)
    signal = SignalConfig(frequencies=(2.0,), num_samples=64, adjustment=TaskAdjustmentConfig(enabled=False), **SMALL)
    for task, side, shape in (
        (ImageTask(config, image), 40, (20, 34, 3)),
        (ImageTask(config, image), 512, (60, 101, 3)),
        (load_signal_task(signal), 320, (120, 320, 3)),
    ):
        network = initial_network(task.config, task.sizes, task.batches.samples)
        whole, preview = task.comparison(network), task.preview(network, side)
        step = -(-max(whole[0].shape) // side)
        for full, thinned in zip(whole, preview, strict=True):
            assert thinned.shape == shape
            np.testing.assert_allclose(thinned, full[::step, ::step], atol=1e-6)


@pytest.mark.parametrize("target", ["occupancy", "distance"])
def test_a_shape_is_compared_in_its_middle_slice(target: str) -> None:
    """An L in the x-y plane: x to the right, y up."""
    values = np.zeros((4, 5, 6), np.float32)
    values[:, 0], values[0, :] = 1, 1
    if target == "distance":
        values = 1 - 2 * values
    config = SDFConfig(adjustment=TaskAdjustmentConfig(enabled=False), group_size=8, **SMALL)
    task = ShapeTask(config, VoxelGrid(values, target, (0.0, 0.0, 0.0), 1.0))  # type: ignore[arg-type]
    network = initial_network(config, task.sizes, task.batches.samples)
    truth, found = task.comparison(network)
    assert truth.shape == found.shape == (5, 4, 3)
    inside = truth[..., 0] > 0.5 if target == "occupancy" else truth[..., 0] < 0.5
    assert inside[-1].all()
    assert inside[:, 0].all()
    assert inside.sum() == 8


def test_a_signal_is_drawn_in_the_frame_of_its_truth() -> None:
    config = SignalConfig(frequencies=(2.0,), num_samples=64, adjustment=TaskAdjustmentConfig(enabled=False), **SMALL)
    task = load_signal_task(config)
    truth, found = task.comparison(initial_network(config, task.sizes, task.batches.samples))
    assert truth.shape == found.shape == (360, 960, 3)
    assert not np.array_equal(truth, found)
    # The frame itself is at the same place in both.
    assert np.array_equal(truth[:, :20], found[:, :20])


def test_a_run_leaves_a_report_and_pictures_for_tensorboard(tmp_path: Path) -> None:
    """Pictures at every evaluation, the first before training; no larger than a page shows."""
    image = np.random.default_rng(0).integers(0, 256, (20, 1100, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "wide.png")
    words = [
        "--data", tmp_path / "wide.png", "--output-dir", tmp_path, "--timestamp", "now", "--max-num-iterations", 4,
        "--steps-per-eval", 2, "--network.hidden-dim", 8, "--adjustment.end", 3, "--machine.device-type", "cpu",
    ]  # fmt: skip
    assert main(ImageConfig, list(map(str, words))) == 0
    folder = tmp_path / "wide" / "iga-image" / "now"
    page = (folder / "report.html").read_text()
    assert "iga-image: wide, now" in page
    assert pictures_in(page)["ground truth"].shape == image.shape
    assert {"error", "spectrum", "training: loss and metrics"} <= set(pictures_in(page))
    assert "kernel: its eigenvalues over the training" in pictures_in(page)
    assert "<p>The image: 1100 x 20 pixels, 3 channels.</p>" in page
    assert f"command: iga-image --data {tmp_path / 'wide.png'} " in page
    assert f"torch {torch.__version__.split('+')[0]}" in page
    # Settings as they were used, by the default of the optimiser and the data.
    for line in ("hidden_dim: 8", "lr: 0.04", "end: 3", "power: 1.0", "momentum: 0.95", "patch_size: 8", "type: cpu"):
        assert line in page
    events = EventAccumulator(str(folder))
    events.Reload()
    (tag,) = events.Tags()["images"]
    assert tag == "truth and reconstruction"
    pictures = events.Images(tag)
    assert [picture.step for picture in pictures] == [0, 2, 4]
    # Both at a third of their size, side by side.
    assert (pictures[0].width, pictures[0].height) == (2 * 367, 7)
