"""Who stands for a group in the kernel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from iga_nerfstudio.adjustment.transform import require_whole_numbers
from iga_nerfstudio.settings import Representative

# Representatives chosen by the residual of the step in progress.
BY_RESIDUAL: tuple[Representative, ...] = ("largest_residual", "all_maxima")
# Representatives chosen by a score that the caller provides for every input.
SCORED: tuple[Representative, ...] = (*BY_RESIDUAL, "largest_weight")


@dataclass(frozen=True)
class Chosen:
    """The slots that stand for each group.

    Attributes:
        slots: Positions within the group, int64 ``(n, m)``.
        weights: Shares of each slot, ``(n, m)``, rows summing to one, or None for equal shares.
    """

    slots: Tensor
    weights: Tensor | None = None

    def gather(self, groups: Tensor) -> Tensor:
        """Pick the chosen slots' rows: ``(n, p, ...)`` to ``(n, m, ...)``, or to ``(n, ...)`` where m is 1."""
        index = self.slots.reshape(*self.slots.shape, *[1] * (groups.ndim - 2)).expand(-1, -1, *groups.shape[2:])
        picked = groups.gather(1, index)
        return picked[:, 0] if self.slots.shape[1] == 1 else picked


def validate_representative(name: str, count: int) -> None:
    """Check a strategy's name and number of points per group.

    Args:
        name: One of :data:`Representative`.
        count: Points per group, m.

    Raises:
        ValueError: If the name is unknown, or the count is no positive whole number or does not fit the strategy.
    """
    require_whole_numbers(num_representatives=count)
    if name not in get_args(Representative):
        raise ValueError(f"Unknown representative {name!r}. Choose one of {', '.join(get_args(Representative))}.")
    if count < 1:
        raise ValueError(f"Each group needs at least one representative point, got {count}.")
    if name == "mean" and count < 2:
        raise ValueError("The group mean is taken over several points: give a count of 2 or more, got 1.")
    if name == "middle" and count > 1:
        raise ValueError(f"A group has one middle, but {count} representative points were asked for.")
    if name == "all_maxima" and count > 1:
        raise ValueError(f"How many points are maxima is not to be chosen, but {count} were asked for.")


# Score of an empty slot: below all others, logarithms of weights included.
EMPTY = -math.inf


def choose(
    name: Representative,
    count: int,
    size: tuple[int, int],
    *,
    scores: Tensor | None = None,
    mask: Tensor | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Chosen:
    """Choose which m slots stand for each group.

    Args:
        name: ``"largest_residual"``, ``"previous_residual"`` (of the scores of the step before) and
            ``"largest_weight"`` take the m slots of largest score, the last with shares in proportion to the scores;
            ``"random"`` and ``"random_once"`` draw m slots (the caller keeps the latter's); ``"middle"`` takes slot
            ``filled // 2``; ``"mean"`` draws m slots in equal shares; ``"all_maxima"`` takes every slot where some
            group has its largest score, for all groups alike, with the share of groups that have it there (what the
            authors' code does on images, where the paper says largest residual; as many points as there are such
            slots).
        count: Points per group, m.
        size: Groups and slots per group, ``(n, p)``.
        scores: Score of each slot, ``(n, p)``, non-negative where shares are in proportion to it; needed by the first
            three and by ``"all_maxima"``. A slot whose score is NaN is the largest only of a group that has no other.
        mask: Filled slots, bool ``(n, p)``; None if all are.
        generator: CPU random generator for the random strategies.
        device: Where the result lives if there are no scores.

    Returns:
        The chosen slots and their shares. Drawn slots are distinct where a group has m filled ones and repeat
        otherwise; empty slots are never chosen.

    Raises:
        ValueError: If scores are needed and missing, or m is larger than p.
    """
    n, p = size
    if count > p:
        raise ValueError(f"Asked for {count} representative points in groups of {p}.")
    if name == "middle":
        filled = torch.full((n,), p, device="cpu") if mask is None else mask.sum(1)
        return Chosen(_nth_filled(filled // 2, mask, n).to(device)[:, None])
    if name in SCORED or name == "previous_residual":
        if scores is None:
            raise ValueError(f"Representative {name!r} needs a score for every input, but none was given.")
        # Counts and truth values too are ranked beside empty slots' minus infinity, and make shares.
        scores = scores if scores.is_floating_point() else scores.to(torch.float32)
        # For topk and argmax NaN is the largest; here it is below all scores, above empty slots.
        scores = scores.nan_to_num(torch.finfo(scores.dtype).min, posinf=math.inf, neginf=-math.inf)
        if mask is not None:
            scores = scores.masked_fill(~mask.to(scores.device), EMPTY)
        if name == "all_maxima":
            return _all_maxima(scores)
        top = scores.topk(count, dim=1)
        return Chosen(*_filled_only(top.indices, top.values, weighted=name == "largest_weight" and count > 1))
    # On the CPU, whatever torch.set_default_device says: as the generator and the mask.
    draws = torch.rand(n, p, generator=generator, device="cpu")
    if mask is not None:
        draws = draws.masked_fill(~mask, EMPTY)
    top = draws.topk(count, dim=1)
    return Chosen(_filled_only(top.indices, top.values, weighted=False)[0].to(device))


def _all_maxima(scores: Tensor) -> Chosen:
    """The slots of all groups' maxima in every group; its own best where a group has nothing there."""
    n = scores.shape[0]
    best = scores.argmax(1)
    slots, counts = best.unique(return_counts=True)
    slots = slots.expand(n, -1)
    slots = torch.where(scores.gather(1, slots) == EMPTY, best[:, None], slots)
    if slots.shape[1] == 1:
        return Chosen(slots)
    return Chosen(slots, (counts.to(scores.dtype) / n).expand(n, -1))


def _nth_filled(nth: Tensor, mask: Tensor | None, n: int) -> Tensor:
    """Slot of each group's nth filled one, ``(n,)``."""
    if mask is None:
        return nth
    # Filled slots first, in order: sorting is stable.
    order = torch.argsort((~mask).int(), dim=1, stable=True)
    return order.gather(1, nth[:, None])[:, 0]


def _filled_only(slots: Tensor, scores: Tensor, weighted: bool) -> tuple[Tensor, Tensor | None]:
    """Put each group's best slot in the place of chosen empty ones; shares in proportion to scores if weighted."""
    slots = torch.where(scores == EMPTY, slots[:, :1], slots)
    if not weighted:
        return slots, None
    scores = scores.clamp_min(0)
    total = scores.sum(1, keepdim=True)
    # A ray through empty space has no weight anywhere: its points count alike.
    shares = torch.where(total > 0, scores / total.clamp_min(torch.finfo(scores.dtype).tiny), 1 / scores.shape[1])
    return slots, shares
