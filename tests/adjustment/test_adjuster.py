"""A whole step: the gradient against Eq. 4 written out, the theory, and what happens when something is wrong."""

from __future__ import annotations

import copy
import logging
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils._python_dispatch import TorchDispatchMode

from iga_nerfstudio import InductiveGradientAdjuster, Intervals, Patches, Rays, UnsupportedNetworkError, layerwise_entk
from iga_nerfstudio.adjustment import adjuster as adjuster_module
from iga_nerfstudio.adjustment import eigen as eigen_module
from iga_nerfstudio.adjustment.history import latest_spectrum

IMAGE = (12, 16)


def network(dtype: torch.dtype = torch.float64, width: int = 24) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 3)]
    return nn.Sequential(*layers).to(dtype)


def image_data(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    rows, columns = torch.meshgrid(
        torch.linspace(-1, 1, IMAGE[0], dtype=dtype), torch.linspace(-1, 1, IMAGE[1], dtype=dtype), indexing="ij"
    )
    coordinates = torch.stack([rows, columns], -1).reshape(-1, 2)
    target = torch.stack([torch.sin(9 * rows * columns), rows, (20 * columns).cos()], -1).reshape(-1, 3)
    return coordinates, target


def gradients(net: nn.Module, loss: Tensor) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])


def equation_4(net: nn.Module, coordinates: Tensor, target: Tensor, patch: int, start: int, end: int, rule: str):
    """sum_i grad f(X_i) S_e r_i with everything formed: per-sample Jacobian, full spectrum, dense S_e."""
    height, width = IMAGE
    patches = [
        [(r * width + c) for r in range(top, top + patch) for c in range(left, left + patch)]
        for top in range(0, height, patch)
        for left in range(0, width, patch)
    ]
    members = torch.tensor(patches)
    prediction = net(coordinates)
    residual = 2 * (prediction - target).detach() / prediction.numel()
    errors = (prediction - target).detach().square().sum(1)[members]
    chosen = members.gather(1, errors.argmax(1, keepdim=True))[:, 0]
    parameters = list(net.parameters())
    columns = []
    for i in chosen:
        grads = torch.autograd.grad(net(coordinates[i : i + 1]).sum() / 3**0.5, parameters)
        columns.append(torch.cat([g.flatten() for g in grads]))
    jacobian = torch.stack(columns, 1)
    values, vectors = torch.linalg.eigh(jacobian.T @ jacobian)
    values, vectors = values.flip(0), vectors.flip(1)
    factors = torch.ones_like(values)
    factors[start - 1 : end] = (values[end] if rule == "adam" else values[start - 1]) / values[start - 1 : end]
    transform = (vectors * factors) @ vectors.T
    total = 0.0
    for i in range(members.shape[1]):
        adjusted = transform @ residual[members[:, i]]
        total = total + gradients(net, (net(coordinates[members[:, i]]) * adjusted).sum())
    return total


@pytest.mark.parametrize(("start", "end", "rule"), [(1, 5, "adam"), (1, 1, "adam"), (2, 8, "adam"), (1, 4, "sgd")])
def test_step_gradient_is_equation_4(start, end, rule):
    net, (coordinates, target) = network(), image_data()
    adjuster = InductiveGradientAdjuster(net, Patches(IMAGE, 4), end=end, start=start, rule=rule)
    got = gradients(net, mse_loss(adjuster(net(coordinates), coordinates, target), target))
    expected = equation_4(net, coordinates, target, 4, start, end, rule)
    plain = gradients(net, mse_loss(net(coordinates), target))
    assert ((got - expected).norm() / expected.norm()).item() < 1e-10
    assert ((plain - expected).norm() / expected.norm()).item() > 0.05


@pytest.mark.parametrize("off", [{"end": 0}, {"end": 5, "enabled": False}])
def test_switched_off_is_plain_training_exactly(off):
    net, (coordinates, target) = network(torch.float32), image_data(torch.float32)
    adjuster = InductiveGradientAdjuster(net, Patches(IMAGE, 4), **off)
    prediction = net(coordinates)
    assert adjuster(prediction, coordinates, target) is prediction
    got = gradients(net, mse_loss(adjuster(net(coordinates), coordinates, target), target))
    assert torch.equal(got, gradients(net, mse_loss(net(coordinates), target)))


