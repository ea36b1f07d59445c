"""Recognize the columns of a log by their names and by a column that names the part of each row."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from sensorseq.base.text import listed
from sensorseq.errors import ArgumentError, InputError, check_choice, nearest_known

Row = dict[str, Any]  # a value that was not recorded has no entry

ROLES = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "grad_norm", "epoch")
STEP = "step"  # distinguishes the rows of one epoch; not a column of a report

_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_TRAIN = {"train", "training", "trn"}
_VALIDATION = {"val", "valid", "validation", "vald", "vld", "validate", "eval", "evaluation", "dev"}
_VALIDATION |= {"holdout"}
_TEST = {"test", "testing"}
_PARTS = (_TRAIN, _VALIDATION, _TEST)
# Further names of parts, which are unambiguous only in a column of parts.
_ONLY_IN_ROWS = ({"fit"}, set[str](), set[str]())
# Further words, which count only if both parts of the log are spelled alike.
_SHORT = {"t": "train", "tr": "train", "v": "val", "va": "val", "vl": "val", "cv": "val"}
_SHORT |= dict.fromkeys(("ce", "bce", "nll", "xent", "crossentropy"), "loss")
_FEWEST_OF_TEST = 3  # a test column with fewer values comes from a test after training
_STEPS = {"step", "steps", "batch", "iter", "iteration", "iterations"}
_NO_MEANING = {"epoch", "metrics"}
_ACCURACIES = [
    f"{kind}_accuracy" for kind in ("binary", "categorical", "sparse_categorical", "multiclass")
]
_ERROR = {"error", "err", "misclassification"}
_ERRORS = [*_ERROR, "error_rate", "err_rate", "misclassification_rate"]
_ERRORS += [f"{kind}_{word}" for kind in ("top1", "top_1", "classification") for word in _ERRORS]
_ERRORS += [f"{word}_top1" for word in _ERROR]
# words of errors that are not rates
_OF_NUMBERS = {"squared", "square", "absolute", "abs", "relative", "log", "standard", "std"}
_MEANINGS = {
    "loss": ("loss", "cross_entropy", "cross_entropy_loss", "nll_loss"),
    "accuracy": ("acc", "accuracy", "accuracy_top1", *_ACCURACIES, *_ERRORS),
    "learning_rate": ("lr", "learning_rate"),
    "grad_norm": ("grad_norm", "gradient_norm"),
}
_OTHER_PART = {"loss": "val_loss", "accuracy": "val_accuracy"}
_OTHER_PART |= {other: role for role, other in _OTHER_PART.items()}
_MEANING_OF = {word: role for role, words in _MEANINGS.items() for word in words}


def role_of(name: str) -> str | None:
    """Return the role of a column, judged by its name: one of `ROLES`, `STEP`, or None.

    The part (train or validation) may be anywhere in the name; a name without a part means
    training. Except for plain step counters, names with ``step``, ``batch`` or ``iteration`` have
    no role, because their values are not per epoch. Names with ``test`` have no role, either.

    >>> [role_of(name) for name in ("train_loss_epoch", "eval/loss", "train_loss_step", "test_acc")]
    ['loss', 'val_loss', None, None]
    """
    words = words_of(name)
    if words in (["epoch"], ["train", "epoch"]):
        return "epoch"
    if words and words[-1] in _STEPS and set(words[:-1]) <= {"global", "training", "train"}:
        return STEP
    distinct = set(words)
    if distinct & (_TEST | _STEPS) or (distinct & _TRAIN and distinct & _VALIDATION):
        return None
    quantity = "_".join(word for word in words if word not in _TRAIN | _VALIDATION | _NO_MEANING)
    if words[:1] == ["lr"]:  # such as lr-Adam or lr-SGD/pg1
        quantity = "lr"
    role = _MEANING_OF.get(quantity)
    if role is None or not distinct & _VALIDATION:
        return role
    return f"val_{role}" if role in ("loss", "accuracy") else None


def is_inverse(role: str, name: str) -> bool:
    """Test whether a column that is read as an accuracy contains an error rate, 1 - accuracy."""
    return "accuracy" in role and _is_error(name)


def _is_error(name: str) -> bool:
    words = {*words_of(_spell_out(name))}
    return not words.isdisjoint(_ERROR) and words.isdisjoint(_OF_NUMBERS)


def _without_test(name: str) -> str | None:
    return role_of(" ".join(word for word in words_of(name) if word not in _TEST))


def _unread_errors(
    names: Iterable[str], columns: Mapping[str, str | None], rows: Sequence[Row]
) -> set[str]:
    """Return the errors beside an accuracy of the same part, and those that may be no rates."""

    def kind(name: str) -> tuple[str | None, bool]:
        return _without_test(_spell_out(name)), is_of_test(name)

    errors = set(filter(_is_error, names))
    others = {kind(name) for name in names if name not in errors}
    given = {role for role, name in columns.items() if name and name not in errors}
    roles = {role for role, _ in others} | given
    has_loss = not roles.isdisjoint(("loss", "val_loss"))  # if not, "error" may be the loss
    rates = {name for name in errors if has_loss or {*words_of(name)} & {"rate", "top1"}}
    rates = {name for name in rates if kind(name) not in others and "%" not in name}
    return {
        name
        for name in errors
        if name not in rates or not _are_fractions(row[name] for row in rows if name in row)
    }


def _are_fractions(values: Iterable[Any]) -> bool:
    try:
        numbers = [number for value in values if not math.isnan(number := float(value))]
    except (TypeError, ValueError, OverflowError):
        return False
    # integers may be flags or numbers of errors
    return all(0 <= number <= 1 for number in numbers) and any(number % 1 for number in numbers)


def roles_of(
    names: Iterable[str], columns: Mapping[str, str | None], rows: Sequence[Row] = ()
) -> dict[str, str | None]:
    """Return the role of each column, judged by all names together.

    A ``test`` loss or accuracy of several epochs counts as validation if no other column does. An
    abbreviation, as in ``tloss``, counts if the log has the other part (``vloss``), too. If
    the names of the losses contain their parts, as in fastai, an accuracy without a part is a
    validation accuracy, unless it occurs in a row with a training loss but no validation loss.
    """
    roles = {name: role_of(name) for name in names}
    words = {name: set(words_of(_spell_out(name))) for name in roles}

    def has(role: str) -> bool:
        return role in roles.values() or columns.get(role) is not None

    if not has("val_loss") and not has("val_accuracy"):
        for name in roles:
            quantity = _without_test(name)
            is_test = bool(words[name] & _TEST) and quantity in ("loss", "accuracy")
            if is_test and (not rows or sum(name in row for row in rows) >= _FEWEST_OF_TEST):
                roles[name] = f"val_{quantity}"
    spelled: dict[str | None, list[str]] = {}
    for name in [name for name, role in roles.items() if role is None]:
        spelled.setdefault(role_of(_spell_out(name)), []).append(name)
    for wanted, other in _OTHER_PART.items():
        found = spelled.get(wanted, [])
        if not has(wanted) and len(found) == 1 and (has(other) or other in spelled):
            roles[found[0]] = wanted
    train = [name for name, role in roles.items() if role == "loss"]
    validation = [name for name, role in roles.items() if role == "val_loss"]
    if columns.get("loss") is not None:
        train = [str(columns["loss"])]
    have_parts = validation and all(words.get(name, set()) & _TRAIN for name in train)
    if not have_parts or has("val_accuracy"):
        return roles
    for name, role in roles.items():
        if role == "accuracy" and not words[name] & _TRAIN:
            alone = [row for row in rows if name in row and row.keys().isdisjoint(validation)]
            is_of_training = alone and any(not row.keys().isdisjoint(train) for row in alone)
            roles[name] = "accuracy" if is_of_training else "val_accuracy"
    return roles


def _spell_out(name: str) -> str:
    """Return a name with a space between a part and a quantity, and without abbreviations."""
    parts = sorted({*_TRAIN, *_VALIDATION, *_SHORT}, key=len, reverse=True)
    quantities = "|".join(
        word for word in (*_MEANING_OF, *_SHORT) if "_" not in word and len(word) > 1
    )
    either = "|".join(parts)
    spelled = []
    for word in words_of(name):
        found = re.fullmatch(rf"({either})({quantities})|({quantities})({either})", word)
        pair = [part for part in found.groups() if part] if found else [word]
        spelled += [_SHORT.get(part, part) for part in pair]
    return " ".join(spelled)


def left_out(roles: Mapping[str, str | None], columns: Mapping[str, str | None]) -> dict[str, str]:
    """Map names that end in a loss or an accuracy, but have no role, to a role that no name has."""
    known, proposed = {*roles.values(), *columns}, dict[str, str]()
    validated = [{*words_of(n)} - _VALIDATION for n in roles if {*words_of(n)} & _VALIDATION]
    for name in (name for name, role in roles.items() if role is None):
        words = words_of(_spell_out(name))
        quantity = next((_MEANING_OF[word] for word in words if word in _MEANING_OF), None)
        if quantity not in ("loss", "accuracy") or {*words} & (_TEST | _STEPS):
            continue
        if quantity == "accuracy" and {*words} & _OF_NUMBERS:
            continue
        is_train = bool({*words} & _TRAIN) or {*words_of(name)} in validated
        wanted = [quantity] if is_train else [f"val_{quantity}", quantity]
        missing = [role for role in wanted if role not in known]
        if missing and (quantity == "loss" or known.isdisjoint(("accuracy", "val_accuracy"))):
            proposed[name] = missing[0]
    return proposed


def role_in_output(name: str) -> tuple[str | None, set[str]]:
    """Return the role that a name has in one output, as in ``val_state_loss``, and the output."""
    parts = set.union(*_PARTS, _STEPS, _NO_MEANING)
    usual = [word for word in words_of(name) if word in parts or word in _MEANING_OF]
    return role_of(" ".join(usual)), {*words_of(name)} - {*usual}


def is_of_test(name: str) -> bool:
    """Test whether a name contains the word ``test``."""
    return not _TEST.isdisjoint(words_of(name))


def split_parts(
    rows: Sequence[Row], columns: Mapping[str, str | None]
) -> tuple[list[Row], dict[str, str | None], list[str]]:
    """Prefix the names of values with the part of their rows, as in ``val/loss``.

    The parts come from a column of any name whose only values are words like train and val.
    Returns the rows without that column, `columns` with the new names, and the part of each row
    (empty if there is no such column).
    """
    names = dict.fromkeys(name for row in rows for name in row)
    parts_by = {name: _parts(rows, name) for name in names}
    columns_of_parts = {name: parts for name, parts in parts_by.items() if parts is not None}
    if not columns_of_parts:
        return list(rows), dict(columns), []
    by = max(columns_of_parts, key=lambda name: len(set(columns_of_parts[name])))
    parts = columns_of_parts[by]

    def prefixed(name: str, part: str) -> str:
        is_measured = role_of(name) in ("loss", "accuracy") or name in columns.values()
        has_part = not {*words_of(name)}.isdisjoint(_TRAIN | _VALIDATION | _TEST)
        return f"{part}/{name}" if part and is_measured and not has_part else name

    split = []
    for row, part in zip(rows, parts, strict=True):
        values = {name: value for name, value in row.items() if name != by}
        split.append({prefixed(name, part): value for name, value in values.items()})
    renamed = dict(columns)
    new_names = {name for row in split for name in row}
    for role, name in columns.items():
        if name is None or name in new_names:
            continue
        for part in dict.fromkeys(parts):
            quantity = role.removeprefix("val_")
            of_part = quantity if role_of(f"{part} loss") == "loss" else f"val_{quantity}"
            if prefixed(name, part) in new_names and (of_part == role or of_part not in columns):
                renamed[of_part] = prefixed(name, part)
    return split, renamed, parts


def _parts(rows: Sequence[Row], name: str) -> list[str] | None:
    """Return the part that a column names for each row, or ""; None if it does not name parts."""
    name_words = [word for word in words_of(name) if word not in ("is", "in")]
    spellings: dict[int, str] = {}  # one spelling for each part
    parts = []
    for row in rows:
        value = row.get(name)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            parts.append("")
            continue
        words = words_of(str(value)) if isinstance(value, str | bool) else []
        word = words[0] if len(words) == 1 else ""
        if word in ("true", "false") and len(name_words) == 1:  # such as is_training
            asks_for = name_words[0]
            is_train = (word == "true") == (asks_for in _TRAIN)
            word = "" if asks_for not in _TRAIN | _VALIDATION else "train" if is_train else "val"
        kind = next((k for k, names in enumerate(_PARTS) if word in names | _ONLY_IN_ROWS[k]), None)
        if kind is None:
            return None
        label = word if word in _PARTS[kind] else ("train", "val", "test")[kind]
        parts.append(spellings.setdefault(kind, label))
    return parts if any(parts) else None


def count_epochs(parts: Sequence[str]) -> list[int]:
    """Return the epoch of each row from the parts alone: a repeated part begins a new epoch."""
    blocks = 1 + sum(before != after for before, after in pairwise(parts))
    counts = Counter(parts)
    if blocks == len(counts) and len(set(counts.values())) == 1:  # one block of rows for each part
        seen: Counter[str] = Counter()
        epochs = []
        for part in parts:
            seen[part] += 1
            epochs.append(seen[part])
        return epochs
    epoch, in_epoch = 1, set[str]()
    epochs = []
    for part in parts:
        if part in in_epoch:
            epoch, in_epoch = epoch + 1, set()
        in_epoch.add(part)
        epochs.append(epoch)
    return epochs


def recognize(
    names: Iterable[str],
    columns: Mapping[str, str | None],
    where: str,
    rows: Sequence[Row] = (),
) -> dict[str, str]:
    """Map the name of each column that has a role to that role.

    `columns` maps roles to names, or to None for roles to ignore, and takes precedence over the
    recognition by name.
    """
    names = list(dict.fromkeys(names))
    unread = _unread_errors(names, columns, rows)
    roles = roles_of([name for name in names if name not in unread], columns, rows)
    recognized = {name: role for role, name in columns.items() if name is not None}
    if len(set(map(str, recognized))) < sum(name is not None for name in columns.values()):
        raise ArgumentError(f"columns={dict(columns)}: a column cannot have two roles.")
    for role, column in columns.items():
        check_choice("`columns`: role", role, ROLES)
        if column is not None and column not in names:
            nearest = nearest_known(column, names)
            hint = f" Did you mean {nearest!r}?" if nearest else ""
            raise ArgumentError(
                f"`columns`: {role} is set to {column!r}, but {where} has no such column.{hint}"
                f" Its columns: {listed(names)}."
            )
    candidates: dict[str, list[str]] = {}
    for name in names:
        role_by_name = roles.get(name)
        if role_by_name is not None and role_by_name not in columns and name not in recognized:
            candidates.setdefault(role_by_name, []).append(name)
    for role, of_role in candidates.items():
        if len(of_role) == 1:
            recognized[of_role[0]] = role
        elif role in ("learning_rate", "grad_norm", STEP):
            recognized.update({of_role[0]: role} if role == STEP else {})
        else:
            raise InputError(
                f"{where}: {role} could be {' or '.join(map(repr, of_role))}. Choose one with"
                f' columns={{"{role}": "{of_role[0]}"}} (--column {role}={of_role[0]}).'
            )
    return recognized


def words_of(name: str) -> list[str]:
    """Return the distinct words of a name in lower case: ``["val", "acc"]`` for ``valAcc``."""
    words = re.split(r"[^a-z0-9]+", _CAPITAL.sub("_", name).lower())
    return list(dict.fromkeys(word for word in words if word))
