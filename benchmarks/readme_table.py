"""Writes tables of `results/*.json` between the `bench` markers in README and docs.

`python benchmarks/readme_table.py` rewrites the pages; tests check that the pages agree with the
results files. If a results file is missing, the space between its markers is left empty. The marker
`measured` of a page lists when, at which commit and on which processor its tables were measured, as
the results files say. `--check` lists the results that were measured on other code than today's.
"""

import argparse
import json
import re
import statistics
import sys
from pathlib import Path

from common.measured_code import digest_of

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = {  # the tables that each page must contain, in addition to the marker `measured`
    "README.md": ("best", "headlines"),
    "docs/benchmarks.md": (
        *("cpu", "fit", "preprocessing", "estimator", "verdict"),
        *("diagnosis", "accuracy", "odd_recordings"),
    ),
    "docs/features.md": ("members",),
    "docs/gpu.md": ("gpu",),
    "docs/remedies/README.md": ("remedies",),
    "docs/preprocessing/several_sensors.md": ("sensors", "failures"),
}
MARKED = re.compile(r"(<!-- bench:(\w+) -->\n).*?(<!-- /bench -->)", re.DOTALL)


def cpu_table(results: dict) -> str:
    """Return the geometric mean and the minimum of the ratios over all shapes of each kind."""
    rows = [row for row in results["rows"] if not row["what"].startswith("subnormals kept")]
    threads = sorted({row["threads"] for row in rows})
    kinds = list(dict.fromkeys(row["what"] for row in rows))
    names = " | ".join(f"{_on(n)} | lowest" for n in threads)
    lines = [f"| | shapes | {names} |", "|---" * (2 + 2 * len(threads)) + "|"]
    for kind in kinds:
        cells = []
        for n in threads:
            ratios = [row["ratio"] for row in rows if (row["what"], row["threads"]) == (kind, n)]
            cells += [f"{statistics.geometric_mean(ratios):.2f}x", f"{min(ratios):.2f}x"]
        lines.append(f"| {kind} | {len(ratios)} | {' | '.join(cells)} |")
    return "\n".join(
        (
            *lines,
            "",
            "Geometric means over shapes; a ratio above 1x means that sensorseq is faster."
            f" `benchmarks/results/cpu.json` contains the ratio of each shape, and rows"
            f" with subnormal numbers. {_environment(results)}",
        )
    )


def fit_table(results: dict) -> str:
    """Return each peer's time divided by the time of `fit`, averaged over batch sizes."""
    rows = [row for row in results["rows"] if row["what"] == "fit"]
    threads, batches = (sorted({row[name] for row in rows}) for name in ("threads", "batch"))
    peers = list(dict.fromkeys(row["peer"] for row in rows))
    lines = [f"| H | {' | '.join(peers)} |", "|---" * (1 + len(peers)) + "|"]
    for hidden_size in dict.fromkeys(row["hidden_size"] for row in rows):
        cells = []
        for peer in peers:
            of_peer = [r for r in rows if (r["hidden_size"], r["peer"]) == (hidden_size, peer)]
            ratios = ([row["ratio"] for row in of_peer if row["threads"] == n] for n in threads)
            cells.append(" / ".join(f"{statistics.geometric_mean(r):.1f}x" for r in ratios))
        lines.append(f"| {hidden_size} | {' | '.join(cells)} |")
    return "\n".join(
        (
            *lines,
            "",
            f"The peer's time divided by the time of `fit`, on {' / '.join(map(_on, threads))}:"
            f" geometric means over batches of {', '.join(map(str, batches))}."
            f" {_environment(results)}",
        )
    )


def preprocessing_table(results: dict) -> str:
    """Return float64 speed ratios of preprocessing steps to each peer, by number of channels."""
    rows = [row for row in results["rows"] if row["dtype"] == "float64"]
    lines = ["| | against | 1 channel | 6 channels |", "|---|---|---|---|"]
    for what, against in dict.fromkeys((row["what"], row["against"]) for row in rows):
        ratios = {
            row["shape"][1]: f"{row['ratio']:.2f}x"
            for row in rows
            if (row["what"], row["against"]) == (what, against)
        }
        lines.append(f"| {what} | {against} | {ratios.get(1, '')} | {ratios.get(6, '')} |")
    memory = results["environment"]["peak_memory"]
    facts = results["environment"]
    return "\n".join(
        (
            *lines,
            "",
            "Time of the other library divided by the time of sensorseq, in float64 on one thread."
            f" Cutting {memory['input'] / 1e6:.0f} MB into"
            f" {memory['result'] / 1e6:.0f} MB of scaled windows needed at most"
            f" {memory['peak_beyond_input'] / 1e6:.0f} MB in addition to the input."
            f" {facts['isa']}, numpy {facts['numpy']}, scipy"
            f" {facts['scipy']}, soxr {facts['soxr']}.",
        )
    )