def test_forward_is_the_identity_and_scaling_the_loss_scales_the_gradient():
    """GradScaler multiplies the loss; S_e is linear and must not see the factor."""
    net, (coordinates, target) = network(), image_data()
    found = []
    for factor in (1.0, 65536.0):
        adjuster = InductiveGradientAdjuster(net, Patches(IMAGE, 4), end=5)
        prediction = net(coordinates)
        adjusted = adjuster(prediction, coordinates, target)
        assert torch.equal(adjusted, prediction)
        found.append(gradients(net, factor * mse_loss(adjusted, target)) / factor)
    assert torch.allclose(*found, rtol=1e-12)


def test_residual_shrinks_along_eigenvectors_as_lemma_a3_says():
    """Wide two-layer net, p = 1, one small SGD step: component i of the residual shrinks by 1 - eta g_i."""
    torch.manual_seed(0)
    n, width, end = 24, 16384, 6
    angles = torch.arange(n, dtype=torch.float64) * 2 * torch.pi / n
    x = torch.stack([angles.cos(), angles.sin()], 1)
    y = sum(torch.sin(k * angles + k) for k in (1, 2, 4, 7))[:, None]
    net = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 1, bias=False)).double()
    with torch.no_grad():
        net[0].weight.normal_()
        net[0].bias.normal_()
        net[2].weight.copy_(torch.randint(0, 2, (1, width)).double() * 2 - 1)
        net[2].weight /= width**0.5
    net[2].weight.requires_grad_(False)
    kernel = layerwise_entk(net, x)
    values, vectors = torch.linalg.eigh(kernel)
    values, vectors = values.flip(0), vectors.flip(1)
    for rule, target in (("adam", values[end]), ("sgd", values[0])):
        g = values.clone()
        g[:end] = target
        eta = 0.001 / g.max().item()
        stepped = copy.deepcopy(net)
        before = (net(x) - y).detach()
        adjuster = InductiveGradientAdjuster(stepped, Intervals(n, 1), end=end, rule=rule, representative="middle")
        parameters = [p for p in stepped.parameters() if p.requires_grad]
        loss = 0.5 * (adjuster(stepped(x), x) - y).square().sum()
        for p, grad in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            p.data -= eta * grad
        after = (stepped(x) - y).detach()
        shrunk = 1 - (vectors.T @ after)[:, 0] / (vectors.T @ before)[:, 0]
        # The components that carry the residual; the others are divided by almost nothing.
        carried = (vectors.T @ before)[:, 0].abs() > 0.05 * before.norm()
        assert int(carried[:end].sum()) >= 3
        assert torch.allclose(shrunk[carried], eta * g[carried], rtol=0.01)


@pytest.mark.parametrize(
    ("representative", "count"),
    [("random", 1), ("random_once", 2), ("middle", 1), ("mean", 4), ("largest_residual", 3)],
)
def test_every_representative_trains(representative, count):
    net, (coordinates, target) = network(torch.float32), image_data(torch.float32)
    adjuster = InductiveGradientAdjuster(
        net, Patches(IMAGE, 5), end=4, representative=representative, num_representatives=count
    )
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = mse_loss(adjuster(net(coordinates), coordinates, target), target)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert adjuster.diagnostics.adjusted
    assert adjuster.diagnostics.steps_unadjusted == 0


def test_largest_weight_takes_scores_and_several_inputs():
    class TwoInputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(5, 2)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.layer(torch.cat([a, b], -1)).sin()

    net = TwoInputs()
    a, b = torch.randn(60, 3), torch.randn(60, 2)
    adjuster = InductiveGradientAdjuster(net, Rays(6), end=3, representative="largest_weight", num_representatives=2)
    adjuster(net(a, b), (a, b), scores=torch.rand(60)).sum().backward()
    assert adjuster.diagnostics.adjusted
    with pytest.raises(ValueError, match="needs a score"):
        adjuster(net(a, b), (a, b))


def test_per_sample_kernel_gives_the_same_step():
    net, (coordinates, target) = network(), image_data()
    found = []
    for kernel in ("layerwise", "per_sample"):
        adjuster = InductiveGradientAdjuster(net, Patches(IMAGE, 4), end=5, kernel=kernel)
        found.append(gradients(net, mse_loss(adjuster(net(coordinates), coordinates, target), target)))
    assert torch.allclose(*found, rtol=1e-8)


