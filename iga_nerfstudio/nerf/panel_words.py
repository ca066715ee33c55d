"""What the viewer's panel says."""

from __future__ import annotations

from torch import Tensor

from iga_nerfstudio.adjustment import InductiveGradientAdjuster
from iga_nerfstudio.adjustment.history import Spectrum

ABOUT = (
    "Every step's gradient is rescaled so that what the network learns fastest, the largest eigenvalues of its "
    "tangent kernel (eNTK), no longer keeps it from fine detail."
)
# Label and hint of each setting, by the names of InductiveGradientAdjuster.reconfigure.
SETTINGS = {
    "enabled": ("Adjust gradients", "Off is plain training: no kernel is computed, and the plots stand still."),
    "end": (
        "End",
        "Number of the last eigenvalue that is balanced. Larger acts more strongly on fine detail; 0 is plain "
        "training. Must stay below the number of rays per batch.",
    ),
    "start": (
        "Start",
        "Number of the first eigenvalue that is balanced; 1 is the largest. Those before it stay as they are.",
    ),
    "representative": (
        "Representative",
        "Which sample stands for its ray in the kernel: that of largest weight, which is about what the ray sees; a "
        "random one; or the middle one.",
    ),
    "refresh_interval": (
        "Refresh interval",
        "Adjust every that many steps. The steps between are plain training, and faster.",
    ),
}
NO_VIEW = (
    "`error` is 0 here: the camera stands at no training view that it could be compared with. Click the picture of a "
    "training camera, or:"
)


def summary(adjuster: InductiveGradientAdjuster, spectrum: Spectrum | None) -> str:
    """What the plot of a spectrum shows, as Markdown.

    Args:
        adjuster: What is shown.
        spectrum: Its latest spectrum, None before there is one.
    """
    if spectrum is None:
        return "No step has been adjusted yet." if adjuster.enabled else "The gradient is not adjusted."
    reasons = ", ".join(
        f"{reason.replace('_', ' ')}: {count}" for reason, count in sorted(adjuster.diagnostics.unadjusted.items())
    )
    sentences = [
        _balance(spectrum),
        f"Steps left unadjusted so far: {spectrum.steps_unadjusted} ({reasons})." if reasons else "",
        "" if adjuster.enabled else "**Switched off since.**",
    ]
    return " ".join(filter(None, sentences))


def _balance(spectrum: Spectrum) -> str:
    balanced = slice(spectrum.start - 1, spectrum.end)
    before, after = spectrum.eigenvalues[balanced], spectrum.rebalanced[balanced]
    if spectrum.target != spectrum.target or not len(before):  # NaN
        return f"**Step {spectrum.step}** was left unadjusted."
    way = "brought" if spectrum.power == 1 else f"brought {spectrum.power:.0%} of the way, on a logarithmic scale,"
    apart, still_apart = (float(values[0] / values[-1]) for values in (before, after))
    now = "at one speed" if spectrum.power == 1 else f"up to {_short(still_apart)} times as fast"
    return (
        f"**Step {spectrum.step}**: {len(before)} eigenvalues between {_short(before[0])} and {_short(before[-1])} are "
        f"{way} to {_short(spectrum.target)}. Patterns learned up to {_short(apart)} times as fast as others are now "
        f"learned {now}."
    )


def history_words(spectra: list[Spectrum]) -> str:
    """What the plot of a history shows, as Markdown.

    Args:
        spectra: Oldest first.
    """
    if not spectra:
        return ""
    first, last = spectra[0], spectra[-1]
    return (
        f"From step {first.step} to {last.step}, the largest eigenvalue went from {_short(first.eigenvalues[0])} to "
        f"{_short(last.eigenvalues[0])}, the target from {_short(first.target)} to {_short(last.target)}, and the "
        f"effective rank, over about how many directions the kernel is spread, from {first.effective_rank:.1f} to "
        f"{last.effective_rank:.1f}."
    )


def _short(number: float | Tensor) -> str:
    """``4.1e3``, ``16``, ``0.25``."""
    return f"{float(number):.3g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
