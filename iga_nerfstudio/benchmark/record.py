"""Results as evidence: figures with the commit, machine, versions, seed and command that made them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "torchvision", "nerfstudio", "numpy")


def write_result(path: Path, figures: dict[str, Any]) -> None:
    """Write figures and how they came about as JSON.

    Args:
        path: File to write; its folder is made if missing.
        figures: What was measured, settings included; JSON types only.

    Raises:
        ValueError: If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"figures": figures, "provenance": provenance()}, indent=2) + "\n")
    except OSError as error:
        raise ValueError(f"The result cannot be written to {path}: {error}. Choose another --output.") from error


def read_results(folder: Path, name: str) -> list[tuple[Path, dict[str, Any]]]:
    """The results whose files begin with a name, in order: paths and contents."""
    return [(path, json.loads(path.read_text())) for path in sorted(folder.glob(f"{name}*.json"))]


def render_page(results: Path, name: str, header: str, section: Callable[[dict[str, Any], Path], str]) -> str | None:
    """A page of one section per result, each with where it comes from.

    Args:
        results: Folder of result files.
        name: What their names begin with.
        header: What the page begins with.
        section: Text about a result's figures; also told the file.

    Returns:
        Markdown; None if there is no such result.
    """
    found = read_results(results, name)
    parts = [section(result["figures"], path) + origin(path, result) for path, result in found]
    return "\n".join([header, *parts]) if parts else None


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table of Markdown without the columns that are empty in every row.

    Args:
        head: Names of the columns.
        rows: Their cells.
    """
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    lines = [[cells[i] for i in kept] for cells in (head, *rows)]
    lines.insert(1, ["---"] * len(kept))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def with_gain(value: float | None, plain: float | None) -> str:
    """A value with what it gains over plain training in brackets; without if there is none, or it is the plain one.

    Args:
        value: The value; nothing is written for None.
        plain: That of plain training.
    """
    if value is None:
        return ""
    return f"{value:.2f}" if plain in (None, value) else f"{value:.2f} ({value - plain:+.2f})"


def origin(path: Path, result: dict[str, Any]) -> str:
    """Where a result comes from, as a paragraph of Markdown.

    Args:
        path: Its file.
        result: What the file holds.
    """
    provenance = result["provenance"]
    machine = provenance["machine"]
    where = machine["gpu"] or f"{machine['processor']}, {machine['threads']} threads"
    trained = list(_trainings(result["figures"]))
    commits = sorted({training["provenance"]["commit"][:10] for training in trained if "provenance" in training})
    where_trained = f", trained at {', '.join(commits)}" if commits else ""
    diverged = sum(bool(training.get("diverged")) for training in trained)
    return (
        f"\nCommand: `{provenance['command']}` ({where}; torch {provenance['versions']['torch']}; commit "
        f"{provenance['commit'][:10]}{where_trained}). Data: `{path.name}`."
        f"{f' {diverged} of {len(trained)} trainings diverged; no mean counts them.' if diverged else ''}\n"
    )


def _trainings(figures: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All trainings that figures list, whatever they list them as."""
    for value in figures.values():
        if isinstance(value, list):
            yield from (entry for entry in value if isinstance(entry, dict) and {"provenance", "diverged"} & set(entry))


def finished(outcomes: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of the trainings that did not diverge: what means are taken over, and what is best."""
    return [outcome for outcome in outcomes if not outcome.get("diverged")]


def provenance() -> dict[str, Any]:
    """Commit, machine, versions, time and command of this process."""
    return {
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": _git("rev-parse", "HEAD") or "unknown",
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "system": platform.platform(terse=True),
        },
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
    }


def _git(*arguments: str) -> str | None:
    """Output of git in this package's checkout; None where there is none."""
    try:
        result = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
