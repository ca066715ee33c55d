"""Pictures of results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from iga_nerfstudio.adjustment.history import Spectrum
from iga_nerfstudio.evaluation.spectra import log_spectrum, radial_energy
from iga_nerfstudio.evaluation.squares import means_over_squares, side_of_squares

TRUTH_COLOUR, RESULT_COLOUR = "black", "tab:orange"
# Cells along the longer side of a map; larger ones are shown by means over squares.
MAP_SIDE = 1024
# Values of an image that are worked on at once.
_VALUES_AT_ONCE = 1 << 20
# Rings of a radial energy curve; small images get fewer.
MAX_BANDS = 32
# Decades of magnitude below the largest that plots of spectra show at most.
IMAGE_DECADES, SIGNAL_DECADES = 6, 8
# Steps whose kernels' spectra are drawn, and decades of them.
_SPECTRA, _SPECTRUM_DECADES = 6, 12
# Steps and values by the figure's name.
Curves: TypeAlias = Mapping[str, tuple[Sequence[int], Sequence[float]]]


def view_sheet(
    pairs: list[tuple[np.ndarray, np.ndarray]],
    path: Path,
    titles: tuple[str, str, str] | None = None,
    columns: list[str] | None = None,
) -> None:
    """Ground truth, rendering and absolute error of some views, one view per column.

    Args:
        pairs: ``(truth, rendering)`` of each view, ``(H, W, 3)`` in [0, 1].
        path: PNG to write.
        titles: Names of the three rows.
        columns: Names of the columns; none if not given.

    Raises:
        ValueError: If there is no view, or not one name per view.
    """
    if not pairs:
        raise ValueError("Need at least one view to draw.")
    if columns is not None and len(columns) != len(pairs):
        raise ValueError(f"Need one name per view, got {len(columns)} for {len(pairs)} views.")
    names = titles or ("ground truth", "rendering", "absolute error x 4")
    views = [(truth, rendering, _magnified_error(truth, rendering)) for truth, rendering in pairs]
    picture_grid(dict(zip(names, zip(*views, strict=True), strict=True)), path, columns)


def picture_grid(rows: Mapping[str, Sequence[np.ndarray]], path: Path, columns: Sequence[str] | None = None) -> None:
    """Rows of pictures.

    Args:
        rows: Pictures of each row by its name, equally many, ``(H, W, 3)``; what lies beyond [0, 1] is clamped.
        path: PNG to write.
        columns: Names of the columns; none if not given.
    """
    num_columns = len(next(iter(rows.values())))
    figure = Figure(figsize=(2.4 * num_columns, 2.4 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), num_columns, squeeze=False)
    for row, (name, pictures) in enumerate(rows.items()):
        for axis, picture in zip(axes[row], pictures, strict=True):
            axis.imshow(np.clip(picture, 0, 1), interpolation="nearest")
            _hide_ticks(axis)
        axes[row, 0].set_ylabel(name)
    for axis, name in zip(axes[0], columns or (), strict=columns is not None):
        axis.set_title(name, fontsize="medium")
    _write(figure, path)


def compared_sheet(truths: Sequence[np.ndarray], renderings: Mapping[str, Sequence[np.ndarray]], path: Path) -> None:
    """Ground truth and what several methods make of it, with their errors, one view per column.

    Args:
        truths: Views, ``(H, W, 3)`` in [0, 1].
        renderings: The same views by the method's name.
        path: PNG to write.
    """
    rows: dict[str, Sequence[np.ndarray]] = {"ground truth": truths} | dict(renderings)
    for name, pictures in renderings.items():
        errors = [_magnified_error(*pair) for pair in zip(truths, pictures, strict=True)]
        rows[f"{name.split(',')[0]}: error x 4"] = errors
    picture_grid(rows, path)


def _magnified_error(truth: np.ndarray, rendering: np.ndarray) -> np.ndarray:
    return 4 * np.abs(truth - rendering)


def read_side_by_side(path: Path, parts: int) -> list[np.ndarray]:
    """Cut a picture of several images side by side into them, ``(H, W, 3)`` in [0, 1] each."""
    picture = np.asarray(Image.open(path).convert("RGB")) / 255.0
    return np.split(picture, parts, axis=1)


def error_map(truth: np.ndarray, reconstruction: np.ndarray, path: Path) -> None:
    """Absolute error of an image: :func:`error_maps` of one."""
    error_maps(truth, {"": reconstruction}, path)


def error_maps(truth: np.ndarray, reconstructions: Mapping[str, np.ndarray], path: Path) -> None:
    """Absolute errors of an image, averaged over channels, in steps of 8-bit pictures (1/255), on one scale.

    The colours reach from zero to the largest error shown; values beyond [0, 1] are clamped first. Of images of more
    than 1024 pixels along a side means over squares of pixels are shown, and the titles say so.

    Args:
        truth: ``(H, W, C)`` in [0, 1].
        reconstructions: ``(H, W, C)`` in [0, 1] each, by their names.
        path: PNG to write.

    Raises:
        ValueError: If the images differ in shape, are not ``(H, W, C)`` or hold values that are not finite.
    """
    for reconstruction in reconstructions.values():
        _check_pair(truth, reconstruction)
    maps = {name: _errors(truth, reconstruction) for name, reconstruction in reconstructions.items()}
    # Equal images have no largest error; they get the scale of one 8-bit step.
    brightest = max(error.max() for error, *_ in maps.values()) or 1.0
    height, width = truth.shape[:2]
    figure_width, figure_height = _size_of_picture(width / height)
    figure = Figure(figsize=(figure_width * len(maps), figure_height), layout="constrained")
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    for axis, (name, (error, mean, largest, side)) in zip(axes, maps.items(), strict=True):
        picture = axis.imshow(error, cmap="viridis", vmin=0, vmax=brightest, interpolation="nearest")
        _hide_ticks(axis)
        shown = "" if side == 1 else f"\nshown: means over {side} x {side} pixels"
        axis.set_title(f"{f'{name}: ' if name else ''}mean {mean:.3g}, largest {largest:.3g}{shown}", fontsize="medium")
    figure.colorbar(picture, ax=axes, label="absolute error (1/255)", shrink=0.9)
    _write(figure, path)


def residual_spectrum(truth: np.ndarray, reconstruction: np.ndarray, path: Path) -> None:
    """What an image and its reconstruction's error hold at each spatial frequency.

    Above, the 2D spectra of the truth and of the residual in the same colours, which reach at most six decades below
    the largest magnitude; below, the mean squared magnitudes of both over rings of equal frequency. Spectra are
    orthonormal and without the mean (see :func:`~iga_nerfstudio.evaluation.spectra.log_spectrum`), taken of each
    channel and averaged after that, so that errors of opposite sign in two channels do not cancel. Values beyond
    [0, 1] are clamped first. Of images of more than 1024 pixels along a side the pictures show root mean squares over
    squares of frequencies.

    Args:
        truth: ``(H, W, C)`` in [0, 1].
        reconstruction: ``(H, W, C)`` in [0, 1].
        path: PNG to write.

    Raises:
        ValueError: If the images differ in shape, are not ``(H, W, C)``, hold values that are not finite, or have no
            side of at least 2 pixels.
    """
    _check_pair(truth, reconstruction)
    height, width, channels = truth.shape
    side = side_of_squares((height, width), MAP_SIDE)
    bands = max(1, min(MAX_BANDS, max(height, width) // 2))
    # One channel after the other: the transform of all of a large image would be several times its size.
    true_channels = (_clamped(truth[..., c]) for c in range(channels))
    errors = (_residual(truth[..., c], reconstruction[..., c]) for c in range(channels))
    spectra, energies = {}, {}
    for name, images in (("truth", true_channels), ("residual", errors)):
        spectra[name], energies[name] = _mean_spectra(images, side, bands)
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplot_mosaic([["truth", "residual"], ["rings", "rings"]], height_ratios=[1.4, 1])
    low, high = _colour_limits(list(spectra.values()))
    for name, spectrum in spectra.items():
        left, right = _frequency_edges(width)
        top, bottom = _frequency_edges(height)
        picture = axes[name].imshow(
            spectrum,
            cmap="magma",
            vmin=low,
            vmax=high,
            extent=(left, right, bottom, top),
            aspect="auto",
            interpolation="nearest",
        )
        axes[name].set(title=f"spectrum of the {name}", xlabel="horizontal frequency (cycles per pixel)")
    axes["truth"].set_ylabel("vertical frequency (cycles per pixel)")
    figure.colorbar(picture, ax=[axes["truth"], axes["residual"]], label="log10 magnitude")
    for (name, (rings, energy)), colour in zip(energies.items(), (TRUTH_COLOUR, RESULT_COLOUR), strict=True):
        label = name if energy.any() else f"{name} (zero everywhere)"
        axes["rings"].plot(rings, energy, color=colour, label=label)
    axes["rings"].set(xlabel="spatial frequency (cycles per pixel)", ylabel="mean squared magnitude", xlim=(0, 0.5))
    _log_scale(axes["rings"], 2 * IMAGE_DECADES)  # energies: squares of magnitudes
    axes["rings"].legend(loc="upper right")
    _write(figure, path)


def training_curves(runs: Mapping[str, Curves], path: Path) -> None:
    """Figures over training steps, one panel each above a common axis, with the curves of all runs.

    Values that are not finite leave gaps. Positive ones that span more than two decades are drawn on a log axis.

    Args:
        runs: The curves of each run by its name: steps and values by the figure's name. The first run's decide which
            are drawn.
        path: PNG to write.

    Raises:
        ValueError: If there is no curve, or one has no or unequally many steps and values.
    """
    for history in runs.values():
        _check_history(history)
    names = next(iter(runs.values()))
    figure = Figure(figsize=(7, 1.2 + 2.2 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 1, sharex=True, squeeze=False)
    for axis, name in zip(axes[:, 0], names, strict=True):
        for (run, history), colour in zip(runs.items(), ("tab:blue", RESULT_COLOUR), strict=False):
            steps, values = history[name]
            axis.plot(steps, values, color=colour, marker="." if len(steps) <= 51 else None, label=run)
        axis.set_ylabel(name)
        axis.grid(alpha=0.3)
        drawn = np.concatenate([line.get_ydata() for line in axis.get_lines()]).astype(np.float64)
        drawn = drawn[np.isfinite(drawn)]
        if len(drawn) and 0 < 100 * drawn.min() < drawn.max():
            axis.set_yscale("log")
    if len(runs) > 1:
        axes[0, 0].legend()
    axes[-1, 0].set_xlabel("training step")
    _write(figure, path)


def spectrum_over_training(spectra: Sequence[Spectrum], path: Path) -> None:
    """How the kernel's leading eigenvalues went: at some steps before and after the adjustment, and over all of them.

    Args:
        spectra: Oldest first.
        path: PNG to write.

    Raises:
        ValueError: If there is none.
    """
    if not spectra:
        raise ValueError("Need at least one spectrum to draw.")
    figure = Figure(figsize=(10, 4), layout="constrained")
    numbers, time = figure.subplots(1, 2)
    places = sorted({round(place) for place in np.linspace(0, len(spectra) - 1, _SPECTRA)})
    for place in places:
        spectrum, colour = spectra[place], colormaps["viridis"](place / max(len(spectra) - 1, 1))
        count = np.arange(1, len(spectrum.eigenvalues) + 1)
        numbers.plot(count, spectrum.eigenvalues, color=colour, label=f"step {spectrum.step}")
        numbers.plot(count, spectrum.rebalanced, color=colour, linestyle="--")
    numbers.set(xlabel="eigenvalue number", ylabel="eigenvalue", title="before (solid) and after adjustment (dashed)")
    steps = [spectrum.step for spectrum in spectra]
    time.plot(steps, [float(spectrum.eigenvalues[0]) for spectrum in spectra], label="largest eigenvalue")
    time.plot(steps, [spectrum.target for spectrum in spectra], label="what is balanced to")
    time.plot(steps, [spectrum.effective_rank for spectrum in spectra], label="effective rank", linestyle=":")
    time.set(xlabel="training step", title="over the training")
    for axis in (numbers, time):
        _log_scale(axis, _SPECTRUM_DECADES)
        axis.legend(fontsize="small")
    _write(figure, path)


def slices_figure(
    rows: Mapping[str, Sequence[np.ndarray]],
    path: Path,
    origin: Sequence[float],
    spacing: float,
    limits: tuple[float, float],
) -> None:
    """Slices through the middle of a grid across each axis, labelled with their places, one grid per row.

    Args:
        rows: Three slices of each grid by its name: across the first, second and third axis, ``(n, m)`` each.
        path: PNG to write.
        origin: Where voxel (0, 0, 0) is.
        spacing: Distance between neighbouring voxels.
        limits: The values that are black and white.
    """
    across_x, _across_y, across_z = next(iter(rows.values()))
    shape = (*across_z.shape, across_x.shape[1])
    figure = Figure(figsize=(10, 3.4 * len(rows)), layout="constrained")
    panels = figure.subplots(len(rows), 3, squeeze=False)
    ends = [(low - spacing / 2, low + (n - 0.5) * spacing) for low, n in zip(origin, shape, strict=True)]
    for row, (name, slices) in zip(panels, rows.items(), strict=True):
        for across, (axis, values) in enumerate(zip(row, slices, strict=True)):
            right, up = (i for i in range(3) if i != across)
            picture = axis.imshow(
                values.T, cmap="gray", vmin=limits[0], vmax=limits[1], origin="lower", interpolation="nearest",
                extent=(*ends[right], *ends[up]),
            )  # fmt: skip
            middle = shape[across] // 2
            place = origin[across] + middle * spacing
            axis.set(xlabel="xyz"[right], ylabel="xyz"[up])
            axis.set_title(
                f"{name}: {'xyz'[across]} = {place:.3g}, slice {middle + 1} of {shape[across]}", fontsize="small"
            )
    figure.colorbar(picture, ax=panels, shrink=0.8)
    _write(figure, path)


def signal_figure(
    x: np.ndarray, truth: np.ndarray, prediction: np.ndarray, path: Path, x_label: str = "time (s)"
) -> None:
    """A signal and its prediction, the error below, and the amplitudes of both in the Fourier domain.

    The amplitudes are those of the sines the samples are made of, 2 |F| / N, without the mean; at most eight decades
    below the largest are shown.

    Args:
        x: ``(N,)``, where the samples are: ascending and evenly spaced.
        truth: ``(N,)``.
        prediction: ``(N,)``.
        path: PNG to write.
        x_label: Name and unit of x.

    Raises:
        ValueError: If the arrays are not of one length of at least 4, or x is not ascending and evenly spaced.
    """
    _check_signals(x, truth, prediction)
    figure = Figure(figsize=(9, 8), layout="constrained")
    axes = figure.subplot_mosaic([["signal"], ["error"], ["spectrum"]], height_ratios=[1.5, 0.8, 1.5])
    frequencies = np.fft.rfftfreq(len(x), d=(x[-1] - x[0]) / (len(x) - 1))[1:]
    for name, signal, colour, width in (
        ("truth", truth, TRUTH_COLOUR, 1.8),
        ("prediction", prediction, RESULT_COLOUR, 1.0),
    ):
        axes["signal"].plot(x, signal, color=colour, linewidth=width, label=name)
        amplitudes = 2 * np.abs(np.fft.rfft(signal.astype(np.float64)))[1:] / len(x)
        axes["spectrum"].plot(frequencies, amplitudes, color=colour, linewidth=width, label=name)
    axes["error"].plot(x, prediction - truth, color="tab:red", linewidth=1.0)
    axes["signal"].sharex(axes["error"])
    axes["signal"].tick_params(labelbottom=False)
    axes["signal"].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    axes["signal"].set_ylabel("value")
    axes["error"].set(xlabel=x_label, ylabel="prediction - truth", xlim=(x[0], x[-1]))
    axes["spectrum"].set(
        xlabel="frequency (cycles per unit of the axis above)", ylabel="amplitude", xlim=(0, frequencies[-1])
    )
    _log_scale(axes["spectrum"], SIGNAL_DECADES)
    _write(figure, path)


def signal_picture(x: np.ndarray, values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """A signal as a picture, so that pictures of several can be laid upon each other.

    Args:
        x: ``(N,)``, where the samples are.
        values: ``(N,)``.
        limits: Lowest and highest value that must fit in.

    Returns:
        ``(360, 960, 3)`` in [0, 1].
    """
    figure = Figure(figsize=(9.6, 3.6), dpi=100, layout="constrained")
    axis = figure.subplots()
    axis.plot(x, values, color=RESULT_COLOUR, linewidth=1.0)
    margin = 0.1 * (limits[1] - limits[0]) or 1.0
    axis.set(xlim=(x[0], x[-1]), ylim=(limits[0] - margin, limits[1] + margin))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture: np.ndarray = np.asarray(canvas.buffer_rgba())[..., :3] / 255.0
    return picture


def _write(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=120, format="png")


def _check_pair(truth: np.ndarray, reconstruction: np.ndarray) -> None:
    if truth.ndim != 3 or truth.shape != reconstruction.shape or truth.size == 0:
        raise ValueError(
            f"Need two images (H, W, C) of one shape, got {truth.shape} for the truth and {reconstruction.shape} for "
            "the reconstruction."
        )
    if not (np.isfinite(truth).all() and np.isfinite(reconstruction).all()):
        raise ValueError("The images hold values that are not finite, which have no error or spectrum to draw.")


def _clamped(image: np.ndarray) -> np.ndarray:
    """A copy in [0, 1], of the image's precision, float32 at least."""
    values = image.astype(np.result_type(image, np.float32))
    return np.clip(values, 0, 1, out=values)


