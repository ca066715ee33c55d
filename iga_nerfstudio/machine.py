"""What a result, or a report of a fault, should say of its origin: code, machine and versions."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def commit() -> str | None:
    """The commit of the checkout that this package is in; None where there is none."""
    return _git("rev-parse", "HEAD")


def uncommitted_changes() -> bool:
    """Whether the checkout differs from its commit in what decides a result: pages and earlier results do not."""
    return bool(_git("status", "--porcelain", "--untracked-files=no", "--", ":/iga_nerfstudio", ":/configs"))


def versions(packages: Iterable[str]) -> dict[str, str | None]:
    """Versions of Python and of packages; None for what is not installed."""
    return {"python": platform.python_version()} | {package: _version(package) for package in packages}


def machine() -> dict[str, Any]:
    """Processor, cores, threads, GPU (None without one) and system."""
    import torch  # here: all else can be told where torch is broken

    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(terse=True),
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
