"""Tests of the accuracy benchmark: loading small files, scores, resuming, and the table."""

import gzip
import json
import shutil
from itertools import product

import bench_accuracy
import numpy as np
import pytest
from accuracy import data, methods, table, work_file
from accuracy.work_file import Key, WorkFile

from sensorseq.errors import EnvironmentProblemError

pytestmark = pytest.mark.benchmarks
HEADER = "# a comment\n@problemName x\n@timeStamps false\n@classLabel true a b\n@data\n"


# The archive's files.


def write_archive(folder, name, train, test):
    for part, text in (("TRAIN", train), ("TEST", test)):
        path = folder / name / f"{name}_{part}.ts"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEADER + text)


def test_a_ts_file_keeps_lengths_channels_and_labels(tmp_path):
    path = tmp_path / "x.ts"
    path.write_text(HEADER + "1,2,3:4,5,6:b\n7,8:9,10: a \n")
    series, labels = data.read_ts(path)
    assert labels == ["b", "a"]
    np.testing.assert_array_equal(series[0], [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(series[1], [[7, 9], [8, 10]])


def test_missing_values_inside_are_interpolated_and_at_the_end_of_all_channels_cut(tmp_path):
    path = tmp_path / "x.ts"
    path.write_text(HEADER + "?,2,?,4,NaN,?:1,1,1,1,5,?:b\n?,?:1,2:a\n")
    series, _ = data.read_ts(path)
    np.testing.assert_array_equal(series[0], [[2, 1], [2, 1], [3, 1], [4, 1], [4, 5]])
    np.testing.assert_array_equal(series[1], [[0, 1], [0, 2]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER.replace("@timeStamps false", "@timeStamps true"), "timestamps"),
        ("1,2:a\n", "line 1: values before @data"),
        (HEADER + "1\n", "line 6: no label"),
    ],
)
def test_a_ts_file_of_another_kind_is_refused(tmp_path, text, message):
    path = tmp_path / "x.ts"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        data.read_ts(path)


@pytest.mark.parametrize("below", ["", "aeon", "aeon/datasets", "aeon/datasets/data"])
def test_an_archive_set_is_found_at_every_depth_and_keeps_its_parts(tmp_path, below):
    inside = tmp_path / "aeon" / "datasets" / "data"
    write_archive(inside, "ArrowHead", "1,2,3:b\n4,5,6:a\n", "7,8:b\n")
    windows, folds = data.read_archive("ArrowHead", tmp_path / below)
    assert windows.X.shape == (3, 3, 1)
    assert windows.y.tolist() == [1, 0, 1]
    assert windows.lengths.tolist() == [3, 3, 2]
    assert windows.X[2, 2, 0] == 0.0
    [fold] = folds
    assert (fold.train.tolist(), fold.test.tolist()) == ([0, 1], [2])


def test_absent_files_are_named(tmp_path):
    places = data.Places(None, tmp_path, tmp_path)
    for name, words in (("A", "--borealtc"), ("watch", "seglearn"), ("ACSF1", "aeon")):
        with pytest.raises(EnvironmentProblemError, match=words):
            data.load(name, places)


# BorealTC and the watch.


def write_terrains(folder):
    """Write six recordings of 12 s per terrain, one without IMU; values are sample numbers."""
    for terrain, number in product(data.TERRAINS, range(6)):
        (folder / terrain).mkdir(parents=True, exist_ok=True)
        motor = np.arange(78)[:, None] + [0.0, 1000.0, 2000.0, 3000.0]
        lines = "".join(f"{i / 6.5},{','.join(map(str, v))}\n" for i, v in enumerate(motor))
        path = folder / terrain / f"pro_{number:02}.csv"
        path.write_text("time,curL,curR,velL,velR\n" + lines)
        if (terrain, number) == ("ICE", 5):
            continue
        lines = "".join(f"{i / 100}{f',{i}' * 6}\n" for i in range(1200))
        with gzip.open(folder / terrain / f"imu_{number:02}.csv.gz", "wt") as file:
            file.write("time,wx,wy,wz,ax,ay,az\n" + lines)


@pytest.fixture(scope="module")
def borealtc(tmp_path_factory):
    folder = tmp_path_factory.mktemp("borealtc")
    write_terrains(folder)
    return data.Places(borealtc=folder)


def test_windows_of_the_motors_start_as_the_protocol_defines(borealtc):
    windows, folds = data.load("A", borealtc)
    assert windows.X.shape == (60, 32, 4)  # two windows of 5 s in each recording
    assert windows.X[0, 0, 0] == 0
    assert windows.X[1, 0, 0] == 33  # the sample after 5 s at 6.5 Hz: ceil(32.5)
    assert len(folds) == 15
    for fold in folds:
        assert not set(windows.groups[fold.train]) & set(windows.groups[fold.test])
    for split in data.SPLITS:
        tested = np.concatenate([fold.test for fold in folds if fold.split == split])
        assert sorted(tested) == list(range(60))


def test_recordings_without_an_imu_are_in_no_set_with_imu(borealtc):
    both, _ = data.load("C", borealtc)
    motor, imu = both.streams
    assert (motor.shape, imu.shape, both.X.shape) == ((58, 32, 4), (58, 500, 6), (58, 500, 10))
    assert imu[1, 0, 0] == 500
    # a held sample is never from the future, and at 6.5 Hz it is at most 1/6.5 s old
    start_s = np.array([0.0, 5.0])
    taken_s = both.X[:2, :, 0] / 6.5 - start_s[:, None]
    now_s = np.arange(500) / 100
    assert (taken_s[0] <= now_s + 1e-4).all()
    assert (now_s - taken_s[0])[now_s < 4.9].max() <= 1 / 6.5 + 1e-4
    # a window that starts between two samples contains no sample of the preceding window
    assert both.X[1, :, 0].min() == 33
    np.testing.assert_array_equal(both.X[..., 4:], imu)


def test_windows_of_the_watch_leave_one_person_out(tmp_path):
    path = tmp_path / "watch_dataset.npy"
    series = np.empty(4, dtype=object)
    series[:] = [np.ones((250, 6)), np.zeros((100, 6)), np.ones((99, 6)), np.ones((100, 6))]
    held = {"X": series, "y": np.array([0, 1, 1, 1]), "subject": np.array([3, 5, 5, 9])}
    np.save(path, held, allow_pickle=True)
    windows, folds = data.load("watch", data.Places(seglearn=path))
    assert windows.X.shape == (4, 100, 6)
    assert [fold.test.tolist() for fold in folds] == [[0, 1], [2], [3]]
    assert all(sorted([*f.train, *f.test]) == [0, 1, 2, 3] for f in folds)


# The sets that may be evaluated.


def test_every_set_is_either_for_search_or_for_confirmation():
    groups = [*data.SEARCH, *data.CONFIRM, *data.SIMULATED]
    assert sorted(groups) == sorted(data.SETS)
    assert len(groups) == len(set(groups))


def test_folds_for_development_stay_inside_the_first_training_part(borealtc):
    windows, folds = data.load("A", borealtc)
    inner = data.develop(windows, folds)
    assert len(inner) == 3
    for fold in inner:
        assert not {*fold.train, *fold.test} & set(folds[0].test)
        assert not set(windows.groups[fold.train]) & set(windows.groups[fold.test])


def test_settings_are_not_chosen_on_confirmation_sets():
    with pytest.raises(ValueError, match="settings are not chosen on watch, ACSF1"):
        bench_accuracy.chosen_sets(["A", "ACSF1", "watch"], develop=True)
    sets, closed = bench_accuracy.chosen_sets(None, develop=False)
    assert closed == ["GunPoint"]
    assert "GunPoint" not in sets
    assert {*bench_accuracy.chosen_sets(None, develop=True)[0]} == {*data.SEARCH}


# Scores and the work file.


def test_scores_against_counts_by_hand():
    row = work_file.scores(np.array([0, 0, 0, 2]), np.array([0, 0, 1, 1]))
    assert row["accuracy"] == 0.5
    assert row["balanced_accuracy"] == pytest.approx((2 / 3 + 0) / 2)
    assert work_file.unpack(row["right"], 4).tolist() == [True, True, False, False]


def a_row(task="ArrowHead", method="defaults", seed=0, split=0, fold=0, n_folds=1, **more):
    row = {
        "task": task,
        "part": "test",
        "split": split,
        "fold": fold,
        "method": method,
        "seed": seed,
        "n_folds": n_folds,
        "accuracy": 0.5,
        "balanced_accuracy": 0.5,
        "n_test": 4,
        "right": work_file.pack(np.array([1, 1, 0, 0], bool)),
        "fit_s": 1.0,
        "predict_s": 0.1,
    }
    return row | more


def by_key(*fits):
    return {Key(*(row[name] for name in Key._fields)): row for row in fits}


def test_a_run_cut_off_at_any_byte_loses_only_its_last_row(tmp_path):
    whole = WorkFile(tmp_path / "whole.jsonl")
    expected = [a_row(seed=seed, accuracy=seed / 10) for seed in range(3)]
    for row in expected:
        whole.append(row)
    assert list(whole.read().values()) == expected
    written = whole.path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(written) if byte == ord("\n")]
    for stop in range(len(written) + 1):
        cut = WorkFile(tmp_path / "cut.jsonl")
        cut.path.write_bytes(written[:stop])
        present = cut.read()
        assert len(present) >= sum(end <= stop for end in ends)
        for key in work_file.missing(by_key(*expected), present, resume=True):
            cut.append(by_key(*expected)[key])
        assert cut.read() == whole.read()


