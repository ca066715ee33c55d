"""Results as evidence: figures with the commit, machine, versions, seed and command that made them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from iga_nerfstudio.files import write_text
from iga_nerfstudio.machine import commit, machine, uncommitted_changes, versions

PACKAGES = ("torch", "torchvision", "nerfstudio", "numpy")


def write_result(path: Path, figures: dict[str, Any]) -> None:
    """Write figures, settings included, and how they came about as JSON."""
    try:
        write_text(path, _lines(figures, provenance()))
    except OSError as error:
        raise ValueError(f"The result cannot be written to {path}: {error}. Choose another --output.") from error


def _lines(figures: dict[str, Any], source: dict[str, Any]) -> str:
    """JSON with a line for every figure, and for every training: what differs is seen."""
    lines = ",\n".join(f"{json.dumps(name)}: {_of_lines(value)}" for name, value in figures.items())
    return f'{{"figures": {{\n{lines}\n}},\n"provenance": {json.dumps(source)}}}\n'


def _of_lines(value: Any) -> str:
    if not (isinstance(value, list) and value and isinstance(value[0], dict)):
        return json.dumps(value, allow_nan=False)
    return "[\n" + ",\n".join(json.dumps(entry, allow_nan=False) for entry in value) + "\n]"


def read_results(folder: Path, name: str) -> list[tuple[Path, dict[str, Any]]]:
    """The results whose files begin with a name, in order: paths and contents."""
    return [(path, json.loads(path.read_text())) for path in sorted(folder.glob(f"{name}*.json"))]


def origin(path: Path, result: dict[str, Any]) -> str:
    """Where a result comes from, as a paragraph of Markdown."""
    provenance = result["provenance"]
    computer = provenance["machine"]
    trained = list(_trainings(result["figures"]))
    where = computer["gpu"] or f"{computer['processor']}, {computer['threads']} threads"
    commits = sorted({training["provenance"]["commit"][:10] for training in trained if "provenance" in training})
    dirty = any(training["provenance"]["uncommitted_changes"] for training in trained if "provenance" in training)
    at = f", trained at {', '.join(commits)}{' with uncommitted changes' if dirty else ''}" if commits else ""
    diverged = sum(bool(training.get("diverged")) for training in trained)
    return (
        f"\nCommand: `{provenance['command']}` ({where}; torch {provenance['versions']['torch']}; commit "
        f"{provenance['commit'][:10]}{at}). Data: `{path.name}`"
        f"{f', {len(trained)} trainings' if commits else ''}."
        f"{f' {diverged} of {len(trained)} trainings diverged; no mean counts them.' if diverged else ''}\n"
    )


def _trainings(figures: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All trainings that figures list, whatever they list them as."""
    for value in figures.values():
        if isinstance(value, list):
            yield from (entry for entry in value if isinstance(entry, dict) and {"provenance", "diverged"} & set(entry))


def provenance() -> dict[str, Any]:
    """Commit, machine, versions, time and command of this process."""
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": commit() or "unknown",
        "uncommitted_changes": uncommitted_changes(),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "versions": versions(PACKAGES),
    }