def estimator_table(results: dict) -> str:
    """Return each row of the estimator's benchmark with its spread."""
    lines = ["| | against | windows x T x C x H, batch | ratio | p10 to p90 |", "|---" * 5 + "|"]
    for row in results["rows"]:
        shape = " x ".join(map(str, row["shape"]))
        batch = f", {row['batch']}" if "batch" in row else ""
        beyond = f", {row['overhead_us']:.0f} us slower" if "overhead_us" in row else ""
        lines.append(
            f"| {row['what']}{beyond} | {row['against']} | {shape}{batch} | {row['ratio']:.2f}x"
            f" | {row['ratio_p10']:.2f} to {row['ratio_p90']:.2f} |"
        )
    return "\n".join(
        (
            *lines,
            "",
            "Time of the variant in the second column divided by the time of the variant in the"
            f" first. {_environment(results)}",
        )
    )


JUDGES = ("ours", "ours, from the curve alone", "AutoTrainer", "UMLAUT, overfitting only")


def verdict_table(results: dict) -> str:
    """Return how often each judge raises an alarm, with intervals."""
    rows = [row for row in results["rows"] if row["kind"] == "all"]
    judged = {row["judge"] for row in rows}
    judges = [judge for judge in JUDGES if judge in judged]
    lines = [f"| runs | | {' | '.join(judges)} |", "|---" * (2 + len(judges)) + "|"]
    for kind in dict.fromkeys(row["row"] for row in rows):
        rates = {row["judge"]: row for row in rows if row["row"] == kind}
        cells = []
        for row in (rates[judge] for judge in judges):
            low, high = (100 * limit for limit in row["wilson"])
            cells.append(f"{100 * row['rate']:.1f} % [{low:.1f}, {high:.1f}]")
        lines.append(f"| {kind} | {rates[judges[0]]['runs']} | {' | '.join(cells)} |")
    n_sets = max((row["data_sets"] for row in rows), default=0)
    return "\n".join(
        (
            *lines,
            "",
            f"Fraction of runs flagged, with 95 % intervals (Wilson), on {n_sets} data sets."
            " `benchmarks/results/verdict.json` contains other variants of the rules.",
        )
    )


METHODS = {
    "defaults": "defaults",
    "minirocket": "MiniRocket",
    "multirocket": "MultiRocket",
    "hydra": "Hydra",
    "quant": "QUANT",
    "boosting": "boosting",
    "extra_trees": "extra trees",
    "lstm": "LSTM alone",
}
TIMED = ("A", "B", "C")  # sets for which the duration of a fit is shown


def accuracy_table(results: dict) -> str:
    """Return the accuracy of each method on each set, the mean ranks, and the cost of a fit."""
    scores = [row for row in results["rows"] if row["what"] == "scores"]
    row_of = {(row["task"], row["method"]): row for row in scores}
    heads = f"| set | {' | '.join(METHODS.values())} |"
    lines, costs = [heads, "|---" * (1 + len(METHODS)) + "|"], list[str]()
    for task in dict.fromkeys(row["task"] for row in scores):
        of_task = [row_of.get((task, method)) for method in METHODS]
        whole = [row["accuracy"] for row in of_task if row is not None and row["complete"]]
        best = max(whole, default=1.0)
        lines.append(f"| {task} |{''.join(_score(row, best) for row in of_task)}")
        if task in TIMED and all(of_task):
            seconds = "".join(f" {row['fit_s']:.1f} |" for row in of_task if row)
            costs.append(f"| seconds of a fit, {task} |{seconds}")
    ranks = [row for row in results["rows"] if row["what"] == "rank"]
    for kind in dict.fromkeys(row["kind"] for row in ranks):
        mean = {row["method"]: row["mean_rank"] for row in ranks if row["kind"] == kind}
        cells = [f" {mean[method]:.1f} |" if method in mean else " |" for method in METHODS]
        lines.append(f"| mean rank, {kind} |{''.join(cells)}")
    lines += costs
    all_whole = all(row["complete"] for row in scores)
    pairs = [row for row in results["rows"] if row["what"] == "difference"]
    note = (
        f"The best value in each row is bold{'' if all_whole else '; (5/15): only 5 of 15 fits'}."
        f" {_against_best([row for row in pairs if row['method'] == 'defaults'])}"
        f"{_with_motors(row_of, pairs)}"
        f" {_against_each([row for row in results['rows'] if row['what'] == 'overall'])}"
        " Seconds were measured on one thread of a busy machine and show only orders of"
        f" magnitude. torch {', '.join(results['environment']['measured']['torch'])}."
    )
    return "\n".join((*lines, "", note))


