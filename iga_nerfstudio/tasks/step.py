"""One step's gradient: all at once, or in chunks that add up to the same."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.nn.modules.batchnorm import _BatchNorm

from iga_nerfstudio.adjustment import InductiveGradientAdjuster
from iga_nerfstudio.adjustment.representatives import BY_RESIDUAL
from iga_nerfstudio.tasks.samples import Batch, Grid

# Points that pass through the network together on a CPU, whose caches then hold a layer's activations.
BLOCK = 1 << 14


def accumulate_gradient(
    network: nn.Module,
    adjuster: InductiveGradientAdjuster,
    batch: Batch,
    points_per_chunk: int,
    mixed_precision: bool = False,
) -> Tensor:
    """Add the adjusted gradient of the mean squared error (paper Eq. 4) to the parameters' ``.grad``.

    A batch of more points than a step may hold is taken some slots of all groups at a time. S mixes groups but not
    slots, so each chunk's residual can be adjusted on its own, and its activations are the only ones held; the
    gradient is that of the whole batch. Only the largest-residual representative has to see the prediction before the
    kernel, which costs such a step one more forward pass; that of the previous residual does not.

    Args:
        network: The network in training mode, ``(N, d)`` to ``(N, C)``.
        adjuster: Its adjuster.
        batch: The step's data.
        points_per_chunk: Points whose activations are held at once; one of each group at least.
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
    if inputs.device.type == "cpu":
        points_per_chunk = min(points_per_chunk, BLOCK)
    if not adjuster.active:
        return _plain_chunks(network, batch, points_per_chunk, mixed_precision)
    return _adjusted_chunks(network, adjuster, batch, points_per_chunk, mixed_precision)


def _adjusted_chunks(
    network: nn.Module,
    adjuster: InductiveGradientAdjuster,
    batch: Batch,
    points_per_chunk: int,
    mixed_precision: bool,
) -> Tensor:
    # The rows of every group; inputs and targets arranged like that would be copies of all of them.
    rows = batch.grouping.split(torch.arange(len(batch.inputs), device=batch.inputs.device))
    n, p = rows.shape

    def squared_residuals(prediction: Tensor, start: int = 0) -> Tensor:
        return (prediction - batch.target[start : start + len(prediction)]).square().sum(-1)

    def representatives() -> tuple[tuple[Tensor, ...], Tensor | None]:
        scores = None
        if adjuster.representative in BY_RESIDUAL:
            with torch.no_grad():
                parts = [
                    squared_residuals(_run(network, part, mixed_precision), index * points_per_chunk)
                    for index, part in enumerate(batch.inputs.split(points_per_chunk))
                ]
            scores = batch.grouping.split(torch.cat(parts))
        chosen = adjuster.choose((n, p), scores, rows.device)
        return (batch.inputs[chosen.gather(rows)],), chosen.weights

    transform = adjuster.transform_for(n, representatives, rows.device)
    slots = max(points_per_chunk // n, 1)
    mask = batch.grouping.mask
    predictions = torch.empty_like(batch.target)
    for start in range(0, p, slots):
        part = rows[:, start : start + slots]
        filled = None if mask is None else mask[:, start : start + slots].to(part.device)
        chunk = part.flatten() if filled is None else part[filled]
        values = _run(network, batch.inputs[chunk], mixed_precision)
        truth = batch.target[chunk]
        predictions[chunk] = values.detach()
        if filled is None:
            values, truth = values.unflatten(0, part.shape), truth.unflatten(0, part.shape)
        else:
            # Empty slots hold 0 in prediction and target: no residual.
            empty = truth.new_zeros(*part.shape, truth.shape[-1])
            values, truth = (empty.masked_scatter(filled[..., None], x) for x in (values, truth))
        loss = mse_loss(adjuster.rebalance(values, transform), truth, reduction="sum") / batch.target.numel()
        loss.backward()
    adjuster.remember(batch.grouping.split(squared_residuals(predictions)))
    return predictions


def _plain_chunks(network: nn.Module, batch: Batch, points_per_chunk: int, mixed_precision: bool) -> Tensor:
    predictions = []
    for part, target in zip(batch.inputs.split(points_per_chunk), batch.target.split(points_per_chunk), strict=True):
        prediction = _run(network, part, mixed_precision)
        (mse_loss(prediction, target, reduction="sum") / batch.target.numel()).backward()
        predictions.append(prediction.detach())
    return torch.cat(predictions)


def _run(network: nn.Module, inputs: Tensor, mixed_precision: bool) -> Tensor:
    with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=mixed_precision):
        if inputs.device.type == "cpu" and len(inputs) > BLOCK and not _mixes_rows(network):
            prediction = torch.cat([network(block) for block in inputs.split(BLOCK)])
        else:
            prediction = network(inputs)
    return prediction.float() if mixed_precision else prediction


def _mixes_rows(network: nn.Module) -> bool:
    """Whether a row's value depends on the others, as in batch statistics."""
    return any(isinstance(module, _BatchNorm) and module.training for module in network.modules())


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
                values = _run(network, grid.coordinates(rows), mixed_precision=False)
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
