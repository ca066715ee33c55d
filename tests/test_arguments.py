import numpy as np
import pytest

from iga_nerfstudio.arguments import integer, option_values, whole_number, without_option


@pytest.mark.parametrize("value", [3, np.int64(3), True + 2])
def test_what_stands_for_an_integer(value: int) -> None:
    assert integer("count", value) == 3
    assert whole_number("count", value, 3) == 3


@pytest.mark.parametrize("value", [3.0, "3", None])
def test_no_integer(value: object) -> None:
    with pytest.raises(ValueError, match=r"count must be a whole number, but it is "):
        integer("count", value)  # type: ignore[arg-type]


def test_too_small() -> None:
    with pytest.raises(ValueError, match="count must be at least 3, but it is 2"):
        whole_number("count", 2, 3)


def test_options_are_found_however_they_are_written() -> None:
    words = ["--a-b", "1", "--a_b=2", "--c", "--a-b", "--a_b", "3"]
    assert option_values(words, "--a-b") == ["1", "2", "--a_b", "3"]
    assert without_option(["x", "--a-b", "1", "--a_b=2", "y"], "--a-b") == ["x", "y"]
