"""What the names of a foreign log mean: train_loss_epoch is the loss, valid_acc is val_accuracy."""

import re
from collections.abc import Iterable, Mapping

from sensorseq.errors import ArgumentError, InputError, check_choice, nearest_known

ROLES = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "grad_norm", "epoch")
STEP = "step"  # tells the rows of one epoch apart; no column of a report

_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_TRAIN = {"train", "training"}
_VALIDATION = {"val", "valid", "validation", "eval", "evaluation", "dev"}
_TEST = {"test", "testing"}
_STEPS = {"step", "steps", "batch", "iter", "iteration", "iterations"}
_MEANINGS = {
    "loss": ("loss", "cross_entropy", "cross_entropy_loss", "nll_loss"),
    "accuracy": (
        "acc",
        "accuracy",
        "binary_accuracy",
        "categorical_accuracy",
        "sparse_categorical_accuracy",
        "multiclass_accuracy",
    ),
    "learning_rate": ("lr", "learning_rate"),
    "grad_norm": ("grad_norm", "gradient_norm"),
}
_MEANING_OF = {word: role for role, words in _MEANINGS.items() for word in words}


def role_of(name: str) -> str | None:
    """Return what a column is by its name: one of `ROLES`, `STEP`, or None.

    Capitals, and whether words are joined by ``_ - . /`` or a space, make no difference. A word
    for the part (train, val, valid, validation, eval, evaluation, dev) may stand anywhere; without
    one it is the training part. ``epoch`` beside other words is left out. A name with ``test``, or
    with ``step``, ``batch`` or ``iteration``, is no result of an epoch's training or validation.

    Examples
    --------
    >>> [role_of(name) for name in ("train_loss_epoch", "valid_acc", "Loss/train", "eval/loss")]
    ['loss', 'val_accuracy', 'loss', 'val_loss']
    >>> role_of("train_loss_step"), role_of("test_acc"), role_of("valid_loss_best")
    (None, None, None)
    """
    words = _words(name)
    if words in (["epoch"], ["train", "epoch"]):
        return "epoch"
    if words and words[-1] in _STEPS and set(words[:-1]) <= {"global", "training", "train"}:
        return STEP
    said = set(words)
    if said & (_TEST | _STEPS) or (said & _TRAIN and said & _VALIDATION):
        return None
    rest = "_".join(word for word in words if word not in _TRAIN | _VALIDATION | {"epoch"})
    if words[:1] == ["lr"]:  # as lr-Adam, lr-SGD/pg1
        rest = "lr"
    role = _MEANING_OF.get(rest)
    if role is None or not said & _VALIDATION:
        return role
    return f"val_{role}" if role in ("loss", "accuracy") else None


def is_of_test(name: str) -> bool:
    """Return whether a column speaks of a test part, which is never judged."""
    return bool(_TEST & set(_words(name)))


def recognise(
    names: Iterable[str], columns: Mapping[str, str | None], where: str
) -> dict[str, str]:
    """Return what each column is, for those that are something: name to role.

    `columns` is what the user says, role to name or to None for "there is none"; it comes before
    the rules. `where` is the file, or "history", for the messages.

    Raises
    ------
    ArgumentError
        If `columns` has an unknown role, or a name that is not there.
    InputError
        If two names could be one and the same judged column.
    """
    names = list(dict.fromkeys(names))
    given = dict(columns)
    used = [name for name in given.values() if name is not None]
    if len(set(map(str, used))) < len(used):
        raise ArgumentError(f"columns={given}: one column cannot be two things.")
    for role, own in given.items():
        check_choice("columns: role", role, ROLES)
        if own is not None and own not in names:
            nearest = nearest_known(own, names)
            hint = f" Did you mean {nearest!r}?" if nearest else ""
            raise ArgumentError(
                f"columns: {role} is to be {own!r}, but {where} has no such column.{hint}"
                f" There are {listed(names)}."
            )
    found: dict[str, str] = {name: role for role, name in given.items() if name is not None}
    candidates: dict[str, list[str]] = {}
    for name in names:
        meant = role_of(name)
        if meant is not None and meant not in given and name not in found:
            candidates.setdefault(meant, []).append(name)
    for role, of_role in candidates.items():
        if len(of_role) == 1:
            found[of_role[0]] = role
        elif role in ("learning_rate", "grad_norm", STEP):
            found.update({of_role[0]: role} if role == STEP else {})
        else:
            raise InputError(
                f"{where}: {role} could be {' or '.join(map(repr, of_role))}. Say which with"
                f' columns={{"{role}": "{of_role[0]}"}} (--column {role}={of_role[0]}).'
            )
    return found


def listed(names: Iterable[str], most: int = 12) -> str:
    """Return names as a list to read, shortened when it is long."""
    known = list(names)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return (", ".join(known[:most]) or "nothing") + more


def _words(name: str) -> list[str]:
    words = re.split(r"[^a-z0-9]+", _CAPITAL.sub("_", name).lower())
    return list(dict.fromkeys(word for word in words if word))