def test_of_two_rows_for_one_fit_the_later_counts_and_only_resuming_skips(tmp_path):
    work = WorkFile(tmp_path / "sub" / "rows.jsonl")
    assert work.read() == {}
    work.append(a_row(accuracy=0.1))
    work.append(a_row(accuracy=0.9))
    [(key, row)] = work.read().items()
    assert row["accuracy"] == 0.9
    assert work_file.missing([key], work.read(), resume=True) == []
    assert work_file.missing([key], work.read(), resume=False) == [key]


def test_the_plan_repeats_only_our_methods():
    folds = [data.Fold(0, k, np.arange(1), np.arange(1)) for k in range(2)]
    keys = bench_accuracy.plan("A", folds, ["boosting", "defaults"], [3, 4], "test")
    assert [(key.fold, key.seed, key.method) for key in keys] == [
        (0, 3, "boosting"),
        (0, 3, "defaults"),
        (0, 4, "defaults"),
        (1, 3, "boosting"),
        (1, 3, "defaults"),
        (1, 4, "defaults"),
    ]
    assert bench_accuracy.plan("A", folds, ["motors"], [3], "test")
    assert not bench_accuracy.plan("B", folds, ["motors"], [3], "test")


# The table.


def made_rows():
    """Make rows for two sets (one with folds, one with a test part), three methods, two seeds."""
    made = []
    for method, lift in (("defaults", 0.2), ("boosting", 0.1), ("lstm", 0.0)):
        for seed in (0, 1) if method == "defaults" else (0,):
            for fold in range(4):
                accuracy = 0.5 + lift + 0.02 * fold + 0.04 * seed
                made.append(a_row("A", method, seed, 0, fold, 4, accuracy=accuracy, fit_s=fold))
            made.append(a_row("ArrowHead", method, seed, accuracy=0.5 + lift))
    return by_key(*made)


