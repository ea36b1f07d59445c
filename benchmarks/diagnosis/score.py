"""Computes the results of the diagnosis benchmark from the rows and the records of their runs."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from diagnosis.configuration import ConfigurationGuess
from diagnosis.faults import DATA_CHANGES_OF, FAMILIES, FAMILY_OF
from diagnosis.fits import DEFAULTS, FIXED, as_arguments, fit
from diagnosis.generate import HEALTHY
from diagnosis.resets import ALL_DEFAULTS, COSINE, HARMED, REPAIRED, SAME, helps
from diagnosis.truth import (
    MOVES,
    Row,
    best_of,
    fails,
    families_of,
    fresh_movement,
    is_healthy,
    is_sick,
    moves_or_fails,
    repaired_by,
    right_causes,
)
from diagnosis.windows import change_parts, draw_short_windows
from scipy.stats import binomtest
from verdict.rates import wilson
from verdict.runs import load

from sensorseq.diagnosis.causes import (
    SETTINGS,
    TROUBLED,
    causes_of,
    name_settings,
    settings_outside,
)
from sensorseq.estimator.report import make_report
from sensorseq.history import History

OURS, LOGISTIC = "ours", "configuration, fitted"
RULE = "ours, whatever the verdict"  # also applied to calm and short runs
FIRST_TWO = "ours, one of the first two"  # whatever the verdict
BEST = "best single reset"
OF_VALIDATION = ("distribution_shift", "small_validation_set")  # fresh windows show neither cause
OF_DATA = tuple(DATA_CHANGES_OF)
Answer = tuple[str, str, str]  # verdict, first family and first cause; "" if none is named


def judged(row: Row, records: Path, borealtc: Path | None) -> dict[str, Any]:
    """Return a row with what the current code says about its data and its two records.

    The fault and the minor fault are the first findings in the data. For each record, one per seed,
    there is the verdict and the reason for a rough curve; without records, there is one of each,
    from the row's history. The row also gets the number of fresh windows and the accuracy of a
    constant guess on these windows. Causes that name a setting follow from the row; see `answer`.
    """
    drawn = draw_short_windows(row["part"], row["draw"], borealtc)
    parts = change_parts(drawn, row["change"], row["draw"])
    # the shortest possible fit yields the classifier's facts about the data
    short = {"max_epochs": 1, "hidden_size": 1, "num_layers": 1}
    classifier = fit(parts, row["settings"] | short, row["seed"], judged=False).classifier
    arguments = classifier.get_params(deep=False) | {of: row["settings"][of] for of in short}
    answers = []
    paths = [records / f"{row['name']}{end}.npz" for end in ("", "-again")]
    for run in [load(path) for path in paths if path.exists()] or [None]:
        report = make_report(
            History(row["history"] if run is None else run.rows),
            arguments["loss"],
            record=None if run is None else run.record,
            arguments=arguments,
            best_epoch=(row["report"] if run is None else run.facts)["best_epoch"],
            **classifier._judged.facts,
        )
        rough = (cause.name for cause in report.causes if "curve" in cause.sources)
        answers.append((report.verdict, next(rough, "")))
    faults = causes_of(classifier._judged.facts["data_facts"], arguments)
    counts = np.bincount(parts.fresh.y)
    return {
        **row,
        "answers": answers,
        "fault": next((cause.name for cause in faults if not cause.is_minor), ""),
        "minor_fault": next((cause.name for cause in faults if cause.is_minor), ""),
        "guess": float(counts.max() / counts.sum()),
        "n_fresh": int(counts.sum()),
    }


def answer(row: Row, number: int) -> Answer:
    """Return what the report says about a record of a row; see `find_causes`."""
    verdict, rough = row["answers"][number]
    named = row["fault"] or (rough if verdict == "normal" else "")
    if verdict in TROUBLED and not named:
        named = next(iter(_settings(row, loss_moves=verdict != "not_learning")), "")
    named = named or row["minor_fault"]
    return verdict, FAMILY_OF.get(named, ""), named


def _settings(row: Row, *, loss_moves: bool = False) -> list[str]:
    """Return the causes that a row's settings suggest, the likeliest first."""
    causes = name_settings(arguments_of(row), row["sizes"][0], loss_moves=loss_moves)
    return [cause.name for cause in causes]


def arguments_of(row: Row) -> dict[str, Any]:
    """Return the arguments of a row's classifier, whatever its number of classes."""
    return as_arguments({**DEFAULTS, **FIXED, **row["settings"]}, 2)


