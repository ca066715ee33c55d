"""Signals: a coordinate network from time to one value per channel (paper Sec. 4)."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from iga_nerfstudio.adjustment import Intervals
from iga_nerfstudio.arguments import positive
from iga_nerfstudio.data.sines import PAPER_SIGNALS, paper_signal, sum_of_sines
from iga_nerfstudio.data.sounds import SOUND_ENDINGS, write_wav
from iga_nerfstudio.data.tables import write_table
from iga_nerfstudio.data.waveforms import Waveform, read_waveform, waveform_of
from iga_nerfstudio.evaluation.figures import signal_figure, signal_picture
from iga_nerfstudio.evaluation.spectra import bandwidth, dominant_frequencies, relative_dft_error
from iga_nerfstudio.files import write_whole
from iga_nerfstudio.networks import CoordinateMLP
from iga_nerfstudio.networks.builder import setting
from iga_nerfstudio.tasks.config import SignalConfig
from iga_nerfstudio.tasks.optimizers import adam_learning_rate
from iga_nerfstudio.tasks.samples import FullBatch, Grid, GridSamples, as_array
from iga_nerfstudio.tasks.setup import PAPER_GROUPS, chunk_size, grouped, require_groups
from iga_nerfstudio.tasks.step import decode
from iga_nerfstudio.tasks.task import Fit, Task, fit, refuse_settings
from iga_nerfstudio.tasks.trainer import Watcher

# Strongest frequencies whose error is reported where the signal does not come with a list of its own.
_REPORTED_FREQUENCIES = 6
# Samples of a group of the paper's signals.
_PAPER_INTERVAL = 8
# Samples for which a SIREN's axis is 1 longer, at both ends: 308,207 on [-100, 100] in its authors' code.
_SAMPLES_PER_UNIT = PAPER_GROUPS * _PAPER_INTERVAL
# By its spectrum the first layer's frequencies go up to half of that below which so much of its energy lies.
_ENERGY_BELOW, _FIRST_FREQUENCIES = 0.9, 0.5
# Settings that choose a part of a file, and those that make up a function.
_OF_FILES = ("channel", "column", "start", "duration")
_OF_SINES = ("amplitudes", "phases")
_OF_FUNCTIONS = (*_OF_SINES, "num_samples")


def automatic_interval_size(num_samples: int) -> int:
    """Samples per group of a signal, for as many groups as the paper's images have, but 8 at least, if there are."""
    return min(max(_PAPER_INTERVAL, round(num_samples / PAPER_GROUPS)), num_samples)


def _axis_scale(config: SignalConfig, truth: Tensor) -> float:
    if config.axis_scale is not None:
        return positive("axis_scale", config.axis_scale)
    # Other networks cannot take it: encodings repeat themselves beyond [-1, 1].
    if config.network.kind != "siren":
        return 1.0
    if config.axis_by == "length":
        return max(len(truth) / _SAMPLES_PER_UNIT, 1.0)
    if config.signal is not None:
        return 1.0
    highest = math.pi * bandwidth(truth, _ENERGY_BELOW)  # per unit of [-1, 1]
    return max(_FIRST_FREQUENCIES * highest / setting(config.network, "omega"), 1.0)