@pytest.mark.parametrize("points", [(), (3,)])
@pytest.mark.parametrize("empty", [5, 14, 15, 20])
def test_groups_of_no_share_have_no_part_in_the_kernel_nor_in_its_cost(points, empty, monkeypatch):
    """20 groups, of which some count nothing, against the kernel of all of them; 6 eigenpairs need 6 others."""
    net = network()
    inputs = torch.rand(20, *points, 2, dtype=torch.float64)
    shares = torch.rand(20, *points, dtype=torch.float64) + 0.1
    shares[torch.randperm(20)[:empty]] = 0
    adjuster = InductiveGradientAdjuster(net, Rays(4), 5, representative="largest_weight", eigen_method="dense")
    sizes = []
    entk = adjuster_module.layerwise_entk
    monkeypatch.setattr(
        adjuster_module, "layerwise_entk", lambda *args, **kw: sizes.append(len(args[1][0])) or entk(*args, **kw)
    )
    transform = adjuster.transform_for(20, lambda: ((inputs,), shares), inputs.device)
    assert sizes == [20 - empty if empty <= 14 else 20]
    if empty == 20:
        assert transform is None
        return
    values, vectors = torch.linalg.eigh(layerwise_entk(net, (inputs,), adjuster.readout, shares))
    values, vectors = values.flip(0), vectors.flip(1)
    last = min(5, 19 - empty)  # beyond the rank nothing is balanced
    factors = torch.ones_like(values)
    factors[:last] = values[last] / values[:last]
    assert torch.allclose(transform.dense(), (vectors * factors) @ vectors.T, atol=1e-9)
    assert transform.vectors.shape[0] == 20


def test_kernel_is_refreshed_at_its_interval(monkeypatch):
    calls = []
    original = adjuster_module.layerwise_entk
    monkeypatch.setattr(adjuster_module, "layerwise_entk", lambda *a, **k: calls.append(1) or original(*a, **k))
    net, (coordinates, target) = network(), image_data()
    adjuster = InductiveGradientAdjuster(net, Patches(IMAGE, 4), end=5, refresh_interval=3)
    for _ in range(7):
        adjuster(net(coordinates), coordinates, target).sum().backward()
    assert len(calls) == 3
    assert adjuster.diagnostics.steps_unadjusted == 0
    rays = InductiveGradientAdjuster(net, Rays(4), end=5, refresh_interval=3, representative="middle")
    for _ in range(7):
        rays(net(coordinates), coordinates).sum().backward()
    assert rays.diagnostics.unadjusted == {"between_refreshes": 4}


@pytest.mark.parametrize("representative", ["middle", "random_once", "previous_residual"])
def test_what_is_kept_of_groups_is_not_used_for_others_of_their_number(representative):
    net, (coordinates, target) = network(), image_data()
    patches, rows = Patches(IMAGE, 4), Intervals(192, 16)
    settings = {"end": 5, "representative": representative, "refresh_interval": 10}
    adjuster = InductiveGradientAdjuster(net, patches, **settings)

    def step(one, grouping):
        return gradients(net, mse_loss(one(net(coordinates), coordinates, target, grouping=grouping), target))

    first = step(adjuster, patches)
    assert torch.equal(step(adjuster, Patches(IMAGE, 4)), first)  # the same groups, described anew
    found = step(adjuster, rows)
    fresh = InductiveGradientAdjuster(net, rows, **settings)
    if representative == "random_once":
        fresh.choose((12, 16), None, coordinates.device)  # what the other one has drawn before
        fresh._choice.forget()
    assert torch.equal(found, step(fresh, rows))
    assert torch.equal(step(adjuster, rows), found)
    state = adjuster.state_dict()
    restored = InductiveGradientAdjuster(net, patches, **settings)
    restored.load_state_dict(state)
    assert torch.equal(step(restored, rows), found)
    assert restored.diagnostics.steps_unadjusted == adjuster.diagnostics.steps_unadjusted == 0


def test_state_goes_on_where_it_stopped(tmp_path):
    net, (coordinates, target) = network(), image_data()
    settings = {"end": 5, "representative": "random", "refresh_interval": 2}
    first = InductiveGradientAdjuster(net, Patches(IMAGE, 4), **settings)
    for _ in range(3):
        first(net(coordinates), coordinates, target)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = InductiveGradientAdjuster(net, Patches(IMAGE, 4), **settings)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(4):
        found = [
            gradients(net, mse_loss(one(net(coordinates), coordinates, target), target)) for one in (first, second)
        ]
        assert torch.equal(*found)
    assert first.diagnostics.step == second.diagnostics.step == 7