def score_ranges(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return how often the reset of a cause helps the runs with a setting outside its range."""
    outside: dict[str, set[str]] = {}
    for row in rows:
        for one in settings_outside(arguments_of(row), row["sizes"][0]):
            outside.setdefault(one.setting.title, set()).add(row["name"])
    lines = []
    for setting in {setting.title: setting for setting in SETTINGS}.values():
        of = [row for row in rows if row["name"] in outside.get(setting.title, ())]
        helped = [setting.cause in right_causes(row, strictly=False) for row in of]
        lines.append({"table": "ranges", "runs": setting.title, "who": OURS, **_share(helped)})
    return lines


def score(
    rows: Sequence[Row],
    answers: Mapping[str, Answer],
    learned: Sequence[Row] = (),
    again: Mapping[str, Answer] | None = None,
) -> list[dict[str, Any]]:
    """Return the lines of the table.

    Parameters
    ----------
    rows : sequence of row
        The judged rows.
    answers, again : mapping of str to Answer
        The answer for each row, by the row's name; `again` holds the answers for another seed.
    learned : sequence of row
        Training data of the guess from the configuration. If empty, a row's guess is trained on the
        `rows` of other data sets.
    """
    lines = []
    rule = {
        row["name"]: [
            FAMILY_OF[cause] for cause in (row["fault"], *_settings(row)) if cause in FAMILY_OF
        ]
        for row in rows
    }
    for what, strictly, chosen in (
        ("a single reset repairs", True, lambda row: True),
        ("a single reset repairs, among runs that fluctuate or fail", True, moves_or_fails),
        ("a single reset helps", False, lambda row: True),
    ):
        rows_with_cause = [
            row for row in rows if chosen(row) and right_causes(row, strictly=strictly)
        ]
        right = {
            row["name"]: families_of(right_causes(row, strictly=strictly))
            for row in rows_with_cause
        }
        guesses = _guess(rows_with_cause, rows, learned, strictly)
        named = {
            OURS: {row["name"]: answers[row["name"]][1] for row in rows_with_cause},
            RULE: {row["name"]: next(iter(rule[row["name"]]), "") for row in rows_with_cause},
            LOGISTIC: guesses,
        }
        hits = {who: [named[who][n] in right[n] for n in right] for who in named}
        for who, of in hits.items():
            line = {"table": "family first", "runs": what, "who": who, **_share(of)}
            lines.append(line | {"p": mcnemar(hits[RULE], of) if who != RULE else None})
        either = [not right[name].isdisjoint(rule[name][:2]) for name in right]
        line = {"table": "family first", "runs": what, "who": FIRST_TWO, **_share(either)}
        lines.append(line | {"p": None})
        named_rows = [name for name in right if named[OURS][name]]
        of_named = [named[OURS][name] in right[name] for name in named_rows]
        lines.append({"table": "where named", "runs": what, "who": OURS, **_share(of_named)})
    # a verdict needs the record of a classifier, not only a history
    recorded = [row for row in rows if again is None or row["name"] in again]
    verdicts = _verdicts(recorded, answers)
    return [*lines, *verdicts, *_seeds(rows, answers, again), *_repairs(rows)]


def score_sick(
    rows: Sequence[Row], answers: Mapping[str, Answer], learned: Sequence[Row]
) -> list[dict[str, Any]]:
    """Return how often the fault is named first in runs with healthy settings and faulty data.

    The report has to name the right cause; for the guess, the right family is enough.

    Parameters
    ----------
    rows : sequence of row
        Rows of the part ``"sick"``.
    answers : mapping of str to Answer
        See `score`.
    learned : sequence of row
        Training data of the fitted guess.
    """
    named = {
        OURS: {row["name"]: answers[row["name"]][2] == row["cause"] for row in rows},
        LOGISTIC: {
            name: family == "data"
            for name, family in _guess(rows, rows, learned, strictly=True).items()
        },
    }
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    chosen = {kind: [row for row in rows if row["kind"] == kind] for kind in kinds}
    chosen["all of these"] = list(rows)
    chosen["5 points better with clean data"] = [
        row
        for row in rows
        if any(of["cause"] in OF_DATA and helps(of["level"], row["level"]) for of in _singles(row))
    ]
    lines = []
    for what, of in chosen.items():
        hits = {who: [named[who][row["name"]] for row in of] for who in named}
        for who, right in hits.items():
            line = {"table": "sick data", "runs": what, "who": who, **_share(right)}
            is_sum = what not in kinds and who != OURS
            lines.append(line | {"p": mcnemar(hits[OURS], right) if is_sum else None})
    return lines


def _singles(row: Row) -> list[Row]:
    return [of for of in row["resets"].values() if of["cause"]]


def _guess(
    rows_with_cause: Sequence[Row], rows: Sequence[Row], learned: Sequence[Row], strictly: bool
) -> dict[str, str]:
    """Guess the family of each row from its configuration, with training on the other data sets."""
    guessed = {}
    for data in {row["data"] for row in rows_with_cause}:
        training = [row for row in learned or rows if row["data"] != data]
        training = [row for row in training if right_causes(row, strictly=strictly)]
        if not training:
            continue
        guess = ConfigurationGuess(
            training, [families_of(right_causes(row, strictly=strictly)) for row in training]
        )
        guessed |= {row["name"]: guess.first(row) for row in rows_with_cause if row["data"] == data}
    return {row["name"]: guessed.get(row["name"], "") for row in rows_with_cause}


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> float:
    """Return the two-sided p-value of McNemar's exact test between two judges of the same runs."""
    apart = [a for a, b in zip(first, second, strict=True) if a != b]
    return float(binomtest(sum(apart), len(apart)).pvalue) if apart else 1.0


def _share(of: Sequence[bool]) -> dict[str, Any]:
    n, k = len(of), sum(map(bool, of))
    return {"count": [k, n], "wilson": list(wilson(k, n)) if n else None}


def _verdicts(rows: Sequence[Row], answers: Mapping[str, Answer]) -> list[dict[str, Any]]:
    def line(what: str, chosen: Sequence[Row], says: Callable[[str], bool]) -> dict[str, Any]:
        held = [says(answers[row["name"]][0]) for row in chosen]
        return {"table": "verdict", "runs": what, "who": OURS, **_share(held)}

    def is_alarm(verdict: str) -> bool:
        return verdict not in ("normal", "too_short_to_tell")

    healthy = [row for row in rows if is_healthy(row)]
    blind = [row for row in healthy if row["cause"] in OF_VALIDATION]
    healthy = [row for row in healthy if row["cause"] not in OF_VALIDATION]
    constant = [row for row in healthy if row["settings"].get("lr_schedule") == "constant"]
    benign = [row for row in healthy if row["role"] == HEALTHY or row["cause"]]
    lines = [
        line("healthy, called sick", healthy, is_alarm),
        line("healthy at a constant rate, called sick", constant, is_alarm),
        line("healthy after an injection, called sick", benign, is_alarm),
    ]
    for data in sorted({row["data"] for row in healthy}):
        of_data = [row for row in healthy if row["data"] == data]
        lines.append(line(f"healthy, {data}, called sick", of_data, is_alarm))
    moving = [row for row in rows if fresh_movement(row) >= MOVES]
    failing = [row for row in rows if fails(row)]
    lines.append(line("fluctuates by 3 points or more, called sick", moving, is_alarm))
    lines.append(line("fails, called sick", failing, is_alarm))
    named = [answers[row["name"]][1] == "data" for row in blind]
    what = "healthy, validation windows shifted or few: data named first"
    return [*lines, {"table": "verdict", "runs": what, "who": OURS, **_share(named)}]


def _seeds(
    rows: Sequence[Row], answers: Mapping[str, Answer], again: Mapping[str, Answer] | None
) -> list[dict[str, Any]]:
    both = [row["name"] for row in rows if is_sick(row) and again and row["name"] in again]
    assert again is not None or not both
    named = [n for n in both if answers[n][1]]
    same = [again[n][1] == answers[n][1] for n in named] if again else []
    return [{"table": "seeds", "runs": "sick, a family named", "who": OURS, **_share(same)}]


def _repairs(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the effects of simple repairs and of the best single reset, which no user can know."""
    sick = [row for row in rows if is_sick(row)]
    single = [row for row in sick if right_causes(row)]

    def outcome(row: Row, name: str) -> Row | None:
        if name == BEST:
            singles = _singles(row)
            singles = [of for of in singles if repaired_by(row, of)] or singles
            return max(singles, key=lambda of: of["level"], default=None)
        reset: Row | None = row["resets"].get(name)
        return reset if reset is not None else {"level": row["level"], "movement": row["movement"]}

    lines = []
    for name in (ALL_DEFAULTS, COSINE, SAME, BEST):
        for what, chosen in (("sick", sick), ("a single reset repairs", single)):
            held = [
                (of := outcome(row, name)) is not None and repaired_by(row, of) for row in chosen
            ]
            lines.append({"table": "repairs", "runs": what, "who": name, **_share(held)})
        if name != BEST:
            harmed = [
                (of := outcome(row, name)) is not None and of["level"] < row["level"] - HARMED
                for row in rows
            ]
            lines.append({"table": "harmed", "runs": "all", "who": name, **_share(harmed)})
    twins = [
        row["known"][twin] >= best_of(row) - REPAIRED
        for row in sick
        if (twin := f"twin {row['name'].rpartition('-')[2]}") in row["known"]
    ]
    ceiling = {"runs": "sick after an injection", "who": "the tuned twin, by its level alone"}
    return [*lines, {"table": "ceiling", **ceiling, **_share(twins)}]


def describe(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the number of runs of each kind."""
    with_cause = [row for row in rows if right_causes(row)]
    return {
        "runs": len(rows),
        "sick": sum(is_sick(row) for row in rows),
        "moves_or_fails": sum(moves_or_fails(row) for row in rows),
        "roles": {
            role: sum(row["role"] == role for row in rows)
            for role in ("natural", "injected", "benign")
        },
        "data": sorted({row["data"] for row in rows}),
        "repaired_by": {
            f: sum(f in families_of(right_causes(row)) for row in with_cause) for f in FAMILIES
        },
        "level_sick": float(np.mean([row["level"] for row in rows if is_sick(row)] or [math.nan])),
        "level_best": float(np.mean([best_of(row) for row in rows if is_sick(row)] or [math.nan])),
    }