PLAIN = {  # what the README calls the sets of recordings
    ("A", "defaults"): "motors of a robot, five terrains",
    ("A", "motors"): "the same, with `motors=`",
    ("B", "defaults"): "its inertial unit",
    ("C", "defaults"): "both",
    ("watch", "defaults"): "a watch, seven exercises",
}


def best_table(results: dict) -> str:
    """Return the README's table: the defaults beside the best other method."""
    rows = results["rows"]
    scores = {(row["task"], row["method"]): row for row in rows if row["what"] == "scores"}
    lines = ["| | sensorseq | best other method | difference, 95 % interval |", "|---|---|---|---|"]
    for row in rows:
        key = row.get("task", ""), row.get("method", "")
        if row["what"] == "difference" and key in PLAIN:
            ours, peer = (scores[row["task"], who]["accuracy"] for who in (key[1], row["peer"]))
            lines.append(
                f"| {PLAIN[key]} | {100 * ours:.1f} % | {METHODS[row['peer']]} {100 * peer:.1f} %"
                f" | {100 * row['difference']:+.1f} points ({100 * row['low']:+.1f} to"
                f" {100 * row['high']:+.1f}) |"
            )
    ranks = [row for row in rows if row["what"] == "rank" and row["kind"] == "shapes"]
    (own,) = (row for row in ranks if row["method"] == "defaults")
    peer = min((row for row in ranks if row is not own), key=lambda row: row["mean_rank"])
    lines.append(
        f"| seven small sets (shapes, gestures, vowels): mean rank of eight methods |"
        f" {own['mean_rank']:.1f} | {METHODS[peer['method']]} {peer['mean_rank']:.1f} | |"
    )
    return "\n".join(lines)


MEMBERS = {
    "lstm": "LSTM",
    "rocket": "convolutions",
    "hydra": "competing kernels",
    "summary": "steps of statistics",
    "boosting": "boosting",
    "motors": "motors",
}


def members_table(results: dict) -> str:
    """Return the accuracy of the sum and of each of its members alone."""
    lines = [f"| set | the sum | {' | '.join(MEMBERS.values())} |"]
    lines.append("|---" * (2 + len(MEMBERS)) + "|")
    for row in results["rows"]:
        if "members" in row:
            cells = [
                f"{100 * row['members'][name]:.1f}" if name in row["members"] else ""
                for name in MEMBERS
            ]
            name = f"{row['task']}, `motors=`" if row["method"] == "motors" else row["task"]
            lines.append(f"| {name} | **{100 * row['accuracy']:.1f}** | {' | '.join(cells)} |")
    return "\n".join(lines)


def _against_best(pairs: list[dict]) -> str:
    clear = [
        f"{row['task']} ({METHODS[row['peer']]}, {100 * row['difference']:+.1f} points)"
        for row in pairs
        if row["low"] > 0 or row["high"] < 0
    ]
    return (
        f"In {len(pairs)} paired comparisons of the defaults with the best other method, the 95 %"
        f" interval of the difference excludes 0 on these sets: {', '.join(clear) or 'none'}."
    )


