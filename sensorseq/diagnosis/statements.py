"""Findings, the contents of a report; Statement, one of its sentences; the table of kinds."""

import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sensorseq.diagnosis.causes import UNKNOWN, Cause, Probes
from sensorseq.diagnosis.metrics import Statistic
from sensorseq.history import TrainingRecord
from sensorseq.text import listed, plural


class Kind(NamedTuple):
    """The topic of a statement, and its text as a template for `str.format`.

    Besides the usual format specifications, a value may have ``points`` (a fraction in points or
    percent), ``worth`` (the same with two digits and unit), ``percent`` (rounded), ``nats``,
    ``listed``, ``series`` and ``#noun`` (a count with its noun).
    """

    topic: str
    text: str


# Openings shared by several statements
_MOVES = "{column:series} moves +-{noise:nats} nats per epoch over the second half"
_LIKE = "{n:#validation window} move like {like} independent ones (R = {ratio:.1f}, p = {p:.3f})"
_WHETHER = "Whether recordings flip as blocks or the model moves as a whole cannot be told"
_OF_GROUPS = "R_g = {group_ratio:.1f}, p = {group_p:.3f}"
_KEPT = "The weights kept are those of epoch {epoch} of {n_epochs}"
_PICKED = (
    "Scored on windows that had no part in picking it, the best epoch gets {accuracy:points} %"
    " (standard error {error:points})"
)
_TEXTS = {
    # Accuracy, loss and generalization, one line each
    "accuracy": {
        "accuracy_luck": "Accuracy jumps no more than by chance ({n_val} windows of {step:worth}"
        " each).",
        "accuracy_restless": "Accuracy jumps because a few of {n_val} windows keep changing sides,"
        " not the model.",
        "accuracy_recordings": "Accuracy jumps because {n_groups} recordings flip as blocks, not"
        " the model.",
        "accuracy_together": "Accuracy jumps {ratio:.1f} times as far as luck of {n_val} windows;"
        " too few groups to tell why.",
        "accuracy_real": "Accuracy jumps {ratio:.1f} times as far as luck of {n_val} windows"
        " explains.",
        "accuracy_alone": "Accuracy jumps {ratio:.1f} times as far as luck of {n_val} windows, but"
        " training is calm.",
        "accuracy_unsized": "Accuracy jumps; whether by luck cannot be told without n_val.",
        "accuracy_calm": "Accuracy is calm: +-{sd:points} points per epoch.",
    },
    "loss": {
        "loss_constant_rate": "The loss jumps, and not by luck: the learning rate is constant.",
        "loss_moves": "The loss jumps, and not by luck: the model itself moves.",
        "loss_together": "Both losses leap up together in {epochs:listed}: the model is thrown"
        " off.",
        "loss_costs": "The loss jumps, and not by luck. Averaging the weights would save"
        " {excess:.2f} nats: let the rate decay.",
        "loss_leaps": "The loss leaps up in {epochs:listed} and recovers.",
        "loss_of_validation": "The validation loss jumps from epoch to epoch, and not by luck.",
        "loss_calmed": "The loss jumped at first and has calmed down.",
        "loss_unsure": "The loss moves more than that of calm runs, but not for sure.",
        "loss_alone": "The training loss moves a little more than that of calm runs: no alarm.",
        "loss_dropout": "The training loss jumps, the validation loss does not: dropout or"
        " augmentation does that.",
        "loss_harmless": "The training loss jumps, the validation loss does not; a decaying rate"
        " would calm it.",
        "loss_unjudged": "The loss has too few epochs between rises of the learning rate to be"
        " judged.",
        "loss_validation_only": "The training loss is calm; the validation loss moves: few or"
        " uncertain windows.",
        "loss_calm": "The loss is calm.",
    },
    "generalization": {
        "overfits": "It overfits: the validation loss rises from epoch {epoch} on.",
        "got_worse": "It got worse: validation accuracy ends {fall:points} points below its best,"
        " beyond luck.",
        "not_carried_over": "It does not generalize: validation accuracy ends at {level:points} %,"
        " guessing gives {chance:points} %; training accuracy is {train:points} %.",
        "not_carried_over_loss": "It does not generalize: validation accuracy ends at"
        " {level:points} %, guessing gives {chance:points} %; the training loss fell from"
        " {first:.3g} to {last:.3g}.",
        "not_beyond_guessing": "Validation accuracy, {level:points} %, cannot be told from guessing"
        " ({chance:points} %).",
        "not_beyond_guessing_sized": "Validation accuracy, {level:points} %, cannot be told from"
        " guessing with {n_val} windows ({chance:points} %).",
        "one_class": "Validation accuracy cannot be judged: all validation windows are of one"
        " class. Hold out recordings of every class.",
        "no_overfitting": "The validation loss did not rise: it ends within luck of its lowest.",
    },
    "level": {
        "below_data": "Your network gets {network:percent} % of the validation windows; {rival}"
        " gets {accuracy:percent} %.",
    },
    "gain": {
        "gain_of_defaults": "About {points:percent} points of accuracy: the default settings"
        " include {rival}.",
    },
    "recovery": {
        "recovered": "The {part} loss was not finite in {epochs:listed}; the run recovered.",
    },
    "unit": {
        "loss_is_sum": "{column:series} begins at {first:.3g}, where guessing costs {guess:.3g}"
        " nats: no mean over windows, but perhaps a sum over batches. It was judged divided by"
        " {scale:.3g}.",
        "loss_too_small": "{column:series} begins at {loss:.2g}, where {wrong:points} % of the"
        " windows are wrong and cost {least:.2g} nats at least: no mean cross-entropy in nats, or"
        " the accuracy is of other windows. How much it moves was not judged.",
    },
    # Why a run failed, or cannot be judged
    "failure": {
        "broken_from": "The {part} loss is {what} from epoch {epoch} on.",
        "broken_in": "The {part} loss is {what} in epoch {epoch}.",
        "broken_validation": "The training loss stayed finite: look for NaN or extreme values in"
        " the validation windows first.",
        "exploded": "The {part} loss is above ten times its first value ({first:.3g} nats) for"
        " three epochs from epoch {epoch} on: {value:.3g} nats there.",
        "collapsed": "{part} accuracy had reached {once:points} % and ended at {last:points} %, no"
        " better than guessing: the model has collapsed.",
        "too_short": "Of {n_epochs:#recorded epoch}, {n_left} come after the initial descent; at"
        " least {least} are needed to tell noise from progress.",
        "one_answer": "The model gives all {n_windows} validation windows the same answer: it has"
        " learned nothing that tells them apart, so a calm curve means nothing.",
        "nothing_learned": "Training accuracy ends at {level:points} %; guessing gives"
        " {chance:points} %. The model has learned nothing so far, so a calm curve means nothing.",
        "validation_guesses": "Validation accuracy ends at {level:points} %; guessing gives"
        " {chance:points} %.",
        "guessing_limit": "With {n_val} windows, guessing alone can reach {limit:points} %.",
        "no_descent": "The training loss has not fallen: {first:.3g} nats in the first epoch,"
        " {last:.3g} at the end. Nothing is being learned, or all of it had been before this"
        " history begins.",
        "no_descent_of_validation": "The validation loss has not fallen: {first:.3g} nats in the"
        " first epoch, {last:.3g} at the end. Nothing is being learned, or all of it had been"
        " before this history begins.",
        "one_accuracy": "{part} accuracy stays at exactly {level:points} %, and the loss is flat:"
        " the model seems to give all windows the same answer, so a calm curve means nothing.",
        "no_history": "There is no history: the network was trained elsewhere.",
    },
    # Figures behind the verdict
    "movement": {
        "movement": f"{_MOVES}; calm runs stay below {{edge}}.",
        "movement_unsure": f"{_MOVES}: above the {{edge}} of calm runs, but not for sure.",
        "movement_leap": f"{_MOVES}: above the {{edge}} of calm runs, but by a single leap.",
        "movement_calmed": "{column:series} moved +-{before:nats} nats per epoch at first, and"
        " +-{noise:nats} over the second half.",
        "movement_calm": "{column:series} is calm: +-{noise:nats} nats per epoch over the second"
        " half.",
        "accuracy_moves": "Validation accuracy moves +-{sd:points} points per epoch.",
        "accuracy_within_luck": "Validation accuracy moves +-{sd:points} points per epoch; sampling"
        " {n_val} windows alone gives up to +-{sampling:points}.",
        "accuracy_beyond_luck": "Validation accuracy moves +-{sd:points} points per epoch,"
        " {ratio:.1f} times the +-{sampling:points} that sampling {n_val} windows can explain.",
        "training_accuracy_moves": "Accuracy on the training windows moves +-{sd:points} points per"
        " epoch.",
        "weights_cost": "The noise of the weights costs {excess:.2f} nats of training loss: the"
        " average of the last epochs' weights is that much better.",
        "thrown_off": "The training loss leaps up in {epochs:listed}.",
        "overfitting_figures": "Validation loss was lowest in epoch {epoch} ({lowest:.2f} nats) and"
        " ended at {end:.2f}, while training loss went from {train_then:.2f} to {train_end:.2f}.",
        "lucky_best": "The last epoch is {fall:points} points of accuracy below the best one;"
        " picking the best of so many noisy epochs explains about {luck:points}. This is not"
        " evidence that accuracy declined.",
        "training_near_guessing": "Training accuracy is only {level:points} % so far; guessing"
        " gives {chance:points} %.",
        "training_rises": "Training accuracy is only {level:points} % so far, but rising; guessing"
        " gives {chance:points} %.",
    },
    # Flips of validation windows
    "windows": {
        "windows_independent": "The windows flip independently of each other (R = {ratio:.1f}, p ="
        " {p:.3f}): so few of them give +-{sd:points} points.",
        "windows_restless": "{top:percent} % of the windows carry {share:percent} % of all flips:"
        " borderline or mislabelled windows make the curve rough.",
        "windows_ungrouped": f"{_LIKE}. {_WHETHER} without groups.",
        "windows_few_groups": f"{_LIKE}. {_WHETHER} from {{n_groups:#group}};"
        " {least} are needed.",
        "windows_recordings": f"{_LIKE}: each recording flips as a block, independently of the"
        f" others ({_OF_GROUPS}).",
        "windows_model": f"{_LIKE}, and different recordings flip together ({_OF_GROUPS}): the"
        " model moves as a whole.",
        "shares": "Of the variance of the accuracy, windows flipping independently explain"
        " {by_windows:percent} %; the rest is windows flipping together.",
        "shares_grouped": "Of the variance of the accuracy, windows flipping independently explain"
        " {by_windows:percent} %, recordings flipping as blocks {by_groups:percent} %, the model"
        " as a whole {rest:percent} %.",
    },
    # Would more epochs help?
    "noise": {
        "noise_falls": "The noise is falling over the epochs: more may calm it.",
        "noise_falls_little": "The noise falls a little over the epochs (to {ratio:.2f} of the"
        " early noise): more epochs alone will hardly calm it.",
        "noise_rises": "The noise is rising over the epochs: more of them would make it worse.",
        "noise_rises_little": "The noise rises a little over the epochs (to {ratio:.2f} of the"
        " early noise): more epochs will not calm it.",
        "noise_constant": "The noise is constant over the epochs: more epochs alone will not calm"
        " it.",
    },
    "descent": {
        "flat": "The training loss has been flat since epoch {epoch} of {n_epochs}: more epochs of"
        " the same kind will not lower it.",
        "still_falls": "The training loss still falls, by {fall:.3f} nats in ten epochs: more"
        " epochs may lower it further.",
        "hardly_falls": "The training loss hardly falls any more: more epochs of the same kind gain"
        " little.",
    },
    # Which weights were kept, and how good they are
    "kept": {
        "kept_unknown": "Which epoch's weights were kept is not recorded here.",
        "kept": f"{_KEPT}.",
        "kept_loss": f"{_KEPT} (validation loss {{loss:.3f}} nats).",
        "kept_accuracy": f"{_KEPT} (accuracy {{accuracy:points}} %).",
        "kept_both": f"{_KEPT} (validation loss {{loss:.3f}} nats,"
        " accuracy {accuracy:points} %).",
    },
    "worth": {
        "picked": f"{_PICKED}.",
        "picked_gains": f"{_PICKED}, {{gain:points}} points more than the last epoch.",
    },
    # What cannot be decided
    "open": {
        "movement_unknown": "Whether the model itself moves cannot be told without a training"
        " loss.",
        "foreign_record": "What the run noted beside its history is of another number of epochs and"
        " was not used.",
        "no_validation": "Without validation figures it cannot be told how the model does on new"
        " recordings.",
        "no_size": "How much of the validation curve is luck cannot be told without its size: give"
        " n_val.",
        "few_validations": "Of the {least} validation results that are needed to judge, the epochs"
        " after the initial descent have {n}.",
        "no_chance": "Whether it beats guessing cannot be told: give majority_fraction or"
        " n_classes.",
        "no_record": "From a history alone it cannot be told whether few recordings, a few windows"
        " or the model itself move the validation curve.",
        "running_loss": "The training loss is a mean over each epoch: it also moves with the"
        " batches drawn, dropout and augmentation. A fit of this package also follows the loss of"
        " fixed windows.",
        "none_proved": "The cause: none of {n:#trial} proved one.",
        "none_sought": "The cause: this report tested none.",
        "not_tried": "Whether the first cause is the true one: nothing was tried. report.probe(X,"
        " y) of a fitted classifier trains with other settings to find out.",
        "one_run": "The effect of another seed or split: this is one run.",
    },
    "parts": {
        "parts": "On {n:#window} left out of training, {parts}.",
    },
    "other": {
        "loss_not_judged": "The loss ({loss}) is not cross-entropy in nats and was not judged.",
        "nothing_else": "Without validation windows nothing else can be judged.",
    },
}
KINDS = {kind: Kind(topic, text) for topic, texts in _TEXTS.items() for kind, text in texts.items()}


