"""Kernels larger than the memory are refused before they are computed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from iga_nerfstudio import InductiveGradientAdjuster, Intervals, Rays
from iga_nerfstudio.adjustment import limits


def test_the_memory_is_that_of_the_machine_or_of_its_container() -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    total = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemTotal"))
    memory = limits.memory_of(torch.device("cpu"))
    assert memory is not None
    assert 0.01 * total < memory <= 1.01 * total


def test_where_the_memory_is_not_known_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(limits.os, "sysconf")
    assert limits.memory_of(torch.device("cpu")) is None
    limits.require_kernel_fits(10**7, torch.device("cpu"))


def test_a_kernel_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    monkeypatch.setattr(limits, "memory_of", lambda device: 12 * 1000**2)
    limits.require_kernel_fits(1000, device)
    with pytest.raises(ValueError, match=r"kernel of 1001 groups takes .* this machine has .* fewer, larger groups"):
        limits.require_kernel_fits(1001, device)


@pytest.mark.parametrize("grouping", [Rays(2), Intervals(2002, 2)])
def test_a_step_does_not_begin_with_one(grouping: Rays | Intervals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "memory_of", lambda device: 12 * 1000**2)
    network, x = nn.Linear(2, 1), torch.rand(2002, 2)
    adjuster = InductiveGradientAdjuster(network, grouping, end=1, representative="middle")
    with pytest.raises(ValueError, match="kernel of 1001 groups"):
        adjuster(network(x), x)
    adjuster.enabled = False
    assert adjuster(network(x), x).shape == (2002, 1)
