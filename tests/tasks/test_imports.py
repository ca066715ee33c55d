"""Importing the package leaves the user's process as it is, and asks for nothing that only Linux has."""

from __future__ import annotations

import subprocess
import sys


def run(script: str) -> str:
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.strip()


def test_the_tasks_import_where_there_is_no_resource_module() -> None:
    script = (
        "import sys; sys.modules['resource'] = None\n"
        "from iga_nerfstudio.tasks import cli, run\n"
        "print(run.peak_memory_mb(), run.finite({'peak': run.peak_memory_mb()}))"
    )
    assert run(script) == "nan {'peak': None}"


def test_nobody_s_drawing_backend_is_changed() -> None:
    script = (
        "import matplotlib; matplotlib.use('svg')\n"
        "from iga_nerfstudio.tasks import cli\n"
        "from iga_nerfstudio.evaluation import figures, meshes\n"
        "print(matplotlib.get_backend())"
    )
    assert run(script) == "svg"
