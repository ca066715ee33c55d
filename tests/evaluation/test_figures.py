"""Figures: that they are pictures, of what was given, and nothing stays open."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from iga_nerfstudio.adjustment.history import Spectrum
from iga_nerfstudio.evaluation import figures as figures_module
from iga_nerfstudio.evaluation.figures import (
    compared_sheet,
    error_map,
    error_maps,
    read_side_by_side,
    residual_spectrum,
    signal_figure,
    slices_figure,
    spectrum_over_training,
    training_curves,
    view_sheet,
)
from iga_nerfstudio.evaluation.spectra import log_spectrum, radial_energy

X = np.arange(256) / 256
SIGNAL = np.sin(2 * np.pi * 8 * X) + 0.5 * np.sin(2 * np.pi * 32 * X)


@pytest.fixture(autouse=True)
def nothing_stays_open():
    plt.close("all")
    yield
    assert plt.get_fignums() == []


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The figures that are written, to look into."""
    written: list[Figure] = []
    write = figures_module._write

    def keep(figure: Figure, path: Path) -> None:
        written.append(figure)
        write(figure, path)

    monkeypatch.setattr(figures_module, "_write", keep)
    return written


@pytest.fixture
def composed(monkeypatch) -> list[Figure]:
    """The figures that would be written, to look into; rendering is most of the time."""
    kept: list[Figure] = []
    monkeypatch.setattr(figures_module, "_write", lambda figure, path: kept.append(figure))
    return kept


def picture(seed: int = 0, height: int = 24, width: int = 40, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width, channels))


def check_png(path: Path) -> np.ndarray:
    """Pixels of a picture that is a PNG of sensible size and not blank."""
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    pixels = np.asarray(Image.open(path).convert("RGB"))
    assert 200 <= min(pixels.shape[:2]) <= max(pixels.shape[:2]) <= 2000
    assert pixels.std() > 5
    return pixels


def test_error_map_is_the_error_in_8_bit_steps(tmp_path, drawn):
    truth, result = picture(0), picture(1) * 3 - 1
    error_map(truth, result, tmp_path / "a.png")
    first = check_png(tmp_path / "a.png")
    (image,) = drawn[0].axes[0].images
    expected = 255 * np.abs(truth - result.clip(0, 1)).mean(axis=-1)
    np.testing.assert_allclose(image.get_array(), expected)
    assert image.get_clim() == (0, expected.max())
    assert drawn[0].axes[1].get_ylabel() == "absolute error (1/255)"
    error_map(truth, picture(2), tmp_path / "b.png")
    error_map(truth, result, tmp_path / "c.png")
    assert not np.array_equal(first, check_png(tmp_path / "b.png"))
    assert np.array_equal(first, check_png(tmp_path / "c.png"))


def test_errors_of_several_reconstructions_are_on_one_scale(tmp_path, drawn):
    truth = picture(0)
    close, far = truth * 0.9, 1 - truth
    error_maps(truth, {"close": close, "far": far}, tmp_path / "a.png")
    check_png(tmp_path / "a.png")
    *panels, bar = drawn[0].axes
    for axis, name, result in zip(panels, ("close", "far"), (close, far), strict=True):
        (image,) = axis.images
        error = 255 * np.abs(truth - result).mean(axis=-1)
        np.testing.assert_allclose(image.get_array(), error)
        assert image.get_clim() == (0, 255 * np.abs(truth - far).mean(axis=-1).max())
        assert axis.get_title() == f"{name}: mean {error.mean():.3g}, largest {error.max():.3g}"
    assert bar.get_ylabel() == "absolute error (1/255)"
    with pytest.raises(ValueError, match="Need two images"):
        error_maps(truth, {"close": close, "far": far[1:]}, tmp_path / "a.png")


@pytest.mark.parametrize(("height", "width"), [(8, 80), (80, 8)])
def test_error_map_of_narrow_and_equal_images(tmp_path, drawn, height, width):
    truth = picture(0, height, width, channels=1)
    error_map(truth, truth, tmp_path / "a.png")
    check_png(tmp_path / "a.png")
    assert drawn[0].axes[0].images[0].get_clim() == (0, 1)


