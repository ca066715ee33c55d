"""Blender scenes: every method trained and evaluated through nerfstudio, in one protocol."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from iga_nerfstudio.benchmark.studies.peers import METHODS, Method, Peer, Size, scene_options, why_not
from iga_nerfstudio.evaluation.figures import read_side_by_side
from iga_nerfstudio.evaluation.metrics import ImageMetrics
from iga_nerfstudio.files import write_text
from iga_nerfstudio.nerf.commands import TEST_VIEWS, run_command

# Runs a nerfstudio command without its own LPIPS; see there.
WRAPPER = "iga_nerfstudio.benchmark.studies.nerfstudio_command"
# Steps that are timed to turn a budget of seconds into steps, after those that warm up.
TRIAL_STEPS, WARM_UP_STEPS = 150, 50
# Tags of nerfstudio's TensorBoard scalars.
ITERATION_TIME, TEST_PSNR = "Train Iter (time)", "Eval Images Metrics Dict (all images)/psnr"
GPU_MEMORY = "GPU Memory (MB)"


@dataclass(frozen=True)
class Protocol:
    """What all methods share.

    Attributes:
        downscale_factor: Images are shrunk by it.
        test_skip: Every that many test views are rendered.
        steps: Training steps, or None where seconds are the budget.
        seconds: Seconds in training steps, or None where steps are the budget.
        size: Whether methods have their own size or a small one.
        curve_points: How often the test views are rendered during training.
        seed: Seed of every training.
        device: ``"cpu"`` or ``"cuda"``.
        lpips_backbone: AlexNet weights for LPIPS; torch's cache, or a download, if None.
    """

    downscale_factor: int
    test_skip: int
    steps: int | None
    seconds: float | None
    size: Size
    curve_points: int
    seed: int
    device: str
    lpips_backbone: str | None = None


def measure_blender(
    data: Path,
    scenes: tuple[str, ...],
    methods: tuple[Peer, ...],
    protocol: Protocol,
    runs: Path,
    tell: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train and evaluate every method on every scene.

    What has finished is not repeated, so an interrupted benchmark goes on where it stopped. A method that fails is
    reported with where its log is, and the others go on.

    Args:
        data: Folder of the scenes.
        scenes: Their names; all of the folder's if empty.
        methods: What to train.
        protocol: What all share.
        runs: Folder of the runs.
        tell: Told about every finished run.

    Returns:
        Every run's metrics and costs, means over scenes, and what was not run and why.

    Raises:
        ValueError: If there is no scene, or not exactly one budget.
    """
    if (protocol.steps is None) == (protocol.seconds is None):
        raise ValueError("Give one budget: steps, or seconds in training steps.")
    found = scenes or tuple(sorted(path.parent.name for path in data.glob("*/transforms_train.json")))
    absent = [scene for scene in found if not (data / scene / "transforms_train.json").is_file()]
    if not found or absent:
        raise ValueError(f"{data} has no scene {', '.join(absent) or 'at all'}: no transforms_train.json.")
    not_run = [{"method": peer, "reason": reason} for peer in methods if (reason := why_not(peer, protocol.device))]
    done = []
    for scene in found:
        for peer in methods:
            if why_not(peer, protocol.device):
                continue
            folder = runs / scene / METHODS[peer].name / _run_name(peer, protocol)
            try:
                done.append(_run(data / scene, peer, protocol, runs, folder))
            except RuntimeError as error:
                not_run.append({"method": peer, "scene": scene, "reason": f"failed: {error}"})
                tell(f"{scene} {peer}: {error}")
            else:
                tell(f"{scene} {peer}: {done[-1]['psnr']:.2f} dB, {done[-1]['seconds']:.0f} s")
    return {
        **asdict(protocol),
        "scenes": list(found),
        "runs": done,
        "means": _means(done, methods, len(found)),
        "not_run": not_run,
    }


def _run_name(peer: Peer, protocol: Protocol) -> str:
    budget = f"{protocol.steps}steps" if protocol.steps is not None else f"{protocol.seconds:g}s"
    return f"{peer}-{budget}-down{protocol.downscale_factor}-{protocol.size}-seed{protocol.seed}"


def _run(scene: Path, peer: Peer, protocol: Protocol, runs: Path, folder: Path) -> dict[str, Any]:
    """One training and its evaluation, or what is left of them to do."""
    record = folder / "blender.json"
    if record.exists():
        result: dict[str, Any] = json.loads(record.read_text())
        return result
    method = METHODS[peer]
    steps = protocol.steps
    if steps is None:
        steps = max(int((protocol.seconds or 0.0) / _seconds_per_step(scene, method, protocol, runs, folder)), 1)
    memory = folder / "memory.json"
    if not memory.exists():  # written when training has finished
        peak = _train(scene, method, protocol, runs, folder.name, steps, protocol.curve_points)
        write_text(memory, json.dumps({"host_bytes": peak}))
    places = ("--output-path", folder / "eval.json", "--render-output-path", folder / TEST_VIEWS)
    command = ("ns-eval", "--load-config", folder / "config.yml", *places)
    run_command("python", "-m", WRAPPER, *command, log=folder / "eval.log")
    curves = _scalars(folder)
    per_step = statistics.mean(_step_seconds(curves))
    result = {
        "scene": scene.name,
        "method": peer,
        "steps": steps,
        **_metrics(folder, method, protocol),
        "seconds": per_step * steps,
        "seconds_per_step": per_step,
        "peak_host_bytes": json.loads(memory.read_text())["host_bytes"],
        "peak_gpu_bytes": max((value for _, value in curves.get(GPU_MEMORY, [])), default=0.0) * 2**20,
        "parameters": _count_parameters(folder),
        "curve": [
            {"step": step, "seconds": per_step * step, "psnr": value} for step, value in curves.get(TEST_PSNR, [])
        ],
        "folder": str(folder),
    }
    write_text(record, json.dumps(result, indent=2) + "\n")
    return result


