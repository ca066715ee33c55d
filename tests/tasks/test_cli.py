"""The three commands as people use them, mistakes included."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from scipy.io import wavfile

from iga_nerfstudio.data.meshes import read_mesh
from iga_nerfstudio.tasks.checkpoints import load_model
from iga_nerfstudio.tasks.cli import main
from iga_nerfstudio.tasks.config_files import read_run
from iga_nerfstudio.tasks.image import ImageConfig, render_image
from iga_nerfstudio.tasks.sdf import SDFConfig
from iga_nerfstudio.tasks.signal import SignalConfig
from iga_nerfstudio.tensor_files import load_tensors
from iga_nerfstudio.terminal import forgiving_output

QUICK = ["--max-num-iterations", "6", "--steps-per-eval", "3", "--steps-per-log", "2", "--network.hidden-dim", "16"]


def iga_image(*words: object) -> int:
    return main(ImageConfig, [str(word) for word in words])


def iga_sdf(*words: object) -> int:
    return main(SDFConfig, [str(word) for word in words])


def iga_signal(*words: object) -> int:
    return main(SignalConfig, [str(word) for word in words])


def the_run(output_dir: Path) -> Path:
    (folder,) = output_dir.glob("*/*/*")
    return folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    y, x = np.mgrid[0:40, 0:48]
    image = np.stack([x * 5, y * 6, (x * y) % 256], -1).astype(np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(image).save(path)
    return path


@pytest.fixture
def ball(tmp_path: Path) -> Path:
    path = tmp_path / "ball.ply"
    trimesh.creation.icosphere(3, radius=7.0).export(path)
    return path


def test_a_name_that_no_encoding_has_characters_for(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as any beyond ASCII, in the locale C."""
    named = photo.rename(photo.with_name(os.fsdecode(b"photo_\xff.png")))
    words = ["--data", named, "--output-dir", photo.parent / "out", "--vis", "none", "--adjustment.end", 5, *QUICK]
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", shown)
    with forgiving_output():
        assert iga_image(*words) == 0
    assert b"photo_\\udcff" in shown.buffer.getvalue()  # type: ignore[attr-defined]
    run = the_run(photo.parent / "out")
    assert b"photo_\xff" in (run / "report.html").read_bytes()
    assert read_run(run, ImageConfig).data == named


