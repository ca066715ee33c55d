"""What the viewer's panel says."""

from __future__ import annotations

from torch import Tensor

from iga_nerfstudio.adjustment import InductiveGradientAdjuster
from iga_nerfstudio.adjustment.history import Spectrum

ABOUT = "Rescales every step's gradient so that what is learned fastest no longer holds back fine detail."
# Label and hint of each setting, by the names of InductiveGradientAdjuster.reconfigure.
SETTINGS = {
    "enabled": (
        "Adjust",
        "Off is plain training: no kernel is computed, and the plots stand still. It goes off by itself when the share "
        "of the training that adjustment.until says is over.",
    ),
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
PLOTS = ("spectrum", "history")
PLOT_HINT = (
    "spectrum: the leading eigenvalues of the network's tangent kernel (eNTK) at the latest step, before and after the "
    "adjustment. history: how they went since training began."
)
NO_VIEW = "`error` is 0 here: the camera stands at no training view that it could be compared with."


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
        "" if adjuster.enabled else "**Switched off since then.**",
    ]
    return " ".join(filter(None, sentences))


def _balance(spectrum: Spectrum) -> str:
    balanced = slice(spectrum.start - 1, spectrum.end)
    before, after = spectrum.eigenvalues[balanced], spectrum.rebalanced[balanced]
    if spectrum.target != spectrum.target or not len(before):  # NaN
        return "The latest step was left unadjusted."
    way = "brought" if spectrum.power == 1 else f"brought {spectrum.power:.0%} of the way, on a logarithmic scale,"
    apart, still_apart = (float(values[0] / values[-1]) for values in (before, after))
    now = "go at one speed" if still_apart < 1.01 else f"are {_short(still_apart)} times as fast"
    least = f", none slowed to less than {spectrum.floor:.0%} of its speed" if spectrum.floor else ""
    return (
        f"**{len(before)} eigenvalues** between {_short(before[0])} and {_short(before[-1])} are {way} to "
        f"{_short(spectrum.target)}{least}: patterns learned {_short(apart)} times as fast as others now {now}."
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
        f"Step {first.step} → {last.step}: largest eigenvalue {_short(first.eigenvalues[0])} → "
        f"{_short(last.eigenvalues[0])}, target {_short(first.target)} → {_short(last.target)}, effective rank (about "
        f"how many directions the kernel spreads over) {first.effective_rank:.1f} → {last.effective_rank:.1f}."
    )


def _short(number: float | Tensor) -> str:
    """``4.1e3``, ``16``, ``0.25``."""
    return f"{float(number):.3g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