def _with_motors(row_of: dict, pairs: list[dict]) -> str:
    words = [
        f" With `motors=`, the defaults reach"
        f" {100 * row_of[row['task'], 'motors']['accuracy']:.1f} %"
        f" on {row['task']}, {100 * row['difference']:+.1f} points ({100 * row['low']:+.1f} to"
        f" {100 * row['high']:+.1f}) against {METHODS[row['peer']]}."
        for row in pairs
        if row["method"] == "motors"
    ]
    return "".join(words)


def _against_each(rows: list[dict]) -> str:
    of_n: dict[int, list[str]] = {}  # some peers may not have run on all sets
    for row in rows:
        lead, error = 100 * row["difference"], 100 * row["standard_error"]
        of_n.setdefault(row["n"], []).append(f"{METHODS[row['peer']]} {lead:+.1f} ({error:.1f})")
    parts = [f"over {n} sets {', '.join(each)}" for n, each in of_n.items()]
    return (
        "Mean difference between the defaults and every other method in points, with the standard"
        f" error over sets in brackets: {'; '.join(parts) or 'unknown'}."
    )


def _score(row: dict | None, best: float) -> str:
    if row is None:
        return " |"
    text = f"{100 * row['accuracy']:.1f}"
    if not row["complete"]:
        return f" {text} ({row['n_fits']}/{row['n_expected']}) |"
    return f" **{text}** |" if row["accuracy"] >= best - 1e-9 else f" {text} |"


def headlines(cpu: dict, fit: dict, verdict: dict) -> str:
    """Return the README's lines on speed and verdict."""
    return "\n".join((_speed_line(cpu, fit), _verdict_line(verdict)))


def _speed_line(cpu: dict, fit: dict) -> str:
    def mean(rows: list[dict]) -> str:
        return f"{statistics.geometric_mean(row['ratio'] for row in rows):.1f}"

    rows = {
        what: [row for row in cpu["rows"] if (row["what"], row["threads"]) == (what, 1)]
        for what in ("training, train_epoch", "inference")
    }
    whole = [
        row
        for row in fit["rows"]
        if (row["what"], row["peer"], row["threads"]) == ("fit", "torch", 1)
    ]
    steps = rows["training, train_epoch"]
    facts = cpu["environment"]
    return (
        f"- **Speed:** on one CPU thread, training steps are {mean(steps)} times as fast as"
        f" `torch.nn.LSTM`, inference {mean(rows['inference'])} times,\n  and fits"
        f" {mean(whole)} times. Some shapes gain only"
        f" {min(row['ratio'] for row in steps):.1f} times"
        f" ({facts['isa']}). [Tables](docs/benchmarks.md#speed)"
    )


def _verdict_line(results: dict) -> str:
    rows = {(row["row"], row["judge"]): row for row in results["rows"] if row["kind"] == "all"}

    def share(kind: str, judge: str = "ours") -> str:
        return f"{100 * rows[kind, judge]['rate']:.0f} %"

    faulty, healthy, noisy = "made faulty", "plain healthy", "noisy but normal"
    return (
        "- **Faults of training:** a report says whether a jumping curve is chance. It flags"
        f" {share(faulty)} of {rows[faulty, 'ours']['runs']} faulty runs.\n  It flags"
        f" {share(healthy)} of {rows[healthy, 'ours']['runs']} healthy runs, and {share(noisy)} of"
        f" {rows[noisy, 'ours']['runs']} that are noisy but normal. The published rules of"
        f" AutoTrainer\n  flag {share(faulty, 'AutoTrainer')}, {share(healthy, 'AutoTrainer')} and"
        f" {share(noisy, 'AutoTrainer')}. [How this was measured](docs/benchmarks.md#verdict)"
    )


SUBSETS = {  # lines of the diagnosis that are in the results file but not on the page
    "healthy at a constant rate, called sick",
    "healthy after an injection, called sick",
    *(f"healthy, {data}, called sick" for data in ("borealtc", "chirps", "replica", "watch")),
    "healthy, validation windows shifted or few: data named first",
}


