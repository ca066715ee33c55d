"""Freed memory stays with the process, and only where asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Counts page faults of filling and freeing 64 MiB twenty times. Before that the heap has grown to what it needs: small
# blocks that stay can keep the first free ones apart.
FILL = """
import resource, sys
import torch
from iga_nerfstudio.allocator import reuse_host_memory
if sys.argv[1] == "reuse":
    assert reuse_host_memory()
def fill():
    torch.empty(16 << 20).fill_(1.0)
for _ in range(20):
    fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    command = [sys.executable, "-c", FILL, mode]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
def test_freed_memory_is_used_again() -> None:
    # 64 MiB are 16384 pages of 4 KiB; with larger pages there are fewer faults to spare.
    assert faults("reuse") < 0.1 * faults("give back")
