"""Host memory that training steps use again instead of giving it back.

glibc hands every freed block above a threshold back to the system, so that each training step on a CPU asks for all of
its activations anew and pays for every page of them: more time than the matrix products take (2.5 times the step for
3 x 256 units on the machine of ``docs/cost.md``).
"""

from __future__ import annotations

import ctypes
import sys

# Parameters of glibc's mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4
# Bytes asked for beyond what is needed whenever the heap grows.
_TOP_PAD = 64 << 20
_NEVER = 2**31 - 1


def reuse_host_memory() -> bool:
    """Let this process keep freed host memory and use it again.

    Our command lines call it first thing; call it before training on a CPU from Python. The process then keeps its peak
    of host memory until it ends. Nothing else changes, and a GPU's memory is not concerned.

    Returns:
        Whether it took effect: False where the C library is not glibc (macOS, Windows, musl), which changes nothing.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # Without mappings of their own, large blocks come from the heap, whose top is then never trimmed.
    return all([mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, _NEVER), mallopt(_M_TOP_PAD, _TOP_PAD)])