def diagnosis_table(results: dict) -> str:
    """Return how often family and verdict are right; the results file has further results."""
    rows, facts = results["rows"], results["environment"]

    def cell(row: dict) -> str:
        (k, n), interval = row["count"], row["wilson"]
        if not n:
            return "-"
        low, high = (100 * limit for limit in interval)
        p = f", p = {row['p']:.2g}" if row.get("p") is not None else ""
        return f"{100 * k / n:.0f} % [{low:.0f}, {high:.0f}]{p}"

    def table(name: str, head: str) -> list[str]:
        in_table = [r for r in rows if r["table"] == name and r["runs"] not in SUBSETS]
        row_of = {(row["runs"], row["who"]): row for row in in_table}
        judges = list(dict.fromkeys(row["who"] for row in in_table))
        lines = [f"| {head} | of | {' | '.join(judges)} |", "|---" * (2 + len(judges)) + "|"]
        for what in dict.fromkeys(row["runs"] for row in in_table):
            cells = [cell(row_of[what, who]) for who in judges]
            n = row_of[what, judges[0]]["count"][1]
            lines.append(f"| {what} | {n} | {' | '.join(cells)} |")
        return [*lines, ""]

    judged, learned = facts["judged"], facts["learned"]
    note = (
        f"{judged['runs']} runs on {len(judged['data'])} data sets, {judged['sick']} of them sick."
        ' "Configuration, fitted" is a logistic regression on the settings, fitted to'
        f" {learned['runs']} runs on"
        f" {len(learned['data'])} other data sets. Brackets contain 95 % intervals (Wilson); p is"
        ' from McNemar\'s test against "ours, whatever the verdict" or, for sick data, against'
        ' "ours".'
        " `benchmarks/results/diagnosis.json` contains subsets, other seeds and the effect of"
        f" resets. {_environment(results)}"
    )
    return "\n".join(
        (
            *table("family first", "the family named first is correct, in runs that"),
            *table("sick data", "the fault is named first, for healthy settings and sick data"),
            *table("verdict", "verdict; runs"),
            note,
        )
    )


def remedies_table(results: dict) -> str:
    """Return the first clear effect of each remedy in pairs of runs, and all unclear effects."""
    lines = ["| on | from | to | measured | without | with | difference | seeds |"]
    lines.append("|---" * 8 + "|")
    shown = set[str]()
    for row in results["rows"]:
        gain = row["mean"] if row["expected"] == "higher" else -row["mean"]
        is_clear = gain > 2 * row["standard_error"]
        if is_clear and row["remedy"] in shown:
            continue
        shown.add(row["remedy"])
        on = f"[{row['remedy']}]({row['remedy']}.md): {row['problem']}"
        head = [on + (f", `{row['common']}`" if row["common"] else "")]
        head += [f"`{settings}`" if settings else "" for settings in (row["without"], row["with"])]
        numbers = ("median_without", "median_with", "difference", "difference_p10")
        without, remedied, *change = (_figures(row[n]) for n in (*numbers, "difference_p90"))
        lines.append(
            f"| {' | '.join(head)} | {row['measure']} | {without} | {remedied}"
            f" | {change[0]} [{change[1]}, {change[2]}]"
            f" | {row['as_expected']}/{row['seeds']} {row['expected']}"
            f"{'' if is_clear else ', **not clear**'} |"
        )
    of = f"{len(results['rows'])} comparisons are in `benchmarks/results/remedies.json`."
    return "\n".join((*lines, "", f"All {of} {_environment(results)}"))


def _figures(value: float) -> str:
    digits = 0 if abs(value) >= 10 else 1 if abs(value) >= 0.995 else None
    return f"{value:.2g}" if digits is None else f"{value:,.{digits}f}"


def _on(n_threads: int) -> str:
    return f"{n_threads} thread" + ("s" if n_threads > 1 else "")


def _environment(results: dict) -> str:
    facts = results["environment"]
    return f"{facts['cores']} cores, {facts['isa']}, torch {facts['torch']}."


SENSORS = {  # labels of the rows in the table
    "one grid": "both on one grid of 100 Hz",
    "own rates": "each at its own rate",
    "expected": 'own rates, also trained on windows that lack a sensor (`missing="expected"`)',
    "expected without motors": 'the `missing="expected"` model without the motors',
    "expected without inertial unit": 'the `missing="expected"` model without the inertial unit',
    "gaps in windows": 'the `missing="expected"` model, with 1 s gaps every 5 s in each sensor',
    "gaps in recordings": 'the `missing="expected"` model, also trained with such gaps',
    "inertial unit alone": "the inertial unit alone",
    "motors alone": "the motors alone",
    "zeros without motors": "the model of both sensors, given zeros for the motors",
    "zeros without inertial unit": "the model of both sensors, given zeros for the inertial unit",
}


