"""What a run's report says: of one run, or of an adjusted one and the plain one beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from iga_nerfstudio.adjustment import Axes
from iga_nerfstudio.evaluation.figures import Curves, error_maps, spectrum_over_training, training_curves
from iga_nerfstudio.files import write_whole
from iga_nerfstudio.machine import machine, versions
from iga_nerfstudio.tasks.compare import sentence
from iga_nerfstudio.tasks.config_files import to_yaml
from iga_nerfstudio.tasks.optimizers import learning_rate
from iga_nerfstudio.tasks.report import write_report
from iga_nerfstudio.tasks.setup import resolved
from iga_nerfstudio.tasks.task import Fit, Task
from iga_nerfstudio.tasks.trainer import Trainer

REPORT_FILE = "report.html"
_PACKAGES = ("iga-nerfstudio", "torch", "numpy")


@dataclass(frozen=True)
class Run:
    """A run that has reached its last step.

    Attributes:
        task: Its data and settings.
        trainer: After the training.
        fit: What came of it.
        files: What the task has written, the reconstruction first.
        folder: Where.
    """

    task: Task[Any]
    trainer: Trainer
    fit: Fit
    files: list[Path]
    folder: Path

    @cached_property
    def comparison(self) -> tuple[np.ndarray, np.ndarray]:
        """The task's truth and reconstruction; kept, as a comparison's two runs are in two reports each."""
        return self.task.comparison(self.fit.model)

    @property
    def pictures(self) -> list[Path]:
        """Figures of the task for the report, whose own comparison shows the reconstruction."""
        return [path for path in self.files if path.suffix == ".png" and path.stem != "reconstruction"]

    @property
    def curves(self) -> Curves:
        """The loss in training, and the metrics of the evaluations."""
        history, evaluations = self.fit.record.history, self.fit.record.evaluations
        return {name: history[name] for name in ("train/loss",) if name in history} | evaluations


def compare(adjusted: Run, plain: Run) -> str:
    """Both final numbers in a sentence."""
    metric, fit = adjusted.task.metric, adjusted.fit
    return sentence(metric, plain.fit.metrics[metric], fit.metrics[metric], fit.record.steps)


def write_run_report(run: Run, command: str, plain: Run | None = None) -> None:
    """Write ``report.html`` and its figures ``training.png`` and, of an adjusted run, ``kernel.png``.

    Args:
        run: The run.
        command: The command line.
        plain: The plain run to show beside it.

    Raises:
        OSError: If a file cannot be written.
    """
    config = run.task.config
    runs = {"reconstruction": run} if plain is None else {"plain": plain, "adjusted": run}
    truth, found = run.comparison
    others = {} if plain is None else {"plain": plain.comparison[1]}
    write_report(
        run.folder / REPORT_FILE,
        title=f"{config.task}: {config.experiment_name or config.name_of_data()}, {run.folder.name}",
        summary="" if plain is None else compare(run, plain),
        metrics=_metrics(runs),
        facts=_facts(runs, command),
        comparison={"ground truth": truth} | others | {list(runs)[-1]: found},
        caption=run.task.caption(),
        pictures=_figures(run, runs),
        settings=to_yaml(
            replace(resolved(config, run.trainer.adjuster), load_dir=None, **run.task.resolved_settings())
        ),
    )


def _figures(run: Run, runs: dict[str, Run]) -> dict[str, Path]:
    """PNG files by their captions."""
    curves, kernel = run.folder / "training.png", run.folder / "kernel.png"
    write_whole(curves, partial(training_curves, {name: one.curves for name, one in runs.items()}))
    figures = {"training: loss and metrics": curves}
    if run.trainer.spectra.spectra:
        write_whole(kernel, partial(spectrum_over_training, run.trainer.spectra.spectra))
        of = " of the rows" if isinstance(run.task.grouping, Axes) else ""
        figures[f"kernel{of}: its eigenvalues over the training"] = kernel
    behind = [f", {name}" if len(runs) > 1 else "" for name in runs]
    # Those of one kind beside each other. A network without a surface has no picture of it.
    stems = {path.stem: None for one in runs.values() for path in one.pictures}
    if len(runs) > 1 and "error" in stems:  # one picture, so that the colours mean the same
        del stems["error"]
        errors, founds = run.folder / "errors.png", {name: one.comparison[1] for name, one in runs.items()}
        write_whole(errors, partial(error_maps, run.comparison[0], founds))
        figures[f"error, {' and '.join(runs)}"] = errors
    for stem in stems:
        for name, one in zip(behind, runs.values(), strict=True):
            figures |= {f"{stem}{name}": path for path in one.pictures if path.stem == stem}
    return figures


def _metrics(runs: dict[str, Run]) -> dict[str, dict[str, float]]:
    """Metrics of the last and the best model of each run, by the model's name."""
    return {
        f"{f'{name}, ' if len(runs) > 1 else ''}{model}": metrics
        for name, run in runs.items()
        for model, metrics in (
            (f"last, step {run.fit.record.steps}", run.fit.metrics),
            (f"best, step {run.fit.best_step}", run.fit.best_metrics),
        )
    }


def _facts(runs: dict[str, Run], command: str) -> dict[str, Any]:
    """What else is worth a line, by its name."""
    *_, run = runs.values()
    config, adjuster = run.task.config, run.trainer.adjuster
    seconds = [f"{one.fit.record.seconds:.1f}{f' {name}' if len(runs) > 1 else ''}" for name, one in runs.items()]
    computer = machine()
    return {
        "command": command,
        "data": config.data or config.name_of_data(),
        "gradient": f"adjusted, end {adjuster.end}, power {adjuster.power:g}" if adjuster.enabled else "plain",
        "optimiser": f"{config.optimizer.kind}, learning rate {learning_rate(config.optimizer, config.network):g}",
        "seconds in training steps": ", ".join(seconds),
        "parameters": f"{sum(p.numel() for p in run.fit.model.parameters()):,}",
        "steps left unadjusted": adjuster.diagnostics.steps_unadjusted,
        "versions": ", ".join(f"{name} {number}" for name, number in versions(_PACKAGES).items()),
        "machine": f"{run.task.device.type}: {computer['gpu'] or computer['processor']}, {computer['cores']} cores, "
        f"{computer['threads']} threads, {computer['system']}",
    }
