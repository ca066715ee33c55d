"""Image metrics, with and without LPIPS's weights."""

from __future__ import annotations

import pytest
import torch

from iga_nerfstudio.evaluation import metrics as metrics_module
from iga_nerfstudio.evaluation.metrics import ImageMetrics


def no_weights():
    raise OSError("no route to host\nsecond line")


def test_values_and_one_line_without_lpips(monkeypatch, caplog):
    monkeypatch.setattr(metrics_module, "_build_lpips", no_weights)
    truth = torch.rand(40, 50, 3, generator=torch.Generator().manual_seed(0)) * 0.8 + 0.1
    metrics = ImageMetrics()
    found = metrics(truth + 0.1, truth)
    assert found["psnr"] == pytest.approx(20.0, abs=1e-3)
    assert 0.9 < found["ssim"] < 1
    assert "lpips" not in found
    assert metrics(truth, truth)["ssim"] == pytest.approx(1.0)
    assert [record.getMessage() for record in caplog.records] == [
        "LPIPS is not reported: its AlexNet weights could not be loaded (OSError: no route to host)."
    ]


def test_lpips_is_built_at_the_first_evaluation_and_reported(monkeypatch):
    built = []

    class Fake(torch.nn.Module):
        def forward(self, a, b):
            return (a - b).abs().mean()

    monkeypatch.setattr(metrics_module, "_build_lpips", lambda: built.append(1) or Fake())
    metrics = ImageMetrics()
    assert not built
    for _ in range(2):
        found = metrics(torch.full((40, 40, 3), 0.75), torch.full((40, 40, 3), 0.5))
    assert found["lpips"] == pytest.approx(0.25)
    assert len(built) == 1


def test_images_smaller_than_the_windows(monkeypatch):
    monkeypatch.setattr(metrics_module, "_build_lpips", no_weights)
    assert set(ImageMetrics()(torch.rand(8, 8, 3), torch.rand(8, 8, 3))) == {"psnr"}
