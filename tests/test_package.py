"""The package as others get it."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, entry_points, metadata, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import iga_nerfstudio

ROOT = Path(__file__).parent.parent

ALONE = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {'nerfstudio', 'torchvision', 'torchmetrics', 'matplotlib', 'PIL', 'tyro', 'rich'}:
            raise ImportError('blocked: ' + name)
sys.meta_path.insert(0, Blocked())
import torch
from iga_nerfstudio import *
from iga_nerfstudio import InductiveGradientAdjuster, Patches
network = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
adjuster = InductiveGradientAdjuster(network, grouping=Patches((8, 8), patch_size=2), end=3)
x, y = torch.randn(64, 2), torch.randn(64, 3)
torch.nn.functional.mse_loss(adjuster(network(x), x, y), y).backward()
assert adjuster.diagnostics.adjusted
"""


def test_the_library_needs_torch_alone():
    subprocess.run([sys.executable, "-c", ALONE], check=True, timeout=120)


WITHOUT_NERFSTUDIO = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'nerfstudio':
            raise ImportError('blocked: ' + name)
sys.meta_path.insert(0, Blocked())
import iga_nerfstudio.tasks.launch
"""


def test_images_shapes_and_signals_need_no_nerfstudio():
    subprocess.run([sys.executable, "-c", WITHOUT_NERFSTUDIO], check=True, timeout=120)


# First releases, and those of distributions that people still have.
@pytest.mark.parametrize("python", ["3.10.0", "3.10.12", "3.11.0", "3.11.2", "3.12.0", "3.12.3", "3.13.0"])
def test_no_constraint_asks_for_what_a_python_cannot_have(python):
    environment = {"python_full_version": python, "python_version": python.rpartition(".")[0]}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    checked = []
    for pin in pins:
        try:
            installed = metadata(pin.name)
        except PackageNotFoundError:
            continue
        if pin.specifier.contains(installed["Version"]) and (not pin.marker or pin.marker.evaluate(environment)):
            asked = installed.get("Requires-Python") or ""
            assert python in Requirement(f"{pin.name}{asked}").specifier, f"{pin} asks for Python {asked}"
            checked.append(pin.name)
    assert len(checked) > 100


def test_entry_points_are_registered():
    methods = entry_points(group="nerfstudio.method_configs")
    assert {name: methods[name].load().config.method_name for name in ("iga-nerf", "iga-nerf-tiny")} == {
        "iga-nerf": "iga-nerf",
        "iga-nerf-tiny": "iga-nerf-tiny",
    }
    assert "iga-blender" in entry_points(group="nerfstudio.dataparser_configs").names
    assert {"iga-demo", "iga-scene", "iga-bench", "iga-image", "iga-sdf", "iga-signal"} <= entry_points(
        group="console_scripts"
    ).names
    assert version("iga-nerfstudio") == iga_nerfstudio.__version__


def test_the_wheel_holds_what_it_should(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT]
    subprocess.run(command, check=True, timeout=240, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "iga_nerfstudio").rglob("*.py")}
    assert sources | {"iga_nerfstudio/py.typed"} <= names
    configs = ROOT / "configs"
    presets = {f"iga_nerfstudio/configs/{path.relative_to(configs)}" for path in configs.rglob("*.yaml")}
    assert presets == {name for name in names if name.startswith("iga_nerfstudio/configs/")}
    assert presets
    assert not any(name.startswith("tests") for name in names)
    text = zipfile.ZipFile(wheel).read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert "iga-nerf = iga_nerfstudio.nerf.method_configs:iga_nerf" in text


def test_the_example_runs_and_shows_a_gain(tmp_path):
    result = subprocess.run(
        [sys.executable, ROOT / "examples" / "fit_image.py", "--steps", "60", "--output", tmp_path / "both.png"],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    plain, adjusted = (float(number) for number in re.findall(r"(\d+\.\d+) dB", result.stdout))
    assert adjusted > plain
    assert (tmp_path / "both.png").stat().st_size > 10_000


def test_the_table_of_settings_is_complete_and_its_defaults_true():
    from iga_nerfstudio.nerf.model import AdjustmentConfig
    from iga_nerfstudio.nerf.nerfacto import NerfactoAdjustmentConfig

    page = (ROOT / "docs" / "configuration.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| `?([\w.]+)`? \|", page, re.MULTILINE))
    fields = vars(NerfactoAdjustmentConfig()) | vars(AdjustmentConfig())
    assert rows == {name: str(value) for name, value in fields.items()}


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.encode()) <= 9000
    assert text.count("\n") <= 150