def test_diagnostics_describe_the_kernel():
    net, (coordinates, target) = network(), image_data()
    adjuster = InductiveGradientAdjuster(net, Patches(IMAGE, 4), end=5, representative="middle")
    adjuster(net(coordinates), coordinates, target)
    middle = Patches(IMAGE, 4).split(coordinates)[:, 8]
    values = torch.linalg.eigvalsh(layerwise_entk(net, middle)).flip(0)
    seen = adjuster.diagnostics
    assert torch.allclose(seen.eigenvalues, values[:6])
    assert seen.target == pytest.approx(values[5].item())
    assert seen.effective_rank == pytest.approx((values.sum() ** 2 / values.square().sum()).item())


class TestNothingIsSilent:
    def plain_and_adjusted(self, net, adjuster, prediction, coordinates, target):
        return [
            torch.autograd.grad(mse_loss(one, target), list(net.parameters()), retain_graph=True)
            for one in (prediction, adjuster(prediction, coordinates, target))
        ]

    def test_a_kernel_that_is_not_finite(self, caplog):
        net, (coordinates, target) = network(torch.float32), image_data(torch.float32)
        adjuster = InductiveGradientAdjuster(net, Patches(IMAGE, 4), end=5)
        net[0].weight.data[0, 0] = torch.nan
        with caplog.at_level(logging.WARNING, logger="iga_nerfstudio"):
            for _ in range(12):
                adjuster(net(coordinates), coordinates, target).sum().backward()
        assert adjuster.diagnostics.unadjusted == {"kernel_not_finite": 12}
        assert not adjuster.diagnostics.adjusted
        assert len(caplog.records) == 2  # the 1st and the 10th
        assert "NaN or infinite" in caplog.text

    @pytest.mark.parametrize("bad", [torch.nan, torch.inf])
    def test_a_residual_that_is_not_finite(self, bad, caplog):
        net, (coordinates, _) = network(torch.float32), image_data(torch.float32)
        adjuster = InductiveGradientAdjuster(net, Patches(IMAGE, 4), end=5, representative="middle")
        prediction = net(coordinates)
        cotangents = torch.ones_like(prediction)
        cotangents[3, 1] = bad
        adjusted = adjuster(prediction, coordinates)
        with caplog.at_level(logging.WARNING, logger="iga_nerfstudio"):
            (got,) = torch.autograd.grad(adjusted, prediction, cotangents)
        assert torch.equal(torch.nan_to_num(got), torch.nan_to_num(cotangents))
        assert adjuster.diagnostics.unadjusted == {"residual_not_finite": 1}
        assert "loss gradient" in caplog.text

    def test_missing_data_do_not_choose_the_representatives_and_are_left_to_the_loss(self):
        net, (coordinates, target) = network(), image_data()
        missing = torch.rand(len(target), generator=torch.Generator().manual_seed(0)) < 0.2
        holes = target.masked_fill(missing[:, None], torch.nan)
        prediction = net(coordinates)
        filled = torch.where(missing[:, None], prediction.detach(), target)  # no residual there
        adjusters = [InductiveGradientAdjuster(net, Patches(IMAGE, 4), end=5) for _ in range(2)]
        found = [
            gradients(net, (one(net(coordinates), coordinates, truth) - target)[~missing].square().mean())
            for one, truth in zip(adjusters, (holes, filled), strict=True)
        ]
        assert torch.equal(*found)
        assert adjusters[0].diagnostics.adjusted
        mse_loss(adjusters[0](net(coordinates), coordinates, holes), holes).backward()
        assert adjusters[0].diagnostics.unadjusted == {"residual_not_finite": 1}

    def test_a_kernel_of_too_low_rank(self, caplog):
        net, (coordinates, target) = network(torch.float32), image_data(torch.float32)
        net[0].weight.data.zero_()  # every input looks the same: the kernel has rank one
        adjuster = InductiveGradientAdjuster(net, Patches(IMAGE, 4), end=9, start=5, eigen_method="dense")
        with caplog.at_level(logging.WARNING, logger="iga_nerfstudio"):
            plain, adjusted = self.plain_and_adjusted(net, adjuster, net(coordinates), coordinates, target)
        assert all(torch.equal(a, b) for a, b in zip(plain, adjusted, strict=True))
        assert adjuster.diagnostics.unadjusted == {"beyond_rank": 1}
        assert "rank" in caplog.text

    def test_eigenvalues_beyond_the_rank_are_left_out_counted_and_the_others_balanced(self, caplog):
        net, (coordinates, target) = network(torch.float32), image_data(torch.float32)
        net[0].weight.data.zero_()
        found = []
        for end in (2, 7):
            adjuster = InductiveGradientAdjuster(net, Patches(IMAGE, 4), end=end, eigen_method="dense")
            with caplog.at_level(logging.WARNING, logger="iga_nerfstudio"):
                found.append(self.plain_and_adjusted(net, adjuster, net(coordinates), coordinates, target)[1])
        assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
        seen = adjuster.diagnostics
        assert seen.adjusted
        assert (seen.left_out, seen.steps_reduced, dict(seen.unadjusted)) == (5, 1, {})
        assert latest_spectrum(adjuster).end == 2
        assert "up to 2 instead of 7" in caplog.text
        other = InductiveGradientAdjuster(net, Patches(IMAGE, 4), end=7)
        other.load_state_dict(adjuster.state_dict())
        assert other.diagnostics.steps_reduced == 1

    @pytest.mark.parametrize("method", ["dense", "subspace"])
    def test_a_kernel_of_zeros(self, method):
        net = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3, bias=False))
        net[0].weight.data.zero_()
        net[0].bias.data.fill_(-1.0)  # every unit is dead, for every input
        coordinates, target = torch.randn(400, 2), torch.randn(400, 3)
        adjuster = InductiveGradientAdjuster(net, Intervals(400, 10), end=5, eigen_method=method)
        adjuster(net(coordinates), coordinates, target).sum().backward()
        assert adjuster.diagnostics.unadjusted == {"beyond_rank": 1}

    def test_an_eigensolver_that_fails_throughout(self, monkeypatch, caplog):
        def fail(_matrix: Tensor):
            raise torch.linalg.LinAlgError("failed to converge")

        net, (coordinates, target) = network(torch.float32), image_data(torch.float32)
        adjuster = InductiveGradientAdjuster(net, Patches(IMAGE, 4), end=5)
        monkeypatch.setattr(torch.linalg, "eigh", fail)
        plain, adjusted = self.plain_and_adjusted(net, adjuster, net(coordinates), coordinates, target)
        assert all(torch.equal(a, b) for a, b in zip(plain, adjusted, strict=True))
        assert adjuster.diagnostics.unadjusted == {"eigensolver_failed": 1}
        assert "failed to converge" in caplog.text

    def test_a_last_batch_with_too_few_rays(self, caplog):
        net, (coordinates, target) = network(torch.float32), image_data(torch.float32)
        adjuster = InductiveGradientAdjuster(net, Rays(4), end=5)
        adjuster(net(coordinates), coordinates, target)
        assert adjuster.diagnostics.adjusted
        few, few_target = coordinates[:20], target[:20]
        with caplog.at_level(logging.WARNING, logger="iga_nerfstudio"):
            plain, adjusted = self.plain_and_adjusted(net, adjuster, net(few), few, few_target)
        assert all(torch.equal(a, b) for a, b in zip(plain, adjusted, strict=True))
        assert adjuster.diagnostics.unadjusted == {"too_few_groups": 1}
        assert "fewer groups" in caplog.text

    def test_a_network_without_rules(self):
        net = nn.Sequential(nn.Linear(2, 4), nn.PReLU(), nn.Linear(4, 3))
        coordinates, target = image_data(torch.float32)
        adjuster = InductiveGradientAdjuster(net, Patches(IMAGE, 4), end=5)
        with pytest.raises(UnsupportedNetworkError, match="PReLU"):
            adjuster(net(coordinates), coordinates, target)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"end": 2, "start": 3}, "end must not be smaller than start"),
        ({"end": 12}, "batch of 12 groups has only 12. Lower end to 11"),
        ({"end": 13, "rule": "sgd"}, "batch of 12 groups"),
        ({"end": 3, "representative": "loudest"}, "Unknown representative 'loudest'. Choose one of largest_residual"),
        ({"end": 3, "representative": "middle", "num_representatives": 2}, "one middle"),
        ({"end": 3, "representative": "mean"}, "2 or more"),
        ({"end": 3, "num_representatives": 0}, "at least one"),
        ({"end": 3, "refresh_interval": 0}, "refresh_interval"),
        ({"end": 3, "kernel": "jacobian"}, "Unknown kernel 'jacobian'"),
        ({"end": 3, "eigen_method": "lanczos"}, "Unknown eigen method 'lanczos'"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        InductiveGradientAdjuster(network(), Patches(IMAGE, 4), **settings)


def test_bad_batches_are_refused():
    net, (coordinates, target) = network(), image_data()
    adjuster = InductiveGradientAdjuster(net, Patches(IMAGE, 4), end=5)
    with pytest.raises(ValueError, match="needs the target"):
        adjuster(net(coordinates), coordinates)
    with pytest.raises(ValueError, match="Got 191 rows"):
        adjuster(net(coordinates[1:]), coordinates[1:], target[1:])


class _HostReads(TorchDispatchMode):
    """Counts the operators that read a number back to the host, for which a GPU has to be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_a_step_reads_few_numbers_back(monkeypatch):
    net = network(torch.float32)
    coordinates = torch.rand(1280, 2)
    target = torch.rand(1280, 3)
    adjuster = InductiveGradientAdjuster(net, Intervals(1280, 4), end=6, eigen_method="subspace")
    mse_loss(adjuster(net(coordinates), coordinates, target), target).backward()  # also checks the network
    looks = []
    look = eigen_module._ritz_pairs
    monkeypatch.setattr(eigen_module, "_ritz_pairs", lambda *args: looks.append(1) or look(*args))
    # Other tests may have left threads, and garbage, that read some, too.
    lists, here, package = [], threading.get_ident(), Path(eigen_module.__file__).parent
    to_list = torch.Tensor.tolist

    def read(tensor):
        reader = Path(sys._getframe(1).f_code.co_filename)
        if threading.get_ident() == here and reader.parent == package:
            lists.append(reader.name)
        return to_list(tensor)

    monkeypatch.setattr(torch.Tensor, "tolist", read)
    with _HostReads() as reads:
        mse_loss(adjuster(net(coordinates), coordinates, target), target).backward()
    assert adjuster.diagnostics.adjusted
    # Residual finite, and at every look at the Krylov space whether it is.
    assert reads.count == 1 + len(looks)
    # The verdict of every look, and the eigenvalues.
    assert lists == ["eigen.py"] * len(looks) + ["transform.py"]
    assert 0 < len(looks) < 5


class TestReconfigure:
    def test_the_next_step_is_as_if_it_had_been_set_so(self):
        """Also between two refreshes, where the groups' kept transform would be the old one."""
        coordinates, target = image_data()
        net = network()
        changed = InductiveGradientAdjuster(net, Patches(IMAGE, 4), end=2, refresh_interval=5)
        for _ in range(2):
            mse_loss(changed(net(coordinates), coordinates, target), target)
        changed.reconfigure(start=2, end=7, representative="middle")
        fresh = InductiveGradientAdjuster(net, Patches(IMAGE, 4), start=2, end=7, representative="middle")
        ours, theirs = (
            gradients(net, mse_loss(adjuster(net(coordinates), coordinates, target), target))
            for adjuster in (changed, fresh)
        )
        assert torch.equal(ours, theirs)
        assert changed.diagnostics.eigenvalues.shape == (8,)

    def test_what_is_not_named_stays(self):
        adjuster = InductiveGradientAdjuster(network(), Patches(IMAGE, 4), end=5, start=2, refresh_interval=3)
        adjuster.reconfigure(enabled=False)
        settings = (adjuster.start, adjuster.end, adjuster.representative, adjuster.refresh_interval)
        assert settings == (2, 5, "largest_residual", 3)
        assert not adjuster.enabled
        adjuster.reconfigure(enabled=True, refresh_interval=1)
        assert adjuster.enabled
        assert adjuster.refresh_interval == 1

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"start": 6}, "end must not be smaller than start"),
            ({"end": 12}, "has only 12"),
            ({"end": 1, "start": 3}, "start=3 and end=1"),
            ({"refresh_interval": 0}, "must be at least 1"),
            ({"representative": "loudest"}, "Unknown representative"),
            ({"enabled": False, "end": -1}, "must not be negative"),
        ],
    )
    def test_wrong_combinations_change_nothing(self, changes, message):
        adjuster = InductiveGradientAdjuster(network(), Patches(IMAGE, 4), end=5)
        with pytest.raises(ValueError, match=message):
            adjuster.reconfigure(**changes)
        assert (adjuster.start, adjuster.end, adjuster.enabled, adjuster.refresh_interval) == (1, 5, True, 1)
        assert adjuster.representative == "largest_residual"

    def test_points_kept_for_another_representative_are_forgotten(self):
        coordinates, target = image_data()
        net = network()
        adjuster = InductiveGradientAdjuster(net, Patches(IMAGE, 4), end=5, representative="random_once")
        adjuster(net(coordinates), coordinates, target)
        adjuster.reconfigure(representative="previous_residual")
        chosen = adjuster.choose((12, 16), torch.rand(12, 16), torch.device("cpu"))
        assert torch.equal(chosen.slots, torch.full((12, 1), 8))