def only(summary, **wanted):
    return [row for row in summary if all(row.get(k) == v for k, v in wanted.items())]


def test_a_cell_is_the_mean_of_folds_then_of_seeds():
    summary = table.summarize(made_rows(), "test")
    [cell] = only(summary, what="scores", task="A", method="defaults")
    assert cell["accuracy"] == pytest.approx(0.7 + 0.03 + 0.02)
    assert cell["accuracy_sd_seeds"] == pytest.approx(0.04 / np.sqrt(2))
    assert cell["accuracy_sd_folds"] == pytest.approx(np.std(0.02 * np.arange(4), ddof=1))
    assert cell["fit_s"] == pytest.approx(1.5)
    assert (cell["n_fits"], cell["n_expected"], cell["complete"]) == (8, 8, True)
    [alone] = only(summary, what="scores", task="A", method="boosting")
    assert alone["accuracy_sd_seeds"] is None


def test_robots_and_shapes_are_ranked_apart_without_simulated_sets():
    rows_by_key = made_rows()
    rows_by_key |= by_key(*[a_row("surfaces", m) for m in ("defaults", "boosting", "lstm")])
    summary = table.summarize(rows_by_key, "test")
    ranks = {"defaults": 1.0, "boosting": 2.0, "lstm": 3.0}
    for kind, task in (("robots", "A"), ("shapes", "ArrowHead")):
        ranked = {row["method"]: row for row in only(summary, what="rank", kind=kind)}
        assert {method: row["mean_rank"] for method, row in ranked.items()} == ranks
        assert ranked["defaults"]["tasks"] == [task]


