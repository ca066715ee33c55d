"""Two processes on the CPU: one kernel of all groups is one process with all of them, and nobody waits for ever."""

from __future__ import annotations

import logging
import os
import time
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.functional import mse_loss
from torch.nn.parallel import DistributedDataParallel

from iga_nerfstudio import InductiveGradientAdjuster, Intervals, Patches, Rays, UnsupportedNetworkError
from iga_nerfstudio.adjustment.processes import ProcessRows

PROCESSES, RAYS, SAMPLES = 2, 12, 4
# Seconds for everything the two processes do.
TIMEOUT = 120
KINDS: dict[str, dict[str, Any]] = {
    "largest_residual": {},
    "shares": {"representative": "largest_weight", "num_representatives": 2},
    "sgd": {"representative": "middle", "rule": "sgd", "start": 2},
    "subspace": {"eigen_method": "subspace"},
    # More than one process's rays: only all of them together have enough eigenvalues.
    "many": {"end": RAYS + 3},
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 24), nn.Tanh(), nn.Linear(24, 24), nn.Tanh(), nn.Linear(24, 3)).double()


def samples() -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates, targets and scores of the samples of both processes' rays."""
    generator = torch.Generator().manual_seed(1)
    rows = PROCESSES * RAYS * SAMPLES
    return tuple(torch.rand(rows, k, generator=generator, dtype=torch.float64) for k in (2, 3, 1))


def share(rows: Tensor, rank: int) -> Tensor:
    return rows.chunk(PROCESSES)[rank]


def adjuster_for(net: nn.Module, **settings: Any) -> InductiveGradientAdjuster:
    return InductiveGradientAdjuster(net, Rays(SAMPLES), **({"end": 6} | settings))


def gradient(model: nn.Module, adjuster: InductiveGradientAdjuster, x: Tensor, y: Tensor, scores: Tensor) -> Tensor:
    model.zero_grad()
    weights = scores[:, 0] if adjuster.representative == "largest_weight" else None
    mse_loss(adjuster(model(x), x, y, scores=weights), y).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def train_as_ddp(rank: int, **settings: Any) -> dict[str, Any]:
    """One step's gradient, averaged over the processes."""
    net = network()
    adjuster = adjuster_for(net, **settings)
    found = gradient(DistributedDataParallel(net), adjuster, *(share(rows, rank) for rows in samples()))
    return {"gradient": found, "eigenvalues": adjuster.diagnostics.eigenvalues}


def own_kernel(rank: int) -> dict[str, Any]:
    net = network()
    return {"gradient": gradient(net, adjuster_for(net), *(share(rows, rank) for rows in samples()))}


def unequal_rows(rank: int) -> dict[str, Any]:
    net, kept = network(), RAYS * SAMPLES - rank * SAMPLES
    adjuster = adjuster_for(net, gather=True)
    try:
        gradient(net, adjuster, *(share(rows, rank)[:kept] for rows in samples()))
    except ValueError as error:
        return {"message": str(error), "steps": adjuster.diagnostics.step}
    return {"message": "none"}


def bad_residual(rank: int) -> dict[str, Any]:
    """A NaN in the last process's loss gradient only."""
    net = network()
    x, y, _ = (share(rows, rank) for rows in samples())
    adjuster = adjuster_for(net, gather=True)
    prediction = net(x)
    cotangents = torch.ones_like(prediction)
    if rank == PROCESSES - 1:
        cotangents[3, 1] = torch.nan
    (found,) = torch.autograd.grad(adjuster(prediction, x, y), prediction, cotangents)
    plain = torch.equal(torch.nan_to_num(found), torch.nan_to_num(cotangents))
    return {"plain": plain, "unadjusted": dict(adjuster.diagnostics.unadjusted)}


def bad_inputs(rank: int) -> dict[str, Any]:
    """A NaN in the last process's representatives only."""
    net = network()
    x, y, _ = (share(rows, rank).clone() for rows in samples())
    if rank == PROCESSES - 1:
        x[:SAMPLES] = torch.nan
    adjuster = adjuster_for(net, gather=True)
    adjuster(net(x), x, y).sum().backward()
    return {"unadjusted": dict(adjuster.diagnostics.unadjusted)}