def _with_adam_rate(config: SignalConfig, axis_scale: float) -> SignalConfig:
    """Settings with Adam's rate under Muon: on a longer axis a step of the first weights changes phases by more."""
    optimizer = config.optimizer
    if optimizer.adam_lr is not None:
        return config
    rate = adam_learning_rate(optimizer, config.network) / max(axis_scale, 1.0)
    return replace(config, optimizer=replace(optimizer, adam_lr=rate))


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

    grouping: Intervals
    metric = "psnr"

    def __init__(self, config: SignalConfig, waveform: Waveform, frequencies: tuple[float, ...] = ()) -> None:
        super().__init__(config)
        self.waveform = waveform
        self.truth = torch.from_numpy(waveform.values)
        self.scale = (waveform.peak or 1.0) if config.normalise else 1.0
        self.sizes = (1, self.truth.shape[1])
        size = config.interval_size or automatic_interval_size(len(self.truth))
        self.grouping = grouped(lambda: Intervals(len(self.truth), size), "--interval-size")
        require_groups(config, self.grouping.num_groups(len(self.truth)), "--interval-size")
        self.axis_scale = _axis_scale(config, self.truth)
        self.config = _with_adam_rate(config, self.axis_scale)
        self._grid = Grid([torch.from_numpy((self.axis_scale * waveform.x).astype(np.float32)).to(self.device)])
        self.batches = FullBatch(GridSamples(self._grid, (self.truth / self.scale).float()), self.grouping)
        self._frequencies = frequencies or tuple(
            dominant_frequencies(self._scaled(self.truth), waveform.sample_rate, _REPORTED_FREQUENCIES)
        )

    def reconstruct(self, network: CoordinateMLP) -> Tensor:
        """The fitted signal in the units of the file, float64 ``(N, C)``, on the CPU."""
        return decode(network, self._grid, chunk_size(self.config)).double() * self.scale

    def _scaled(self, values: Tensor) -> Tensor:
        """The first channel in the network's units and precision."""
        return (values[:, 0] / self.scale).float()

    def evaluate(self, network: CoordinateMLP) -> dict[str, float]:
        """Mean squared error; PSNR in dB of the signal's range; Delta_k (Eq. 6) of the first channel by frequency."""
        found = self.reconstruct(network)
        span = float(self.truth.max() - self.truth.min()) or self.scale
        # Of units in which nothing is too large or small to be squared.
        error = mse_loss(found / span, self.truth / span).item()
        metrics = {"psnr": -10 * math.log10(error) if error else math.inf, "mse": error * span**2}
        errors = relative_dft_error(
            self._scaled(found), self._scaled(self.truth), self._frequencies, self.waveform.sample_rate
        )
        return metrics | {f"dft_error/{frequency:g}": error for frequency, error in errors.items()}

    def final_metrics(self, network: CoordinateMLP) -> dict[str, float]:
        """The same as while training."""
        return self.evaluate(network)

    def description(self) -> dict[str, Any]:
        """Length, rate and scale of the signal, and of the axis that the network sees."""
        return {
            "task": self.config.task,
            "num_samples": len(self.truth),
            "sample_rate": self.waveform.sample_rate,
            "start": self.waveform.start,
            "scale": self.scale,
            "axis_scale": self.axis_scale,
        }

    def comparison(self, network: CoordinateMLP) -> tuple[np.ndarray, np.ndarray]:
        """The first channel drawn over its axis, and the network's in the same frame."""
        truth, found = self.truth[:, 0].numpy(), self.reconstruct(network)[:, 0].numpy()
        low, high = float(truth.min()), float(truth.max())
        return tuple(signal_picture(self.waveform.axis, values, (low, high)) for values in (truth, found))  # type: ignore[return-value]

    def caption(self) -> str:
        """Number of samples, rate and channels."""
        samples, channels = self.truth.shape
        rate = f"{self.waveform.sample_rate:g} per {self.waveform.unit or 'unit'}"
        which = "" if channels == 1 else f", the first of {channels} channels"
        return f"The signal over its axis{which}: {samples:,} samples, {rate}."

    def resolved_settings(self) -> dict[str, Any]:
        """Samples per group and length of the network's axis; number of samples of a function."""
        found = {"interval_size": self.grouping.block_size[0], "axis_scale": self.axis_scale}
        return found if self.config.data is not None else found | {"num_samples": len(self.truth)}

    def write_results(self, network: CoordinateMLP, folder: Path) -> list[Path]:
        """``reconstruction.wav`` for a file of sound, else ``reconstruction.csv``; ``signal.png``."""
        found = self.reconstruct(network).numpy()
        if self.config.data is not None and self.config.data.suffix.lower() in SOUND_ENDINGS:
            first = folder / "reconstruction.wav"
            write_wav(first, found, self.waveform.sample_rate)
        else:
            first = folder / "reconstruction.csv"
            write_table(first, self.waveform.axis, found)
        picture = folder / "signal.png"
        label = f"position ({self.waveform.unit})" if self.waveform.unit else "position"
        truth = self.truth[:, 0].numpy()
        write_whole(picture, lambda path: signal_figure(self.waveform.axis, truth, found[:, 0], path, x_label=label))
        return [first, picture]


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
    if config.load_dir is None:  # runs begun before they were refused go on
        _refuse_settings_of_others(config)
    if config.data is not None:
        column = int(config.column) if config.column is not None and config.column.isdecimal() else config.column
        waveform = read_waveform(
            config.data, channel=config.channel, column=column, start=config.start, duration=config.duration
        )
        return SignalTask(config, waveform)
    if config.signal is not None:
        waveform, terms = paper_signal(config.signal, config.num_samples), PAPER_SIGNALS[config.signal]
        return SignalTask(config, waveform, terms.frequencies)
    waveform = sum_of_sines(config.frequencies, config.amplitudes, config.phases, config.num_samples or 2048)
    return SignalTask(config, waveform, config.frequencies)


def _refuse_settings_of_others(config: SignalConfig) -> None:
    """Refuse settings of other kinds of signals."""
    if config.data is not None:
        refuse_settings(config, _OF_FUNCTIONS, "for a file, only for a function")
        return
    refuse_settings(config, _OF_FILES, "for a function, only for a file")
    if config.signal is not None:
        refuse_settings(config, _OF_SINES, f"for {config.signal}, only for --frequencies")


def fit_signal(
    signal: Path | str | np.ndarray | Tensor, config: SignalConfig | None = None, watchers: tuple[Watcher, ...] = ()
) -> Fit:
    """Fit a signal.

    Args:
        signal: A file of sound, CSV or NPY, or real, evenly spaced samples, ``(N,)`` or ``(N, C)``.
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
        return fit(load_signal_task(replace(config, data=Path(signal))), watchers)
    others = ("signal", "frequencies", *_OF_FUNCTIONS, *_OF_FILES)
    refuse_settings(config, others, "for an array, which is fitted as it is")
    return fit(SignalTask(config, waveform_of(as_array(signal))), watchers)