def _train(
    scene: Path, method: Method, protocol: Protocol, runs: Path, timestamp: str, steps: int, curve_points: int
) -> int:
    """Train with ns-train; peak host memory in bytes."""
    never = 10 * steps + 1
    options: dict[str, object] = {
        "--data": scene,
        "--output-dir": runs,
        "--experiment-name": scene.name,
        "--timestamp": timestamp,
        "--machine.seed": protocol.seed,
        "--machine.device-type": protocol.device,
        "--max-num-iterations": steps,
        "--steps-per-save": steps,
        "--steps-per-eval-image": never,
        "--steps-per-eval-batch": never,
        "--steps-per-eval-all-images": max(steps // curve_points, 1) if curve_points else never,
        "--vis": "tensorboard",
    }
    options |= scene_options(scene.name) if method.paper else {}
    options |= method.options
    if protocol.size == "small":
        options |= method.small
    if method.decay_steps is not None:
        options[method.decay_steps] = steps
    words = [word for name, value in options.items() for word in (name, *str(value).split())]
    parser = ("iga-blender", "--downscale-factor", protocol.downscale_factor, "--test-skip", protocol.test_skip)
    folder = runs / scene.name / method.name / timestamp
    shutil.rmtree(folder, ignore_errors=True)  # a training that was interrupted
    log = folder.with_name(f"{timestamp}.log")
    return run_command("python", "-m", WRAPPER, "ns-train", method.name, *words, *parser, log=log)


def _seconds_per_step(scene: Path, method: Method, protocol: Protocol, runs: Path, folder: Path) -> float:
    """What a training step takes, by a short trial."""
    trial = folder.with_name(f"{folder.name}-trial")
    if not (trial / "config.yml").exists():
        _train(scene, method, protocol, runs, trial.name, WARM_UP_STEPS + TRIAL_STEPS, curve_points=0)
    return statistics.median(_step_seconds(_scalars(trial)))


def _step_seconds(curves: dict[str, list[tuple[int, float]]]) -> list[float]:
    """Seconds of the logged training steps; those that warm up are left out where there are others."""
    values = [value for _, value in curves[ITERATION_TIME]]
    return [value for step, value in curves[ITERATION_TIME] if step >= WARM_UP_STEPS] or values


def _scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of what a run logged for TensorBoard, by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def read_views(folder: Path, method: Method) -> list[tuple[np.ndarray, np.ndarray]]:
    """Test views of an evaluated run: truth and rendering, ``(H, W, 3)`` in [0, 1] each.

    Args:
        folder: The run's.
        method: What was trained; it says how its pictures are arranged.
    """
    pictures = sorted((folder / TEST_VIEWS).glob("eval_img_*.png"))
    parts = [read_side_by_side(path, method.panels) for path in pictures]
    return [(part[0], part[method.rendering]) for part in parts]


def _metrics(folder: Path, method: Method, protocol: Protocol) -> dict[str, Any]:
    """Means over the test views, of their 8-bit pictures, by one implementation for all methods."""
    metrics = ImageMetrics(None if protocol.lpips_backbone is None else Path(protocol.lpips_backbone))
    views = [
        metrics(torch.from_numpy(rendering).float(), torch.from_numpy(truth).float())
        for truth, rendering in read_views(folder, method)
    ]
    means: dict[str, Any] = {name: statistics.mean(view[name] for view in views) for name in views[0]}
    return means | {"psnr_of_views": [round(view["psnr"], 2) for view in views]}


def _count_parameters(folder: Path) -> int:
    """Numbers that the run's model consists of, by its checkpoint."""
    (path,) = (folder / "nerfstudio_models").glob("step-*.ckpt")
    # nerfstudio's own schedules leave numpy numbers in there.
    state = torch.load(path, map_location="cpu", weights_only=False)["pipeline"]
    return sum(
        value.numel() for name, value in state.items() if isinstance(value, torch.Tensor) and value.is_floating_point()
    )


def _means(runs: list[dict[str, Any]], methods: tuple[Peer, ...], num_scenes: int) -> list[dict[str, Any]]:
    """Each method's means over the scenes; only of methods that have run on all of them."""
    means = []
    for peer in methods:
        own = [run for run in runs if run["method"] == peer]
        if len(own) == num_scenes:
            names = [name for name in ("psnr", "ssim", "lpips", "seconds", "peak_host_bytes") if name in own[0]]
            means.append({"method": peer} | {name: statistics.mean(run[name] for run in own) for name in names})
    return means