def _residual(truth: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
    """Error of clamped values, of the images' precision."""
    return _clamped(truth) - _clamped(reconstruction)


def _errors(truth: np.ndarray, reconstruction: np.ndarray) -> tuple[np.ndarray, float, float, int]:
    """Absolute errors averaged over channels in 8-bit steps.

    Returns:
        A map of bounded size, mean and largest error of all pixels, and the side in pixels of the map's squares.
    """
    height, width, channels = truth.shape
    side = side_of_squares((height, width), MAP_SIDE)
    rows = max(_VALUES_AT_ONCE // (width * channels * side), 1) * side
    parts, total, largest = [], 0.0, 0.0
    for start in range(0, height, rows):
        strip = slice(start, start + rows)
        error = 255 * np.abs(_residual(truth[strip], reconstruction[strip])).mean(axis=-1)
        parts.append(means_over_squares(error, side))
        total, largest = total + float(error.sum()), max(largest, float(error.max()))
    return np.concatenate(parts), total / (height * width), largest, side


def _hide_ticks(axis: Axes) -> None:
    axis.set_xticks([])
    axis.set_yticks([])


def _size_of_picture(aspect: float) -> tuple[float, float]:
    """Figure size in inches for a picture of that width to height and a colour bar at its right."""
    width, height = (5.0, 5.0 / aspect) if aspect >= 1 else (5.0 * aspect, 5.0)
    return max(width, 1.5) + 1.3, max(height, 2.5) + 0.4


def _frequency_edges(num_pixels: int) -> tuple[float, float]:
    """Outer edges of the first and last bin of a centred DFT, in cycles per pixel."""
    bins = np.fft.fftshift(np.fft.fftfreq(num_pixels))
    return bins[0] - 0.5 / num_pixels, bins[-1] + 0.5 / num_pixels


def _mean_spectra(
    channels: Iterable[np.ndarray], side: int, bands: int
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Log spectrum over squares of so many bins, and rings with their energies, averaged over channels ``(H, W)``."""
    spectra, curves = zip(*((log_spectrum(c, side), radial_energy(c, bands)) for c in channels), strict=True)
    return np.mean(spectra, axis=0), (curves[0][0], np.mean([energy for _rings, energy in curves], axis=0))


def _colour_limits(spectra: list[np.ndarray]) -> tuple[float, float]:
    """Limits for log spectra in the same colours: one to six decades, from the largest magnitude down."""
    high = max(float(spectrum.max()) for spectrum in spectra)
    # The mean is zero by construction: the first percentile keeps it from setting the scale.
    low = min(float(np.percentile(spectrum, 1)) for spectrum in spectra)
    return min(max(low, high - IMAGE_DECADES), high - 1), high


def _log_scale(axis: Axes, decades: int) -> None:
    """Logarithmic y axis, that many decades below the largest value at most; curves of zeros keep a linear one."""
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=np.float64) for line in axis.get_lines()])
    values = values[np.isfinite(values) & (values > 0)]
    if len(values):
        axis.set_yscale("log")
        axis.minorticks_off()  # a decade is narrow here, and its ticks are most of the drawing time
        axis.set_ylim(max(values.min() / 2, values.max() * 10.0**-decades), values.max() * 3)


def _check_history(history: Curves) -> None:
    if not history:
        raise ValueError("Need at least one metric to draw.")
    for name, (steps, values) in history.items():
        if len(steps) == 0 or len(steps) != len(values):
            raise ValueError(f"The metric {name!r} has {len(steps)} steps and {len(values)} values. Give one each.")


def _check_signals(x: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> None:
    if x.ndim != 1 or len(x) < 4 or not x.shape == truth.shape == prediction.shape:
        raise ValueError(
            f"Need x, truth and prediction of one length (N,) of at least 4, got {x.shape}, {truth.shape} and "
            f"{prediction.shape}."
        )
    steps = np.diff(x.astype(np.float64))
    # float32 positions are off by some 1e-7 of the largest.
    tolerance = 1e-3 * abs(steps.mean()) + 1e-6 * float(np.abs(x).max())
    if steps.mean() <= 0 or np.abs(steps - steps.mean()).max() > tolerance:
        raise ValueError(
            f"x must be ascending and evenly spaced for its Fourier transform, got steps from {steps.min():.6g} to "
            f"{steps.max():.6g}."
        )