def test_a_large_error_map_shows_means_and_says_so(tmp_path, composed, monkeypatch):
    monkeypatch.setattr(figures_module, "MAP_SIDE", 16)
    monkeypatch.setattr(figures_module, "_VALUES_AT_ONCE", 500)  # several strips
    truth, result = picture(0, 24, 40), picture(1, 24, 40)
    result[3, 5] = 1 - truth[3, 5].round()  # one pixel is worse than any mean
    error_map(truth, result, tmp_path / "a.png")
    (image,) = composed[0].axes[0].images
    error = 255 * np.abs(truth - result).mean(axis=-1)
    expected = [[error[i : i + 3, j : j + 3].mean() for j in range(0, 40, 3)] for i in range(0, 24, 3)]
    np.testing.assert_allclose(image.get_array(), expected)
    assert image.get_clim() == (0, np.max(expected))
    title = composed[0].axes[0].get_title()
    assert title == f"mean {error.mean():.3g}, largest {error.max():.3g}\nshown: means over 3 x 3 pixels"
    assert error.max() > 1.2 * np.max(expected)


def test_a_large_spectrum_is_drawn_at_its_frequencies(tmp_path, composed, monkeypatch):
    monkeypatch.setattr(figures_module, "MAP_SIDE", 16)
    columns = np.arange(48)
    wave = np.broadcast_to(0.5 + 0.4 * np.cos(2 * np.pi * 0.25 * columns)[None, :, None], (32, 48, 1))
    residual_spectrum(wave, np.full_like(wave, 0.5), tmp_path / "a.png")
    image = next(axis for axis in composed[0].axes if axis.images).images[0]
    assert image.get_array().shape == (11, 16)
    left, right, bottom, top = image.get_extent()
    assert (left, right) == pytest.approx((-0.5 - 0.5 / 48, 0.5 - 0.5 / 48))
    row, column = np.unravel_index(image.get_array()[:, 8:].argmax(), (11, 8))
    assert left + (column + 8 + 0.5) * (right - left) / 16 == pytest.approx(0.25, abs=1 / 16)
    assert top + (row + 0.5) * (bottom - top) / 11 == pytest.approx(0.0, abs=1 / 11)
    # The rings are those of all frequencies.
    rings = next(axis for axis in composed[0].axes if axis.get_lines()).get_lines()[0]
    np.testing.assert_allclose(rings.get_ydata(), radial_energy(wave[..., 0], 24)[1])


def test_residual_spectrum_shares_one_colour_scale(tmp_path, drawn):
    truth, result = picture(0, 64, 48), picture(0, 64, 48) * 0.9
    residual_spectrum(truth, result, tmp_path / "a.png")
    first = check_png(tmp_path / "a.png")
    panels = {axis.get_title(): axis for axis in drawn[0].axes}
    left, right = (panels[f"spectrum of the {name}"].images[0] for name in ("truth", "residual"))
    assert left.get_clim() == right.get_clim()
    low, high = left.get_clim()
    assert high == left.get_array().max()
    assert low < np.median(np.asarray(right.get_array())) < high
    np.testing.assert_allclose(
        right.get_array(), np.mean([log_spectrum((truth - result)[..., c]) for c in range(3)], axis=0)
    )
    rings = next(axis for axis in drawn[0].axes if axis.get_lines())
    curves = {line.get_label(): line.get_xydata() for line in rings.get_lines()}
    energies = [radial_energy((truth - result)[..., c], 32) for c in range(3)]
    np.testing.assert_allclose(curves["residual"][:, 0], energies[0][0])
    np.testing.assert_allclose(curves["residual"][:, 1], np.mean([energy for _, energy in energies], axis=0))
    assert (curves["truth"][:, 1] > curves["residual"][:, 1]).all()
    bottom, top = rings.get_ylim()
    assert bottom < curves["residual"][:, 1].min() < curves["truth"][:, 1].max() < top
    residual_spectrum(truth, picture(3, 64, 48), tmp_path / "b.png")
    assert not np.array_equal(first, check_png(tmp_path / "b.png"))


def test_a_plane_wave_is_drawn_at_its_frequency(tmp_path, composed):
    columns = np.arange(48)
    wave = np.broadcast_to(0.5 + 0.4 * np.cos(2 * np.pi * 0.25 * columns)[None, :, None], (32, 48, 1))
    residual_spectrum(wave, np.full_like(wave, 0.5), tmp_path / "a.png")
    image = next(axis for axis in composed[0].axes if axis.images).images[0]
    row, column = np.unravel_index(image.get_array()[:, 24:].argmax(), (32, 24))
    left, right, bottom, top = image.get_extent()
    assert left + (column + 24 + 0.5) * (right - left) / 48 == pytest.approx(0.25)
    assert top + (row + 0.5) * (bottom - top) / 32 == pytest.approx(0.0)


