"""What a batch must and may hold for its kernel to be of use."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from iga_nerfstudio.adjustment.transform import BalanceRule, eigenpairs_needed, require_whole_numbers

# Memory that kernel and eigenpairs take at most, in kernels; measured 2.0 and 2.7.
_KERNELS_HELD = 3


def validate_refresh_interval(steps: int) -> None:
    """Check how often the kernel is to be computed.

    Args:
        steps: Every how many steps.

    Raises:
        ValueError: If it is less than 1 or no whole number.
    """
    require_whole_numbers(refresh_interval=steps)
    if steps < 1:
        raise ValueError(f"refresh_interval counts steps and must be at least 1, got {steps}.")


def require_enough_groups(num_groups: int, end: int, rule: BalanceRule) -> None:
    """Refuse an ``end`` that asks for more eigenvalues than there are groups.

    Args:
        num_groups: Groups in every batch, n: the kernel is (n, n).
        end: Last balanced eigenvalue.
        rule: Balance rule; Adam's needs one eigenvalue more.

    Raises:
        ValueError: If n is too small.
    """
    needed = eigenpairs_needed(end, rule)
    if num_groups < needed:
        raise ValueError(
            f"end={end} under rule {rule!r} reads {needed} eigenvalues, but a batch of {num_groups} groups has only "
            f"{num_groups}. Lower end to {max(num_groups - (rule == 'adam'), 0)} or less, or use more, smaller groups."
        )


def require_tensors(inputs: tuple[object, ...]) -> None:
    """Refuse network inputs that are anything else.

    Args:
        inputs: What the network is called with.

    Raises:
        ValueError: If one is no tensor, with what it is.
    """
    for x in inputs:
        if not isinstance(x, Tensor):
            raise ValueError(
                "Inputs must be a tensor, or a tuple of them for network(*inputs), got "
                f"{type(x).__name__}. Give a network that takes something else a module around it that takes tensors."
            )


def require_fitting_shapes(
    prediction: Tensor, rows: tuple[Tensor, ...], target: Tensor | None, scores: Tensor | None
) -> None:
    """Refuse what torch would broadcast, and what is no tensor.

    Args:
        prediction: What must be ``(N, C)``.
        rows: The network's inputs, which must be ``(N, d)``.
        target: What must be ``(N, C)``, if there is one.
        scores: What must be ``(N,)``, if there are any.

    Raises:
        ValueError: If one is not, with the shapes.
    """
    require_tensors(rows)
    optional = {"The target": target, "The scores": scores}
    given = {"The prediction": prediction} | {name: one for name, one in optional.items() if one is not None}
    for name, values in given.items():
        if not isinstance(values, Tensor):
            raise ValueError(f"{name} must be a tensor, got {type(values).__name__}.")
    count = len(prediction) if prediction.ndim else 0
    if prediction.ndim != 2:
        raise ValueError(
            f"The prediction must have shape (N, C), (N, 1) for one value per input, got {tuple(prediction.shape)}."
        )
    if target is not None and target.shape != prediction.shape:
        raise ValueError(
            f"Target and prediction must have one shape, got {tuple(target.shape)} and {tuple(prediction.shape)}."
        )
    if scores is not None and scores.shape != (count,):
        raise ValueError(f"Scores must have shape ({count},), one per input, got {tuple(scores.shape)}.")
    for x in rows:
        if x.ndim != 2 or len(x) != count:
            raise ValueError(
                f"Inputs must have shape ({count}, d), as many rows as the prediction {tuple(prediction.shape)}, got "
                f"{tuple(x.shape)}."
            )


def require_prediction_of(network: nn.Module, prediction: Tensor) -> None:
    """Refuse what another network has predicted: the kernel would be of weights that its loss does not train.

    Args:
        network: What the kernel is of.
        prediction: What the loss is of, ``(N, C)``; without a graph it trains nothing, and is not looked at.

    Raises:
        ValueError: If no parameter of the network that is trained has a part in it, or torch.func is at work, under
            which no kernel can be computed.
    """
    if torch.compiler.is_compiling():
        return
    if torch._C._functorch.is_functorch_wrapped_tensor(prediction):
        raise ValueError(
            "The prediction is within a transform of torch.func (grad, vmap, ...), where no kernel can be computed. "
            "Call the adjuster in a loss that loss.backward() or torch.autograd.grad differentiates."
        )
    trained = {id(parameter) for parameter in network.parameters() if parameter.requires_grad}
    if prediction.grad_fn is None or not trained:
        return
    waiting, seen = [prediction.grad_fn], set()
    while waiting:
        node = waiting.pop()
        # Of what torch.utils.checkpoint computes anew (use_reentrant=True) the graph shows the inputs alone.
        if id(getattr(node, "variable", None)) in trained or "Checkpoint" in node.name():
            return
        seen.add(node)
        waiting += [following for following, _ in node.next_functions if following and following not in seen]
    raise ValueError(
        "The prediction is not made by the adjuster's network: none of its trained parameters has a part in it. Make "
        "the adjuster of the network that is trained, and anew where that one is replaced (by a copy, or one that was "
        "loaded)."
    )


def require_kernel_fits(num_groups: int, device: torch.device) -> None:
    """Refuse a kernel that is larger than the memory, before a machine stops for it.

    Args:
        num_groups: Rows of the kernel, n.
        device: Where it is to be.

    Raises:
        ValueError: If it cannot fit.
    """
    needed, there = 4 * _KERNELS_HELD * num_groups**2, memory_of(device)
    if there is not None and needed > there:
        raise ValueError(
            f"The kernel of {num_groups} groups takes {needed / 2**30:.1f} GiB, but this machine has "
            f"{there / 2**30:.1f}. Use fewer, larger groups."
        )


def memory_of(device: torch.device) -> int | None:
    """Bytes of memory that a process can have on a device, or None where that is not known."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not everywhere
        return None
    try:
        container = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        return physical
    return min(physical, int(container)) if container.isdigit() else physical
