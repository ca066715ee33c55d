"""A lock that is handed on in the order in which it was asked for.

nerfstudio 1.1.5 has training and viewer share a ``threading.Lock``; not reported upstream.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from types import TracebackType


class FairLock:
    """Like ``threading.Lock``, but first come, first served.

    Python's lock goes to whoever asks at the right moment. A training loop that lets go of it between two short steps
    takes it again before any other thread has woken up, so that on a busy machine the viewer's threads can wait for
    minutes. This one is handed to the thread that has waited longest before the loop can ask again.
    """

    def __init__(self) -> None:
        self._state = Lock()  # guards the two below, for some instructions at a time
        self._held = False
        self._waiting: deque[Lock] = deque()

    def acquire(self, *, first: bool = False) -> bool:
        """Wait until it is this thread's turn.

        Args:
            first: Go before all who wait.

        Returns:
            True, as ``threading.Lock`` does.
        """
        with self._state:
            if not self._held:
                self._held = True
                return True
            turn = Lock()
            turn.acquire()
            if first:
                self._waiting.appendleft(turn)
            else:
                self._waiting.append(turn)
        try:
            turn.acquire()
        except BaseException:  # Ctrl-C: nobody must be handed what nobody waits for any more
            with self._state:
                handed = turn not in self._waiting
                if not handed:
                    self._waiting.remove(turn)
            if handed:
                self.release()
            raise
        return True

    def release(self) -> None:
        """Hand it to the thread that has waited longest, if there is one.

        Raises:
            RuntimeError: If nobody holds it.
        """
        with self._state:
            if not self._held:
                raise RuntimeError("release unlocked lock")
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._held = False

    @contextmanager
    def ahead(self) -> Iterator[None]:
        """Have it next, before all who wait."""
        self.acquire(first=True)
        try:
            yield
        finally:
            self.release()

    def locked(self) -> bool:
        """Whether a thread holds it."""
        return self._held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