@dataclass(frozen=True)
class Statement:
    """One finding of a report; `str` returns its text."""

    kind: str  # one of `KINDS`
    values: Mapping[str, Any] = field(default_factory=dict)  # numbers, text, lists of numbers

    @property
    def topic(self) -> str:
        """The topic by which code selects statements."""
        return KINDS[self.kind].topic if self.kind in KINDS else "other"

    def __str__(self) -> str:
        if self.kind not in KINDS:  # written by a later version
            return f"{self.kind}: {dict(self.values)}"
        return str(_WRITER.vformat(KINDS[self.kind].text, (), self.values))


def say(kind: str, **values: Any) -> Statement:
    """Make a statement of a kind from its values."""
    return Statement(kind, values)


_CARRIED = ("not_carried_over", "not_carried_over_loss")
_GENERALIZATION = dict.fromkeys(_CARRIED, "not_generalizing")
_GENERALIZATION |= dict.fromkeys(("overfits", "got_worse"), "overfitting")


def generalization_of(statements: Iterable[Statement]) -> str | None:
    """Return ``"overfitting"`` or ``"not_generalizing"`` if a statement says so, else None."""
    found = (_GENERALIZATION.get(statement.kind) for statement in statements)
    return next((value for value in found if value is not None), None)


def of_topic(statements: Iterable[Statement], *topics: str) -> list[Statement]:
    """Return the statements about any of the topics, in their order."""
    return [statement for statement in statements if statement.topic in topics]


