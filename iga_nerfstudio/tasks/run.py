"""A run on disk: its folder, its progress on the terminal, and what it leaves behind."""

from __future__ import annotations

import filecmp
import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from torch.utils.tensorboard import SummaryWriter

from iga_nerfstudio.arguments import name_of_folder
from iga_nerfstudio.curves import tolerant
from iga_nerfstudio.divergence import TrainingDiverged
from iga_nerfstudio.files import write_text
from iga_nerfstudio.run_folders import claim_run_folder, lock_run_folder, release_run_folder
from iga_nerfstudio.tasks.checkpoints import Checkpoints, save_model
from iga_nerfstudio.tasks.compare import PLAIN, plain_settings, require_adjustment, require_same_settings
from iga_nerfstudio.tasks.config import TaskConfig
from iga_nerfstudio.tasks.config_files import CONFIG_FILE, AnyTask, read_run, to_yaml
from iga_nerfstudio.tasks.run_report import REPORT_FILE, Run, compare, write_run_report
from iga_nerfstudio.tasks.task import Fit, Task, best_network, conclude
from iga_nerfstudio.tasks.trainer import Trainer, Watcher

CHECKPOINTS = "checkpoints"
MODELS = "models"
METRICS_FILE = "metrics.json"
# Pixels along the longer side of a picture in TensorBoard.
_LARGEST_PICTURE = 512
# Most pictures of a run there, besides the first and the last.
_PICTURES = 20
_KIBIBYTE = 1024


def folder_of_runs(config: TaskConfig) -> Path:
    """Where new runs get folders of their own: ``<output-dir>/<experiment-name>/<task>``."""
    name = name_of_folder("--experiment-name", config.experiment_name or config.name_of_data())
    return config.output_dir / name / config.task


def claim_folder(config: TaskConfig) -> Path:
    """The folder of a run, for this process to write to until it is released.

    That of the run to continue, or a new one of the runs' folder, named by timestamp.

    Args:
        config: The run's settings.

    Raises:
        ValueError: If there is a finished run of that timestamp, another process is writing to the folder, or it would
            not be in the output folder.
        OSError: If it cannot be made.
    """
    if config.load_dir is not None:
        lock_run_folder(config.load_dir)
        return config.load_dir
    if config.timestamp is not None:
        name_of_folder("--timestamp", config.timestamp)
    return claim_run_folder(folder_of_runs(config), config.timestamp, results=(CHECKPOINTS, MODELS, METRICS_FILE))


def require_same_data(config: AnyTask, begun: AnyTask) -> None:
    """Refuse to continue a run with the data of another: it would become that one's, its results included.

    Args:
        config: Settings to continue with; their data may be a file that was moved.
        begun: The run's own.

    Raises:
        ValueError: If both name a file and the files differ, another part or size of the data would be fitted, or the
            run's own is not there and no other is named.
    """
    for name in config.fitted:
        option, asked, kept = f"--{name.replace('_', '-')}", getattr(config, name), getattr(begun, name)
        if asked != kept:
            raise ValueError(
                f"The run in {config.load_dir} has {option} {kept}, and with {asked} it would be one of other data. "
                f"Continue it without, or begin another run of its settings: {config.task} --config "
                f"{config.load_dir}/config.yml and {option}."
            )
    given, own = config.data, begun.data
    if own is not None and given == own and not own.exists():
        seen_from = "" if own.is_absolute() else f" seen from here, {Path.cwd()}"
        raise ValueError(f"The run in {config.load_dir} is of {own}, which is not there{seen_from}. Name it by --data.")
    if given is None or own is None or not (given.is_file() and own.is_file()):
        return
    if not filecmp.cmp(given, own, shallow=False):
        raise ValueError(
            f"The run in {config.load_dir} is of {own}, and {given} holds something else. Continue it without --data, "
            f"or begin another run of its settings: {config.task} --config {config.load_dir}/config.yml --data {given}"
        )


