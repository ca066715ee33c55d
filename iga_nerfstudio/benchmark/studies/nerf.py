"""NeRFs on Blender scenes, by every method, with and without the adjustment (Tables 3 and 14)."""

from __future__ import annotations

import json
import re
import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import tyro

from iga_nerfstudio.benchmark import paper
from iga_nerfstudio.benchmark.curves import mean_curve
from iga_nerfstudio.benchmark.paper import NAMES, sizes
from iga_nerfstudio.benchmark.plots import draw_curves
from iga_nerfstudio.benchmark.studies.methods import METHODS, PLAIN, RENDERING, UNTIL, Method, Size, why_not
from iga_nerfstudio.benchmark.study import Figures, Study, Train
from iga_nerfstudio.benchmark.sweep import Outcome, Training, one_thread_each
from iga_nerfstudio.benchmark.tables import differences, finished, gain, grouped, mean, number, spread, table, those
from iga_nerfstudio.devices import default_device
from iga_nerfstudio.divergence import TrainingDiverged
from iga_nerfstudio.evaluation.figures import read_side_by_side, view_sheet
from iga_nerfstudio.evaluation.metrics import ImageMetrics
from iga_nerfstudio.files import write_text
from iga_nerfstudio.nerf.commands import TEST_VIEWS, CommandError, run_command

# Runs a nerfstudio command without its own LPIPS; see there.
WRAPPER = "iga_nerfstudio.benchmark.studies.nerfstudio_command"
# Steps that are timed to turn a budget of seconds into steps, after those that warm up.
TRIAL_STEPS, WARM_UP_STEPS = 150, 50
# Tags of nerfstudio's TensorBoard scalars.
ITERATION_TIME, TEST_PSNR = "Train Iter (time)", "Eval Images Metrics Dict (all images)/psnr"
GPU_MEMORY = "GPU Memory (MB)"
# Columns after PSNR and its gain: of what, and how it is written.
COLUMNS = (
    {"median view": ("median_psnr", ".2f"), "worst view": ("worst_psnr", ".1f"), "SSIM": ("ssim", ".4f")}
    | {"LPIPS": ("lpips", ".3f"), "coarse PSNR": ("coarse_psnr", ".2f"), "steps": ("steps", ".0f")}
    | {"seconds": ("seconds", ".0f"), "ms / step": ("milliseconds_per_step", ".0f")}
    | {"memory, MB": ("host_mb", ".0f"), "GPU memory, MB": ("gpu_mb", ".0f"), "parameters": ("parameters", ",.0f")}
)


