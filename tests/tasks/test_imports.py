"""Importing takes what is needed, leaves the user's process as it is, and asks for nothing that only Linux has."""

from __future__ import annotations

import subprocess
import sys

import pytest

import iga_nerfstudio


def run(script: str) -> str:
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.strip()


@pytest.mark.parametrize(
    "command", ["tasks.cli:image", "tasks.cli:sdf", "tasks.cli:signal", "scenes.cli:main", "__main__:main"]
)
def test_help_needs_nothing_that_is_slow_to_import(command: str) -> None:
    module, function = command.split(":")
    script = (
        "import sys, contextlib, io; sys.argv = ['iga', '--help']\n"
        f"from iga_nerfstudio.{module} import {function}\n"
        f"with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()): {function}()\n"
        "slow = 'torch torchmetrics torchvision matplotlib scipy skimage trimesh h5py cv2 tensorboard nerfstudio'\n"
        "print([name for name in slow.split() if name in sys.modules])"
    )
    assert run(script) == "[]"


def test_the_plugin_brings_no_package_into_nerfstudio_s_commands() -> None:
    """What is not installed, or breaks, then breaks no other method; what is slow is not waited for."""
    script = (
        "import sys, importlib.metadata as metadata\n"
        "every = metadata.entry_points\n"
        "def others(**given):\n"
        "    found = every(**given)\n"
        "    return type(found)([e for e in found if not e.value.startswith('iga_nerfstudio')]) if given else found\n"
        "metadata.entry_points = others\n"
        "import nerfstudio.configs.method_configs as configs\n"
        "assert 'vanilla-nerf' in configs.all_methods and 'iga-nerf' not in configs.all_methods\n"
        "before = set(sys.modules)\n"
        "import iga_nerfstudio.nerf.method_configs, iga_nerfstudio.nerf.dataparser\n"
        "print({name.split('.')[0] for name in set(sys.modules) - before})"
    )
    assert run(script) == "{'iga_nerfstudio'}"


def test_the_method_s_names_come_when_they_are_asked_for() -> None:
    script = (
        "import sys, iga_nerfstudio\n"
        "assert 'torch' not in sys.modules\n"
        "print(iga_nerfstudio.Patches.__module__, 'torch' in sys.modules, 'Patches' in dir(iga_nerfstudio))"
    )
    assert run(script) == "iga_nerfstudio.adjustment.grouping True True"
    with pytest.raises(AttributeError, match="no attribute 'Patch'"):
        iga_nerfstudio.Patch  # noqa: B018


def test_the_tasks_import_where_there_is_no_resource_module() -> None:
    script = (
        "import sys; sys.modules['resource'] = None\n"
        "from iga_nerfstudio.tasks import launch, run\n"
        "print(run.peak_memory_mb(), run.finite({'peak': run.peak_memory_mb()}))"
    )
    assert run(script) == "nan {'peak': None}"


def test_nobody_s_drawing_backend_is_changed() -> None:
    script = (
        "import matplotlib; matplotlib.use('svg')\n"
        "from iga_nerfstudio.tasks import launch\n"
        "from iga_nerfstudio.evaluation import figures, meshes\n"
        "print(matplotlib.get_backend())"
    )
    assert run(script) == "svg"
