"""Finding, the result type of all data checks."""

import shlex
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sensorseq.messages import MESSAGES, fill
from sensorseq.preprocessing.options import as_words


@dataclass(frozen=True)
class Finding:
    """One fact found by a check of the data.

    `kind` is a key of `sensorseq.messages.MESSAGES`, `values` contains the numbers and words of the
    message, and `where` names the affected channels, rows, recordings, classes or groups. `answer`
    contains the options that answer the finding, and their values. `text` and `advice` are derived
    from these fields.
    """

    kind: str
    values: Mapping[str, Any] = field(default_factory=dict)
    where: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    answer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The text of the message, with the values filled in."""
        return self._fill(MESSAGES[self.kind].text)

    @property
    def advice(self) -> str:
        """The advice; empty if there is nothing to do."""
        return self._fill(MESSAGES[self.kind].advice)

    @property
    def severity(self) -> str:
        """``"leak"`` if the fact inflates a score on held-out windows, else ``"warning"``."""
        return "leak" if self.values.get("is_leak") else "warning"

    @property
    def count(self) -> int:
        """The number of windows, recordings, groups, files or channels affected by a leak."""
        return int(self.values["count"])

    def __str__(self) -> str:
        return f"{self.text} {self.advice}".rstrip()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: kind, values (including `where`), answer, text and advice."""
        values = {**{name: list(names) for name, names in self.where.items()}, **self.values}
        words = {"text": self.text, "advice": self.advice}
        return {"kind": self.kind, "values": values, "answer": dict(self.answer), **words}

    def _fill(self, template: str) -> str:
        values = defaultdict(str, {**self.values, **self.where})  # missing values are empty strings
        if excluded := self.answer.get("exclude"):
            words = shlex.join(as_words({"exclude": excluded[:3]})) + ",..." * (len(excluded) > 3)
            pronoun = "it" if len(excluded) == 1 else "them"
            values |= {"leave_out": words, "or_leave_out": f", or leave {pronoun} out with {words}"}
        return fill(template, values).strip()
