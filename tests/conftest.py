"""Fixtures that several rooms share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from iga_nerfstudio.scenes import write_demo_scene

# As the processes that tests start take it from there.
torch.set_num_threads(int(os.environ.setdefault("OMP_NUM_THREADS", "2")))


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built-in scene, tiny: 16 training, 2 validation and 3 test views of 24x24 pixels."""
    return write_demo_scene(
        tmp_path_factory.mktemp("scene") / "demo", resolution=24, num_train=16, num_val=2, num_test=3
    )