def of_scores(**scores):
    return by_key(
        *[
            a_row(task, method, accuracy=accuracy)
            for task, each in scores.items()
            for method, accuracy in zip(("defaults", "boosting", "hydra"), each, strict=False)
        ]
    )


def test_equal_scores_share_a_rank():
    ranked = only(table.summarize(of_scores(A=(0.9, 0.9), watch=(0.1, 0.2)), "test"), what="rank")
    ranks = {row["method"]: row["mean_rank"] for row in ranked}
    assert ranks == {"defaults": (1.5 + 2) / 2, "boosting": (1.5 + 1) / 2}


def test_the_mean_difference_is_over_the_real_sets_that_both_have():
    rows_by_key = of_scores(A=(0.9, 0.8), B=(0.7, 0.4, 0.5), watch=(0.5, 0.7), surfaces=(1, 0, 0))
    [difference] = only(
        table.summarize(rows_by_key, "test"), what="overall"
    )  # Hydra ran on one set only
    assert (difference["method"], difference["peer"], difference["n"]) == (
        "defaults",
        "boosting",
        3,
    )
    gains = [0.1, 0.3, -0.2]
    assert difference["difference"] == pytest.approx(np.mean(gains))
    assert difference["standard_error"] == pytest.approx(np.std(gains, ddof=1) / np.sqrt(3))


def test_the_difference_is_paired_over_folds_or_over_windows_and_has_the_better_peer():
    rows_by_key = made_rows() | by_key(
        *[a_row("A", "minirocket", 0, 0, k, 4, accuracy=0.2) for k in range(4)]
    )
    summary = table.summarize(rows_by_key, "test")
    [pair] = only(summary, what="difference", task="A")
    assert (pair["peer"], pair["unit"], pair["n"]) == ("boosting", "folds", 4)
    # the difference is the same in every fold, so the paired interval has zero width
    assert [pair[k] for k in ("difference", "low", "high")] == pytest.approx([0.12] * 3)
    [given_parts] = only(summary, what="difference", task="ArrowHead")
    assert (given_parts["unit"], given_parts["n"]) == ("windows", 4)
    assert given_parts["peers"] == ["boosting"]


def test_the_bootstrap_interval_is_close_to_the_normal_interval():
    values = np.random.default_rng(1).normal(0.3, 1, 400)
    low, high = table.bootstrap(values)
    half = 1.96 * values.std() / 20
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_an_incomplete_cell_is_marked_and_neither_ranked_nor_compared():
    rows_by_key = made_rows()
    del rows_by_key[Key("A", "test", 0, 3, "boosting", 0)]
    summary = table.summarize(rows_by_key, "test")
    assert table.incomplete(summary) == ["A boosting: 3 of 4 fits"]
    assert not only(summary, what="difference", task="A")
    for kind, ranked in (("robots", 2), ("shapes", 3)):
        assert len(only(summary, what="rank", kind=kind)) == ranked


def test_folds_for_development_never_reach_the_table_of_tests():
    rows_by_key = by_key(a_row(part="develop"))
    assert table.summarize(rows_by_key, "test") == []
    assert len(only(table.summarize(rows_by_key, "develop"), what="scores")) == 1


# Methods.


