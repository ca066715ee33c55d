"""Signals: a coordinate network from time to one value per channel (paper Sec. 4)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import mse_loss
from torchmetrics.functional.image import peak_signal_noise_ratio

from iga_nerfstudio.adjustment import Intervals
from iga_nerfstudio.data.sines import PAPER_SIGNALS, PaperSignal, paper_signal, sum_of_sines
from iga_nerfstudio.data.sounds import write_wav
from iga_nerfstudio.data.waveforms import Waveform, read_waveform
from iga_nerfstudio.evaluation.figures import signal_figure, signal_picture, training_curve
from iga_nerfstudio.evaluation.spectra import dominant_frequencies, relative_dft_error
from iga_nerfstudio.files import write_whole
from iga_nerfstudio.networks import CoordinateMLP, NetworkConfig
from iga_nerfstudio.tasks.config import TaskAdjustmentConfig, TaskConfig
from iga_nerfstudio.tasks.samples import FullBatch, Grid, GridSamples, with_channels
from iga_nerfstudio.tasks.step import decode
from iga_nerfstudio.tasks.task import Fit, Task, fit
from iga_nerfstudio.tasks.trainer import Record, Watcher, chunk_size

# Strongest frequencies whose error is reported where the signal does not come with a list of its own.
_REPORTED_FREQUENCIES = 6


@dataclass
class SignalConfig(TaskConfig):
    """Fit a signal with a coordinate network: a WAV, CSV or NPY file (--data), a --signal, or --frequencies."""

    task: ClassVar[str] = "iga-signal"

    signal: PaperSignal | None = None
    """A function of the paper (Sec. 4)."""
    frequencies: tuple[float, ...] = ()
    """A sum of sines on [-1, 1): frequencies in cycles per unit."""
    amplitudes: tuple[float, ...] | None = None
    """Amplitudes of the sines; 1 if not given."""
    phases: tuple[float, ...] | None = None
    """Phases of the sines in radians; 0 if not given."""
    num_samples: int | None = None
    """Samples of a function; the paper's for its own, 2048 for sines, if not given."""
    channel: int | None = None
    """Channel of a WAV or NPY file, counted from 0; all if not given."""
    column: str | None = None
    """Column of a CSV file, by name or counted from 0; all but the first if not given."""
    start: float = 0.0
    """Leave out that much of a file at the beginning, in seconds."""
    duration: float | None = None
    """Length of the stretch of a file to fit, in seconds."""
    normalise: bool = True
    """Divide by the largest magnitude for the network; results are in the signal's own units. The paper does not."""
    interval_size: int = 8
    """Consecutive samples that form a group, p."""
    network: NetworkConfig = field(default_factory=lambda: NetworkConfig("siren", hidden_layers=4))
    """The coordinate network."""
    adjustment: TaskAdjustmentConfig = field(
        default_factory=lambda: TaskAdjustmentConfig(end=7, representative="middle")
    )
    """The gradient adjustment."""

    def name_of_data(self) -> str:
        """The file's or the function's name."""
        return super().name_of_data() if self.data is not None else self.signal or "sines"


