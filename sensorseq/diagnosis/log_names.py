"""Tell by their names, and by a column of parts, what the columns of a log are."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from sensorseq.errors import ArgumentError, InputError, check_choice, nearest_known
from sensorseq.text import listed

Row = dict[str, Any]  # a value not recorded has no entry

ROLES = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "grad_norm", "epoch")
STEP = "step"  # distinguishes the rows of one epoch; not a column of a report

_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_TRAIN = {"train", "training"}
_VALIDATION = {"val", "valid", "validation", "eval", "evaluation", "dev"}
_TEST = {"test", "testing"}
_PARTS = (_TRAIN, _VALIDATION, _TEST)
# Names of parts in a column of them, where they cannot mean anything else.
_ONLY_IN_ROWS = ({"fit", "trn"}, {"validate", "holdout"}, set[str]())
_FEWEST_OF_TEST = 3  # fewer values are of a test at the end
_STEPS = {"step", "steps", "batch", "iter", "iteration", "iterations"}
_NO_MEANING = {"epoch", "metrics"}
_ACCURACIES = ("binary", "categorical", "sparse_categorical", "multiclass")
_MEANINGS = {
    "loss": ("loss", "cross_entropy", "cross_entropy_loss", "nll_loss"),
    "accuracy": ("acc", "accuracy", "accuracy_top1", *(f"{kind}_accuracy" for kind in _ACCURACIES)),
    "learning_rate": ("lr", "learning_rate"),
    "grad_norm": ("grad_norm", "gradient_norm"),
}
_MEANING_OF = {word: role for role, words in _MEANINGS.items() for word in words}


def role_of(name: str) -> str | None:
    """Return the role of a column, judged by its name: one of `ROLES`, `STEP`, or None.

    The part (train or validation) may be named anywhere in it; without one, it is training. Names
    with ``test``, ``step``, ``batch`` or ``iteration`` have no role, as they are not per epoch.

    >>> [role_of(name) for name in ("train_loss_epoch", "eval/loss", "train_loss_step", "test_acc")]
    ['loss', 'val_loss', None, None]
    """
    words = words_of(name)
    if words in (["epoch"], ["train", "epoch"]):
        return "epoch"
    if words and words[-1] in _STEPS and set(words[:-1]) <= {"global", "training", "train"}:
        return STEP
    said = set(words)
    if said & (_TEST | _STEPS) or (said & _TRAIN and said & _VALIDATION):
        return None
    rest = "_".join(word for word in words if word not in _TRAIN | _VALIDATION | _NO_MEANING)
    if words[:1] == ["lr"]:  # such as lr-Adam or lr-SGD/pg1
        rest = "lr"
    role = _MEANING_OF.get(rest)
    if role is None or not said & _VALIDATION:
        return role
    return f"val_{role}" if role in ("loss", "accuracy") else None


def roles_of(
    names: Iterable[str], columns: Mapping[str, str | None], rows: Sequence[Row] = ()
) -> dict[str, str | None]:
    """Return the role of each column, judged by its name and by those of the others.

    A ``test`` loss or accuracy of several epochs is of validation if nothing else is. An accuracy
    without a part is of validation if the losses are named by their parts, as fastai writes it,
    unless it is only found in rows of the training loss.
    """
    roles = {name: role_of(name) for name in names}
    said = {name: set(words_of(name)) for name in roles}

    def has(role: str) -> bool:
        return role in roles.values() or columns.get(role) is not None

    if not has("val_loss") and not has("val_accuracy"):
        for name in roles:
            rest = role_of(" ".join(word for word in words_of(name) if word not in _TEST))
            is_test = bool(said[name] & _TEST) and rest in ("loss", "accuracy")
            if is_test and (not rows or sum(name in row for row in rows) >= _FEWEST_OF_TEST):
                roles[name] = f"val_{rest}"
    train = [name for name, role in roles.items() if role == "loss"]
    validation = [name for name, role in roles.items() if role == "val_loss"]
    if columns.get("loss") is not None:
        train = [str(columns["loss"])]
    are_named = validation and all(set(words_of(name)) & _TRAIN for name in train)
    if not are_named or has("val_accuracy"):
        return roles
    for name, role in roles.items():
        if role == "accuracy" and not said[name] & _TRAIN:
            alone = [row for row in rows if name in row and row.keys().isdisjoint(validation)]
            is_of_training = alone and any(not row.keys().isdisjoint(train) for row in alone)
            roles[name] = "accuracy" if is_of_training else "val_accuracy"
    return roles


def is_of_test(name: str) -> bool:
    """Tell whether a name has the word ``test``."""
    return not _TEST.isdisjoint(words_of(name))


def split_parts(
    rows: Sequence[Row], columns: Mapping[str, str | None]
) -> tuple[list[Row], dict[str, str | None], list[str]]:
    """Name values after the part that a column of text gives to their rows, as in ``val/loss``.

    Such a column holds nothing but words like train and val, whatever its name. Returns the rows
    without it, `columns` with the new names, and the part of each row; no parts without a column.
    """
    of_name = {name: _parts(rows, name) for name in dict.fromkeys(n for row in rows for n in row)}
    found = {name: parts for name, parts in of_name.items() if parts is not None}
    if not found:
        return list(rows), dict(columns), []
    by = max(found, key=lambda name: len(set(found[name])))
    parts = found[by]

    def moved(name: str, part: str) -> str:
        is_measured = role_of(name) in ("loss", "accuracy") or name in columns.values()
        is_told = not {*words_of(name)}.isdisjoint(_TRAIN | _VALIDATION | _TEST)
        return f"{part}/{name}" if part and is_measured and not is_told else name

    split = []
    for row, part in zip(rows, parts, strict=True):
        own = {name: value for name, value in row.items() if name != by}
        split.append({moved(name, part): value for name, value in own.items()})
    renamed = dict(columns)
    names = {name for row in split for name in row}
    for role, name in columns.items():
        if name is None or name in names:
            continue
        for part in dict.fromkeys(parts):
            rest = role.removeprefix("val_")
            of_part = rest if role_of(f"{part} loss") == "loss" else f"val_{rest}"
            if moved(name, part) in names and (of_part == role or of_part not in columns):
                renamed[of_part] = moved(name, part)
    return split, renamed, parts


def _parts(rows: Sequence[Row], name: str) -> list[str] | None:
    """Return the part that a column names in each row, "" for none; None if it does not."""
    asks = [word for word in words_of(name) if word not in ("is", "in")]
    spelt: dict[int, str] = {}  # one spelling for each part
    parts = []
    for row in rows:
        value = row.get(name)
        if value is None or (isinstance(value, float) and math.isnan(value)):
            parts.append("")
            continue
        words = words_of(str(value)) if isinstance(value, str | bool) else []
        word = words[0] if len(words) == 1 else ""
        if word in ("true", "false") and len(asks) == 1:  # such as is_training
            is_train = (word == "true") == (asks[0] in _TRAIN)
            word = "" if asks[0] not in _TRAIN | _VALIDATION else "train" if is_train else "val"
        kind = next((k for k, known in enumerate(_PARTS) if word in known | _ONLY_IN_ROWS[k]), None)
        if kind is None:
            return None
        label = word if word in _PARTS[kind] else ("train", "val", "test")[kind]
        parts.append(spelt.setdefault(kind, label))
    return parts if any(parts) else None


def count_epochs(parts: Sequence[str]) -> list[int]:
    """Return the epoch of each row that has a part only: one begins when a part comes again."""
    blocks = 1 + sum(one != other for one, other in pairwise(parts))
    counts = Counter(parts)
    if blocks == len(counts) and len(set(counts.values())) == 1:  # one part after the other
        seen: Counter[str] = Counter()
        epochs = []
        for part in parts:
            seen[part] += 1
            epochs.append(seen[part])
        return epochs
    current, there = 1, set[str]()
    epochs = []
    for part in parts:
        if part in there:
            current, there = current + 1, set()
        there.add(part)
        epochs.append(current)
    return epochs


def recognize(
    names: Iterable[str],
    columns: Mapping[str, str | None],
    where: str,
    rows: Sequence[Row] = (),
) -> dict[str, str]:
    """Map the name of each column that has a role to that role.

    `columns` maps roles to names, or to None for "not present", and takes precedence over the
    rules.
    """
    names = list(dict.fromkeys(names))
    roles = roles_of(names, columns, rows)
    found = {name: role for role, name in columns.items() if name is not None}
    if len(set(map(str, found))) < sum(name is not None for name in columns.values()):
        raise ArgumentError(f"columns={dict(columns)}: one column cannot be two things.")
    for role, own in columns.items():
        check_choice("`columns`: role", role, ROLES)
        if own is not None and own not in names:
            nearest = nearest_known(own, names)
            hint = f" Did you mean {nearest!r}?" if nearest else ""
            raise ArgumentError(
                f"`columns`: {role} is to be {own!r}, but {where} has no such column.{hint}"
                f" There are {listed(names)}."
            )
    candidates: dict[str, list[str]] = {}
    for name in names:
        meant = roles[name]
        if meant is not None and meant not in columns and name not in found:
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


def words_of(name: str) -> list[str]:
    """Return the words of a name in lower case, each once: ``["val", "acc"]`` of ``valAcc``."""
    words = re.split(r"[^a-z0-9]+", _CAPITAL.sub("_", name).lower())
    return list(dict.fromkeys(word for word in words if word))
