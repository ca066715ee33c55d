"""Muon with Adam as one optimiser."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from iga_nerfstudio.muon import MuonWithAdam, orthogonalise

has_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch.optim.Muon came with torch 2.9")


def train(optimizer: torch.optim.Optimizer, network: nn.Module, steps: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(16, 3, generator=generator)
        optimizer.zero_grad()
        (network(x) - x.sin().sum(-1, keepdim=True)).abs().square().mean().backward()
        optimizer.step()
    return [p.detach().clone() for p in network.parameters()]


def small_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))


@has_muon
@pytest.mark.parametrize("shape", [(24, 24), (40, 12), (3, 64), (1, 8), (24, 4), (24, 3)])
def test_matrices_step_as_torch_muon_does(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    start = torch.randn(shape)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    mine = MuonWithAdam([ours], lr=0.02, fewest_columns=min(shape[1], 4))
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.0)
    for _ in range(6):
        gradient = torch.randn(shape)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        reference.step()
    # torch's rounds run in bfloat16, which keeps two to three digits.
    assert (ours - theirs).norm() < 0.03 * (start - theirs).norm()


def test_vectors_complex_matrices_and_those_of_few_columns_step_as_adam_does() -> None:
    torch.manual_seed(0)
    starts = [torch.randn(5), torch.randn(4, 6, dtype=torch.complex64), torch.randn(16, 3), torch.randn(9, 1)]
    ours, theirs = ([nn.Parameter(s.clone()) for s in starts] for _ in range(2))
    mine, reference = MuonWithAdam(ours, adam_lr=3e-3), torch.optim.Adam(theirs, lr=3e-3)
    for _ in range(4):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        mine.step()
        reference.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("shape", [(30, 30), (12, 50), (50, 12)])
def test_orthogonalise_keeps_singular_vectors_and_evens_out_singular_values(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    u, s, vt = torch.linalg.svd(torch.randn(shape, dtype=torch.float64), full_matrices=False)
    s = s.clamp_min(0.05 * s[0])
    found = orthogonalise(u @ torch.diag(s) @ vt)
    coordinates = u.T @ found @ vt.T
    values = coordinates.diagonal()
    assert ((values > 0.6) & (values < 1.3)).all()
    assert (coordinates - torch.diag(values)).norm() < 1e-9


def test_a_saved_state_continues_bit_for_bit() -> None:
    network = small_network()
    optimizer = MuonWithAdam(network.parameters())
    train(optimizer, network, 3)
    weights, state = copy.deepcopy(network.state_dict()), copy.deepcopy(optimizer.state_dict())
    expected = train(optimizer, network, 4)
    other = small_network(seed=5)
    other.load_state_dict(weights)
    resumed = MuonWithAdam(other.parameters())
    resumed.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(train(resumed, other, 4), expected, strict=True))


def test_copies_and_pickles_keep_stepping() -> None:
    network = small_network()
    optimizer = MuonWithAdam(network.parameters())
    train(optimizer, network, 2)
    pair, again = copy.deepcopy((network, optimizer)), pickle.loads(pickle.dumps((network, optimizer)))
    expected = train(optimizer, network, 2)
    for copied_network, copied_optimizer in (pair, again):
        assert all(torch.equal(a, b) for a, b in zip(train(copied_optimizer, copied_network, 2), expected, strict=True))


def test_a_schedule_moves_both_rates() -> None:
    optimizer = MuonWithAdam(small_network().parameters(), lr=0.02, adam_lr=0.001)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    optimizer.step()
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.0005]


def test_only_matrices_or_only_vectors_are_fine_and_nothing_is_not() -> None:
    for parameter in (nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))):
        parameter.grad = torch.ones_like(parameter)
        MuonWithAdam([parameter]).step()
        assert (parameter != 1).any()
    with pytest.raises(ValueError, match="empty parameter list"):
        MuonWithAdam([])


def test_parameters_without_gradient_stay() -> None:
    still, moving = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    moving.grad = torch.eye(2)
    MuonWithAdam([still, moving]).step()
    assert torch.equal(still, torch.ones(2, 2))
    assert not torch.equal(moving, torch.ones(2, 2))
