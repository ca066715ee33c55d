"""The HTML report: complete in one file, and safe with any name."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from iga_nerfstudio.networks import NetworkConfig
from iga_nerfstudio.tasks.cli import main
from iga_nerfstudio.tasks.config import MachineConfig, TaskAdjustmentConfig
from iga_nerfstudio.tasks.image import ImageConfig, ImageTask, load_image_task
from iga_nerfstudio.tasks.report import as_picture, write_report
from iga_nerfstudio.tasks.sdf import SDFConfig, ShapeTask
from iga_nerfstudio.tasks.signal import SignalConfig, load_signal_task
from iga_nerfstudio.tasks.trainer import initial_network
from iga_nerfstudio.tasks.voxel_grids import VoxelGrid

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
        (truth, found),
        [tmp_path / "training.png"],
        "network:\n  kind: <pe>\n",
    )
    page = page_path.read_text()
    inside = pictures_in(page)
    assert np.array_equal(inside["ground truth"], np.round(255 * truth))
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


def test_pictures_of_different_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"one size, got \(2, 3, 3\) and \(3, 3, 3\)"):
        write_report(tmp_path / "r.html", "", {"a": {}}, {}, (np.zeros((2, 3, 3)), np.zeros((3, 3, 3))), [], "")
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(("channels", "expected"), [(1, [0.5, 0.5, 0.5]), (2, [0.5, 1, 0]), (4, [0.5, 1.0, 0.0])])
def test_pictures_of_any_number_of_channels(channels: int, expected: list[float]) -> None:
    values = np.array([0.5, 1.5, -1.0, 0.3])[:channels].reshape(1, 1, channels)
    assert as_picture(values)[0, 0].tolist() == expected


def test_an_image_is_compared_with_its_reconstruction() -> None:
    image = np.random.default_rng(0).random((6, 8, 1), dtype=np.float32)
    task = ImageTask(ImageConfig(adjustment=TaskAdjustmentConfig(enabled=False), **SMALL), image)
    network = initial_network(task.config, task.sizes)
    truth, found = task.comparison(network)
    assert np.array_equal(truth, image.repeat(3, axis=2))
    assert np.array_equal(found[..., 0], task.reconstruct(network).numpy()[..., 0])


@pytest.mark.parametrize("target", ["occupancy", "distance"])
def test_a_shape_is_compared_in_its_middle_slice(target: str) -> None:
    """An L in the x-y plane: x to the right, y up."""
    values = np.zeros((4, 5, 6), np.float32)
    values[:, 0], values[0, :] = 1, 1
    if target == "distance":
        values = 1 - 2 * values
    config = SDFConfig(adjustment=TaskAdjustmentConfig(enabled=False), group_size=8, **SMALL)
    task = ShapeTask(config, VoxelGrid(values, target, (0.0, 0.0, 0.0), 1.0))  # type: ignore[arg-type]
    network = initial_network(config, task.sizes)
    truth, found = task.comparison(network)
    assert truth.shape == found.shape == (5, 4, 3)
    inside = truth[..., 0] > 0.5 if target == "occupancy" else truth[..., 0] < 0.5
    assert inside[-1].all()
    assert inside[:, 0].all()
    assert inside.sum() == 8


def test_a_signal_is_drawn_in_the_frame_of_its_truth() -> None:
    config = SignalConfig(frequencies=(2.0,), num_samples=64, adjustment=TaskAdjustmentConfig(enabled=False), **SMALL)
    task = load_signal_task(config)
    truth, found = task.comparison(initial_network(config, task.sizes))
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
    assert main(ImageConfig, load_image_task, list(map(str, words))) == 0
    folder = tmp_path / "wide" / "iga-image" / "now"
    page = (folder / "report.html").read_text()
    assert "iga-image: wide, now" in page
    assert pictures_in(page)["ground truth"].shape == image.shape
    assert {"error", "spectrum", "training"} <= set(pictures_in(page))
    assert "hidden_dim: 8" in page
    events = EventAccumulator(str(folder))
    events.Reload()
    (tag,) = events.Tags()["images"]
    assert tag == "truth and reconstruction"
    pictures = events.Images(tag)
    assert [picture.step for picture in pictures] == [0, 2, 4]
    # Both at a third of their size, side by side.
    assert (pictures[0].width, pictures[0].height) == (2 * 367, 7)
