"""``iga-demo``: the built-in scene, trained, evaluated and shown, in minutes on a CPU."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from iga_nerfstudio.devices import default_device
from iga_nerfstudio.evaluation.figures import compared_sheet
from iga_nerfstudio.nerf.commands import CommandError, evaluate, read_test_views, train
from iga_nerfstudio.scenes import write_demo_scene
from iga_nerfstudio.terminal import forgiving_output

ADJUSTED, PLAIN = "IGA-NeRF", "plain NeRF"


@dataclass
class Demo:
    """Make the built-in scene, train iga-nerf-tiny and the plain NeRF on it with ns-train, evaluate both, show both."""

    data: Path = Path("data/demo")
    """Folder for the scene."""
    output_dir: Path = Path("outputs")
    """Folder for the runs."""
    max_num_iterations: int = 3000
    """Training steps."""
    compare: bool = True
    """Train the plain NeRF beside it, at the same time and with the same seed, and show both."""


@forgiving_output()
def main() -> None:
    """Entry point of ``iga-demo``."""
    console = Console()
    try:
        run_demo(tyro.cli(Demo), console)
    except (ValueError, CommandError) as error:
        console.print(f"iga-demo: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(2)


def run_demo(demo: Demo, console: Console) -> None:
    """Run the demo.

    Args:
        demo: Its settings.
        console: Where the progress and the table go.

    Raises:
        ValueError: If the scene's folder holds something else or cannot be written.
        CommandError: If a nerfstudio command fails.
    """
    start = time.monotonic()
    device = default_device()
    console.rule("1. The built-in scene")
    with console.status("Rendering 64 views of 100x100 pixels..."):
        write_demo_scene(demo.data)
    console.print(f"{demo.data}: 50 training, 4 validation and 10 test views.")

    timestamp = time.strftime("%Y-%m-%d_%H%M%S")
    folder = demo.output_dir / "demo" / "iga-nerf-tiny"
    runs = {PLAIN: folder / f"{timestamp}_plain"} if demo.compare else {}
    runs[ADJUSTED] = folder / timestamp
    console.rule(f"2. ns-train iga-nerf-tiny, {demo.max_num_iterations} steps on the {device.upper()}, and ns-eval")
    logs = " and ".join(f"{run}.log" for run in runs.values())
    console.print(f"How far it is: {logs}", markup=False, highlight=False, soft_wrap=True)
    with console.status(f"Training {' and '.join(runs)}..."):
        results = _train_side_by_side(demo, device, runs)

    console.rule("3. Result")
    table = Table("method", "test PSNR (dB)", "test SSIM")
    for name, metrics in results.items():
        table.add_row(name, f"{metrics['psnr']:.2f}", f"{metrics['ssim']:.3f}")
    console.print(table)
    sheet = runs[ADJUSTED] / "test_views.png"
    views = {name: read_test_views(run)[::2] for name, run in runs.items()}
    renderings = {f"{name}, {results[name]['psnr']:.2f} dB": [fine for _, fine in views[name]] for name in runs}
    compared_sheet([truth for truth, _ in views[ADJUSTED]], renderings, sheet)
    console.print(f"Test views beside the ground truth: {sheet}")
    console.print(f"Took {(time.monotonic() - start) / 60:.1f} minutes.\n")
    console.print(_what_next(runs[ADJUSTED]), highlight=False, soft_wrap=True)


def _train_side_by_side(demo: Demo, device: str, runs: dict[str, Path]) -> dict[str, dict[str, float]]:
    """Train and evaluate all runs at the same time, which share the cores; nerfstudio's metrics by the run's name."""
    threads = max((os.cpu_count() or 1) // len(runs), 1)

    def train_and_evaluate(name: str) -> dict[str, float]:
        _train(demo, device, runs[name], name == ADJUSTED, threads)
        return evaluate(runs[name], threads)

    with ThreadPoolExecutor(len(runs)) as pool:
        return dict(zip(runs, pool.map(train_and_evaluate, runs), strict=True))


def _train(demo: Demo, device: str, run: Path, enabled: bool, threads: int) -> None:
    """Train one network into a run's folder; nerfstudio's output goes to a file beside it."""
    settings: dict[str, object] = {
        "--data": demo.data,
        "--output-dir": demo.output_dir,
        "--experiment-name": "demo",
        "--timestamp": run.name,
        "--max-num-iterations": demo.max_num_iterations,
        "--machine.device-type": device,
        "--vis": "tensorboard",
        "--logging.steps-per-log": 100,
        "--optimizers.fields.scheduler.decay-steps": demo.max_num_iterations,
        "--pipeline.model.adjustment.enabled": enabled,
    }
    train("iga-nerf-tiny", settings, log=run.with_name(f"{run.name}.log"), threads=threads)


def _what_next(run: Path) -> str:
    return f"""What next (in the environment: source .venv/bin/activate)
  Walk through the scene:     ns-viewer --load-config {run / "config.yml"}
  Compare the curves:         tensorboard --logdir {run.parent}
  A real Blender scene:       ns-train iga-nerf --data data/blender/lego
  Fit a picture:              python examples/fit_image.py, or iga-image --data photo.png --compare
  Fit your own network:       the three lines in README.md, "In your own code"
"""