def test_an_image_from_file_to_results(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert iga_image("--data", photo, "--output-dir", tmp_path / "out", "--adjustment.end", 5, *QUICK) == 0
    run = the_run(tmp_path / "out")
    assert run.parts[-3:-1] == ("photo", "iga-image")
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["adjusted"]
    assert metrics["steps"] == 6
    assert metrics["steps_unadjusted"] == {}
    assert set(metrics["metrics"]) >= {"psnr", "ssim"}
    assert metrics["evaluations"]["psnr"][0] == [0, 3, 6]
    for name in ("reconstruction", "error", "spectrum", "training"):
        assert Image.open(run / f"{name}.png").size[0] > 40
    assert list(run.glob("events.out.tfevents.*"))
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000000006.ckpt"]
    saved = load_model(run / "models" / "last.pt")
    height, width = saved.description["image_size"]
    decoded = (render_image(saved.network, (height, width)).numpy() * 255).round().astype(np.uint8)
    assert np.array_equal(decoded, np.asarray(Image.open(run / "reconstruction.png")))
    assert "reconstruction.png" in capsys.readouterr().out.replace("\n", "")


def test_a_finished_run_is_decoded_again_at_another_resolution(photo: Path, tmp_path: Path) -> None:
    assert iga_image("--data", photo, "--output-dir", tmp_path / "out", "--adjustment.end", 5, *QUICK) == 0
    run = the_run(tmp_path / "out")
    before = load_tensors(run / "models" / "last.pt")["weights"]
    assert iga_image("--load-dir", run, "--render-scale", 2) == 0
    assert Image.open(run / "reconstruction.png").size == (96, 80)
    after = load_tensors(run / "models" / "last.pt")["weights"]
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_plain_run_has_everything_else_equal(photo: Path, tmp_path: Path) -> None:
    for name, enabled in (("iga", "True"), ("plain", "False")):
        words = ("--output-dir", tmp_path / name, "--adjustment.enabled", enabled, "--adjustment.end", 5)
        assert iga_image("--data", photo, *words, *QUICK) == 0
    found = [json.loads((the_run(tmp_path / name) / "metrics.json").read_text()) for name in ("iga", "plain")]
    assert [result["adjusted"] for result in found] == [True, False]
    starts = [result["evaluations"]["psnr"][1][0] for result in found]
    assert starts[0] == starts[1]
    assert found[0]["metrics"]["psnr"] != found[1]["metrics"]["psnr"]


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGBA", 4)])
def test_grey_and_transparent_images_keep_their_channels(tmp_path: Path, mode: str, channels: int) -> None:
    path = tmp_path / "p.png"
    Image.effect_noise((24, 24), 50).convert(mode).save(path)
    assert iga_image("--data", path, "--output-dir", tmp_path / "out", "--adjustment.end", 3, *QUICK) == 0
    picture = Image.open(the_run(tmp_path / "out") / "reconstruction.png")
    assert picture.mode == mode
    assert load_tensors(the_run(tmp_path / "out") / "models" / "best.pt")["sizes"] == [2, channels]


def test_a_mesh_from_file_to_mesh(ball: Path, tmp_path: Path) -> None:
    words = ["--resolution", 24, "--cache-dir", tmp_path / "cache", "--group-size", 32, "--groups-per-batch", 64]
    words += ["--max-num-iterations", 150, "--steps-per-eval", 50, "--network.hidden-dim", 32]
    assert iga_sdf("--data", ball, "--output-dir", tmp_path / "out", "--mesh-format", "obj", *words) == 0
    run = the_run(tmp_path / "out")
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    assert metrics["iou"] > 0.8
    assert 0 < metrics["chamfer"] < 0.1
    mesh = read_mesh(run / "reconstruction.obj")
    assert mesh.is_watertight
    # In the file's units, where the file has it.
    assert mesh.extents == pytest.approx([14, 14, 14], rel=0.15)
    assert Image.open(run / "shape.png").size[0] > 200
    assert load_model(run / "models" / "last.pt").description["target"] == "occupancy"


def test_signed_distances_and_a_finer_mesh(ball: Path, tmp_path: Path) -> None:
    words = ["--target", "distance", "--resolution", 20, "--mesh-scale", 2, "--cache-dir", tmp_path / "cache"]
    words += ["--max-num-iterations", 200, "--network.hidden-dim", 32, "--group-size", 32, "--groups-per-batch", 64]
    assert iga_sdf("--data", ball, "--output-dir", tmp_path / "out", *words) == 0
    run = the_run(tmp_path / "out")
    assert json.loads((run / "metrics.json").read_text())["metrics"]["iou"] > 0.7
    assert read_mesh(run / "reconstruction.ply").extents == pytest.approx([14, 14, 14], rel=0.2)


def test_a_voxel_file(tmp_path: Path) -> None:
    x, y, z = np.mgrid[-1:1:16j, -1:1:16j, -1:1:16j]
    np.save(tmp_path / "v.npy", x**2 + y**2 + z**2 < 0.7)
    words = ["--group-size", 16, "--groups-per-batch", 32, "--max-num-iterations", 60, "--num-epochs", 2]
    out = tmp_path / "out"
    assert iga_sdf("--data", tmp_path / "v.npy", "--output-dir", out, *words, "--network.hidden-dim", 16) == 0
    metrics = json.loads((the_run(out) / "metrics.json").read_text())
    assert metrics["steps"] < 60  # two epochs, not 60 steps


@pytest.mark.parametrize("words", [["--signal", "experiment2"], ["--frequencies", "3", "7.5"]])
def test_a_formula(tmp_path: Path, words: list[str]) -> None:
    assert iga_signal(*words, "--num-samples", 512, "--output-dir", tmp_path / "out", *QUICK) == 0
    run = the_run(tmp_path / "out")
    assert run.parts[-3] in ("experiment2", "sines")
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    expected = ["10", "20", "30", "40", "50", "60"] if "--signal" in words else ["3", "7.5"]
    assert [name for name in metrics if name.startswith("dft_error/")] == [f"dft_error/{f}" for f in expected]
    table = np.loadtxt(run / "reconstruction.csv", delimiter=",")
    assert table.shape == (512, 2)
    assert table[0, 0] == -1.0
    assert Image.open(run / "signal.png").size[0] > 200


def test_a_sound_comes_back_as_a_sound(tmp_path: Path) -> None:
    rate, time_axis = 8000, np.arange(1600) / 8000
    sound = 0.3 * np.stack([np.sin(2 * np.pi * f * time_axis) for f in (50, 120)], -1)
    wavfile.write(tmp_path / "s.wav", rate, (sound * 32767).astype(np.int16))
    words = ["--data", tmp_path / "s.wav", "--output-dir", tmp_path / "out", "--max-num-iterations", 300]
    assert iga_signal(*words, "--network.hidden-dim", 64, "--steps-per-eval", 100) == 0
    run = the_run(tmp_path / "out")
    found_rate, found = wavfile.read(run / "reconstruction.wav")
    assert (found_rate, found.shape) == (rate, (1600, 2))
    assert np.abs(found / 32767 - sound).mean() < 0.1


def test_ctrl_c_saves_and_the_run_goes_on_bit_for_bit(photo: Path, tmp_path: Path) -> None:
    settings = ["--data", str(photo), "--adjustment.end", "5", "--adjustment.representative", "random"]
    settings += ["--max-num-iterations", "150", "--network.hidden-dim", "16", "--vis", "none"]
    assert iga_image(*settings, "--output-dir", tmp_path / "whole") == 0
    command = [sys.executable, "-c", "from iga_nerfstudio.tasks.cli import image; image()", *settings]
    command += ["--output-dir", str(tmp_path / "parts"), "--steps-per-save", "1"]
    # The same thread count as here: sums of floats depend on it, and with it the last bits.
    threads = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    with subprocess.Popen(command, env=threads, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("parts/*/*/*/checkpoints/step-*.ckpt")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        output = process.stdout.read()
    assert process.returncode == 130, output
    assert "iga-image --load-dir" in output
    run = the_run(tmp_path / "parts")
    assert not (run / "models").exists()
    assert iga_image("--load-dir", run, "--steps-per-save", 500) == 0
    first, second = (load_tensors(the_run(tmp_path / n) / "models" / "last.pt")["weights"] for n in ("whole", "parts"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_ctrl_c_before_the_training_ends_in_one_line(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **_named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("iga_nerfstudio.tasks.image.read_image", stopped)
    assert iga_image("--data", photo, "--output-dir", tmp_path / "out") == 130
    assert "Stopped at once. A run that has a checkpoint goes on with iga-image --load-dir" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_a_full_disk_ends_in_one_line(photo: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small tmpfs needs root; test_checkpoints.py limits the file size instead")
    command = [sys.executable, "-c", "from iga_nerfstudio.tasks.cli import image; image()", "--data", str(photo)]
    command += ["--output-dir", str(disk), "--adjustment.end", "5", "--network.hidden-dim", "64"]
    command += ["--max-num-iterations", "6", "--steps-per-save", "2"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
        assert result.returncode == 2, result.stdout + result.stderr
        assert "No space left on device" in result.stdout
        assert "Traceback" not in result.stdout + result.stderr
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Give --data photo.png"),
        (["--data", "none.png"], "none.png"),
        (["--data", "empty.png"], "empty"),
        (["--data", "text.png"], "text.png"),
        (["--data", "cut.png"], "cut.png"),
        (["--data", "one.png"], "2 pixels"),
        (["--data", "noise.png", "--patch-size", "65"], "larger than the grid"),
        (["--data", "noise.png", "--patch-size", "32", "--adjustment.end", "20"], "batch of 4 groups"),
        (["--data", "noise.png", "--patch-size", "64"], "batch of 1 groups"),
        (["--config", "kodak"], "There is no preset 'kodak'"),
        (["--load-dir", "run"], "config.yml cannot be read"),
        (["--data", "noise.png", "--lpips-backbone", "none.pth"], "none.pth"),
    ],
)
def test_mistakes_with_images_are_told_in_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.png").touch()
    Path("text.png").write_text("no picture")
    Image.effect_noise((64, 64), 50).save("noise.png")
    Path("cut.png").write_bytes(Path("noise.png").read_bytes()[:500])
    Image.new("RGB", (1, 1)).save("one.png")
    assert iga_image(*words, *QUICK) == 2
    output = capsys.readouterr().out.strip()
    assert message in output
    assert output.startswith("iga-image: ")
    assert "\n" not in output
    assert not Path("outputs").exists()


def test_mistakes_with_shapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trimesh.PointCloud(np.random.default_rng(0).random((9, 3))).export(tmp_path / "points.ply")
    grid = np.zeros((8, 8, 8))
    grid[2, 2, 2] = np.nan
    np.save(tmp_path / "nan.npy", grid)
    solid = np.zeros((8, 8, 8), dtype=bool)
    solid[2:6, 2:6, 2:6] = True
    np.save(tmp_path / "solid.npy", solid)
    for words, message in (
        ([], "Give --data mesh.ply"),
        (["--data", tmp_path / "points.ply"], "face"),
        (["--data", tmp_path / "nan.npy"], "NaN"),
        (["--data", tmp_path / "solid.npy", "--group-size", 513], "larger than the grid"),
        (["--data", tmp_path / "solid.npy", "--group-size", 256], "batch of 2 groups"),
        (["--data", tmp_path / "solid.npy", "--mesh-scale", 0], "mesh_scale"),
    ):
        assert iga_sdf(*words, "--output-dir", tmp_path / "out", "--cache-dir", tmp_path / "cache") == 2
        assert message in capsys.readouterr().out


def test_mistakes_with_signals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wavfile.write(tmp_path / "silent.wav", 8000, np.zeros(0, np.int16))
    for words, message in (
        ([], "none is given"),
        (["--signal", "experiment1", "--frequencies", 3], "several are given"),
        (["--data", tmp_path / "silent.wav"], "sample"),
        (["--frequencies", 3000], "Nyquist"),
        (["--frequencies", 3, "--num-samples", 16], "batch of 2 groups"),
        (["--data", tmp_path / "silent.wav", "--num-samples", 16], "num_samples=16 has no meaning for a file"),
        (["--signal", "experiment1", "--duration", 2], "duration=2.0 has no meaning for a function"),
        (["--signal", "experiment1", "--phases", 2], "has no meaning for experiment1, only for --frequencies"),
        (["--frequencies", 3, "--num-samples", 16, "--interval-size", 32], "larger than the grid of (16,)"),
        (["--frequencies", 3, "--num-samples", 16, "--interval-size", 32], "The option is --interval-size."),
        (["--frequencies", 1, "--num-samples", 5], "batch of 1 groups has only 1."),
    ):
        assert iga_signal(*words, "--output-dir", tmp_path / "out") == 2
        assert message in capsys.readouterr().out


def test_an_output_folder_that_cannot_be_written(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert iga_image("--data", photo, "--output-dir", tmp_path / "file", "--adjustment.end", 5, *QUICK) == 2
    assert "cannot be written to" in capsys.readouterr().out


def test_divergence_keeps_the_best_model(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--optimizer.kind", "sgd", "--optimizer.lr", "1e12", "--adjustment.end", 5, "--max-num-iterations", 60]
    assert iga_image("--data", photo, "--output-dir", tmp_path / "out", *words, "--network.hidden-dim", 16) == 2
    assert "Training diverged" in capsys.readouterr().out
    models = the_run(tmp_path / "out") / "models"
    assert [path.name for path in models.iterdir()] == ["best.pt"]
    assert all(value.isfinite().all() for value in load_tensors(models / "best.pt")["weights"].values())