@dataclass(frozen=True)
class Nerf(Study):
    """NeRFs on Blender scenes, by every method, with and without the adjustment (Tables 3 and 14)."""

    name: ClassVar[str] = "nerf"

    data: tuple[Path, ...]  # Folders of Blender scenes; iga-nerf has the paper's settings of those that it trained on.
    # Images are shrunk by them, those of each scene by its own, or all by one.
    downscale_factors: tuple[int, ...] = (4, 2)
    # What to train.
    methods: tuple[str, ...] = (
        *("iga-nerf-plain", "iga-nerf", "iga-nerf-muon-plain", "iga-nerf-muon", "nerfacto", "iga-nerfacto"),
    )
    steps: int | None = None  # Training steps, if no seconds are given.
    # Seconds in training steps, if no steps are given; a short trial turns them into steps.
    seconds: float | None = 120.0
    size: Size = "small"  # Whether methods have their own networks and batches, or some that two CPU cores can train.
    test_skip: int = 5  # Every that many test views are rendered.
    curve_points: int = 3  # How often they are rendered up to the last step.
    seeds: tuple[int, ...] = (42, 43, 44)  # One training of each per seed.
    # Steps over which the learning rate of iga-nerf falls; those of the training if not given.
    decay_steps: int | None = None
    device: Literal["cpu", "cuda"] = "cpu"  # Where to train.
    mixed_precision: bool = False  # Whether networks run in half precision where they can, as --mixed-precision has it.
    lpips_backbone: Path | None = None  # AlexNet weights for LPIPS; torch's cache, or a download, if not given.
    # Stop after that long: what is under way is saved, and goes on when the command is called again.
    minutes: float | None = None
    runs: Path = Path("outputs/bench/nerf")  # Folder that ns-train writes to.

    def measure(self, train: Train) -> Figures:
        if (self.steps is None) == (self.seconds is None):
            raise ValueError("Give one budget: steps, or seconds in training steps.")
        if not self.seeds or not self.methods or not set(self.methods) <= set(METHODS):
            raise ValueError(f"Name at least one seed, and methods of {', '.join(METHODS)}; got {self.methods}.")
        names = {scene.name for scene in self.data}
        if not 0 < len(names) == len(self.data) == len(self.factors()):
            raise ValueError(
                f"Give scenes of different names a factor each, or one for all; got {names}, {self.downscale_factors}."
            )
        for scene in self.data:
            if not (scene / "transforms_train.json").is_file():
                raise ValueError(f"There is no scene {scene}: a folder with transforms_train.json and its kin.")
        not_run = [{"method": name, "reason": why} for name in self.methods if (why := why_not(name, self.device))]
        for entry in not_run:
            print(f"not run: {entry['method']} {entry['reason']}")
        outcomes = train(list(self.trainings()))
        for run in outcomes:
            if "failed" in run:
                reason = f"not finished on {run['scene']} with seed {run['seed']}: {run['failed'].removesuffix('.')}"
                not_run.append({"method": run["method"], "reason": reason})
        return {"trainings": [run for run in outcomes if "failed" not in run], "not_run": not_run}

    def factors(self) -> tuple[int, ...]:
        """One for every scene."""
        given = self.downscale_factors
        return given * len(self.data) if len(given) == 1 else given

    def trainings(self) -> Iterator[Training]:
        """Every method that can run here on every scene with every seed, in a folder of its name and key."""
        shared = ("test_skip", "steps", "seconds", "curve_points", "decay_steps", "device", "lpips_backbone")
        deadline = None if self.minutes is None else time.time() + 60 * self.minutes
        every = {name: getattr(self, name) for name in shared} | {"output_dir": self.runs, "deadline": deadline}
        every |= {"mixed_precision": self.mixed_precision} | RENDERING
        able = [method for method in self.methods if why_not(method, self.device) is None]
        scenes = zip(self.data, self.factors(), strict=True)
        for (scene, factor), method, seed in product(scenes, able, self.seeds):
            own = {"data": scene, "downscale_factor": factor, "method": METHODS[method].at(self.size, scene.name)}
            settings = every | own | {"seed": seed}
            training = Training({"scene": scene.name, "method": method, "seed": seed}, train_scene, settings)
            # The name is no part of the key.
            yield replace(training, configuration=settings | {"timestamp": f"{training.name}-{training.key[:12]}"})

    @classmethod
    def section(cls, figures: Figures, stem: str) -> str:
        skip, steps, decay = figures["test_skip"], figures["steps"], figures["decay_steps"]
        # The paper has iga-nerf alone, at half the size.
        half = set(figures["downscale_factors"]) == {2}
        own = figures if half and all(METHODS[method].paper for method in figures["methods"]) else {}
        parts = [
            f"""## {", ".join(figures["data"])}: {f"{figures['seconds']:g} s of" if steps is None else steps} steps

Images shrunk by {", ".join(map(str, figures["downscale_factors"]))}, {"all" if skip == 1 else f"one of {skip}"} test \
views, {"each method's own size" if figures["size"] == "own" else "small networks and batches"}, \
{f"the learning rate of iga-nerf falling over {decay} steps, " if decay else ""}on {figures["device"]}\
{" in mixed precision" if figures.get("mixed_precision") else ""}, seeds \
{", ".join(map(str, figures["seeds"]))}. {sizes(own, FULL)}
"""
        ]
        for scene in figures["data"]:
            runs = those(figures["trainings"], scene=scene)
            parts.append(f"### {scene}\n\n{_table(runs, scene)}")
            if figures["curve_points"]:
                parts.append(f"![{scene}: test PSNR over steps and over seconds]({stem}_{scene}_curves.png)\n")
            parts.append(f"![{scene}: truth, rendering and error of every method]({stem}_{scene}.png)\n")
        not_run = [f"- {entry['method']}: {entry['reason']}.\n" for entry in figures["not_run"]]
        parts += [_words(figures["trainings"]), "Not run:\n\n" + "".join(not_run) if not_run else ""]
        return "\n".join(filter(None, parts))

    @classmethod
    def draw(cls, figures: Figures, path: Path) -> None:
        for scene in figures["data"]:
            runs = finished(those(figures["trainings"], scene=scene))
            trained = {method: own for (method,), own in grouped(runs, "method").items()}
            # Where seconds are given, seeds have other steps, but these are the same shares of a training.
            curves = {method: mean_curve(own) for method, own in trained.items()}
            rates = {method: (mean(own, "seconds") or 0.0) / own[0]["steps"] for method, own in trained.items()}
            in_time = {name: [(rates[name] * step, psnr) for step, psnr in curves[name]] for name in curves}
            if figures["curve_points"] and runs:
                panels = {"over steps": curves, "over seconds in training steps": in_time}
                draw_curves(panels, path.with_name(f"{path.name}_{scene}_curves.png"), "test PSNR (dB)", over="")
            # Renderings are too many to be kept with the results: where a run's folder is gone, the picture stays.
            first = those(runs, seed=figures["seeds"][0])
            if first and all((Path(run["folder"]) / TEST_VIEWS).is_dir() for run in first):
                pairs = [read_views(Path(run["folder"]), METHODS[run["method"]])[0] for run in first]
                columns = [f"{run['method']}\n{run['psnr']:.2f} dB" for run in first]
                view_sheet(pairs, path.with_name(f"{path.name}_{scene}.png"), columns=columns)