_SERIES = {
    "loss": "The training loss",
    "fixed_loss": "The loss of fixed training windows",
    "val_loss": "The validation loss",
}

_FORMS: Mapping[str, Callable[[Any], str]] = {
    "points": lambda value: f"{100 * value:.1f}",
    "worth": lambda value: f"{100 * value:.2g} point{'' if value == 0.01 else 's'}",
    "percent": lambda value: f"{100 * value:.0f}",
    "nats": lambda value: f"{value:.3f}",
    "listed": lambda value: f"epoch{'s' * (len(value) != 1)} {listed(value, 8)}",
    "series": lambda value: _SERIES.get(value, str(value)),
}


class _Writer(string.Formatter):
    """Formats values with the specifications that `Kind.text` names."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec.startswith("#"):
            return plural(value, format_spec[1:])
        if value is None:  # a non-finite number, read from a file
            return "?"
        if format_spec in _FORMS:
            return _FORMS[format_spec](value)
        return str(format(value, format_spec))


_WRITER = _Writer()


@dataclass(frozen=True, eq=False, repr=False)
class Findings:
    """The contents of a `FluctuationReport`, where the attributes are described."""

    verdict: str
    severity: str | None
    statements: tuple[Statement, ...] = ()
    causes: tuple[Cause, ...] = ()
    statistics: Mapping[str, Statistic] = field(default_factory=dict)
    n_epochs: int = 0
    n_val: int | None = None
    n_train: int | None = None
    n_classes: int | None = None
    best_epoch: int | None = None
    history: Mapping[str, list[Any]] = field(default_factory=dict)
    evidence: Mapping[str, Any] = field(default_factory=dict)
    record: TrainingRecord | None = None
    columns_read: Mapping[str, str] = field(default_factory=dict)
    probes: Probes | None = None
    causes_if_below: tuple[Cause, ...] = ()
    origin: Any = None

    def __getstate__(self) -> dict[str, Any]:
        # they would add weight snapshots to a pickle
        return {**self.__dict__, "record": None, "origin": None}

    @property
    def explanation(self) -> tuple[str, ...]:
        """The texts of `statements`."""
        return tuple(map(str, self.statements))

    @property
    def generalization(self) -> str | None:
        """``"overfitting"``, ``"not_generalizing"`` or None, independent of the verdict."""
        return generalization_of(self.statements)

    @property
    def level(self) -> str | None:
        """``"below_data"`` if the network does worse than the data allow, else None.

        In that case, ridge regression or boosted trees on features of the same training windows
        classify significantly more validation windows correctly. Also None if nothing was compared.
        """
        return next((one.kind for one in self.statements if one.kind == "below_data"), None)

    @property
    def family(self) -> str | None:
        """Family of the first known cause; None without causes."""
        return next((one.family for one in self.causes if one.name != UNKNOWN), None)
