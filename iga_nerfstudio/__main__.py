"""What a report of a fault needs: versions, machine, our methods as nerfstudio finds them, and the tools they use."""

from __future__ import annotations

import argparse
import shutil
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from iga_nerfstudio.machine import commit, machine, uncommitted_changes, versions
from iga_nerfstudio.terminal import forgiving_output
from iga_nerfstudio.version import __version__

PACKAGES = ("torch", "nerfstudio", "numpy", "tyro", "viser")
# Modules that some methods use where they are there.
OPTIONAL = ("tinycudann", "gsplat")
Part = tuple[str, Callable[[], str]]


@forgiving_output()
def main() -> None:
    """Entry point of ``python -m iga_nerfstudio``."""
    argparse.ArgumentParser("python -m iga_nerfstudio", description=__doc__).parse_args()
    warnings.simplefilter("ignore")  # other packages' warnings while they are imported
    for name, part in parts():
        print(f"{name:<25}{said(part)}", flush=True)


def said(part: Callable[[], str]) -> str:
    """What a part says, or why it cannot, in one line."""
    try:
        return part()
    except Exception as error:  # whatever is broken is what is asked for
        return " ".join(f"FAILS with {type(error).__name__}: {error}".split())


def parts() -> Iterator[Part]:
    """All that is told, by name, in order."""
    yield "iga-nerfstudio", _ourselves
    for package, found in versions(PACKAGES).items():
        yield package, lambda found=found: found or "not installed"  # type: ignore[misc]
    yield "device", _device
    for group in ("method", "dataparser"):
        yield from _plugins(group)
    for module in OPTIONAL:
        yield module, lambda module=module: _optional(module)  # type: ignore[misc]
    yield "LPIPS weights (AlexNet)", _lpips_weights
    yield "ffmpeg", lambda: shutil.which("ffmpeg") or "not found: ns-render writes no videos without it"
    yield "chromium", lambda: _chromium() or "not found: the tests of the viewer in a browser are skipped"


def _ourselves() -> str:
    found = commit()
    changes = " with uncommitted changes" if found and uncommitted_changes() else ""
    return f"{__version__}, {f'commit {found}{changes}' if found else 'no checkout'}, in {Path(__file__).parent}"


def _device() -> str:
    found = machine()
    return (
        f"{found['processor']}, {found['cores']} cores, {found['threads']} threads; "
        f"GPU {found['gpu'] or 'none that torch finds'}; {found['system']}"
    )


def _plugins(kind: str) -> Iterator[Part]:
    """What nerfstudio finds of us: ns-train loads every plugin, so that one that fails ends them all."""
    group = f"nerfstudio.{kind}_configs"
    ours = [point for point in entry_points(group=group) if point.module.startswith("iga_nerfstudio.")]
    if not ours:
        yield f"{kind}s", lambda: f"NOT REGISTERED: no entry point of ours in {group}. Install the package with pip."
    for point in ours:
        yield f"{kind} {point.name}", lambda point=point: _loaded(point)  # type: ignore[misc]


def _loaded(point: EntryPoint) -> str:
    return f"registered, loads ({type(point.load().config).__name__})"


def _optional(module: str) -> str:
    if find_spec(module) is None:
        return "not installed"
    import_module(module)
    return f"{versions([module])[module] or 'of unknown version'}, imports"


def _lpips_weights() -> str:
    import torch

    from iga_nerfstudio.evaluation.metrics import ALEXNET_URL

    path = Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET_URL.rsplit("/", 1)[-1]
    return str(path) if path.exists() else f"not found: {path} is downloaded at the first evaluation"


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser")


if __name__ == "__main__":
    main()
