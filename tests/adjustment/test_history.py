"""The spectrum's history: even over a training of any length, and what a checkpoint keeps of it."""

from __future__ import annotations

import io

import pytest
import torch
from torch import Tensor, nn

from iga_nerfstudio import InductiveGradientAdjuster, Intervals
from iga_nerfstudio.adjustment.history import Spectrum, SpectrumHistory, latest_spectrum


def trained(steps: int, history: SpectrumHistory, **settings: object) -> InductiveGradientAdjuster:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 3))
    adjuster = InductiveGradientAdjuster(network, Intervals(40, 4), end=3, representative="middle", **settings)  # type: ignore[arg-type]
    x = torch.rand(40, 2)
    for _ in range(steps):
        adjuster(network(x), x).sum().backward()
        history.record(adjuster)
    return adjuster


@pytest.mark.parametrize("steps", [1, 7, 8, 9, 100])
def test_spectra_lie_evenly_and_are_never_too_many(steps: int) -> None:
    history = SpectrumHistory(capacity=8)
    trained(steps, history)
    recorded = [spectrum.step for spectrum in history.spectra]
    assert recorded == list(range(1, steps + 1, history.interval))
    assert len(recorded) < 8
    assert steps < 8 or len(recorded) >= 4


def test_a_spectrum_is_the_kernels_before_and_after() -> None:
    history = SpectrumHistory()
    adjuster = trained(1, history, start=2)
    (spectrum,) = history.spectra
    assert torch.equal(spectrum.eigenvalues, adjuster.diagnostics.eigenvalues)
    assert spectrum.target == spectrum.eigenvalues[3]
    first, *balanced, last = spectrum.rebalanced.tolist()
    assert (first, last) == (spectrum.eigenvalues[0], spectrum.eigenvalues[3])
    assert balanced == [spectrum.target] * 2
    # What is kept does not follow the adjuster's own tensors.
    adjuster.diagnostics.eigenvalues.zero_()
    assert spectrum.eigenvalues[0] > 0


def test_a_power_shows_in_the_spectrum_after() -> None:
    history = SpectrumHistory()
    trained(1, history, power=0.5)
    (spectrum,) = history.spectra
    before, after = spectrum.eigenvalues[:3], spectrum.rebalanced[:3]
    assert torch.allclose(after, (before * spectrum.target).sqrt())
    # Earlier versions saved no power: theirs was 1.
    state = history.state_dict()
    del state["spectra"][0]["power"]
    history.load_state_dict(state)
    assert torch.allclose(history.spectra[0].rebalanced[:3], torch.full((3,), spectrum.target))


def test_a_floor_shows_in_the_spectrum_after() -> None:
    history = SpectrumHistory()
    trained(1, history, floor=0.9)
    (spectrum,) = history.spectra
    before, after = spectrum.eigenvalues[:3], spectrum.rebalanced[:3]
    assert torch.allclose(after, (0.9 * before).clamp(min=spectrum.target))
    assert after[0] > 1.01 * spectrum.target


def test_without_a_transform_nothing_is_rebalanced() -> None:
    spectrum = Spectrum(1, 1, 2, torch.tensor([3.0, 2.0, 0.0]), float("nan"), 1.5, 1)
    assert torch.equal(spectrum.rebalanced, spectrum.eigenvalues)


def test_steps_that_are_switched_off_are_not_recorded() -> None:
    history = SpectrumHistory()
    adjuster = trained(2, history)
    adjuster.enabled = False
    history.record(adjuster)
    assert len(history.spectra) == 2
    trained(3, off := SpectrumHistory(), enabled=False)
    assert off.spectra == []


def test_a_checkpoint_keeps_it() -> None:
    history = SpectrumHistory(capacity=4)
    trained(9, history)
    file = io.BytesIO()
    torch.save(history.state_dict(), file)
    file.seek(0)
    again = SpectrumHistory(capacity=4)
    again.load_state_dict(torch.load(file, weights_only=True))

    def plain(spectra: list[Spectrum]) -> list[dict[str, object]]:
        return [
            {name: value.tolist() if isinstance(value, Tensor) else value for name, value in vars(spectrum).items()}
            for spectrum in spectra
        ]

    assert again.interval == history.interval
    assert plain(again.spectra) == plain(history.spectra)


def test_latest_spectrum_names_the_settings_in_force() -> None:
    adjuster = trained(1, SpectrumHistory())
    adjuster.reconfigure(end=2)
    assert latest_spectrum(adjuster).end == 2


def test_a_history_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="room for two spectra"):
        SpectrumHistory(capacity=1)
