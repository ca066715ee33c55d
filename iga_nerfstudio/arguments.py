"""Arguments that several rooms take, and the words of a command line."""

from __future__ import annotations

import math
import operator
import os
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any


def integer(name: str, value: int) -> int:
    """An integer argument; anything that stands for an integer exactly will do.

    Args:
        name: Name of the argument, for the message.
        value: What was passed.

    Returns:
        The value as an int.

    Raises:
        ValueError: If it is no integer.
    """
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, but it is {value!r}. Pass an integer.") from None


def whole_number(name: str, value: int, minimum: int) -> int:
    """An integer argument of at least ``minimum``.

    Args:
        name: Name of the argument, for the message.
        value: What was passed.
        minimum: Smallest number allowed.

    Returns:
        The value as an int.

    Raises:
        ValueError: If it is no integer, or smaller.
    """
    number = integer(name, value)
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, but it is {number}. Pass a larger number.")
    return number


def positive(name: str, value: float) -> float:
    """A positive, finite number.

    Args:
        name: Name of the argument, for the message.
        value: What was passed.

    Returns:
        The value.

    Raises:
        ValueError: If it is zero, negative, infinite or not a number.
    """
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive, got {value}.")
    return value


def positive_rate(name: str, value: float) -> float:
    """A learning rate: positive and finite.

    Args:
        name: Name of the argument, for the message.
        value: What was passed.

    Returns:
        The value.

    Raises:
        ValueError: If it is zero, negative, infinite or not a number.
    """
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be a positive, finite learning rate, but it is {value}. Try 1e-3.")
    return value


def name_of_folder(name: str, value: str) -> str:
    """The name of a folder that is to be made in another.

    Args:
        name: Name of the argument, for the message.
        value: What was passed; may name folders within folders.

    Returns:
        The value.

    Raises:
        ValueError: If it is empty or leads out of the other folder.
    """
    parts = Path(value).parts
    if not parts or Path(value).is_absolute() or ".." in parts:
        raise ValueError(
            f"{name} must name a folder within the output folder, but it is {value!r}. Change --output-dir to write "
            "elsewhere."
        )
    return value


def expand_homes(settings: Any) -> None:
    """Read ``~`` in the paths of settings as people mean it where no shell has: in ``--data=~/photo.png``, and in YAML.

    Args:
        settings: A dataclass's object, whose paths are changed, and those of the dataclasses in it.
    """
    for one in fields(settings):
        value = getattr(settings, one.name)
        if isinstance(value, Path):
            setattr(settings, one.name, Path(os.path.expanduser(value)))
        elif is_dataclass(value) and not isinstance(value, type):
            expand_homes(value)


def option_values(words: list[str], name: str) -> list[str]:
    """The values that a command line gives an option, written ``--a-b value``, ``--a_b value`` or ``--a-b=value``.

    Args:
        words: The command line.
        name: The option, ``--a-b``.

    Returns:
        A value each time that it is named; "" where it is the last word.
    """
    values = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if option.replace("_", "-") == name:
            values.append(value if equals else following)
    return values


def without_option(words: list[str], name: str) -> list[str]:
    """A command line without an option and its value.

    Args:
        words: The command line.
        name: The option, ``--a-b``.

    Returns:
        The other words.
    """
    kept, skip = [], False
    for word in words:
        option, equals, _value = word.partition("=")
        named = option.replace("_", "-") == name
        if not named and not skip:
            kept.append(word)
        skip = named and not equals
    return kept