def _table(runs: list[Outcome], scene: str) -> str:
    """A row for every method, and the paper's."""
    rows = []
    for (method,), own in grouped(runs, "method").items():
        gains = gain(differences(own, those(runs, method=PLAIN.get(method)), "psnr"))
        means = (number(mean(own, metric), how) for metric, how in COLUMNS.values())
        rows.append([method, spread(own, "psnr"), gains, *means])
    for variant in ("plain", "iga"):
        psnr, plain = (paper.number("scene", "nerf", name, "psnr", [scene]) for name in (variant, "plain"))
        theirs = {name: paper.number("scene", "nerf", variant, name, [scene]) for name in ("ssim", "lpips")}
        if psnr and plain:
            gains = "" if variant == "plain" else f"{psnr - plain:+.2f}"
            cells = (number(theirs.get(metric), how) for metric, how in COLUMNS.values())
            rows.append([f"paper, {NAMES[variant]}", number(psnr), gains, *cells])
    return table(("method", "PSNR", "gain (in how many cases)", *COLUMNS), rows)


def _words(runs: list[Outcome]) -> str:
    """What the adjustment gains over all scenes and seeds, and in how many cases."""
    lines = []
    for method, plain in PLAIN.items():
        pair = (those(runs, method=method), those(runs, method=plain))
        of_mean, of_median = (gain(differences(*pair, metric, "scene")) for metric in ("psnr", "median_psnr"))
        if of_mean:
            lines.append(f"- {method} over {plain}: mean of the views {of_mean} dB, median view {of_median} dB.\n")
    return "Gains over all scenes and seeds:\n\n" + "".join(lines) if lines else ""


def train_scene(settings: dict[str, Any]) -> Outcome:
    """Train and evaluate once, with one thread on a CPU."""
    with one_thread_each() if settings["device"] == "cpu" else nullcontext():
        try:
            return _train_and_judge(settings)
        except CommandError as error:
            return {"failed": str(error)}


def _train_and_judge(settings: dict[str, Any]) -> Outcome:
    metrics = ImageMetrics(settings["lpips_backbone"])  # before hours of training: it may refuse the file
    steps, points = settings["steps"], settings["curve_points"]
    if steps is None:
        method = settings["method"]
        # Of steps at their dearest: a training that is adjusted in its first part takes less than its seconds.
        dearest = replace(method, options=method.options | ({UNTIL: 1.0} if UNTIL in method.options else {}))
        trial, _ = _train(
            settings | {"method": dearest}, f"{settings['timestamp']}-trial", WARM_UP_STEPS + TRIAL_STEPS, 0
        )
        steps = max(int(settings["seconds"] / statistics.median(_step_seconds(_scalars(trial)))), 1)
    folder, host_bytes = _train(settings, settings["timestamp"], steps, points)
    places = ("--output-path", folder / "eval.json", "--render-output-path", folder / TEST_VIEWS)
    config = folder / "config.yml"
    run_command("python", "-m", WRAPPER, "ns-eval", "--load-config", config, *places, log=folder / "eval.log")
    views = [
        metrics(torch.from_numpy(rendering).float(), torch.from_numpy(truth).float())
        for truth, rendering in read_views(folder, settings["method"])
    ]
    means = {name: statistics.mean(view[name] for view in views) for name in views[0]}
    results = json.loads((folder / "eval.json").read_text())["results"].items()
    psnr_of_views = [view["psnr"] for view in views]
    scalars = _scalars(folder)
    seconds = statistics.mean(_step_seconds(scalars))
    curve = [[step, round(psnr, 3)] for step, psnr in scalars.get(TEST_PSNR, [])[: max(points - 1, 0)]]
    checkpoint = max((folder / "nerfstudio_models").glob("step-*.ckpt"))
    # nerfstudio's own schedules leave numpy numbers in there.
    values = torch.load(checkpoint, map_location="cpu", weights_only=False)["pipeline"].values()
    gpu = [value for _, value in scalars.get(GPU_MEMORY, []) if value]  # 0 on a CPU
    return {
        **means,
        **{name: value for name, value in results if name == "coarse_psnr"},
        # One floater before one camera can outweigh all other views in the mean.
        "median_psnr": statistics.median(psnr_of_views),
        "worst_psnr": min(psnr_of_views),
        "psnr_of_views": [round(psnr, 2) for psnr in psnr_of_views],
        "steps": steps,
        "seconds": seconds * steps,
        "milliseconds_per_step": 1000 * seconds,
        "host_mb": host_bytes / 2**20,
        **({"gpu_mb": max(gpu)} if gpu else {}),
        "parameters": sum(value.numel() for value in values if torch.is_tensor(value) and value.is_floating_point()),
        "curve": [*curve, [steps, round(means["psnr"], 3)]],
        "folder": str(folder),
    }