def test_errors_of_opposite_sign_in_two_channels_do_not_cancel(tmp_path, composed):
    truth = np.full((16, 16, 2), 0.5)
    error = 0.2 * (picture(0, 16, 16, 1) - 0.5)
    residual_spectrum(truth, truth + np.concatenate([error, -error], axis=-1), tmp_path / "a.png")
    rings = next(axis for axis in composed[0].axes if axis.get_lines())
    assert np.asarray(rings.get_lines()[1].get_ydata()).min() > 1e-6


def test_residual_spectrum_of_equal_and_tiny_images(tmp_path, drawn):
    truth = picture(0, 5, 4)
    residual_spectrum(truth, truth, tmp_path / "a.png")
    check_png(tmp_path / "a.png")
    rings = next(axis for axis in drawn[0].axes if axis.get_lines())
    assert [text.get_text() for text in rings.get_legend().get_texts()] == ["truth", "residual (zero everywhere)"]
    with pytest.raises(ValueError, match="rings do not fit"):
        residual_spectrum(truth[:1, :1], truth[:1, :1], tmp_path / "b.png")


@pytest.mark.parametrize("draw", [error_map, residual_spectrum])
def test_pairs_of_images_that_do_not_compare(tmp_path, draw):
    truth = picture()
    for bad in (truth[1:], truth[..., 0], truth[..., :1]):
        with pytest.raises(ValueError, match="Need two images"):
            draw(truth, bad, tmp_path / "a.png")
    with pytest.raises(ValueError, match="Need two images"):
        draw(truth[..., 0], truth[..., 0], tmp_path / "a.png")
    with pytest.raises(ValueError, match="not finite"):
        draw(truth, truth * np.nan, tmp_path / "a.png")


def test_training_curves_have_a_panel_per_metric_and_a_curve_per_run(tmp_path, drawn):
    plain = {"psnr": ([0, 100, 200], [10.0, 25.0, 20.0]), "loss": ([0, 200], [1.0, 0.001])}
    adjusted = {"psnr": ([0, 200], [10.0, float("inf")]), "loss": ([0, 200], [1.0, 0.0001])}
    training_curves({"plain": plain, "adjusted": adjusted}, tmp_path / "a.png")
    check_png(tmp_path / "a.png")
    psnr, loss = drawn[0].axes
    assert (psnr.get_ylabel(), loss.get_ylabel()) == ("psnr", "loss")
    assert psnr.get_xlim() == loss.get_xlim()
    assert (psnr.get_yscale(), loss.get_yscale()) == ("linear", "log")
    np.testing.assert_array_equal(psnr.get_lines()[0].get_xydata(), [[0, 10], [100, 25], [200, 20]])
    np.testing.assert_array_equal(loss.get_lines()[1].get_xydata(), [[0, 1], [200, 0.0001]])
    assert [text.get_text() for text in psnr.get_legend().get_texts()] == ["plain", "adjusted"]


