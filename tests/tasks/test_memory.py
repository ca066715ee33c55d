"""What a large picture takes: memory of a whole run of ``iga-image``, and the size of its report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# As the command does it, with what the process has taken before there is a picture.
RUN = """
import resource, sys
from iga_nerfstudio.allocator import reuse_host_memory
from iga_nerfstudio.tasks import cli
reuse_host_memory()
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert cli.main(cli.ImageConfig, sys.argv[1:]) == 0
print("growth in KiB:", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start)
"""
WIDTH, HEIGHT = 1300, 1000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Peaks of memory are in other units there.")
def test_a_run_on_a_large_picture_takes_a_few_times_its_size(tmp_path: Path) -> None:
    """Compared, drawn and trained on in one piece it took 650 MB; in parts, 200 MB."""
    y, x = np.mgrid[0 : 1 : HEIGHT * 1j, 0 : 1 : WIDTH * 1j]
    smooth = 255 * np.stack([0.5 + 0.3 * np.sin(90 * x * y), 0.2 + 0.5 * x, 0.3 + 0.4 * y], axis=-1)
    noisy = smooth + np.random.default_rng(0).normal(0, 8, smooth.shape)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(tmp_path / "photo.jpg", quality=92)
    words = [
        "--data", tmp_path / "photo.jpg", "--output-dir", tmp_path, "--timestamp", "now", "--max-num-iterations", 2,
        "--steps-per-log", 1, "--network.hidden-dim", 8, "--network.hidden-layers", 1,
        "--adjustment.end", 5, "--machine.device-type", "cpu",
    ]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", RUN, *map(str, words)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    growth = 1024 * int(done.stdout.rsplit("growth in KiB:", 1)[1])
    picture = 4 * 3 * HEIGHT * WIDTH  # in float32
    assert growth < 20 * picture, f"{growth / 1e6:.0f} MB for a picture of {picture / 1e6:.0f} MB"
    folder = tmp_path / "photo" / "iga-image" / "now"
    assert (folder / "report.html").stat().st_size < 10e6
    with Image.open(folder / "reconstruction.png") as reconstruction:
        assert reconstruction.size == (WIDTH, HEIGHT)
    metrics = json.loads((folder / "metrics.json").read_text())["metrics"]
    assert {"psnr", "ssim", "ms_ssim"} <= set(metrics)