def bad_network(rank: int, bad: int) -> dict[str, Any]:
    """Weights that are not finite on one process only, so that its kernel would not be; then a step with sound ones."""
    net = network()
    sound = net[0].weight.detach().clone()
    x, y, _ = (share(rows, rank) for rows in samples())
    prediction = net(x)
    if rank == bad:
        net[0].weight.data[0] = torch.nan
    adjuster = adjuster_for(net, gather=True)
    (adjuster(prediction, x, y) - y).square().sum().backward()
    first = dict(adjuster.diagnostics.unadjusted)
    net[0].weight.data.copy_(sound)
    (adjuster(net(x), x, y) - y).square().sum().backward()
    return {"first": first, "then": adjuster.diagnostics.adjusted}


def bad_first_network(rank: int) -> dict[str, Any]:
    return bad_network(rank, 0)


def bad_last_network(rank: int) -> dict[str, Any]:
    return bad_network(rank, PROCESSES - 1)


def too_few_groups(rank: int) -> dict[str, Any]:
    net = network()
    adjuster = adjuster_for(net, gather=True, end=PROCESSES * RAYS)
    gradient(net, adjuster, *(share(rows, rank) for rows in samples()))
    return {"unadjusted": dict(adjuster.diagnostics.unadjusted)}


def refused_network(rank: int) -> dict[str, Any]:
    """A weight used outside its layer, which only the check against autograd finds."""

    class Reused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(2, 2), nn.Linear(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.outer(self.inner(x).tanh() @ self.inner.weight)

    net = Reused().double()
    x, y, _ = (share(rows, rank) for rows in samples())
    try:
        adjuster_for(net, gather=True)(net(x), x, y)
    except UnsupportedNetworkError as error:
        return {"message": str(error)}
    return {"message": "none"}


def stopped_and_resumed(rank: int) -> dict[str, Any]:
    """Three steps with a refresh every other one; the last again after its state was saved and loaded."""
    net, own = network(), [share(rows, rank) for rows in samples()]
    settings = {"gather": True, "refresh_interval": 2, "representative": "random"}
    first, second = adjuster_for(net, **settings), adjuster_for(net, **settings)
    for _ in range(2):
        gradient(net, first, *own)
    torch.save(state := first.state_dict(), file := BytesIO())
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    found = [gradient(net, one, *own) for one in (first, second)]
    return {
        "equal": torch.equal(*found),
        "unadjusted": dict(second.diagnostics.unadjusted),
        "adjusted": second.diagnostics.adjusted,
        "vectors": tuple(state["transform"][0].shape),
    }


def drawn_groups(rank: int) -> dict[str, Any]:
    """Intervals drawn anew: ``end`` may count the groups of all processes when the adjuster is built."""
    net = network()
    grouping = Intervals(RAYS * SAMPLES, SAMPLES, same_groups_every_step=False)
    adjuster = InductiveGradientAdjuster(net, grouping, end=RAYS + 3, gather=True)
    found = gradient(DistributedDataParallel(net), adjuster, *(share(rows, rank) for rows in samples()))
    return {"gradient": found}


SCENARIOS = [
    own_kernel,
    unequal_rows,
    bad_residual,
    bad_inputs,
    bad_first_network,
    bad_last_network,
    too_few_groups,
    refused_network,
    stopped_and_resumed,
    drawn_groups,
]


def worker(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'rendezvous'}",
        rank=rank,
        world_size=PROCESSES,
        timeout=timedelta(seconds=TIMEOUT // 2),
    )
    results = {f"gathered {name}": train_as_ddp(rank, gather=True, **kind) for name, kind in KINDS.items()}
    results["averaged"] = train_as_ddp(rank)
    results |= {scenario.__name__: scenario(rank) for scenario in SCENARIOS}
    torch.save(results, folder / f"results-{rank}.pt")
    distributed.destroy_process_group()
    # On a busy machine a process whose work is done has been seen to abort while torch's threads were taken down.
    os._exit(0)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the processes found, in the order of ranks."""
    folder = tmp_path_factory.mktemp("processes")
    context = multiprocessing.spawn(worker, (folder,), nprocs=PROCESSES, join=False)
    deadline = time.monotonic() + TIMEOUT
    try:
        while not context.join(timeout=1):
            assert time.monotonic() < deadline, f"The processes did not finish within {TIMEOUT} s."
    finally:
        for process in context.processes:
            process.kill()
    return [torch.load(folder / f"results-{rank}.pt", weights_only=True) for rank in range(PROCESSES)]


def difference(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("kind", KINDS)
def test_gathered_it_is_the_step_of_one_process_with_all_rays(results, kind):
    net = network()
    adjuster = adjuster_for(net, **KINDS[kind])
    expected = gradient(net, adjuster, *samples())
    for result in results:
        found = result[f"gathered {kind}"]
        assert difference(found["gradient"], expected) < 1e-10
        assert difference(found["eigenvalues"], adjuster.diagnostics.eigenvalues) < 1e-10
        assert difference(result["averaged"]["gradient"], expected) > 1e-3


def test_otherwise_each_process_has_a_kernel_of_its_own(results):
    separate = []
    for rank, result in enumerate(results):
        net = network()
        separate.append(gradient(net, adjuster_for(net), *(share(rows, rank) for rows in samples())))
        assert difference(result["own_kernel"]["gradient"], separate[-1]) < 1e-10
    for result in results:
        assert difference(result["averaged"]["gradient"], sum(separate) / PROCESSES) < 1e-10


def test_groups_drawn_anew_are_gathered_too(results):
    net = network()
    grouping = Intervals(PROCESSES * RAYS * SAMPLES, SAMPLES, same_groups_every_step=False)
    expected = gradient(net, InductiveGradientAdjuster(net, grouping, end=RAYS + 3), *samples())
    for result in results:
        assert difference(result["drawn_groups"]["gradient"], expected) < 1e-10


def test_unequal_rows_are_refused_on_every_process(results):
    for result in results:
        assert f"the processes hold {RAYS}, {RAYS - 1}" in result["unequal_rows"]["message"]
        assert result["unequal_rows"]["steps"] == 0


def test_one_process_with_a_bad_residual_leaves_all_of_them_plain(results):
    for result in results:
        assert result["bad_residual"] == {"plain": True, "unadjusted": {"residual_not_finite": 1}}


def test_every_process_decides_alike(results):
    for result in results:
        assert result["bad_inputs"]["unadjusted"] == {"kernel_not_finite": 1}
        assert result["too_few_groups"]["unadjusted"] == {"too_few_groups": 1}
        assert "disagrees with autograd" in result["refused_network"]["message"]


def test_one_process_with_a_bad_kernel_leaves_no_other_waiting(results):
    for result in results:
        assert result["bad_first_network"] == {"first": {"kernel_not_finite": 1}, "then": True}
        # Its own kernel is not asked for.
        assert result["bad_last_network"] == {"first": {}, "then": True}


def test_refreshes_and_saved_states_go_on(results):
    for result in results:
        assert result["stopped_and_resumed"] == {
            "equal": True,
            "unadjusted": {"between_refreshes": 1},
            "adjusted": True,
            "vectors": (PROCESSES * RAYS, 6),
        }


def test_alone_gathering_changes_nothing():
    net = network()
    found = [gradient(net, adjuster_for(net, gather=gather), *samples()) for gather in (False, True)]
    assert torch.equal(*found)


def test_representatives_must_be_as_many_as_groups():
    with pytest.raises(ValueError, match=r"Expected 5 rows, one per group, got shape \(4, 2\)"):
        ProcessRows(5).gather(torch.zeros(4, 2))


def test_groups_that_every_process_would_bring_are_refused():
    with pytest.raises(ValueError, match="the same at every step"):
        InductiveGradientAdjuster(network(), Patches((12, 16), 4), end=5, gather=True)


def test_a_wrapped_network_is_refused(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    try:
        with pytest.raises(ValueError, match=r"network\.module"):
            adjuster_for(DistributedDataParallel(network()))
    finally:
        distributed.destroy_process_group()
