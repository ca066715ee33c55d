"""``iga-demo``: the built-in scene, trained, evaluated and shown, in minutes on a CPU."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console
from rich.table import Table

from iga_nerfstudio.devices import default_device
from iga_nerfstudio.evaluation.figures import view_sheet
from iga_nerfstudio.nerf.commands import CommandError, evaluate, read_test_views, train
from iga_nerfstudio.scenes import write_demo_scene


@dataclass
class Demo:
    """Make the built-in scene, train iga-nerf-tiny on it with ns-train, evaluate it with ns-eval, show the result."""

    data: Path = Path("data/demo")
    """Folder for the scene."""
    output_dir: Path = Path("outputs")
    """Folder for the run."""
    max_num_iterations: int = 3000
    """Training steps."""
    compare: bool = False
    """Also train the plain NeRF, with the same seed, and show both."""


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

    results = {}
    for enabled in (False, True) if demo.compare else (True,):
        name = "IGA-NeRF" if enabled else "plain NeRF"
        console.rule(f"2. ns-train iga-nerf-tiny, {name}, {demo.max_num_iterations} steps on the {device.upper()}")
        run = _train(demo, device, enabled)
        console.rule(f"3. ns-eval, {name}, 10 test views")
        results[name] = evaluate(run)

    console.rule("4. Result")
    table = Table("method", "test PSNR (dB)", "test SSIM")
    for name, metrics in results.items():
        table.add_row(name, f"{metrics['psnr']:.2f}", f"{metrics['ssim']:.3f}")
    console.print(table)
    sheet = run / "test_views.png"
    view_sheet(read_test_views(run)[::2], sheet)
    console.print(f"Test views beside the ground truth: {sheet}")
    console.print(f"Took {(time.monotonic() - start) / 60:.1f} minutes.\n")
    console.print(_what_next(run), highlight=False, soft_wrap=True)


def _train(demo: Demo, device: str, enabled: bool) -> Path:
    """Train one network; the run's folder."""
    timestamp = time.strftime("%Y-%m-%d_%H%M%S")
    settings: dict[str, object] = {
        "--data": demo.data,
        "--output-dir": demo.output_dir,
        "--experiment-name": "demo",
        "--timestamp": timestamp,
        "--max-num-iterations": demo.max_num_iterations,
        "--machine.device-type": device,
        "--vis": "tensorboard",
        "--logging.steps-per-log": 100,
        "--optimizers.fields.scheduler.decay-steps": demo.max_num_iterations,
        "--pipeline.model.adjustment.enabled": enabled,
    }
    train("iga-nerf-tiny", settings)
    return demo.output_dir / "demo" / "iga-nerf-tiny" / timestamp


def _what_next(run: Path) -> str:
    return f"""What next (in the environment: source .venv/bin/activate)
  Walk through the scene:     ns-viewer --load-config {run / "config.yml"}
  Watch the training curves:  tensorboard --logdir {run}
  Plain NeRF beside it:       iga-demo --compare
  A real Blender scene:       ns-train iga-nerf --data data/blender/lego
  Fit a picture:              python examples/fit_image.py
  Fit your own network:       the three lines in README.md, "In your own code"
"""
