"""Maps shrunk by means over squares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iga_nerfstudio.evaluation.squares import means_over_squares, side_of_squares


@given(height=st.integers(1, 12), width=st.integers(1, 12), side=st.integers(1, 14))
def test_means_against_a_loop(height: int, width: int, side: int) -> None:
    values = np.random.default_rng(height * width).random((height, width))
    naive = [[values[i : i + side, j : j + side].mean() for j in range(0, width, side)] for i in range(0, height, side)]
    np.testing.assert_allclose(means_over_squares(values, side), naive, rtol=1e-12)


@pytest.mark.parametrize(
    ("shape", "expected"), [((3, 4), 1), ((512, 3), 1), ((3, 513), 2), ((1024, 7, 3), 2), ((4000, 3000), 8)]
)
def test_the_smallest_squares_that_are_few_enough(shape: tuple[int, ...], expected: int) -> None:
    assert side_of_squares(shape, 512) == expected