class SignalTask(Task[SignalConfig]):
    """A signal to fit.

    Args:
        config: Settings of the run.
        waveform: The signal.
        frequencies: Where the relative DFT error is reported, in cycles per unit of the signal's axis; the strongest
            ones of the first channel if not given.

    Raises:
        ValueError: If signal or settings do not fit.
    """

    metric = "psnr"

    def __init__(self, config: SignalConfig, waveform: Waveform, frequencies: tuple[float, ...] = ()) -> None:
        super().__init__(config)
        self.waveform = waveform
        self.truth = torch.from_numpy(waveform.values.astype(np.float32))
        self.scale = (waveform.peak or 1.0) if config.normalise else 1.0
        self.sizes = (1, self.truth.shape[1])
        self.grouping = Intervals(len(self.truth), config.interval_size)
        self._grid = Grid([torch.from_numpy(waveform.x.astype(np.float32)).to(self.device)])
        self.batches = FullBatch(GridSamples(self._grid, self.truth / self.scale), self.grouping)
        self._frequencies = frequencies or tuple(
            dominant_frequencies(self.truth[:, 0], waveform.sample_rate, _REPORTED_FREQUENCIES)
        )

    def reconstruct(self, network: CoordinateMLP) -> Tensor:
        """The fitted signal in the units of the file, ``(N, C)``, on the CPU."""
        return decode(network, self._grid, chunk_size(self.config.machine)) * self.scale

    def evaluate(self, network: CoordinateMLP) -> dict[str, float]:
        """Mean squared error; PSNR in dB of the signal's range; Delta_k (Eq. 6) of the first channel by frequency."""
        found = self.reconstruct(network)
        span = float(self.truth.max() - self.truth.min()) or 1.0
        metrics = {
            "psnr": peak_signal_noise_ratio(found, self.truth, data_range=span).item(),
            "mse": mse_loss(found, self.truth).item(),
        }
        errors = relative_dft_error(found[:, 0], self.truth[:, 0], self._frequencies, self.waveform.sample_rate)
        return metrics | {f"dft_error/{frequency:g}": error for frequency, error in errors.items()}

    def final_metrics(self, network: CoordinateMLP) -> dict[str, float]:
        """The same as while training."""
        return self.evaluate(network)

    def description(self) -> dict[str, Any]:
        """Length, rate and scale of the signal."""
        return {
            "task": self.config.task,
            "num_samples": len(self.truth),
            "sample_rate": self.waveform.sample_rate,
            "start": self.waveform.start,
            "scale": self.scale,
        }

    def comparison(self, network: CoordinateMLP) -> tuple[np.ndarray, np.ndarray]:
        """The first channel drawn over its axis, and the network's in the same frame."""
        truth, found = self.truth[:, 0].numpy(), self.reconstruct(network)[:, 0].numpy()
        low, high = float(truth.min()), float(truth.max())
        return tuple(signal_picture(self.waveform.axis, values, (low, high)) for values in (truth, found))  # type: ignore[return-value]

    def write_results(self, network: CoordinateMLP, record: Record, folder: Path) -> list[Path]:
        """``reconstruction.wav`` for a WAV file, else ``reconstruction.csv``; ``signal.png``, ``training.png``."""
        found = self.reconstruct(network).numpy()
        if self.config.data is not None and self.config.data.suffix.lower() == ".wav":
            first = folder / "reconstruction.wav"
            write_wav(first, found, self.waveform.sample_rate)
        else:
            first = folder / "reconstruction.csv"
            table = np.column_stack([self.waveform.axis, found])
            write_whole(first, lambda path: np.savetxt(path, table, delimiter=",", fmt="%.9g"))
        pictures = [folder / "signal.png", folder / "training.png"]
        label = f"position ({self.waveform.unit})" if self.waveform.unit else "position"
        truth = self.truth[:, 0].numpy()
        write_whole(
            pictures[0], lambda path: signal_figure(self.waveform.axis, truth, found[:, 0], path, x_label=label)
        )
        write_whole(pictures[1], partial(training_curve, record.evaluations))
        return [first, *pictures]


def load_signal_task(config: SignalConfig) -> SignalTask:
    """The task of a file or a formula.

    Raises:
        ValueError: If not exactly one source is given, it cannot be used, or a setting does not fit it.
    """
    sources = [config.data is not None, config.signal is not None, bool(config.frequencies)]
    if sum(sources) != 1:
        raise ValueError(
            "Give one signal: --data sound.wav, or --signal experiment2, or --frequencies 5 10 20 "
            f"({'none is' if not any(sources) else 'several are'} given)."
        )
    if config.data is not None:
        column = int(config.column) if config.column is not None and config.column.isdigit() else config.column
        waveform = read_waveform(
            config.data, channel=config.channel, column=column, start=config.start, duration=config.duration
        )
        return SignalTask(config, waveform)
    if config.signal is not None:
        waveform, terms = paper_signal(config.signal, config.num_samples), PAPER_SIGNALS[config.signal]
        return SignalTask(config, waveform, terms.frequencies)
    waveform = sum_of_sines(config.frequencies, config.amplitudes, config.phases, config.num_samples or 2048)
    return SignalTask(config, waveform, config.frequencies)


def fit_signal(
    signal: Path | str | np.ndarray | Tensor, config: SignalConfig | None = None, watchers: tuple[Watcher, ...] = ()
) -> Fit:
    """Fit a signal.

    Args:
        signal: A WAV, CSV or NPY file, or evenly spaced samples, ``(N,)`` or ``(N, C)``.
        config: Settings; the defaults if not given.
        watchers: Called with the step and named figures whenever some are logged.

    Returns:
        The trained network, its metrics, and the record of the training. Nothing is written to disk.

    Raises:
        ValueError: If signal or settings cannot be used.
        TrainingDiverged: If the loss is no longer finite.
    """
    config = config or SignalConfig()
    if isinstance(signal, (str, Path)):
        waveform = read_waveform(Path(signal), channel=config.channel, start=config.start, duration=config.duration)
    else:
        values = with_channels(signal, num_axes=1)
        if not np.isfinite(values).all():
            raise ValueError(f"The signal holds {int((~np.isfinite(values)).sum())} values that are NaN or infinite.")
        waveform = Waveform(np.linspace(-1, 1, len(values)), values, sample_rate=1.0)
    return fit(SignalTask(config, waveform), watchers)