def test_histories_that_cannot_be_drawn(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(ValueError, match="at least one metric"):
        training_curves({"run": {}}, path)
    with pytest.raises(ValueError, match="'psnr' has 2 steps and 1 values"):
        training_curves({"run": {"psnr": ([0, 1], [1.0])}}, path)
    with pytest.raises(ValueError, match="'psnr' has 0 steps"):
        training_curves({"run": {"psnr": ([], [])}}, path)


def test_the_kernels_spectrum_over_a_training(tmp_path, composed):
    spectra = [Spectrum(step, 1, 2, torch.tensor([9.0, 4.0, 1.0]) * step, 1.0 * step, 2.0, 0) for step in range(1, 51)]
    spectrum_over_training(spectra, tmp_path / "a.png")
    numbers, time = composed[0].axes
    lines = [line.get_ydata().tolist() for line in numbers.get_lines()]
    assert lines[:2] == [[9, 4, 1], [1, 1, 1]]
    assert lines[-2:] == [[450, 200, 50], [50, 50, 50]]
    assert len(time.get_lines()[0].get_xdata()) == 50
    with pytest.raises(ValueError, match="at least one spectrum"):
        spectrum_over_training([], tmp_path / "b.png")


def test_slices_are_labelled_and_lie_where_the_grid_is(tmp_path, drawn):
    grid = np.random.default_rng(0).random((4, 6, 8))
    slices = [grid[2], grid[:, 3], grid[:, :, 4]]
    slices_figure({"truth": slices, "found": slices}, tmp_path / "a.png", (10.0, 0.0, -1.0), 0.5, (0, 1))
    check_png(tmp_path / "a.png")
    across_z = drawn[0].axes[2]
    assert across_z.get_title() == "truth: z = 1, slice 5 of 8"
    assert (across_z.get_xlabel(), across_z.get_ylabel()) == ("x", "y")
    assert across_z.images[0].get_extent() == [9.75, 11.75, -0.25, 2.75]
    # Columns of the drawn array go right.
    np.testing.assert_array_equal(across_z.images[0].get_array(), grid[:, :, 4].T)


def test_signal_figure_shows_signal_error_and_amplitudes(tmp_path, drawn):
    prediction = SIGNAL - 0.25 * np.sin(2 * np.pi * 32 * X)
    signal_figure(X, SIGNAL, prediction, tmp_path / "a.png", x_label="time (s)")
    first = check_png(tmp_path / "a.png")
    signal, error, spectrum = drawn[0].axes
    np.testing.assert_allclose(error.get_lines()[0].get_ydata(), prediction - SIGNAL)
    np.testing.assert_allclose(signal.get_lines()[1].get_ydata(), prediction)
    assert error.get_xlabel() == "time (s)"
    assert signal.get_xlim() == error.get_xlim()
    truth_line, prediction_line = (dict(line.get_xydata()) for line in spectrum.get_lines())
    assert truth_line[8.0] == pytest.approx(1.0)
    assert truth_line[32.0] == pytest.approx(0.5)
    assert prediction_line[32.0] == pytest.approx(0.25)
    assert 0.0 not in truth_line
    assert spectrum.get_ylim()[0] >= 0.9e-8
    signal_figure(X, SIGNAL, SIGNAL, tmp_path / "b.png")
    assert not np.array_equal(first, check_png(tmp_path / "b.png"))


def test_signal_figure_of_silence(tmp_path):
    signal_figure(X, 0 * X, 0 * X, tmp_path / "a.png")
    check_png(tmp_path / "a.png")


def test_signal_figure_of_float32_far_from_the_origin(tmp_path, composed):
    positions = np.linspace(1000, 1001, 256, endpoint=False).astype(np.float32)
    signal_figure(positions, SIGNAL.astype(np.float32), SIGNAL.astype(np.float32), tmp_path / "a.png")
    peak = max(composed[0].axes[2].get_lines()[0].get_xydata(), key=lambda point: point[1])
    np.testing.assert_allclose(peak, [8, 1], rtol=1e-3)


def test_signals_that_cannot_be_drawn(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(ValueError, match="of one length"):
        signal_figure(X, SIGNAL, SIGNAL[1:], path)
    with pytest.raises(ValueError, match="at least 4"):
        signal_figure(X[:3], X[:3], X[:3], path)
    with pytest.raises(ValueError, match="ascending and evenly spaced"):
        signal_figure(X**2, SIGNAL, SIGNAL, path)
    with pytest.raises(ValueError, match="ascending and evenly spaced"):
        signal_figure(X[::-1], SIGNAL, SIGNAL, path)


def test_methods_are_compared_view_by_view(tmp_path, composed):
    truths, found = [picture(0), picture(1)], [picture(2), picture(3)]
    compared_sheet(truths, {"plain, 9 dB": found, "IGA, 9 dB": truths}, tmp_path / "a.png")
    names = [axis.get_ylabel() for axis in composed[0].axes[::2]]
    assert names == ["ground truth", "plain, 9 dB", "IGA, 9 dB", "plain: error x 4", "IGA: error x 4"]
    np.testing.assert_array_equal(composed[0].axes[3].images[0].get_array(), found[1])
    assert not composed[0].axes[9].images[0].get_array().any()


def test_view_sheet_and_its_parts(tmp_path):
    view_sheet([(picture(0), picture(1)), (picture(2), picture(3))], tmp_path / "a.png")
    check_png(tmp_path / "a.png")
    view_sheet([(picture(0), picture(1))], tmp_path / "named.png", columns=["a method"])
    check_png(tmp_path / "named.png")
    with pytest.raises(ValueError, match="at least one view"):
        view_sheet([], tmp_path / "b.png")
    with pytest.raises(ValueError, match="one name per view"):
        view_sheet([(picture(0), picture(1))], tmp_path / "b.png", columns=["a", "b"])
    both = np.concatenate([picture(0), picture(1)], axis=1)
    Image.fromarray((255 * both).round().astype(np.uint8)).save(tmp_path / "c.png")
    left, right = read_side_by_side(tmp_path / "c.png", 2)
    np.testing.assert_allclose(left, picture(0), atol=0.5 / 255 + 1e-9)
    np.testing.assert_allclose(right, picture(1), atol=0.5 / 255 + 1e-9)