def sensors_table(results: dict) -> str:
    """Return the accuracy with several sensors at their own rates and with a missing sensor."""
    rows = {row["what"]: row for row in results["rows"]}
    lines = ["| | accuracy | folds | fit |", "|---|---|---|---|"]
    for name, label in SENSORS.items():
        row = rows[name]
        folds = row["accuracy_of_folds"]
        took = f"{row['fit_s']:.0f} s" if "fit_s" in row else ""
        span = f"{100 * min(folds):.0f} to {100 * max(folds):.0f} %"
        lines.append(f"| {label} | {100 * row['accuracy']:.1f} % | {span} | {took} |")
    return "\n".join(lines)


def failures_table(results: dict) -> str:
    """Return the accuracy with failed sensors, without and with missing="outside"."""
    rows = {row["what"]: row for row in results["rows"]}
    lines = ['| four folds | not masked | `missing="outside"` |', "|---|---|---|"]
    for name in (name for name in rows if f"masked {name}" in rows):
        before, after = (100 * rows[row_name]["accuracy"] for row_name in (name, f"masked {name}"))
        lines.append(f"| {name} | {before:.1f} % | {after:.1f} % |")
    return "\n".join(lines)


GPU_COLUMNS = {  # labels of the columns, by kind and precision
    ("inference", "fp32"): "inference, float32",
    ("inference", "fp16"): "inference, float16",
    ("training", "fp32"): "training, float32",
    ("training", "fp16"): "training, float16",
    ("varlen inference", "fp32"): "inference, varying lengths",
    ("varlen training", "fp32"): "training, varying lengths",
}


def gpu_table(quick: dict, models: dict) -> str:
    """Return the ratios to cuDNN for each shape and the ratios for models side by side."""
    rows = [row for row in quick["rows"] if row.get("ratio") is not None]
    lines = [f"| N x T x C x H | {' | '.join(GPU_COLUMNS.values())} |", "|---" * 7 + "|"]
    for shape in sorted({tuple(row["shape"]) for row in rows}, key=lambda s: (s[3], s[0])):
        cells = []
        for kind, precision in GPU_COLUMNS:
            of_mode = {
                row["mode"]: f"{row['ratio']:.1f}x"
                for row in rows
                if (row["what"], row["precision"], tuple(row["shape"])) == (kind, precision, shape)
            }
            modes = (mode for mode in ("eager", "graph") if mode in of_mode)
            cells.append(" / ".join(of_mode[mode] for mode in modes))
        lines.append(f"| {' x '.join(map(str, shape))} | {' | '.join(cells)} |")
    lines += ["", "| models side by side, N x T x C x H | batch | Python loop | CUDA graphs |"]
    lines.append("|---" * 4 + "|")
    row_of = {(tuple(r["shape"]), r["batch"], r["mode"]): r for r in models["rows"]}
    for shape, batch in dict.fromkeys((shape, batch) for shape, batch, _ in row_of):
        name = f"{row_of[shape, batch, 'eager']['n_models']} of {' x '.join(map(str, shape))}"
        ratios = (f"{row_of[shape, batch, mode]['ratio']:.1f}x" for mode in ("eager", "graph"))
        lines.append(f"| {name} | {batch} | {' | '.join(ratios)} |")
    facts = quick["environment"]
    return "\n".join(
        (
            *lines,
            "",
            "A ratio above 1x means that sensorseq is faster. The first ratio of each shape is for"
            f" calls from Python, the second for a captured CUDA graph. {facts['device']}, driver"
            f" {facts['driver']}, torch {facts['torch']},"
            f" cuDNN {facts['cudnn']}.",
        )
    )


