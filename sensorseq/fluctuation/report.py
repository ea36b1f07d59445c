"""FluctuationReport: one History to a verdict, with the figures and the words behind it."""

import math
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sensorseq.fluctuation.columns import check_count, check_epoch, check_fraction, read_columns
from sensorseq.fluctuation.run import Run, Statistic, plural
from sensorseq.fluctuation.verdict import judge
from sensorseq.history import History

_WIDTH, _HEIGHT, _INDENT = 80, 24, 10


@dataclass(frozen=True, eq=False, repr=False)
class FluctuationReport:
    """Whether a training curve fluctuates more than it should, in figures and in words.

    Made by `from_history`, or found as `fluctuation_` on a fitted classifier. Print it.

    Attributes
    ----------
    verdict : str
        ``"normal"``, ``"fluctuating"``, ``"diverged"``, ``"not_learning"`` or
        ``"too_short_to_tell"``.
    severity : str or None
        ``"mild"`` or ``"strong"`` when fluctuating.
    explanation : tuple of str
        Sentences, most important first: also why a normal curve looks rough, and what this history
        cannot tell.
    causes : tuple
        Ranked findings; empty when only the history was looked at.
    statistics : dict of str to Statistic
        What was measured, each with the floor it was compared with.
    n_epochs : int
        Epochs in the history.
    n_val, n_train, n_classes, best_epoch : int or None
        As given to `from_history`.
    """

    verdict: str
    severity: str | None
    explanation: tuple[str, ...]
    causes: tuple[Any, ...] = ()
    statistics: Mapping[str, Statistic] = field(default_factory=dict)
    n_epochs: int = 0
    n_val: int | None = None
    n_train: int | None = None
    n_classes: int | None = None
    best_epoch: int | None = None

    @classmethod
    def from_history(
        cls,
        history: History | Mapping[str, Iterable[Any]] | Iterable[Mapping[str, Any]],
        n_val: int | None = None,
        *,
        n_train: int | None = None,
        n_classes: int | None = None,
        majority_fraction: float | None = None,
        best_epoch: int | None = None,
    ) -> "FluctuationReport":
        """Judge a training curve from what was recorded after each epoch.

        Parameters
        ----------
        history : History, mapping of lists, or iterable of mappings
            Columns `loss`, `val_loss` (cross-entropy in nats), `accuracy`, `val_accuracy`
            (fractions), as our `History`, Keras' ``History.history`` or a list of rows. Others are
            not looked at. None is "not recorded"; NaN in a loss is a loss that is not a number.
            `loss` is the mean over all training windows of the epoch: a mean of batch means counts
            the windows of a small last batch too often, and is noisy for that alone.
        n_val : int, optional
            Independent validation windows behind `val_accuracy`. Without it the report cannot say
            how much of the curve is sampling noise.
        n_train : int, optional
            Training windows behind `accuracy`.
        n_classes : int, optional
            K, for the accuracy and the loss of a guess.
        majority_fraction : float, optional
            Share of the most frequent class in the validation set, the accuracy of a constant
            answer; ``1 / n_classes`` when not given.
        best_epoch : int, optional
            Epoch, counted from 1, whose weights were kept.

        Returns
        -------
        FluctuationReport

        Raises
        ------
        ArgumentError
            If the history has no epochs or none of the columns to judge by, a value is not a
            number, an accuracy is not a fraction, or a count is out of range.

        Examples
        --------
        >>> import math
        >>> loss = [0.5 + math.exp(-t / 5) + 0.2 * (-1) ** t for t in range(40)]
        >>> FluctuationReport.from_history({"loss": loss}).verdict
        'fluctuating'
        """
        columns, n_epochs = read_columns(history)
        run = Run(
            columns,
            n_epochs,
            n_val=check_count("n_val", n_val),
            n_train=check_count("n_train", n_train),
            n_classes=check_count("n_classes", n_classes, least=2),
            majority_fraction=check_fraction("majority_fraction", majority_fraction),
            best_epoch=check_epoch(best_epoch, n_epochs),
        )
        verdict, severity, sentences = judge(run)
        return cls(
            verdict=verdict,
            severity=severity,
            explanation=tuple(sentences),
            statistics=run.statistics,
            n_epochs=n_epochs,
            n_val=n_val,
            n_train=n_train,
            n_classes=n_classes,
            best_epoch=best_epoch,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values that `json.dumps` takes; NaN and infinity as None."""
        return {
            "format": "sensorseq.fluctuation",
            "version": 1,
            "verdict": self.verdict,
            "severity": self.severity,
            "explanation": list(self.explanation),
            "causes": list(self.causes),
            "statistics": {
                name: {key: _finite_or_none(value) for key, value in asdict(statistic).items()}
                for name, statistic in self.statistics.items()
            },
            "n_epochs": self.n_epochs,
            "n_val": self.n_val,
            "n_train": self.n_train,
            "n_classes": self.n_classes,
            "best_epoch": self.best_epoch,
        }

    def __repr__(self) -> str:
        return f"FluctuationReport({self._banner()!r}, {plural(self.n_epochs, 'epoch')})"

    def __str__(self) -> str:
        lines = [*self._headline(), *_block("Verdict", self._banner())]
        first, *rest = self.explanation
        lines += _block("", first)
        left = _HEIGHT - len(lines)
        for n_said, sentence in enumerate(rest):
            block = _block("Why" if n_said == 0 else "", sentence)
            # One line is kept for saying that something was left out.
            if len(block) > left - (n_said < len(rest) - 1):
                n_more = len(rest) - n_said
                lines += _block("", f"... {n_more} more: print(*report.explanation, sep='\\n')")
                break
            lines += block
            left -= len(block)
        return "\n".join(lines)

    def _banner(self) -> str:
        words = self.verdict.replace("_", " ").upper()
        return f"{words} ({self.severity})" if self.severity else words

    def _headline(self) -> list[str]:
        sizes = " / ".join(
            f"{count} {part}"
            for count, part in ((self.n_train, "train"), (self.n_val, "validation"))
            if count is not None
        )
        facts = [f"{sizes} windows"] if sizes else []
        if self.n_classes is not None:
            facts.append(f"{self.n_classes} classes")
        facts.append(plural(self.n_epochs, "epoch"))
        return textwrap.wrap("FLUCTUATION REPORT   " + ", ".join(facts), _WIDTH)


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _block(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=label.ljust(_INDENT),
        subsequent_indent=" " * _INDENT,
    )
