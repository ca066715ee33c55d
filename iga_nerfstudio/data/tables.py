"""Tables of numbers in text files: positions and channels."""

from __future__ import annotations

import csv
import logging
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from iga_nerfstudio.arguments import whole_number
from iga_nerfstudio.data.files import as_text, read_file, told_in_one_line
from iga_nerfstudio.data.samples import MAX_CHANNELS, Samples, count_bad
from iga_nerfstudio.files import write_text

logger = logging.getLogger("iga_nerfstudio")

TEXT_ENDINGS = (".csv", ".tsv", ".txt")

# Lines looked at to find out what separates the columns.
_SNIFFED_LINES = 20
# A position may be this far from where even spacing puts it, in steps: files hold rounded positions.
_SPACING_TOLERANCE = 0.05


_DATE_OR_TIME = re.compile(r"\d+[-/:.]\d+[-/:.]\d+|\d+:\d+|\d+-[A-Za-z]|\d{4}-\d\d?$")
# Thousands set apart, maybe with a decimal mark behind; then digits with anything between that stands in numbers.
_THOUSANDS = re.compile(r"[+-]?\d{1,3}([.,'\s]\d{3})+([.,]\d+)?")
_OTHER_MARKS = re.compile(r"[+-]?\d*([.,'\s][+-]?\d+)+([eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d+")


class _Table(NamedTuple):
    """Numbers of a text file, ``(N, C)``, the line that each row was found in, and the names of the columns.

    Where each line is two whole numbers with a comma between, that may be a decimal comma.
    """

    numbers: NDArray[np.float64]
    lines: list[int]
    names: list[str]
    commas_may_be_decimal: bool


def read_table(path: Path, column: int | str | None = None) -> Samples:
    """Read evenly spaced samples from a text file.

    Args:
        path: The file. A single column holds values; of several the first holds the positions.
        column: Keep only this value column: its name, or its number in the file counted from 0.

    Raises:
        ValueError: If the file cannot be read as such, or the column is not in it.
    """
    return _from_table(_parse(read_file(path), path), column, path)


def write_table(path: Path, axis: NDArray[np.float64], values: NDArray[Any]) -> None:
    """Write samples, so that :func:`read_table` gives back the same numbers. The file appears complete or not at all.

    Args:
        path: The file; its folder is made if missing.
        axis: Positions, ``(N,)``.
        values: float32 or float64 ``(N, C)``.

    Raises:
        ValueError: If it cannot be written.
    """
    # A column's shortest digits that tell its numbers apart are those of its type.
    columns = [axis.astype(str), *values.T.astype(str)]
    lines = "".join(",".join(row) + "\n" for row in zip(*columns, strict=True))
    with told_in_one_line(path):
        write_text(path, lines)


def _parse(content: bytes, path: Path) -> _Table:
    text = _text(content, path)
    numbered = [(number, line.strip(" ")) for number, line in enumerate(text.split("\n"), start=1)]
    numbered = [(number, line) for number, line in numbered if line.strip() and not line.startswith("#")]
    if not numbered:
        raise ValueError(f"{path} holds no numbers, only empty lines and comments.")
    delimiter = _delimiter([line for _, line in numbered[:_SNIFFED_LINES]])
    try:
        rows = [_fields(line, delimiter) for _, line in numbered]
    except csv.Error as error:
        raise ValueError(f"{path} is no table of numbers: {error}. Save it as CSV.") from error
    while len(rows[0]) > 1 and not any("".join(row[-1:]) for row in rows):
        rows = [row[:-1] for row in rows]  # a delimiter at the end of every line
    lines = [number for number, _ in numbered]
    names = rows[0] if not any(_is_number(field) for field in rows[0]) else []
    if names:
        rows, lines = rows[1:], lines[1:]
    _check_widths(rows, lines, names, path)
    return _Table(_parsed(rows, lines, path), lines, names, delimiter == "," and _may_be_decimals(rows, lines, path))


def _text(content: bytes, path: Path) -> str:
    try:
        text = as_text(content, errors="strict")
    except UnicodeDecodeError:
        # As programs on Windows write names; numbers are the same in all encodings of one byte.
        text = as_text(content.decode("cp1252", errors="replace").encode())
    if "\0" in text:
        raise ValueError(
            f"{path} is no text in UTF-8 or UTF-16 with its mark, or it is damaged: it holds bytes of 0. "
            "Save it as CSV in UTF-8."
        )
    return text


def _may_be_decimals(rows: list[list[str]], lines: list[int], path: Path) -> bool:
    """Whether each line may be a single number with a decimal comma; refused where it can hardly be anything else."""
    if not all(len(row) == 2 and _WHOLE.fullmatch(row[0]) and row[1].isdecimal() for row in rows):
        return False
    for (whole, decimals), line in zip(rows, lines, strict=True):
        if decimals.startswith("0") and decimals != "0":
            raise ValueError(
                f"{path}, line {line}: '{whole},{decimals}' looks like a number with a decimal comma. Use a decimal "
                "point; or, if these are two numbers, leave out the zero that the second begins with."
            )
    return True