def execute(config: AnyTask, load: Callable[[AnyTask], Task[Any]], console: Console, command: str) -> bool:
    """Train on a task's data, show the progress, and write everything to the run's folder; the plain run too if asked.

    Args:
        config: Settings.
        load: Makes the task of them.
        console: Where progress and results are shown.
        command: The command line, for the report.

    Returns:
        Whether the run, or both, reached the last step; False after Ctrl-C or SIGTERM, with the state saved.

    Raises:
        ValueError: If a setting is out of range, or the folder is another run's or cannot be written to.
        TrainingDiverged: If loss or weights are no longer finite; the best model until then is saved.
    """
    if config.compare:
        require_adjustment(config)
    if config.load_dir is not None:
        begun = read_run(config.load_dir, type(config))
        if config.compare and not _begun(config.load_dir / PLAIN):
            require_same_settings(config, begun)
        require_same_data(config, begun)
    task = load(config)
    trainer = task.trainer()
    try:
        folder = claim_folder(config)
        try:
            run = _run(task, trainer, folder, console, folder)
            if run is None:
                return False
            write_run_report(run, command)
            _show(run, console)
            return not config.compare or _run_plain(run, config, load, console, command)
        finally:
            release_run_folder(folder)
    except OSError as error:
        raise ValueError(
            f"{config.load_dir or config.output_dir} cannot be written to: {error.strerror or error}. Choose another "
            "--output-dir or make room. Checkpoints written before are untouched."
        ) from error


def _begun(folder: Path) -> bool:
    return bool(Checkpoints(folder / CHECKPOINTS).paths())


def _run_plain(
    adjusted: Run, config: AnyTask, load: Callable[[AnyTask], Task[Any]], console: Console, command: str
) -> bool:
    """Train the plain run in a folder of the adjusted one's, and show both in its report; whether it got to its end."""
    folder = adjusted.folder / PLAIN
    folder.mkdir(exist_ok=True)
    lock_run_folder(folder)
    try:
        console.print("The plain run, for comparison:")
        task = load(plain_settings(config, folder if _begun(folder) else None))
        plain = _run(task, task.trainer(), folder, console, adjusted.folder)
        if plain is None:
            return False
        write_run_report(plain, command)
        _show(plain, console)
        write_run_report(adjusted, command, plain)
        told = f"{compare(adjusted, plain)}\nBoth are in {adjusted.folder / REPORT_FILE}"
        console.print(told, markup=False, soft_wrap=True)
        return True
    finally:
        release_run_folder(folder)


def _run(task: Task[Any], trainer: Trainer, folder: Path, console: Console, asked: Path) -> Run | None:
    """Train and write all but the report; None after Ctrl-C or SIGTERM, with how to go on in the folder asked for."""
    config = task.config
    start_memory = peak_memory_mb()
    trainer.checkpoints = Checkpoints(folder / CHECKPOINTS, config.save_only_latest_checkpoint)
    if config.load_dir is not None:
        trainer.load_state_dict(trainer.checkpoints.load_latest())
        if trainer.record.steps > config.max_num_iterations:
            raise ValueError(
                f"The run in {folder} has taken {trainer.record.steps} steps already: --max-num-iterations is how many "
                f"it takes in all and must be no less, got {config.max_num_iterations}."
            )
        console.print(f"Continuing {folder} after step {trainer.record.steps}.", markup=False, soft_wrap=True)
    with _watching(task, trainer, folder, console) as trainer.watchers:
        _train(task, trainer, folder)
    memory = finite({"start_memory_mb": round(start_memory, 0), "peak_memory_mb": round(peak_memory_mb(), 0)})
    if trainer.record.interrupted:
        console.print(
            f"Stopped after step {trainer.record.steps} of {config.max_num_iterations}; the state is saved. "
            f"Continue with:\n  {config.task} --load-dir {asked}",
            markup=False,
            soft_wrap=True,
        )
        return None
    fit = conclude(task, trainer)
    _write_models(task, trainer, folder)
    write_text(folder / METRICS_FILE, json.dumps(_summary(fit, trainer) | memory, indent=2) + "\n")
    return Run(task, trainer, fit, task.write_results(fit.model, folder), folder)


def _train(task: Task[Any], trainer: Trainer, folder: Path) -> None:
    """Train under the run's settings in ``config.yml``; where that comes to nothing, they are what they were."""
    path, settings = folder / CONFIG_FILE, _settings(task)
    before = path.read_text(encoding="utf-8") if path.exists() else settings
    write_text(path, settings)
    try:
        trainer.train()
    except TrainingDiverged:
        write_text(path, before)
        _write_models(task, trainer, folder, last=False)
        raise
    if not path.exists():  # somebody has cleared the folder meanwhile
        write_text(path, settings)