def small(n=96, lengths=False):
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    X = rng.normal(size=(n, 20, 2)) + 3 * y[:, None, None]
    return data.LabeledWindows(
        X.astype(np.float32), y, lengths=np.where(y == 0, 20, 12) if lengths else None
    )


def test_scaling_ignores_padding():
    windows = small(lengths=True)
    wild = windows.X.copy()
    wild[1::2, 12:] = 1e6
    scales = methods.scaling(wild, windows.lengths)
    scaled = methods.standardize(windows.X, windows.lengths, *scales)
    valid = scaled[np.arange(20) < windows.lengths[:, None]]
    np.testing.assert_allclose(valid.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(valid.std(axis=0), 1, atol=1e-4)
    assert (scaled[1, 12:] == 0).all()


@pytest.mark.trains
@pytest.mark.parametrize("uneven", [False, True])
def test_every_method_of_this_interpreter_learns_an_easy_task(uneven):
    windows = small(lengths=uneven)
    with methods.Runner() as runner:
        for method in methods.METHODS:
            if method == "motors" or runner.uses_aeon(method) or runner.why_absent(method):
                continue
            outcome = runner.run(method, windows, windows, 0)
            assert np.mean(outcome.predicted == windows.y) > 0.9, method
            assert outcome.fit_s > 0


def test_an_interpreter_without_aeon_is_absent_with_the_reason(tmp_path):
    with methods.Runner(aeon_python=shutil.which("false")) as runner:
        assert "ended" in runner.why_absent("multirocket")
        assert runner.aeon.versions() == {}
    with methods.Runner(aeon_python=str(tmp_path / "nothing")) as runner:
        assert "cannot start" in runner.why_absent("hydra")


# Whole runs.


@pytest.fixture
def command(tmp_path):
    inside = tmp_path / "sets"
    easy = ["".join(f"{k},{k + n},{k},{k}:c{k}\n" for n in range(6) for k in (1, 9))] * 2
    write_archive(inside, "ArrowHead", *easy)

    def run(*arguments):
        places = ["--aeon", inside, "--seglearn", inside, "--aeon-python", tmp_path / "none"]
        files = ["--work", tmp_path / "rows.jsonl", "--results", tmp_path / "results"]
        return bench_accuracy.main([str(a) for a in (*arguments, *places, *files)])

    return run


def test_runs_in_pieces_resume_and_end_in_a_results_file(command, tmp_path, capsys):
    assert command("--sets", "ArrowHead,watch", "--methods", "boosting,hydra") == 0
    printed = capsys.readouterr().err
    assert "absent: watch" in printed
    assert "absent: hydra" in printed
    assert "ArrowHead: 1 fits, 0 known" in printed
    assert command("--sets", "ArrowHead", "--methods", "boosting,extra_trees", "--resume") == 0
    assert "ArrowHead: 2 fits, 1 known" in capsys.readouterr().err
    assert command("--table") == 0
    assert "| ArrowHead |" in capsys.readouterr().out
    written = json.loads((tmp_path / "results" / "accuracy.json").read_text())
    measured = {row["method"] for row in only(written["rows"], what="scores")}
    assert measured == {"boosting", "extra_trees"}
    (stamp,) = written["environment"]["measurements"]
    assert written["environment"].items() >= stamp.items()


def test_a_part_of_the_folds_does_not_replace_the_results(command, tmp_path, capsys):
    assert command("--sets", "ArrowHead", "--methods", "boosting", "--develop") == 0
    assert command("--table", "--develop") == 0
    assert "accuracy.json is unchanged" in capsys.readouterr().out
    assert not (tmp_path / "results").exists()


def test_a_method_that_fails_is_reported_and_run_again_by_the_next_run(
    command, monkeypatch, capsys
):
    def fail(*_):
        raise RuntimeError("out of luck")

    arguments = ("--sets", "ArrowHead", "--methods", "boosting", "--resume")
    with monkeypatch.context() as patched:
        patched.setattr(methods.Runner, "run", fail)
        assert command(*arguments) == 1
    assert "out of luck" in capsys.readouterr().err
    assert command(*arguments) == 0
    assert "1 fits, 0 known" in capsys.readouterr().err