def _delimiter(lines: list[str]) -> str | None:
    """The first candidate that is in every line. Comma comes late, since it may be a decimal comma, and space last."""
    return next((candidate for candidate in "\t;, " if all(candidate in line for line in lines)), None)


def _fields(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:
        return [line.strip().strip('"')]
    if delimiter == " ":
        return line.split()
    return [field.strip() for field in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))]


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _check_widths(rows: list[list[str]], lines: list[int], names: list[str], path: Path) -> None:
    if not rows:
        raise ValueError(f"{path} holds no numbers, only the names of columns: {', '.join(names)}.")
    width = len(names or rows[0])
    for row, line in zip(rows, lines, strict=True):
        if len(row) != width:
            raise ValueError(f"{path}, line {line}: {len(row)} columns, but the first line has {width}.")


def _parsed(rows: list[list[str]], lines: list[int], path: Path) -> NDArray[np.float64]:
    try:
        return np.array([[float(field) for field in row] for row in rows])
    except ValueError:
        bad, line = next(
            (field, line) for row, line in zip(rows, lines, strict=True) for field in row if not _is_number(field)
        )
    hint = "Correct or remove the line."
    is_date = _DATE_OR_TIME.match(bad) and not _THOUSANDS.fullmatch(bad)
    if _OTHER_MARKS.fullmatch(bad) and not is_date:
        hint = "Use a decimal point, and nothing else between digits."
    elif is_date:
        hint = "Write dates and times as numbers, seconds for example."
    elif not any(_is_number(field) for field in rows[lines.index(line)]):
        hint = "Only the first line may hold names; begin other lines of words with #."
    raise ValueError(f"{path}, line {line}: {bad!r} is not a number. {hint}")


def _from_table(table: _Table, column: int | str | None, path: Path) -> Samples:
    width = table.numbers.shape[1]
    if width > MAX_CHANNELS + 1:
        raise ValueError(
            f"{path} has {width} columns, but at most {MAX_CHANNELS} beside the positions can be read. Put one sample "
            "in each line."
        )
    first = 0 if width == 1 else 1
    index = None if column is None else _column_index(table, column, first, path)
    values = table.numbers[:, first:] if index is None else table.numbers[:, index : index + 1]
    if width == 1:
        return Samples(values, 1.0, 0.0, "")
    rate = _rate(table, path)
    return Samples(values, rate, float(table.numbers[0, 0]), "")


def _column_index(table: _Table, column: int | str, first: int, path: Path) -> int:
    width = table.numbers.shape[1]
    if isinstance(column, str):
        if table.names.count(column) != 1:
            found = f"its columns are {', '.join(table.names)}" if table.names else "its columns have no names"
            raise ValueError(f"There is not one column {column!r} in {path}: {found}. Pass a name or a number.")
        index = table.names.index(column)
    else:
        index = whole_number("column", column, 0)
    if index >= width:
        raise ValueError(f"There is no column {index} in {path}: it has {width}, counted from 0.")
    if index < first:
        raise ValueError(f"Column {column!r} of {path} holds the positions. Pick one of the columns after it.")
    return index


def _rate(table: _Table, path: Path) -> float:
    """Samples per unit, from positions that must be evenly spaced."""
    positions = table.numbers[:, 0]
    if not np.isfinite(positions).all():
        raise ValueError(f"{count_bad(positions)} positions in the first column of {path} are NaN or infinite.")
    if len(positions) < 2:
        raise ValueError(f"{path} holds 1 sample, but at least 2 are needed.")
    _refuse_rounded(positions, path)
    step = (positions[-1] - positions[0]) / (len(positions) - 1)
    even = np.linspace(positions[0], positions[-1], len(positions))
    if step <= 0 or (np.abs(positions - even) > _SPACING_TOLERANCE * step).any():
        row = int(np.argmax(np.abs(np.diff(positions) - step))) + 1
        raise ValueError(
            f"The first of several columns of {path} must hold ascending, evenly spaced positions, but in line "
            f"{table.lines[row]} {positions[row]:g} follows {positions[row - 1]:g}, and the mean step is {step:g}. "
            "Resample the signal evenly, or keep only the column of the values."
            + " If the commas are decimal ones, use decimal points."
            * table.commas_may_be_decimal
        )
    if table.commas_may_be_decimal and not table.names:
        logger.warning(
            "The comma in each line of %s is taken to separate a position from a value. If it is a decimal one, use "
            "decimal points.",
            path,
        )
    return float(1.0 / step)


def _refuse_rounded(positions: NDArray[np.float64], path: Path) -> None:
    """Refuse positions with more digits than double precision has, nanoseconds since 1970 for example."""
    highest = np.abs(positions).max()
    step = (positions.max() - positions.min()) / (len(positions) - 1)
    apart = float(np.spacing(highest))
    if 0 < step < apart / _SPACING_TOLERANCE:
        raise ValueError(
            f"The positions in the first column of {path} go up to {highest:g}, where numbers are {apart:g} apart in "
            f"double precision, and their mean step is {step:g}. Subtract the first position from all of them."
        )
