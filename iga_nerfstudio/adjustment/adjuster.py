"""One training step's adjustment: representatives, kernel, eigenpairs, transform, rebalanced gradient."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.profiler import record_function

from iga_nerfstudio.adjustment.choice import Choice
from iga_nerfstudio.adjustment.diagnostics import Diagnostics, Reason, power_of_ten
from iga_nerfstudio.adjustment.eigen import (
    EigenSolverError,
    KernelNotFiniteError,
    KrylovSpace,
    begin_space,
    leading_eigenpairs,
)
from iga_nerfstudio.adjustment.grouping import Blocks, Grouping
from iga_nerfstudio.adjustment.kernel import Inputs, check_rows, layerwise_entk, per_sample_entk
from iga_nerfstudio.adjustment.limits import (
    require_enough_groups,
    require_fitting_shapes,
    require_kernel_fits,
    require_prediction_of,
    validate_refresh_interval,
)
from iga_nerfstudio.adjustment.processes import ProcessRows, num_processes
from iga_nerfstudio.adjustment.readout import Readout, sum_of_logits
from iga_nerfstudio.adjustment.rebalance import PARTS, Rebalance
from iga_nerfstudio.adjustment.replay import Replay
from iga_nerfstudio.adjustment.representatives import BY_RESIDUAL, Chosen, validate_representative
from iga_nerfstudio.adjustment.transform import (
    DegenerateKernelError,
    SpectralTransform,
    eigenpairs_needed,
    require_whole_numbers,
    validate_balance,
    validate_floor,
    validate_power,
)
from iga_nerfstudio.settings import BalanceRule, EigenMethod, Representative

KernelMethod = Literal["layerwise", "per_sample"]
"""By which of the two functions the kernel is computed."""

Representatives = Callable[[], tuple[tuple[Tensor, ...], Tensor | None]]
"""Gives the n representatives' network inputs, ``(n, d)`` or ``(n, m, d)`` each, and their shares ``(n, m)`` or None,
or gradients with respect to their outputs; see :func:`layerwise_entk`."""


def _no_transform() -> None:
    """That of a step that is left as it is."""


def _parts(network: nn.Module) -> list[object]:
    """Modules and parameters of a network and whether they are being trained, to be compared by identity."""
    parts: list[object] = []
    for module in network.modules():
        parts += [module, module.training]
        for parameter in module._parameters.values():
            parts += [parameter, parameter is not None and parameter.requires_grad]
    return parts


@dataclass
class _Outcome:
    """What came of a kernel: a transform, or the reason why there is none."""

    effective_rank: Tensor
    eigenvalues: Tensor | None = None
    transform: SpectralTransform | None = None
    reason: Reason | None = None
    detail: str = ""

    def to(self, device: torch.device) -> _Outcome:
        """The same on another device."""
        return replace(
            self,
            effective_rank=self.effective_rank.to(device),
            eigenvalues=None if self.eigenvalues is None else self.eigenvalues.to(device),
            transform=None if self.transform is None else self.transform.to(device),
        )


class InductiveGradientAdjuster:
    """Inductive Gradient Adjustment (IGA) for the training of a coordinate network.

    Put it between prediction and loss; everything else of the training step stays as it is::

        adjuster = InductiveGradientAdjuster(network, grouping=Patches((512, 768), patch_size=32), end=20)
        prediction = network(coordinates)
        loss = mse(adjuster(prediction, coordinates, target), target)

    Going forward it is the identity. Going backward it multiplies the loss gradient by S_e along the group axis
    (paper Eq. 4), where S_e evens out the leading eigenvalues of the eNTK of one representative per group. A step
    whose kernel or loss gradient cannot be used keeps its plain gradient; such steps are counted by reason in
    :attr:`diagnostics` and logged.

    What comes back is meant for one optimiser step. It is no gradient of the loss, so line searches (LBFGS with
    ``strong_wolfe``) find no step along it; and derivatives with respect to the inputs (eikonal terms, gradient
    supervision) are to be taken of the network's own prediction: through the adjuster they are refused.

    The kernel takes passes of its own through the network. What forward keeps on its modules and torch's random numbers
    are afterwards what they were; a list that it appends to, or a generator of its own, is not. Kernels are compared
    with autograd on two rows: the 1st, 10th, 100th, ... and the first one after the network is made of other modules or
    parameters, is put in another mode, or has others of them trained.

    Args:
        network: The coordinate network being trained, called as ``network(*inputs)``. Of a network that is wrapped in
            DistributedDataParallel or DataParallel, or compiled, the module inside. A prediction of another one is
            refused: a copy's, or one by weights of its own (``torch.func.functional_call``).
        grouping: How a batch's rows form groups.
        end: Last balanced eigenvalue, counted from 1. Larger values act more strongly; 0 is plain training.
        start: First balanced eigenvalue.
        rule: ``"adam"`` for Adam and other normalising optimisers, ``"sgd"`` for plain gradient descent.
        power: How far balanced eigenvalues are brought to their target, in (0, 1]; the paper's 1 is all the way. See
            :class:`~iga_nerfstudio.adjustment.transform.SpectralTransform`.
        floor: Least factor of a balanced direction, in [0, 1); the paper's is 0. More lets a short training, or one of
            a small learning rate, find the coarse shape of things sooner.
        representative: Who stands for a group; see :func:`~iga_nerfstudio.adjustment.representatives.choose`.
        num_representatives: Points per group, m. With more than one the kernel is that of their (weighted) mean.
        readout: Scalar of the network's output that the kernel differentiates.
        kernel: ``"layerwise"``, or ``"per_sample"`` for networks without layerwise rules.
        eigen_method: See :func:`~iga_nerfstudio.adjustment.eigen.leading_eigenpairs`.
        refresh_interval: Compute the kernel every that many steps, and where a call brings other groups than the one
            before. Between them the latest transform stays in use where groups are the same at every step; where they
            are not (rays), those steps are plain.
        enabled: Whether to adjust at all; may be changed between steps, like others, by :meth:`reconfigure`.
        seed: Seed of the random representatives. The global random state is never touched.
        gather: Under torch.distributed, whether the kernel is that of all processes' representatives; see below.
        cuda_graph: On a GPU, record the kernel's operations once and replay them, which takes a fraction of the time.
            For networks that do the same at every call: what their code decides in Python stays as it was then, until
            a comparison with autograd refuses it.

    Raises:
        ValueError: If a setting is invalid, ``end`` asks for more eigenvalues than the grouping has groups, or
            ``gather`` is set for groups that are the same at every step.

    **Several processes.** By default each process adjusts its gradient by a kernel of its own n groups, and nothing
    is communicated. With ``gather`` the first one computes the kernel of all n W groups and its eigenpairs and sends
    the transform to the others; the loss gradient of all goes through it before a process takes its own rows back.
    S_e is linear, so a factor on the loss passes through it: where losses are means over a process's rows and
    DistributedDataParallel averages the gradients, the step is, up to rounding, that of one process with all the
    rows. It costs the first process a kernel of (n W)^2 entries, and all of them four small exchanges per step: group
    counts, representatives, transform, loss gradient. Processes wait
    for each other there, so all of them must make the same calls, backward passes included, with the same settings,
    network parameters and number of groups; DistributedDataParallel does not see to the settings. Groups that are
    the same at every step are refused: every process would bring the same ones. Where they do differ between
    processes, say so with ``Intervals(..., same_groups_every_step=False)`` or a grouping of your own.
    """

    def __init__(
        self,
        network: nn.Module,
        grouping: Grouping,
        end: int,
        *,
        start: int = 1,
        rule: BalanceRule = "adam",
        power: float = 1.0,
        floor: float = 0.0,
        representative: Representative = "largest_residual",
        num_representatives: int = 1,
        readout: Readout = sum_of_logits,
        kernel: KernelMethod = "layerwise",
        eigen_method: EigenMethod = "auto",
        refresh_interval: int = 1,
        enabled: bool = True,
        seed: int = 0,
        gather: bool = False,
        cuda_graph: bool = False,
    ) -> None:
        if not isinstance(network, nn.Module) or not isinstance(grouping, Grouping):
            raise ValueError(
                "Expected a torch module and a grouping, as Patches((512, 768), 32), got "
                f"{type(network).__name__} and {type(grouping).__name__}."
            )
        validate_balance(start, end, rule)
        validate_power(power)
        validate_floor(floor)
        validate_representative(representative, num_representatives)
        if kernel not in get_args(KernelMethod):
            raise ValueError(f"Unknown kernel {kernel!r}. Choose one of {', '.join(get_args(KernelMethod))}.")
        if eigen_method not in get_args(EigenMethod):
            raise ValueError(
                f"Unknown eigen method {eigen_method!r}. Choose one of {', '.join(get_args(EigenMethod))}."
            )
        validate_refresh_interval(refresh_interval)
        require_whole_numbers(seed=seed)
        if not callable(readout):
            raise ValueError(
                "The readout is a function of the network's output, as sum_of_logits, or lambda outputs: "
                f"outputs.sum(-1), got {readout!r}."
            )
        if isinstance(network, DistributedDataParallel | DataParallel):
            raise ValueError(
                f"The network is wrapped in {type(network).__name__}. Pass the module inside: network.module."
            )
        if any(getattr(module, "_is_fsdp_managed_module", False) for module in network.modules()) or any(
            hasattr(parameter, "device_mesh") for parameter in network.parameters()
        ):
            raise ValueError(
                "The network's parameters are spread over processes (FullyShardedDataParallel, fully_shard, "
                "DTensor), and a kernel is made of whole ones. Use DistributedDataParallel, with the module inside."
            )
        if isinstance(network, torch.jit.ScriptModule):
            raise ValueError(
                "The network is compiled by torch.jit, and compiled code runs no hooks. Pass the module that it was "
                "made of; predictions may come from the compiled one."
            )
        if hasattr(network, "_orig_mod"):
            raise ValueError(
                "The network is compiled, and compiled code runs no hooks. Pass the module inside to the adjuster, "
                "network._orig_mod; predictions may come from the compiled one."
            )
        if gather and grouping.same_groups_every_step:
            raise ValueError(
                "gather=True joins the groups of all processes, but these groups are the same at every step, so every "
                "process would bring the same ones. Use gather=False, or groups drawn anew for every step."
            )
        if isinstance(grouping, Blocks):
            processes = num_processes() if gather else 1
            require_enough_groups(grouping.num_groups(grouping.num_inputs) * processes, end, rule)
        self.network = network
        self.grouping = grouping
        self.start = start
        self.end = end
        self.rule: BalanceRule = rule
        self.power = power
        self.floor = floor
        self.representative: Representative = representative
        self.num_representatives = num_representatives
        self.readout = readout
        self.kernel: KernelMethod = kernel
        self.eigen_method: EigenMethod = eigen_method
        self.refresh_interval = refresh_interval
        self.enabled = enabled
        self.gather = gather
        self.cuda_graph = cuda_graph
        self.diagnostics = Diagnostics()
        self._choice = Choice(seed)
        self._transform: SpectralTransform | None = None
        self._transform_of: Grouping | None = None  # unknown after loading, which is for the same groups
        self._settings_changed = False
        self._rows = ProcessRows(0)  # where the latest step's groups are among those of all processes
        self._kernels = 0  # computed of the network as it is made now
        self._checked: list[object] = []  # what it is made of, as of the latest kernel
        self._replay: Replay[tuple[Tensor, KrylovSpace | None]] = Replay()
        self._replay_of_look: Replay[tuple[Tensor, Tensor]] = Replay()  # at the space that the other one begins
        self._largest_kernel = 0  # whose size was seen to fit

    def reconfigure(
        self,
        *,
        enabled: bool | None = None,
        start: int | None = None,
        end: int | None = None,
        representative: Representative | None = None,
        refresh_interval: int | None = None,
    ) -> None:
        """Change settings between two steps; the next one is the first with them, and computes a kernel.

        Args:
            enabled: Whether to adjust at all; each of these is left as it is if None.
            start: First balanced eigenvalue.
            end: Last balanced eigenvalue.
            representative: Who stands for a group.
            refresh_interval: Compute the kernel every that many steps.

        Raises:
            ValueError: If the settings are invalid together; nothing is changed then.
        """
        start = self.start if start is None else start
        end = self.end if end is None else end
        representative = self.representative if representative is None else representative
        refresh_interval = self.refresh_interval if refresh_interval is None else refresh_interval
        validate_balance(start, end, self.rule)
        validate_representative(representative, self.num_representatives)
        validate_refresh_interval(refresh_interval)
        if isinstance(self.grouping, Blocks):
            processes = num_processes() if self.gather else 1
            require_enough_groups(self.grouping.num_groups(self.grouping.num_inputs) * processes, end, self.rule)
        self.enabled = self.enabled if enabled is None else enabled
        if representative != self.representative:
            self._choice.forget()
        self.start, self.end = start, end
        self.representative, self.refresh_interval = representative, refresh_interval
        self._settings_changed = True

    def take_turn(self, delay: int) -> None:
        """Compute kernels so many steps later than at the multiples of the interval, and one at the first step as ever:
        for adjusters of one training that take turns.

        Args:
            delay: Steps, fewer than the interval.
        """
        self.diagnostics.step = -delay
        self._settings_changed = True

    @property
    def active(self) -> bool:
        """Whether the next step would be adjusted: enabled, a range to balance, and gradients are recorded."""
        return self.enabled and self.end > 0 and torch.is_grad_enabled()

    def __call__(
        self,
        prediction: Tensor,
        inputs: Inputs,
        target: Tensor | None = None,
        *,
        scores: Tensor | None = None,
        grouping: Grouping | None = None,
    ) -> Tensor:
        """Pass a batch's prediction on to the loss, with the gradient that comes back adjusted.

        Args:
            prediction: ``network(*inputs)``, ``(N, C)``.
            inputs: What the network was fed, one tensor or a tuple, ``(N, d)`` each.
            target: Ground truth, ``(N, C)``; only representatives of largest residual look at it. NaN where data is
                missing: such an input represents a group that has no other only. The loss must leave it out; a step
                whose loss gradient is NaN stays as it is and is counted.
            scores: Non-negative score per input, ``(N,)``, for the largest-weight representative.
            grouping: This step's groups, where they are not the adjuster's: batches drawn from all the data.

        Returns:
            The prediction, unchanged in value.

        Raises:
            ValueError: If the batch does not fit the grouping, shapes do not fit one another, target or scores are
                needed and missing, or the prediction is not this network's or within a transform of torch.func.
            UnsupportedNetworkError: If the kernel of this network cannot be computed layer by layer, or its rows
                influence each other.
        """
        if not self.active:
            return prediction
        grouping = grouping or self.grouping
        transform = self.transform_of_batch(prediction, inputs, target, scores=scores, grouping=grouping)
        return grouping.join(self.rebalance(grouping.split(prediction), transform))

    def transform_of_batch(
        self,
        prediction: Tensor,
        inputs: Inputs,
        target: Tensor | None = None,
        *,
        scores: Tensor | None = None,
        grouping: Grouping | None = None,
    ) -> SpectralTransform | None:
        """Begin a step: the transform that a call with the same arguments would put the gradient through, if active.

        Args:
            prediction: As for a call, like the others.
            inputs: What the network was fed.
            target: Ground truth.
            scores: Score per input.
            grouping: This step's groups, where they are not the adjuster's.

        Returns:
            As :meth:`transform_for`.

        Raises:
            ValueError: As for a call.
            UnsupportedNetworkError: As for a call.
        """
        rows = tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,)
        require_fitting_shapes(prediction, rows, target, scores)
        require_prediction_of(self.network, prediction)
        if self.representative in (*BY_RESIDUAL, "previous_residual") and scores is None:
            if target is None:
                raise ValueError(
                    f"Representative {self.representative!r} needs the target: pass adjuster(prediction, inputs, "
                    "target)."
                )
            # Not of booleans: torch subtracts none.
            target = target.to(prediction.dtype) if target.dtype == torch.bool else target
            scores = (prediction.detach() - target).abs().square().sum(-1)
        grouping = grouping or self.grouping
        size, device = (grouping.num_groups(len(prediction)), grouping.group_size), prediction.device

        def representatives() -> tuple[tuple[Tensor, ...], Tensor | None]:
            grouped_scores = None if scores is None else grouping.split(scores.detach())
            chosen = self.choose(size, grouped_scores, device, grouping)
            return tuple(chosen.gather(grouping.split(x.detach())) for x in rows), chosen.weights

        transform = self.transform_for(size[0], representatives, device, grouping)
        if self.representative == "previous_residual" and scores is not None:
            self.remember(grouping.split(scores.detach()), grouping)
        return transform

    def choose(
        self, size: tuple[int, int], scores: Tensor | None, device: torch.device, grouping: Grouping | None = None
    ) -> Chosen:
        """Choose the representatives of n groups of p slots.

        Args:
            size: ``(n, p)``.
            scores: Non-negative score per slot, ``(n, p)``, for the strategies that rank by one.
            device: Where the chosen slots are needed.
            grouping: This step's groups, where they are not the adjuster's.

        Returns:
            Slots and shares, ``(n, m)``.

        Raises:
            ValueError: If scores are needed and missing, or there are fewer than m slots.
        """
        return self._choice.choose(
            self.representative, self.num_representatives, size, scores, grouping or self.grouping, device
        )

    def remember(self, scores: Tensor, grouping: Grouping | None = None) -> None:
        """Keep the slots of largest score for the next step's kernel, if the representative is the previous residual's.

        Args:
            scores: This step's squared residual of every slot, ``(n, p)``.
            grouping: This step's groups, where they are not the adjuster's.
        """
        if self.representative == "previous_residual":
            self._choice.remember(scores, self.num_representatives, grouping or self.grouping)

    def adjust(self, values: Tensor, representatives: Representatives) -> Tensor:
        """The same for callers that have their own groups: identity forward, S_e along the first axis backward.

        Args:
            values: What carries the group axis, ``(n, ...)``: grouped predictions, or one rendered colour per ray.
            representatives: Gives the n representatives' network inputs, ``(n, d)`` or ``(n, m, d)`` each, and their
                shares ``(n, m)`` or None; see :func:`~iga_nerfstudio.adjustment.kernel.layerwise_entk`. Called only at
                steps that compute a kernel.

        Returns:
            ``values``, unchanged in value.

        Raises:
            ValueError: If the kernel is that of all processes and their numbers of groups differ; raised on each.
            UnsupportedNetworkError: If the kernel of this network cannot be computed layer by layer.
        """
        return self.rebalance(values, self.transform_for(values.shape[0], representatives, values.device))

    def rebalance(self, values: Tensor, transform: SpectralTransform | None) -> Tensor:
        """Identity forward, the transform along the first axis backward.

        Args:
            values: What carries the group axis, ``(n, ...)``: this process's groups.
            transform: What this step's :meth:`transform_for` gave: S_e, or None for a step that is left as it is.

        Returns:
            ``values``, unchanged in value.
        """
        if transform is None:
            return values
        return Rebalance.apply(values, transform, self._rows, self._residual_not_finite)

    def transform_for(
        self, n: int, representatives: Representatives, device: torch.device, grouping: Grouping | None = None
    ) -> SpectralTransform | None:
        """Begin a step: its transform, new or kept, for callers that pass residuals through it in parts.

        Args:
            n: Groups of this process.
            representatives: As for :meth:`adjust`.
            device: Where the groups are.
            grouping: This step's groups, where they are not the adjuster's.

        Returns:
            S_e for the groups, those of all processes with ``gather``, or None where this step's gradient stays as it
            is; such steps are counted.

        Raises:
            ValueError: As for :meth:`adjust`, and if the kernel is larger than the memory.
            UnsupportedNetworkError: If the kernel of this network cannot be computed layer by layer.
        """
        return self.begin(n, representatives, device, grouping)()

    def begin(
        self, n: int, representatives: Representatives, device: torch.device, grouping: Grouping | None = None
    ) -> Callable[[], SpectralTransform | None]:
        """Begin a step in two parts, between which a caller gives a GPU other work while it computes the kernel.

        Args:
            n: As for :meth:`transform_for`, like the others.
            representatives: Who stands for the groups.
            device: Where the groups are.
            grouping: This step's groups, where they are not the adjuster's.

        Returns:
            What gives the step's transform, to be called once and before the next step: see :meth:`transform_for`.

        Raises:
            ValueError: As for :meth:`transform_for`.
            UnsupportedNetworkError: As for :meth:`transform_for`.
        """
        if not self.active:
            return _no_transform
        self._rows = rows = ProcessRows.of_all_processes(n, device) if self.gather else ProcessRows(n)
        grouping = grouping or self.grouping
        same = grouping.same_groups_every_step
        refresh = self.diagnostics.step % self.refresh_interval == 0 or self._settings_changed
        refresh = refresh or (same and self._transform_of not in (None, grouping))
        self._settings_changed = False
        self.diagnostics.step += 1
        self.diagnostics.adjusted = False
        if not any(parameter.requires_grad for parameter in self.network.parameters()):
            self.diagnostics.count("nothing_trained")
            return _no_transform
        if rows.total < eigenpairs_needed(self.end, self.rule):
            self.diagnostics.count("too_few_groups")
            return _no_transform
        if rows.total > self._largest_kernel:
            require_kernel_fits(rows.total, device)
            self._largest_kernel = rows.total
        if refresh:
            with record_function(PARTS["representatives"]):
                inputs, shares = representatives()
                inputs, shares = tuple(map(rows.gather, inputs)), None if shares is None else rows.gather(shares)
            begin = partial(self._begin_outcome, inputs, shares)
            # Of several processes one computes the kernel, while the others wait for it.
            outcome = begin() if rows.processes == 1 else lambda: begin()()
        elif not same:
            self.diagnostics.count("between_refreshes")
            return _no_transform
        self._transform_of = grouping

        def transform() -> SpectralTransform | None:
            if refresh:
                self._transform = self._new_transform(outcome, device)
            if self._transform is None or self._transform.vectors.shape[0] != rows.total:
                if not refresh:
                    self.diagnostics.count("between_refreshes")
                return None
            self.diagnostics.adjusted = True
            return self._transform

        return transform

    def _new_transform(self, outcome: Callable[[], _Outcome], device: torch.device) -> SpectralTransform | None:
        """The transform that came of a kernel; None, counted, where there is none."""
        gathered = self._rows.processes > 1
        made = self._rows.decide((lambda: outcome().to(torch.device("cpu"))) if gathered else outcome)
        if gathered:
            made = made.to(device)
        seen, transform = self.diagnostics, made.transform
        seen.effective_rank = made.effective_rank
        seen.target, seen.left_out = torch.tensor(torch.nan), 0
        if made.eigenvalues is not None:
            seen.eigenvalues = made.eigenvalues
        if made.reason is not None:
            self.diagnostics.count(made.reason, made.detail)
        if transform is not None:
            seen.target = transform.target
            seen.left_out = self.end - (self.start - 1 + transform.rank)
            if seen.left_out:
                self.diagnostics.count_reduced(self.end)
        return transform

    def _begin_outcome(self, inputs: tuple[Tensor, ...], shares: Tensor | None) -> Callable[[], _Outcome]:
        """Begin the kernel at the representatives; what gives the rest."""
        n, taking_part = len(inputs[0]), None
        # What that saves a GPU is less than waiting for the shares.
        if shares is not None and shares.device.type == "cpu":
            seen = shares.reshape(n, -1).any(dim=1).nonzero()[:, 0]
            if eigenpairs_needed(self.end, self.rule) <= len(seen) < n:
                # Shares of zero are rows of zeros in the kernel and in its eigenvectors: the others are all it takes.
                taking_part, inputs, shares = seen, tuple(values[seen] for values in inputs), shares[seen]
        # Random numbers that a forward pass draws are no concern of the training's.
        gpus = [inputs[0].device] if inputs[0].device.type == "cuda" else []
        with record_function(PARTS["kernel"]), torch.random.fork_rng(gpus):
            kernel, space = self._entk_and_space(inputs, shares)

        def outcome() -> _Outcome:
            made = self._outcome(kernel, space)
            if taking_part is None or made.transform is None:
                return made
            return replace(made, transform=made.transform.among(taking_part, n))

        return outcome

    def _outcome(self, kernel: Tensor, space: KrylovSpace | None) -> _Outcome:
        """Eigenpairs and transform of a kernel."""
        made = _Outcome((kernel.diagonal().sum() / torch.linalg.vector_norm(kernel)).square())
        count = eigenpairs_needed(self.end, self.rule)
        try:
            with record_function(PARTS["eigenpairs"]):
                look = self._replay_of_look if space is not None and self._replay.replayed else None
                values, vectors = leading_eigenpairs(kernel, count, self.eigen_method, space, look)
            made.eigenvalues = values
            made.transform = SpectralTransform.from_eigenpairs(
                values,
                vectors,
                end=self.end,
                start=self.start,
                rule=self.rule,
                power=self.power,
                floor=self.floor,
            )
        except KernelNotFiniteError:
            made.reason = "kernel_not_finite"
        except EigenSolverError as error:
            made.reason, made.detail = "eigensolver_failed", str(error)
        except DegenerateKernelError as error:
            made.reason, made.detail = "beyond_rank", str(error)
        return made

    def _entk_and_space(self, inputs: tuple[Tensor, ...], shares: Tensor | None) -> tuple[Tensor, KrylovSpace | None]:
        """The kernel, and where it is replayed what is begun of its eigenpairs along with it."""
        # A second use of a weight can hide behind a last layer of zeros, and anything can be changed later.
        parts = _parts(self.network)
        if len(parts) != len(self._checked) or not all(map(operator.is_, parts, self._checked)):
            self._kernels = 0
        check = power_of_ten(self._kernels + 1)
        if self.cuda_graph and self._kernels and self.kernel == "layerwise" and inputs[0].device.type == "cuda":
            kernel, space = self._replayed(inputs, shares)
            if check:
                check_rows(kernel, self.network, inputs, self.readout, shares)
        else:
            kernel, space = self._entk(inputs, shares, check), None
        self._kernels, self._checked = self._kernels + 1, parts
        return kernel, space

    def _replayed(self, inputs: tuple[Tensor, ...], shares: Tensor | None) -> tuple[Tensor, KrylovSpace | None]:
        count = eigenpairs_needed(self.end, self.rule)

        def compute(*tensors: Tensor) -> tuple[Tensor, KrylovSpace | None]:
            kernel = self._entk(tensors[: len(inputs)], None if shares is None else tensors[-1])
            return kernel, begin_space(kernel, count, self.eigen_method)

        tensors = inputs if shares is None else (*inputs, shares)
        return self._replay(compute, tensors, self.network, (count, self.eigen_method))

    def _entk(self, inputs: tuple[Tensor, ...], shares: Tensor | None, check: bool = False) -> Tensor:
        entk = per_sample_entk if self.kernel == "per_sample" else layerwise_entk
        return entk(self.network, inputs, self.readout, shares, check=check)

    def _residual_not_finite(self) -> None:
        if self.diagnostics.adjusted:  # once per step, however many parts its residual comes in
            self.diagnostics.count("residual_not_finite")
        self.diagnostics.adjusted = False

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on as if it had not stopped; tensors and plain Python values only."""
        transform = self._transform
        return {
            "step": self.diagnostics.step,
            "settings_changed": self._settings_changed,
            "unadjusted": dict(self.diagnostics.unadjusted),
            "steps_reduced": self.diagnostics.steps_reduced,
            **self._choice.state_dict(),
            "transform": None if transform is None else [transform.vectors, transform.coefficients, transform.target],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state that :meth:`state_dict` gave.

        Args:
            state: The saved state; tensors are moved to the network's device.

        Raises:
            KeyError: If an entry is missing.
        """
        device = next(self.network.parameters()).device

        self.diagnostics = Diagnostics(
            step=state["step"],
            unadjusted=Counter(state["unadjusted"]),
            steps_reduced=state.get("steps_reduced", 0),  # not in states of earlier versions
        )
        self._settings_changed = state.get("settings_changed", False)  # likewise
        self._choice.load_state_dict(state, device)
        saved = state["transform"]
        self._transform = None if saved is None else SpectralTransform(*saved).to(device)
        self._transform_of = None
