"""Fit a picture with and without IGA: the three-line use of the library.

Run: python examples/fit_image.py [--data picture.png] [--steps 400]. Without a picture it draws one. The picture and
what both learned of it are written side by side to fit_image.png.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image
from torch import nn
from torch.nn.functional import mse_loss

from iga_nerfstudio import Axes, AxesAdjuster
from iga_nerfstudio.networks import FrequencyEncoding
from iga_nerfstudio.scenes import circle_cameras, render_view


def load(path: Path | None) -> torch.Tensor:
    """A picture, (128, 128, 3) in [0, 1]."""
    if path is not None:
        return torch.from_numpy(np.asarray(Image.open(path).convert("RGB").resize((128, 128)), dtype=np.float32) / 255)
    view = render_view(circle_cameras(1)[0], 128)
    return torch.from_numpy(view[..., :3] * view[..., 3:] + (1 - view[..., 3:])).float()


def fit(image: torch.Tensor, steps: int, enabled: bool) -> torch.Tensor:
    """Train a small network with positional encoding; what it has learned, shaped like the picture."""
    torch.manual_seed(0)
    height, width = image.shape[:2]
    axes = [torch.linspace(-1, 1, size) for size in (height, width)]
    coordinates = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    target = image.reshape(-1, 3)
    encoding = FrequencyEncoding(2, num_octaves=6, scale=torch.pi)
    layers = [nn.Linear(encoding.out_dim, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 3)]
    network = nn.Sequential(encoding, *layers)
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [int(0.3 * steps)], gamma=0.1)
    adjuster = AxesAdjuster(network, Axes((height, width)), end=20, enabled=enabled)
    for _ in range(steps):
        optimiser.zero_grad()
        prediction = network(coordinates)
        loss = mse_loss(adjuster(prediction, coordinates, target), target)
        loss.backward()
        optimiser.step()
        schedule.step()
    return network(coordinates).detach().reshape(image.shape)


def main(data: Path | None = None, steps: int = 400, output: Path = Path("fit_image.png")) -> None:
    """Fit a picture with and without IGA.

    Args:
        data: The picture; the built-in scene if not given.
        steps: Training steps.
        output: PNG to write: the picture, plain, with IGA.
    """
    image = load(data)
    panels = [image]
    for name, enabled in (("plain", False), ("IGA", True)):
        panels.append(fit(image, steps, enabled))
        print(f"{name:5s} {-10 * mse_loss(panels[-1], image).log10().item():.2f} dB after {steps} steps")
    row = (255 * torch.cat(panels, dim=1).clamp(0, 1)).round().byte().numpy()
    Image.fromarray(row).resize((3 * row.shape[1], 3 * row.shape[0]), Image.Resampling.NEAREST).save(output)
    print(f"The picture, plain and IGA side by side: {output}")


if __name__ == "__main__":
    tyro.cli(main)