def odd_recordings_table(results: dict) -> str:
    """Return how often a planted fault is among the first of the ranking, by set."""
    rows = {(row["fault"], row["set"]): row for row in results["rows"]}
    faults, sets = (list(dict.fromkeys(key[i] for key in rows)) for i in (0, 1))
    lines = [f"| planted | {' | '.join(sets)} |", "|---" * (1 + len(sets)) + "|"]
    for fault in faults:
        cells = []
        for name in sets:
            row = rows.get((fault, name))
            if row is None:
                cells.append("")
            elif fault == "none":
                cells.append(f"{row['marked']} of {row['trials']} marked")
            else:
                ours, theirs = (100 * row[k] / row["trials"] for k in ("ours", "twenty lines"))
                cells.append(f"{ours:.0f} / {theirs:.0f} %")
        lines.append(f"| {fault} | {' | '.join(cells)} |")
    return "\n".join((*lines, "", _environment(results)))


TABLES = {
    "odd_recordings": odd_recordings_table,
    "accuracy": accuracy_table,
    "members": members_table,
    "cpu": cpu_table,
    "fit": fit_table,
    "preprocessing": preprocessing_table,
    "estimator": estimator_table,
    "verdict": verdict_table,
    "diagnosis": diagnosis_table,
    "best": best_table,
    "headlines": headlines,
    "remedies": remedies_table,
    "sensors": sensors_table,
    "failures": failures_table,
    "gpu": gpu_table,
}
FILES = {  # for markers without a results file of the same name
    "headlines": ("cpu", "fit", "verdict"),
    "members": ("accuracy",),
    "best": ("accuracy",),
    "failures": ("sensors",),
    "gpu": ("cuda_quick", "cuda_models"),
}


def measurements_of(results: dict) -> list[dict]:
    """Return what results tell about their measurements."""
    facts = results.get("environment")
    if facts is None:  # each row is a measurement of its own
        return list(results["rows"].values())
    return facts.get("measurements") or [facts]


def measured(stamp: dict) -> tuple[str, str]:
    """Return when and at which commit something was measured, and its processor, as stored."""
    processor = stamp.get("processor", "a processor that was not noted")
    if "digest" in stamp:
        return f"Measured on {stamp['date']} at commit {stamp['commit']}.", processor
    # before there were digests, the commit was not always the one that was measured
    processors = stamp.get("measured", {}).get("processor") or [processor]
    return "Measured before 30 November 2026, on another version.", " and ".join(processors)


def measured_list(paths: list[Path]) -> str:
    """Return a line for each date and commit, with its processors and their results files."""
    lines: dict[str, dict[str, list[str]]] = {}
    for path in paths:
        stamps = measurements_of(json.loads(path.read_text()))
        for words, processor in dict.fromkeys(map(measured, stamps)):
            lines.setdefault(words, {}).setdefault(processor, []).append(f"`{path.name}`")
    text = ""
    for words, names_on in lines.items():
        places = (f"{processor}: {', '.join(names)}" for processor, names in names_on.items())
        text += f"- {words} {'; '.join(places)}.\n"
    return text


def results_of(tables: list[str], folder: Path) -> list[Path]:
    """Return the results files of tables."""
    names = dict.fromkeys(name for table in tables for name in FILES.get(table, (table,)))
    return [folder / f"{name}.json" for name in names]


def differing(folder: Path = RESULTS) -> list[str]:
    """Return the names of the results files whose code differs from today's."""
    return [
        path.name
        for path in sorted(folder.glob("*.json"))
        if any(
            "digest" not in stamp or digest_of(ROOT / stamp["benchmark"]) != stamp["digest"]
            for stamp in measurements_of(json.loads(path.read_text()))
        )
    ]


def with_tables(page: str, folder: Path = RESULTS) -> str:
    """Return the text of a page with its tables recomputed from the results in a folder."""
    tables = [name for _, name, _ in MARKED.findall(page) if name != "measured"]

    def renew(match: re.Match) -> str:
        is_list = match[2] == "measured"
        paths = results_of(tables if is_list else [match[2]], folder)
        if is_list:
            return f"{match[1]}{measured_list([p for p in paths if p.exists()])}{match[3]}"
        if not all(path.exists() for path in paths):
            return f"{match[1]}{match[3]}"
        table = TABLES[match[2]](*(json.loads(path.read_text()) for path in paths))
        return f"{match[1]}{table}\n{match[3]}"

    return MARKED.sub(renew, page)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="list results of other code")
    if parser.parse_args().check:
        sys.exit("\n".join(differing()) or 0)
    else:
        for name in PAGES:
            path = ROOT / name
            path.write_text(with_tables(path.read_text()))
