"""Convert columns of text, which arrive in blocks, to numbers."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.checks import refuse_stray
from sensorseq.base.text import THOUSANDS, parse_number
from sensorseq.errors import RecordingError

# Numbers with decimal commas, thousands separators, quotes or the typographic minus.
_OTHER_FORM = re.compile(
    r"(?=.*[,;'\"\u2019\u2212\s]\d)[\s\"]*[-+\u2212]?\d(?:[\d.,;'\u2019\s]*\d)?(?:[eE][-+]?\d+)?"
    r"[\s\"]*|" + THOUSANDS.pattern
)
# Numbers with a unit or another mark behind them, such as 2.1 A.
_MARKED = re.compile(r"\s*([-+]?\d+[.,]?\d*(?:[eE][-+]?\d+)?)\s*([^\d\s.,:/+-][^\d\s]{0,5})\s*")
_MOST_NAMES = 10  # a column with more numbers, all with the same mark, does not contain names


class TextColumn:
    """A converter for a column of strings that arrive in blocks; see `numbers_of_texts`.

    If `way_out` is not empty, a number in a different format, such as one with thousands
    separators, raises an error that ends with `way_out`. Numbers with the same mark in every row
    raise an error, too.
    """

    def __init__(self, path: Path, name: str, decimal: str = ".", way_out: str = "") -> None:
        self._path, self._name, self._decimal, self._way_out = path, name, decimal, way_out
        self._n_rows = self._n_numbers = 0
        self._word: tuple[int, str] | None = None  # the row and text of the first word
        # The row and text of the first number in a different format.
        self._other: tuple[int, str] | None = None
        self._marks, self._marked = set[str](), set[str]()  # marks, and some numbers before them

    def numbers_of(self, texts: list[str | None]) -> NDArray[np.float64]:
        """Return the numbers in the next strings, with NaN for strings that are not numbers."""
        numbers = np.full(len(texts), np.nan)
        for row, text in enumerate(texts):
            if text is None or not text.strip():
                continue
            number = parse_number(text, self._decimal)
            if number is None:
                self._word = self._word or (self._n_rows + row, text)
                if self._way_out and _OTHER_FORM.fullmatch(text):
                    self._other = self._other or (self._n_rows + row, text)
                if len(self._marks) < 2:
                    match = _MARKED.fullmatch(text)
                    self._marks |= {match[2]} if match else {"", text}
                    if match and len(self._marked) <= _MOST_NAMES:
                        self._marked.add(match[1])
            else:
                numbers[row] = number
                self._n_numbers += 1
        self._n_rows += len(texts)
        return numbers

    def pass_over(self, numbers: NDArray[np.float64]) -> None:
        """Count the next rows, which were converted elsewhere."""
        self._n_rows += len(numbers)
        self._n_numbers += int((~np.isnan(numbers)).sum())

    def has_numbers(self) -> bool:
        """Return True if any string was a number; raise an error for a word among numbers."""
        is_marked = len(self._marks) == 1 and len(self._marked) > _MOST_NAMES
        if self._way_out and is_marked and not self._n_numbers:
            (mark,) = self._marks
            raise RecordingError(
                f"{self._path}: every number in column {self._name!r} is followed by {mark!r}."
                f" Remove {mark!r} from the rows (units are given with `units`), or use decimal='.'"
                " for a text column."
            )
        misfit = self._other or (self._word if self._n_numbers else None)
        if misfit is not None:
            row, text = misfit
            refuse_stray(self._path, row + 1, self._name, text)
            way_out = "; leave the field empty if the sample is missing"
            if self._other:
                way_out = f" in this notation. {self._way_out}"
            elif row == 0:
                way_out += ", and remove the row if it has units"
            raise RecordingError(
                f"{self._path}, row {row + 1}, column {self._name!r}: {text!r} is not a"
                f" number{way_out}."
            )
        return self._n_numbers > 0


def numbers_of_texts(path: Path, name: str, texts: list[str | None]) -> NDArray[np.float64] | None:
    """Convert a column of strings to numbers; return None if no string is a number.

    If a column contains both numbers and words, an error is raised that names the row of a word.
    """
    column = TextColumn(path, name)
    numbers = column.numbers_of(texts)
    return numbers if column.has_numbers() else None