def _train(settings: dict[str, Any], timestamp: str, steps: int, curve_points: int) -> tuple[Path, int]:
    """Train with ns-train, from where an earlier call was stopped: the run's folder, and peak host memory in bytes."""
    folder = settings["output_dir"] / settings["data"].name / settings["method"].name / timestamp
    done = _steps_done(folder)
    if done >= steps:
        return folder, int((folder / "host_bytes").read_text())
    if done == 0:
        shutil.rmtree(folder, ignore_errors=True)  # stopped before it could be saved
    command = command_of_run(settings, timestamp, steps, curve_points, folder if done else None)
    left = None if settings["deadline"] is None else settings["deadline"] - time.time()
    log = folder.with_name(f"{timestamp}.log")
    try:
        host_bytes = run_command("python", "-m", WRAPPER, *command, log=log, seconds=left)
    except CommandError:
        if found := re.search(r"Training diverged: (.+?)\. ", log.read_text(errors="replace")):
            raise TrainingDiverged(found[1]) from None
        raise
    write_text(folder / "host_bytes", str(host_bytes))
    return folder, host_bytes


def _steps_done(folder: Path) -> int:
    """How many steps a run's latest checkpoint is of."""
    steps = [int(path.stem.removeprefix("step-")) + 1 for path in folder.glob("nerfstudio_models/step-*.ckpt")]
    return max(steps, default=0)


def command_of_run(
    settings: dict[str, Any], timestamp: str, steps: int, curve_points: int, begun: Path | None = None
) -> list[object]:
    """The words of an ns-train command, that goes on with a run that was begun."""
    method, scene, never = settings["method"], settings["data"], 10 * steps + 1
    load = {} if begun is None else {"--load-dir": begun / "nerfstudio_models"}
    # nerfstudio's own trainer takes so many steps more; ours so many in all.
    more = steps if begun is None or method.name.startswith("iga-") else steps - _steps_done(begun)
    decay = {method.decay_steps: settings["decay_steps"] or steps} if method.decay_steps else {}
    options = {
        "--data": scene,
        "--output-dir": settings["output_dir"],
        "--experiment-name": scene.name,
        "--timestamp": timestamp,
        "--vis": "tensorboard",
        "--machine.seed": settings["seed"],
        "--machine.device-type": settings["device"],
        "--max-num-iterations": more,
        "--steps-per-save": max(steps // 20, 1),
        "--steps-per-eval-image": never,
        "--steps-per-eval-batch": never,
        "--steps-per-eval-all-images": max(steps // curve_points, 1) if curve_points else never,
    }
    if settings["mixed_precision"]:
        options |= {"--mixed-precision": True}
    return [
        *("ns-train", method.name, *(word for option in (options | load).items() for word in option)),
        *(word for name, value in (method.options | decay).items() for word in (name, *str(value).split())),
        *("iga-blender", "--downscale-factor", settings["downscale_factor"], "--test-skip", settings["test_skip"]),
    ]


def _step_seconds(scalars: dict[str, list[tuple[int, float]]]) -> list[float]:
    """Seconds of the logged training steps; those that warm up are left out where there are others."""
    values = [value for _, value in scalars[ITERATION_TIME]]
    return [value for step, value in scalars[ITERATION_TIME] if step >= WARM_UP_STEPS] or values


def _scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of what a run logged for TensorBoard, by tag."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def read_views(folder: Path, method: Method) -> list[tuple[np.ndarray, np.ndarray]]:
    """Test views of an evaluated run: truth and rendering, ``(H, W, 3)`` in [0, 1] each."""
    pictures = sorted((folder / TEST_VIEWS).glob("eval_img_*.png"))
    parts = [read_side_by_side(path, method.panels) for path in pictures]
    return [(part[0], part[method.rendering]) for part in parts]


# What decides whether a result's sizes are the paper's, beside methods and factors.
FULL: Figures = {"steps": 200_000, "decay_steps": 250_000, "size": "own", "test_skip": 8}
PRESETS = {
    "smoke": Nerf(tyro.MISSING, (1,), ("iga-nerf-tiny", "iga-nerf-tiny-plain"), 5, None, "own", 1, 0, (42,)),
    "cpu": Nerf(tyro.MISSING),
    "full": Nerf(
        *(tyro.MISSING, (2,), ("iga-nerf-plain", "iga-nerf-paper"), 200_000, None, "own", 8, 3, (42,), 250_000),
        device=default_device(),
    ),
}
