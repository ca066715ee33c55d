"""One step's gradient: all at once, or in chunks that add up to the same."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from iga_nerfstudio.adjustment import InductiveGradientAdjuster
from iga_nerfstudio.tasks.samples import Batch, Grid


def accumulate_gradient(
    network: nn.Module,
    adjuster: InductiveGradientAdjuster,
    batch: Batch,
    points_per_chunk: int,
    mixed_precision: bool = False,
) -> Tensor:
    """Add the adjusted gradient of the mean squared error (paper Eq. 4) to the parameters' ``.grad``.

    A batch larger than a chunk is seen twice: S mixes the residuals of all groups, so these come first, in a forward
    pass that records nothing; then the network runs again, chunk by chunk, and each takes its part of the adjusted
    residual back. The gradient is that of the whole batch; activations are held for one chunk at a time. A step that
    is not adjusted needs no second look.

    Args:
        network: The network in training mode, ``(N, d)`` to ``(N, C)``.
        adjuster: Its adjuster.
        batch: The step's data.
        points_per_chunk: Points that go through the network at once.
        mixed_precision: Whether the network runs in bfloat16 under autocast; loss and adjustment never do.

    Returns:
        The prediction, ``(N, C)`` float32, detached.
    """
    adjuster.grouping = batch.grouping
    inputs, target = batch.inputs, batch.target
    if len(inputs) <= points_per_chunk:
        prediction = _run(network, inputs, mixed_precision)
        mse_loss(adjuster(prediction, inputs, target), target).backward()
        return prediction.detach()
    if not adjuster.active:
        return _plain_chunks(network, batch, points_per_chunk, mixed_precision)
    with torch.no_grad():
        prediction = torch.cat([_run(network, part, mixed_precision) for part in inputs.split(points_per_chunk)])
    prediction.requires_grad_()
    loss = mse_loss(adjuster(prediction, inputs, target), target)
    (residual,) = torch.autograd.grad(loss, prediction)
    for part, cotangent in zip(inputs.split(points_per_chunk), residual.split(points_per_chunk), strict=True):
        _run(network, part, mixed_precision).backward(cotangent)
    return prediction.detach()


def _plain_chunks(network: nn.Module, batch: Batch, points_per_chunk: int, mixed_precision: bool) -> Tensor:
    predictions = []
    for part, target in zip(batch.inputs.split(points_per_chunk), batch.target.split(points_per_chunk), strict=True):
        prediction = _run(network, part, mixed_precision)
        (mse_loss(prediction, target, reduction="sum") / batch.target.numel()).backward()
        predictions.append(prediction.detach())
    return torch.cat(predictions)


def _run(network: nn.Module, inputs: Tensor, mixed_precision: bool) -> Tensor:
    if not mixed_precision:
        return network(inputs)
    with torch.autocast(inputs.device.type, dtype=torch.bfloat16):
        return network(inputs).float()


def decode_chunks(network: nn.Module, grid: Grid, points_per_chunk: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The network's values on a grid, chunk by chunk, in evaluation mode.

    Args:
        network: The network; its mode is afterwards as it was.
        grid: Where to evaluate; any resolution.
        points_per_chunk: Points that go through the network at once.

    Yields:
        Rows, int64 ``(k,)``, and values there, ``(k, C)`` float32, on the grid's device.
    """
    was_training = network.training
    network.eval()
    try:
        for start in range(0, grid.num_points, points_per_chunk):
            rows = torch.arange(start, min(start + points_per_chunk, grid.num_points), device=grid.device)
            with torch.no_grad():
                values = network(grid.coordinates(rows))
            yield rows, values
    finally:
        network.train(was_training)


def decode(network: nn.Module, grid: Grid, points_per_chunk: int) -> Tensor:
    """All of a network's values on a grid; see :func:`decode_chunks`.

    Returns:
        ``(n_1, ..., n_d, C)`` float32 on the CPU.
    """
    parts = [values.cpu() for _rows, values in decode_chunks(network, grid, points_per_chunk)]
    return torch.cat(parts).reshape(*grid.shape, -1)
