"""One image fitted by iga-image with and without the adjustment, in a process each."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import Any

from iga_nerfstudio.files import write_text
from iga_nerfstudio.tasks.config_files import to_yaml
from iga_nerfstudio.tasks.image import ImageConfig
from iga_nerfstudio.tasks.run import METRICS_FILE, folder_of_runs
from iga_nerfstudio.tasks.setup import chunk_size


def measure_image_pair(config: ImageConfig) -> dict[str, Any]:
    """Run ``iga-image`` twice, everything equal but the adjustment.

    Args:
        config: Settings of both.

    Returns:
        Metrics, seconds and peak memory of each.

    Raises:
        ValueError: If a run fails; its output says why.
    """
    runs = {}
    for name, enabled in (("plain", False), ("adjusted", True)):
        settings = replace(config, timestamp=name, adjustment=replace(config.adjustment, enabled=enabled))
        folder = folder_of_runs(settings) / name
        if not (folder / METRICS_FILE).exists():
            preset = folder.with_name(f"{name}.yml")
            write_text(preset, to_yaml(settings))
            shutil.rmtree(folder, ignore_errors=True)  # a training that was interrupted
            command = [sys.executable, "-c", "from iga_nerfstudio.tasks.cli import image; image()"]
            status = subprocess.run([*command, "--config", str(preset)]).returncode
            if status != 0:
                raise ValueError(f"iga-image --config {preset} exited with {status}; its output is above.")
        result = json.loads((folder / METRICS_FILE).read_text())
        kept = ("metrics", "best", "steps", "seconds", "start_memory_mb", "peak_memory_mb")
        runs[name] = {key: result[key] for key in kept}
    return {
        "image": None if config.data is None else config.data.name,
        "network": config.network.kind,
        "hidden_dim": config.network.hidden_dim,
        "optimizer": config.optimizer.kind,
        "representative": config.adjustment.representative,
        "points_per_chunk": chunk_size(config.machine),
        "seed": config.machine.seed,
        "runs": runs,
    }