def _settings(task: Task[Any]) -> str:
    return to_yaml(replace(task.config, load_dir=None))


def _write_models(task: Task[Any], trainer: Trainer, folder: Path, last: bool = True) -> None:
    """``models/best.pt`` and, unless it came to nothing, ``models/last.pt``."""
    networks = {"best": best_network(trainer)} | ({"last": trainer.network} if last else {})
    for name, network in networks.items():
        weights = {key: value.cpu() for key, value in network.state_dict().items()}
        save_model(folder / MODELS / f"{name}.pt", weights, task.config.network, task.sizes, task.description())


def _summary(fit: Fit, trainer: Trainer) -> dict[str, Any]:
    """What ``metrics.json`` holds."""
    seen = trainer.adjuster.diagnostics
    return {
        "task": trainer.config.task,
        "data": None if trainer.config.data is None else str(trainer.config.data),
        "adjusted": trainer.adjuster.enabled,
        "metrics": finite(fit.metrics),
        "best": {"step": fit.best_step} | finite(fit.best_metrics),
        "steps": fit.record.steps,
        "seconds": round(fit.record.seconds, 3),
        "steps_unadjusted": dict(seen.unadjusted),
        "parameters": sum(p.numel() for p in fit.model.parameters()),
        "torch": torch.__version__,
        "evaluations": {
            name: [steps, [_finite(value) for value in values]]
            for name, (steps, values) in fit.record.evaluations.items()
        },
    }


def finite(metrics: dict[str, float]) -> dict[str, float | None]:
    """Metrics for JSON, which knows no infinity (the PSNR of a perfect copy): None in its place."""
    return {name: _finite(value) for name, value in metrics.items()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def peak_memory_mb() -> float:
    """Largest memory use of this process so far, in MB: the GPU's where there is one, else the process's.

    Not a number where the system does not tell (Windows).
    """
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0:
        return torch.cuda.max_memory_allocated() / 1e6
    try:
        import resource
    except ImportError:
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * _KIBIBYTE / 1e6


@contextmanager
def _watching(task: Task[Any], trainer: Trainer, folder: Path, console: Console) -> Iterator[tuple[Watcher, ...]]:
    """A progress bar and, if asked for, TensorBoard's curves and pictures."""
    config, first_step = task.config, trainer.record.steps
    columns = (
        TextColumn(config.task),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=config.max_num_iterations, figures="", completed=first_step)
        shown: dict[str, float] = {}

        def show(step: int, figures: dict[str, float]) -> None:
            shown.update({name: value for name, value in figures.items() if name in ("psnr", "iou", "train/loss")})
            text = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
            progress.update(bar, completed=step, figures=text)

        if config.vis == "none":
            yield (show,)
            return
        folder.mkdir(parents=True, exist_ok=True)
        writer = SummaryWriter(str(folder))
        due = first_step
        try:

            def write(step: int, figures: dict[str, float]) -> None:
                nonlocal due
                _write_scalars(writer, step, figures)
                if task.metric in figures and (step >= due or step == config.max_num_iterations):  # an evaluation's
                    due = step + config.max_num_iterations // _PICTURES
                    pictures = np.concatenate(task.preview(trainer.network, _LARGEST_PICTURE), axis=1)
                    writer.add_image("truth and reconstruction", pictures, step, dataformats="HWC")

            yield show, tolerant(write)
        finally:
            tolerant(writer.close)()


def _write_scalars(writer: SummaryWriter, step: int, figures: dict[str, float]) -> None:
    for name, value in figures.items():
        writer.add_scalar(name if "/" in name else f"eval/{name}", value, step)


def _show(run: Run, console: Console) -> None:
    fit = run.fit
    table = Table("", f"last, step {fit.record.steps}", f"best, step {fit.best_step}")
    both = (fit.metrics, fit.best_metrics)
    for name in {name: None for metrics in both for name in metrics}:  # a model without a surface lacks some
        table.add_row(name, *(f"{metrics[name]:.4g}" if name in metrics else "-" for metrics in both))
    console.print(table)
    paths = f"{run.files[0]}\n{run.folder / REPORT_FILE}\nEverything else is in {run.folder}"
    console.print(paths, markup=False, soft_wrap=True)
