"""The choice of representatives from step to step: what is drawn, and what is kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from iga_nerfstudio.adjustment.grouping import Grouping
from iga_nerfstudio.adjustment.representatives import SCORED, Chosen, Representative, choose


class Choice:
    """Chooses each step's representatives; keeps those that later steps go by.

    Args:
        seed: Seed of the random ones. The global random state is never touched.
    """

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._kept: Tensor | None = None
        self._kept_of: Grouping | None = None  # unknown after loading, which is for the same groups

    def choose(
        self,
        name: Representative,
        count: int,
        size: tuple[int, int],
        scores: Tensor | None,
        grouping: Grouping,
        device: torch.device,
    ) -> Chosen:
        """The representatives of n groups of p slots.

        Args:
            name: The strategy; see :func:`~iga_nerfstudio.adjustment.representatives.choose`.
            count: Points per group, m.
            size: ``(n, p)``.
            scores: Non-negative score per slot, ``(n, p)``, for the strategies that rank by one.
            grouping: The groups.
            device: Where the chosen slots are needed.

        Returns:
            Slots and shares, ``(n, m)``; what is kept of other groups is not used.

        Raises:
            ValueError: If scores are needed and missing, there are fewer than m slots, or a strategy keeps points of
                groups that are other ones at every step.
        """
        previous = name == "previous_residual"
        keeps = previous or name == "random_once"
        if keeps and not grouping.same_groups_every_step:
            raise ValueError(
                f"Representative {name!r} keeps a point of every group, but these groups are other ones at every step. "
                f"Use {'largest_residual' if previous else 'random'!r}."
            )
        kept = self._kept if keeps else None
        if kept is not None and kept.shape[0] == size[0] and self._kept_of in (None, grouping):
            self._kept_of = grouping
            return Chosen(kept.to(device))
        chosen = choose(
            # Before the first step there is no residual to go by.
            "middle" if previous else name,
            1 if previous else count,
            size,
            scores=scores if name in SCORED else None,
            mask=grouping.mask,
            generator=self._generator,
            device=device,
        )
        if name == "random_once":
            self._kept, self._kept_of = chosen.slots, grouping
        return chosen

    def remember(self, scores: Tensor, count: int, grouping: Grouping) -> None:
        """Keep the m slots of largest score ``(n, p)`` of every group."""
        size = (scores.shape[0], scores.shape[1])
        self._kept = choose("previous_residual", count, size, scores=scores, mask=grouping.mask).slots
        self._kept_of = grouping

    def forget(self) -> None:
        """Keep nothing any longer."""
        self._kept = None

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to choose the same."""
        return {"generator": self._generator.get_state(), "kept_slots": self._kept}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Take up a state that :meth:`state_dict` gave, kept slots on a device."""
        self._generator.set_state(state["generator"].cpu())
        kept = state["kept_slots"]
        self._kept, self._kept_of = None if kept is None else kept.to(device), None
