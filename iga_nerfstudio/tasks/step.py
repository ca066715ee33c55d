"""One step's gradient: all at once, or in chunks that add up to the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.nn.modules.batchnorm import _BatchNorm

from iga_nerfstudio.adjustment import AxesAdjuster, Blocks, InductiveGradientAdjuster
from iga_nerfstudio.adjustment.representatives import BY_RESIDUAL
from iga_nerfstudio.tasks.samples import Batch, Grid

# Points that pass through the network together on a CPU, whose caches then hold a layer's activations.
BLOCK = 1 << 14


def accumulate_gradient(
    network: nn.Module,
    adjuster: InductiveGradientAdjuster | AxesAdjuster,
    batch: Batch,
    points_per_chunk: int,
    mixed_precision: bool = False,
) -> Tensor:
    """Add the adjusted gradient of the mean squared error (paper Eq. 4) to the parameters' ``.grad``.

    A batch of more points than a step may hold is taken some slots of all groups at a time. S mixes groups but not
    slots, so each chunk's residual can be adjusted on its own, and its activations are the only ones held; the
    gradient is that of the whole batch. Only the largest-residual representative has to see the prediction before the
    kernel, which costs such a step one more forward pass; that of the previous residual does not. Along axes slots are
    mixed too, so there the residual of all points comes first, and those whose activations are not held until then pass
    through the network twice.

    Args:
        network: The network in training mode, ``(N, d)`` to ``(N, C)``.
        adjuster: Its adjuster.
        batch: The step's data.
        points_per_chunk: Points whose activations are held at once; one of each group at least.
        mixed_precision: Whether the network runs in bfloat16 under autocast; loss and adjustment never do.

    Returns:
        The prediction, ``(N, C)`` float32, detached.
    """
    target = batch.target
    if len(target) <= points_per_chunk:
        prediction = _run(network, batch.inputs, mixed_precision)
        _adjusted_loss(adjuster, prediction, batch).backward()
        return prediction.detach()
    at_once = min(points_per_chunk, BLOCK) if target.device.type == "cpu" else points_per_chunk
    if not adjuster.active:
        return _plain_chunks(network, batch, at_once, mixed_precision)
    if isinstance(adjuster, AxesAdjuster):
        return _adjusted_rows(network, adjuster, batch, at_once, points_per_chunk, mixed_precision)
    return _adjusted_chunks(network, adjuster, batch, at_once, mixed_precision)


def _adjusted_loss(adjuster: InductiveGradientAdjuster | AxesAdjuster, prediction: Tensor, batch: Batch) -> Tensor:
    """The mean squared error of a whole batch, through the adjuster."""
    if isinstance(adjuster, AxesAdjuster):
        adjusted = adjuster(prediction, batch.inputs, batch.target)
    else:
        adjusted = adjuster(prediction, batch.inputs, batch.target, grouping=batch.grouping)
    return mse_loss(adjusted, batch.target)


def _adjusted_rows(
    network: nn.Module, adjuster: AxesAdjuster, batch: Batch, at_once: int, most_held: int, mixed_precision: bool
) -> Tensor:
    predictions = torch.empty_like(batch.target)
    held: dict[int, Tensor] = {}
    for chunk in _row_chunks(batch, at_once):
        with torch.set_grad_enabled(chunk.stop <= most_held):
            values = _run(network, batch.inputs_at(chunk), mixed_precision)
        predictions[chunk] = values.detach()
        if values.requires_grad:
            held[chunk.start] = values
    (residual,) = torch.autograd.grad(_adjusted_loss(adjuster, predictions.requires_grad_(), batch), predictions)
    # What is held comes first, and is let go of before more is.
    for chunk in _row_chunks(batch, at_once):
        values = held.pop(chunk.start) if held else _run(network, batch.inputs_at(chunk), mixed_precision)
        values.backward(residual[chunk])
    return predictions.detach()


def _adjusted_chunks(
    network: nn.Module,
    adjuster: InductiveGradientAdjuster,
    batch: Batch,
    points_per_chunk: int,
    mixed_precision: bool,
) -> Tensor:
    n, p = batch.grouping.num_groups(len(batch.target)), batch.grouping.group_size
    device, rows = batch.target.device, _SlotRows(batch)

    def predicted(chunk: slice) -> Tensor:
        return _run(network, batch.inputs_at(chunk), mixed_precision)

    def representatives() -> tuple[tuple[Tensor, ...], Tensor | None]:
        scores = None
        if adjuster.representative in BY_RESIDUAL:
            with torch.no_grad():
                scores = batch.grouping.split(_squared_residuals(batch, points_per_chunk, predicted))
        chosen = adjuster.choose((n, p), scores, device, batch.grouping)
        picked = rows.at(chosen.slots)
        return (batch.inputs_at(picked[:, 0] if picked.shape[1] == 1 else picked),), chosen.weights

    transform = adjuster.transform_for(n, representatives, device, batch.grouping)
    slots = max(points_per_chunk // n, 1)
    mask = batch.grouping.mask
    predictions = torch.empty_like(batch.target)
    for start in range(0, p, slots):
        part = rows.at(torch.arange(start, min(start + slots, p), device=device)[None])
        filled = None if mask is None else mask[:, start : start + slots].to(device)
        chunk = part.flatten() if filled is None else part[filled]
        values = _run(network, batch.inputs_at(chunk), mixed_precision)
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
    if adjuster.representative == "previous_residual":  # others would not remember them
        scores = batch.grouping.split(_squared_residuals(batch, points_per_chunk, predictions.__getitem__))
        adjuster.remember(scores, batch.grouping)
    return predictions


def _plain_chunks(network: nn.Module, batch: Batch, points_per_chunk: int, mixed_precision: bool) -> Tensor:
    predictions = torch.empty_like(batch.target)
    for chunk in _row_chunks(batch, points_per_chunk):
        prediction = _run(network, batch.inputs_at(chunk), mixed_precision)
        (mse_loss(prediction, batch.target[chunk], reduction="sum") / batch.target.numel()).backward()
        predictions[chunk] = prediction.detach()
    return predictions


def _squared_residuals(batch: Batch, points_per_chunk: int, predicted: Callable[[slice], Tensor]) -> Tensor:
    """Squared residual of every row, ``(N,)``, given the prediction for some rows."""
    residuals = batch.target.new_empty(len(batch.target))
    for chunk in _row_chunks(batch, points_per_chunk):
        residuals[chunk] = (predicted(chunk) - batch.target[chunk]).square().sum(-1)
    return residuals


def _row_chunks(batch: Batch, points_per_chunk: int) -> Iterator[slice]:
    """The rows of a batch, so many at a time."""
    for start in range(0, len(batch.target), points_per_chunk):
        yield slice(start, min(start + points_per_chunk, len(batch.target)))


class _SlotRows:
    """Which row of a batch lies in a slot of a group; for blocks of a grid without a table of them all."""

    def __init__(self, batch: Batch) -> None:
        grouping, num_rows, device = batch.grouping, len(batch.target), batch.target.device
        self._table: Tensor | None = None
        if not isinstance(grouping, Blocks):
            integers = torch.int32 if num_rows < 2**31 else torch.int64
            self._table = grouping.split(torch.arange(num_rows, dtype=integers, device=device))
            return
        self._shape, self._block_size = grouping.shape, grouping.block_size
        groups = torch.arange(grouping.num_groups(num_rows), device=device)
        self._blocks = torch.unravel_index(groups, grouping.blocks_per_axis)

    def at(self, slots: Tensor) -> Tensor:
        """Rows in some slots of every group.

        Args:
            slots: int64 ``(n, k)``, or ``(1, k)`` where they are the same of all groups.

        Returns:
            int64 ``(n, k)``, meaningless in empty slots.
        """
        if self._table is not None:
            return self._table.gather(1, slots.expand(len(self._table), -1)).long()
        rows = torch.zeros_like(slots)
        offsets = torch.unravel_index(slots, self._block_size)
        for block, offset, size, cells in zip(self._blocks, offsets, self._block_size, self._shape, strict=True):
            rows = rows * cells + block[:, None] * size + offset
        return rows


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
    found, start = torch.empty(0), 0
    for rows, values in decode_chunks(network, grid, points_per_chunk):
        if start == 0:  # filled part by part: to join a list of them takes twice the memory
            found = values.new_empty(grid.num_points, values.shape[-1], device="cpu")
        found[start : start + len(rows)] = values
        start += len(rows)
    return found.reshape(*grid.shape, -1)
