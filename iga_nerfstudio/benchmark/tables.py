"""Tables of Markdown, and the numbers in them: means, what they scatter by over seeds, and gains case by case."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

Run = dict[str, Any]
# Of each optimiser what is plain and what is adjusted.
Variants = Mapping[Any, tuple[str, str]]
VARIANTS: Variants = {"adam": ("plain", "iga"), "muon": ("plain", "iga")}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table without the columns that are empty in every row."""
    rows = list(rows)
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    lines = [[cells[i] for i in kept] for cells in (head, *rows)]
    lines.insert(1, ["---"] * len(kept))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def number(value: float | None, how: str = ".2f") -> str:
    """A number, or nothing where there is none."""
    return "" if value is None else format(value, how)


def with_gain(value: float | None, plain: float | None) -> str:
    """A value with what it gains over another in brackets; without if there is none, or it is the other one."""
    return number(value) if value is None or plain in (None, value) else f"{value:.2f} ({value - plain:+.2f})"


def finished(runs: Iterable[Run]) -> list[Run]:
    """Those of the trainings that did not diverge: what means are taken over, and what is best."""
    return [run for run in runs if not run.get("diverged")]


def those(runs: Iterable[Run], **labels: Any) -> list[Run]:
    """Trainings of some labels."""
    return [run for run in runs if all(run.get(name) == value for name, value in labels.items())]


def grouped(runs: Iterable[Run], *labels: str) -> dict[tuple[Any, ...], list[Run]]:
    """Trainings by the values of some labels, in order."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(run[label] for label in labels), []).append(run)
    return groups


def mean(runs: Iterable[Run], metric: str) -> float | None:
    """The mean of those that finished; None if there are none, or one has no such number."""
    runs = finished(runs)
    complete = bool(runs) and all(metric in run for run in runs)
    return statistics.mean(run[metric] for run in runs) if complete else None


def spread(runs: Sequence[Run], metric: str, how: str = ".2f") -> str:
    """The mean, with the standard deviation over the seeds of each seed's mean; how many diverged, if any."""
    diverged = len(runs) - len(finished(runs))
    return ", ".join(filter(None, (_with_scatter(runs, metric, how), f"{diverged} diverged" if diverged else "")))


def _with_scatter(runs: Sequence[Run], metric: str, how: str) -> str:
    value, seeds = mean(runs, metric), grouped(finished(runs), "seed").values()
    if value is None or len(seeds) == 1:
        return number(value, how)
    scatter = statistics.stdev(statistics.mean(run[metric] for run in own) for own in seeds)
    return f"{format(value, how)} ± {format(scatter, how.replace('+', ''))}"


def differences(ours: Iterable[Run], theirs: Iterable[Run], metric: str, *case: str) -> list[Run]:
    """What trainings have more of a metric than others, one of each case and seed, where both finished: the cases'
    labels, which tell them apart beside the seed, and the ``difference`` of each."""
    labels = (*case, "seed")
    other = {tuple(run[label] for label in labels): run[metric] for run in finished(theirs) if metric in run}
    found = []
    for run in finished(ours):
        key = tuple(run[label] for label in labels)
        if key in other and metric in run:
            found.append(dict(zip(labels, key, strict=True)) | {"difference": run[metric] - other[key]})
    return found


def gain(differences: Sequence[Run], how: str = "+.2f") -> str:
    """Differences as a mean with its spread over seeds, and in how many of the cases there is a gain."""
    return f"{_with_scatter(differences, 'difference', how)} ({count(differences)})" if differences else ""


def count(differences: Sequence[Run]) -> str:
    """Of how many cases there is a gain."""
    return f"{sum(one['difference'] > 0 for one in differences)} of {len(differences)}"


def gains_rows(
    task: str, label: str, runs: Iterable[Run], metric: str, case: str, variants: Variants = VARIANTS
) -> list[list[str]]:
    """Rows of README's table, one for every value of a label: plain trainings' mean under Adam, adjusted ones' with
    what they gain over the cases, and under Muon."""
    title, how = {"psnr": ("PSNR", ".2f"), "iou": ("IoU", ".4f")}[metric]
    rows = []
    for (value,), own in grouped(runs, label).items():
        rows.append([f"{task}, {value}: {title}"])
        for optimizer, pair in variants.items():
            plain, adjusted = (those(own, optimizer=optimizer, variant=variant) for variant in pair)
            found = gain(differences(adjusted, plain, metric, case), f"+{how}")
            ours = f"{number(mean(adjusted, metric), how)}: {found}" if found else ""
            rows[-1] += [number(mean(plain, metric), how), ours]
    return rows


def gains_in_words(runs: Sequence[Run], metric: str, *case: str) -> str:
    """In how many cases the adjusted training of every network has the higher metric."""
    counts = []
    for (network,), own in grouped(runs, "network").items():
        plain, adjusted = (those(own, variant=variant) for variant in VARIANTS["adam"])
        if found := differences(adjusted, plain, metric, *case):
            counts.append(f"{network} in {count(found)}")
    return f"IGA has the higher {metric}: {', '.join(counts)} cases (with their seeds).\n" if counts else ""


def by_optimizer(
    runs: Sequence[Run], head: Sequence[str], rows: Callable[[list[Run]], list[list[str]]], metric: str, *case: str
) -> list[str]:
    """A table of the trainings under each optimiser, and in how many cases the adjusted ones have the higher metric."""
    return [
        f"### {optimizer.capitalize()}\n\n{table(head, rows(own))}\n{gains_in_words(own, metric, *case)}"
        for (optimizer,), own in grouped(runs, "optimizer").items()
    ]
