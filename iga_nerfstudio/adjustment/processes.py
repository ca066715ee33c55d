"""The rows that several processes hold together under torch.distributed, in the order of their ranks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

Made = TypeVar("Made")


def num_processes() -> int:
    """Number of processes that train together; 1 where torch.distributed is not initialised."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


@dataclass(frozen=True)
class ProcessRows:
    """This process's rows among those of all processes, each of which holds the same number.

    Attributes:
        count: Rows of each process, n.
        rank: This process's place in the order.
        processes: Number of processes, W. With one nothing is communicated.
    """

    count: int
    rank: int = 0
    processes: int = 1

    @classmethod
    def of_all_processes(cls, count: int, device: torch.device) -> ProcessRows:
        """Place this process's rows among those of all.

        Every process has to call this. Where there are several, each sends one number and reads all of them back to
        the host: a gather of unequal rows would hang or crash the run instead of saying what is wrong.

        Args:
            count: Rows of this process.
            device: Where the process group's backend communicates: the GPU for NCCL.

        Returns:
            The rows' places.

        Raises:
            ValueError: On every process, if their numbers of rows differ.
        """
        processes = num_processes()
        if processes == 1:
            return cls(count)
        counts: list[int] = torch.cat(_gather(torch.tensor([count], device=device), processes)).tolist()
        if len(set(counts)) > 1:
            raise ValueError(
                f"A kernel of all processes' groups needs the same number of them on each, but the processes hold "
                f"{', '.join(map(str, counts))} (in the order of ranks). Give each a batch of one size, or a kernel of "
                "its own with gather=False."
            )
        return cls(count, distributed.get_rank(), processes)

    @property
    def total(self) -> int:
        """Rows of all processes together, n W."""
        return self.count * self.processes

    def gather(self, rows: Tensor) -> Tensor:
        """Everybody's rows; every process has to call this, with one shape and dtype. No gradient comes back this way.

        Args:
            rows: This process's, ``(n, ...)``.

        Returns:
            ``(n W, ...)``, in the order of ranks.

        Raises:
            ValueError: If there are not n rows.
        """
        if rows.shape[0] != self.count:
            raise ValueError(f"Expected {self.count} rows, one per group, got shape {tuple(rows.shape)}.")
        return rows if self.processes == 1 else torch.cat(_gather(rows.detach(), self.processes))

    def decide(self, make: Callable[[], Made]) -> Made:
        """What the first process makes, on all of them: no rounding can then lead to different decisions.

        Every process has to call this.

        Args:
            make: Called on the first process alone; gives something that can be pickled, tensors on the CPU.

        Returns:
            What it gave.

        Raises:
            Exception: On every process, whatever it raised on the first.
        """
        if self.processes == 1:
            return make()
        made: list[Any] = [None, None]
        if self.rank == 0:
            try:
                made[0] = make()
            except Exception as error:  # the others wait for a word, whatever it is
                made[1] = error
        distributed.broadcast_object_list(made, src=0)
        if made[1] is not None:
            raise made[1]
        return made[0]

    def own(self, rows: Tensor) -> Tensor:
        """This process's rows ``(n, ...)`` of everybody's ``(n W, ...)``."""
        return rows if self.processes == 1 else rows[self.rank * self.count : (self.rank + 1) * self.count]


def _gather(rows: Tensor, processes: int) -> list[Tensor]:
    rows = rows.contiguous()
    parts = [torch.empty_like(rows) for _ in range(processes)]
    distributed.all_gather(parts, rows)
    return parts
