"""The ranking puts a recording with a planted fault first, and says what was planted."""

import re
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
from commands import answer, said, succeed
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot_datasets import write_dataset
from small_recordings import write_each

from sensorseq import read_recordings
from sensorseq.inspection.facts import measure
from sensorseq.inspection.joined_windows import join_windows, rank_joined
from sensorseq.inspection.odd_recordings import MARKED, first_to_look_at
from sensorseq.inspection.recordings import check_recordings
from sensorseq.io.prepared import PreparedFile, read_windows, write_windows
from sensorseq.preprocessing.windowing.cut import window_recordings
from sensorseq.recording import Channel, Recording

RATE, FAULTY = 50, 7
OFFSET = np.radians(17)
NAMES = ("action.hip", "action.knee", "state.hip", "state.knee")


def make_episode(number, label="reach"):
    """An arm that follows a leader 0.1 s later, with noise; each episode has its own pace."""
    rng = np.random.default_rng([1, number])
    n = int(RATE * rng.uniform(19, 21))
    t = np.arange(n + 5) / RATE
    s = np.clip((t - 1) / (t[-1] - 2), 0, 1)
    way = s**3 * (10 - 15 * s + 6 * s**2)
    leader = np.stack(
        [
            way * (1 + 0.1 * rng.normal()) + 0.3 * np.sin(2 * np.pi * 3 * way),
            0.8 * np.sin(2 * np.pi * (1 + (label == "wave")) * way) * (1 + 0.1 * rng.normal()),
        ],
        axis=1,
    )
    leader += 0.002 * rng.normal(size=leader.shape).cumsum(axis=0) / np.sqrt(RATE)
    follower = leader + 0.001 * rng.normal(size=leader.shape)
    values = np.hstack([leader[5:], follower[:-5]])
    channels = tuple(Channel(name, "rad") for name in NAMES)
    return Recording(values, t[:n], channels, f"{label}/{number}", label=label)


@pytest.fixture(scope="module")
def healthy():
    return [make_episode(i, ("reach", "wave")[i % 2]) for i in range(40)]


@pytest.fixture(scope="module")
def facts(healthy):
    return [measure(recording) for recording in healthy]


def changed(recording, change, channel=3):
    values = recording.values.copy()
    values[:, channel] = change(values[:, channel])
    return replace(recording, values=values)


def kept(recording, rows):
    values, timestamps_s = recording.values[rows], recording.timestamps_s[rows]
    return replace(recording, values=values, timestamps_s=timestamps_s)


def held(recording):
    values = recording.values.copy()
    values[400:650] = values[400]
    return replace(recording, values=values)


def shaken(recording):
    values = recording.values.copy()
    values[300:400] += 0.5 * np.sin(2 * np.pi * 2.5 * np.arange(100) / RATE)[:, None]
    return replace(recording, values=values)


def late(x):
    return np.r_[np.full(200, np.nan), x[200:]]


OF_LEVEL = ("level", "low", "high", "first", "last")
PLANTED = {  # the fault, the measure that finds it, and the value or difference that was planted
    "offset": (lambda r: changed(r, lambda x: x + OFFSET), "offset", OFFSET),
    "gain": (lambda r: changed(r, lambda x: 1.3 * x), "gain", np.log(1.3)),
    "sign": (lambda r: changed(r, np.negative), "agreement", None),
    "delay": (lambda r: changed(r, lambda x: np.r_[np.full(10, x[0]), x[:-10]]), "delay", 0.2),
    "early end": (lambda r: kept(r, slice(None, -450)), "duration", None),
    "late start": (lambda r: kept(r, slice(450, None)), "duration", None),
    "late sensor": (lambda r: changed(r, late), "late", 4.0),
    "held": (held, "held", 5.0),
    "exchanged": (lambda r: replace(r, values=r.values[:, [0, 1, 3, 2]]), "agreement", None),
    "shaking": (shaken, "speed", None),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_comes_first_with_its_size(fault, healthy, facts):
    plant, kind, size = PLANTED[fault]
    planted = measure(plant(healthy[FAULTY]))
    first, second, *_ = check_recordings([*facts[:FAULTY], planted, *facts[FAULTY + 1 :]])[1]
    assert first.recording_id == healthy[FAULTY].recording_id
    assert first.is_marked
    assert not second.is_marked
    if size is not None:
        assert first.measure == kind, first.text
        found = np.log(first.value / first.usual) if kind == "gain" else first.value - first.usual
        assert abs(found) == pytest.approx(size, rel=0.1, abs=0.01)
    if fault == "offset":
        assert first.text == "state.knee is 0.297 rad above its usual offset from action.knee"
    if fault == "early end":
        assert re.fullmatch(r"ends (8|9)[.\d]* s before the others", first.text)
    if fault not in ("shaking", "exchanged"):
        assert first.channels == () or "state.knee" in first.channels


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_an_odd_episode_of_a_lerobot_dataset_comes_first(version, healthy, tmp_path):
    recordings = [*healthy[:FAULTY], PLANTED["offset"][0](healthy[FAULTY]), *healthy[FAULTY + 1 :]]
    episodes = [
        {
            "observation.state": pa.array(one.values[:, 2:].astype("f4").tolist()),
            "action": pa.array(one.values[:, :2].astype("f4").tolist()),
            "timestamp": one.timestamps_s.astype(np.float32),
            "episode_index": np.full(one.n_samples, at),
            "task_index": np.full(one.n_samples, at % 2),
        }
        for at, one in enumerate(recordings)
    ]
    joints = {"dtype": "float32", "shape": [2], "names": ["hip", "knee"]}
    number = {"dtype": "float32", "shape": [1], "names": None}
    features = {"observation.state": joints, "action": joints}
    features |= dict.fromkeys(("timestamp", "episode_index", "task_index"), number)
    root = write_dataset(tmp_path / "set", version, episodes, features=features, fps=RATE)
    first, second, *_ = check_recordings([*map(measure, read_recordings(root))])[1]
    assert first.recording_id == f"episode_{FAULTY:06d}"
    assert first.is_marked
    assert not second.is_marked
    joint = "observation.state.knee is 0.297 above its usual offset from action.knee"
    assert first.text == joint


def test_a_sensor_that_is_upside_down_is_named(healthy):
    knees = [recording.select(["state.knee"]) for recording in healthy]
    facts = [measure(changed(knee, lambda x: x + 9.81, 0)) for knee in knees]
    facts[FAULTY] = measure(changed(knees[FAULTY], lambda x: -9.81 - x, 0))
    first = check_recordings(facts)[1][0]
    assert first.recording_id == healthy[FAULTY].recording_id
    assert first.is_marked
    assert (first.measure, first.channels) in {(kind, ("state.knee",)) for kind in OF_LEVEL}
    if first.measure == "level":
        assert first.text.startswith("state.knee has the opposite sign: it is at -9.")


def test_healthy_recordings_are_ranked_but_not_marked(facts):
    ranked = check_recordings(facts)[1]
    assert len(ranked) == len(facts)
    assert {odd.recording_id for odd in ranked} == {r.recording_id for r in facts}
    assert not any(odd.is_marked for odd in ranked)
    assert [odd.score for odd in ranked] == sorted((odd.score for odd in ranked), reverse=True)
    assert "stands_out" not in [finding.kind for finding in check_recordings(facts)[0]]


def test_copies_are_both_marked(healthy, facts):
    copy = replace(healthy[3], recording_id="reach/copy")
    first, second, third, *_ = check_recordings([*facts, measure(copy)])[1]
    assert {first.recording_id, second.recording_id} == {"reach/copy", healthy[3].recording_id}
    assert first.text == f"100 % of its samples are also in {second.recording_id}"
    assert first.is_marked
    assert not third.is_marked


def test_a_recording_that_contains_another_is_not_called_its_copy(healthy, facts):
    whole, n = healthy[3], healthy[3].n_samples * 2 // 3
    part = replace(
        whole, recording_id="a part", values=whole.values[:n], timestamps_s=whole.timestamps_s[:n]
    )
    for of_all in ([measure(part), *facts], [*facts, measure(part)]):
        texts = {odd.recording_id: odd.text for odd in check_recordings(of_all)[1]}
        assert texts["a part"].endswith(f"of its samples are also in {whole.recording_id}")
        assert texts[whole.recording_id].startswith("contains ")
        (copies,) = (f for f in check_recordings(of_all)[0] if f.kind == "copies")
        assert "--exclude 'a part'" in copies.advice


def test_a_recording_is_compared_with_its_class_alone(facts):
    """A recording of the class "wave" that is labeled "reach" comes first."""
    planted = replace(facts[FAULTY], label="reach")
    assert facts[FAULTY].label == "wave"
    first = check_recordings([*facts[:FAULTY], planted, *facts[FAULTY + 1 :]])[1][0]
    assert first.recording_id == facts[FAULTY].recording_id


@settings(max_examples=15)
@given(st.permutations(range(40)), st.floats(-2, 2), st.integers(0, 3))
def test_scores_depend_neither_on_the_order_nor_on_units(facts, healthy, order, decades, channel):
    expected = {odd.recording_id: odd.score for odd in check_recordings(facts)[1]}
    moved = {odd.recording_id: odd.score for odd in check_recordings([facts[i] for i in order])[1]}
    assert moved == expected
    scaled = [measure(changed(r, lambda x: x * 10**decades, channel)) for r in healthy[:8]]
    before = {odd.recording_id: odd.score for odd in check_recordings(facts[:8])[1]}
    for odd in check_recordings(scaled)[1]:
        assert odd.score == pytest.approx(before[odd.recording_id], rel=1e-4, abs=1e-6)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(-20, 20), st.sampled_from([-2.0, -0.5, 1.0, 30.0]))
def test_delay_and_sign_of_a_shifted_channel(seed, shift, gain):
    x = np.convolve(np.random.default_rng(seed).normal(size=2100), np.hanning(9), "same")
    first, second = x[50:2050], gain * x[50 - shift : 2050 - shift]
    values = np.stack([first, second], axis=1)
    facts = measure(Recording(values, np.arange(2000) / RATE, ("a", "b"), "r"))
    assert facts.delay_s[0, 1] == pytest.approx(shift / RATE, abs=0.003)
    assert facts.delay_s[1, 0] == pytest.approx(-shift / RATE, abs=0.003)
    assert facts.agreement[0, 1] * np.sign(gain) > 0.9
    sizes = [channel.size for channel in facts.channels.values()]
    assert sizes[1] / sizes[0] == pytest.approx(abs(gain), rel=0.05)


def test_times_at_rest_and_ends_have_their_known_values():
    t = np.arange(0, 20, 1 / RATE)
    x = np.interp(t, [0, 2, 5, 11, 15, 20], [1.0, 1.0, 4.0, 4.0, -2.0, -2.0])
    noise = 0.001 * np.random.default_rng(0).normal(size=len(t))
    facts = measure(Recording(np.stack([x, x + noise], axis=1), t, ("a", "b"), "r"))
    assert facts.idle_s == pytest.approx(6, abs=0.6)
    assert facts.held_s == pytest.approx(1 / RATE, abs=1e-9)
    assert [c.first for c in facts.channels.values()] == pytest.approx([1, 1], abs=0.001)
    assert [c.last for c in facts.channels.values()] == pytest.approx([-2, -2], abs=0.001)


def same(values, i, label="a"):
    times = np.arange(len(values)) / RATE
    names = [f"c{k}" for k in range(values.shape[1])]
    return measure(Recording(values, times, names, f"r{i}", label=label))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "values",
    [np.full((100, 2), np.nan), np.ones((100, 2)), np.ones((1, 2)), np.ones((2, 1)),
     np.zeros((0, 2)), np.array([[1.0, np.nan]] * 50)],
    ids=["nan", "constant", "one sample", "two samples", "empty", "constant and nan"],
)  # fmt: skip
def test_recordings_without_movement_are_ranked_without_a_reason(values):
    ranked = check_recordings([same(values, i) for i in range(7)])[1]
    assert [odd.score for odd in ranked] == [0.0] * 7
    assert first_to_look_at([odd.to_dict() for odd in ranked]) == []


@pytest.mark.filterwarnings("error")
def test_few_recordings_and_other_channels():
    rng = np.random.default_rng(0)
    facts = [same(rng.normal(size=(500, 3)), i) for i in range(12)]
    assert check_recordings([])[1] == []
    for n in (1, 4):
        assert {odd.score for odd in check_recordings(facts[:n])[1]} == {0.0}
    other = [same(rng.normal(size=(500, 2)), i, None) for i in (20, 21)]
    mute = same(np.full((500, 3), np.nan), 30)
    ranked = check_recordings([*facts, *other, mute])[1]
    assert len(ranked) == 15
    assert not any(odd.is_marked for odd in ranked)


def test_five_thousand_recordings(facts):
    rng = np.random.default_rng(0)
    many = []
    for i in range(5000):
        one = facts[i % len(facts)]
        channels = {
            name: replace(c, speed=c.speed * rng.normal(1, 0.01), size=c.size * rng.normal(1, 0.01))
            for name, c in one.channels.items()
        }
        hashes = np.sort(rng.integers(0, 2**63, 20, np.uint64))
        many.append(replace(one, recording_id=f"r{i}", channels=channels, hashes=hashes))
    many[17] = replace(many[17], duration_s=5.0)
    ranked = check_recordings(many)[1]
    assert ranked[0].recording_id == "r17"
    assert len(ranked) == 5000


@settings(max_examples=25)
@given(st.floats(0.2, 1.5), st.sampled_from(["drop", "pad"]), st.integers(0, 40))
def test_joined_windows_are_the_samples_that_windows_contain(hop_s, short, n_lost):
    values = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
    t = np.arange(400) / RATE
    one = Recording(values, t, ("a", "b"), "r", "g", "x")
    pieces = [one] if not n_lost else [kept(one, slice(130)), kept(one, slice(130 + n_lost, None))]
    windows = window_recordings(pieces, 1.0, hop_s, sample_rate_hz=RATE, short=short)
    with TemporaryDirectory() as folder:
        write_windows(path := Path(folder) / "w.h5", windows)
        with PreparedFile(path) as file:
            ((name, joined),) = join_windows(file, np.arange(len(file)))
    at = np.rint(joined.timestamps_s * RATE).astype(int)
    begin = np.rint(np.asarray(windows.start_s) * RATE).astype(int)
    inside = [np.arange(first, first + n) for first, n in zip(begin, windows.lengths, strict=True)]
    np.testing.assert_array_equal(at, np.unique(np.concatenate(inside)))
    np.testing.assert_allclose(joined.values, values[at], atol=1e-6)
    assert (name, joined.recording_id, joined.group, joined.label) == ("r", "r", "g", "x")


def test_the_ringing_of_a_constant_channel_is_not_its_spread(tmp_path):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(12, 500, 1))
    values[0] = 1e-5 * rng.normal(size=(500, 1))
    values[0, 70:90] = 0.1
    pieces = [Recording.evenly_sampled(x, RATE, ["a"], f"r{i}") for i, x in enumerate(values)]
    write_windows(tmp_path / "w.h5", window_recordings(pieces, 1.0, sample_rate_hz=RATE))
    assert rank_joined(tmp_path / "w.h5")[0].measure != "spread"
    assert check_recordings([*map(measure, pieces)])[1][0].measure == "spread"


def test_gaps_and_changes_of_class_mark_no_joined_recording(tmp_path):
    rng = np.random.default_rng(0)
    t = np.arange(600) / RATE
    whole = [
        Recording(np.sin(t + rng.uniform(0, 6))[:, None], t, ("a",), f"r{i}") for i in range(12)
    ]
    pieces = [kept(whole[0], slice(150)), kept(whole[0], slice(400, None)), *whole[1:]]
    write_windows(tmp_path / "w.h5", window_recordings(pieces, 1.0, sample_rate_hz=RATE))
    assert not any(odd.is_marked for odd in rank_joined(tmp_path / "w.h5"))
    noise = [replace(each, values=rng.normal(size=each.values.shape)) for each in whole]
    windows = window_recordings(noise, 1.0, 0.5, sample_rate_hz=RATE)
    labels = np.where(np.asarray(windows.start_s) < 5.0, "x", "y")
    write_windows(tmp_path / "v.h5", replace(windows, y=labels))
    assert not any(odd.is_marked for odd in rank_joined(tmp_path / "v.h5"))


def test_train_names_odd_recordings_outside_the_test_part(healthy, tmp_path):
    faulty = changed(healthy[FAULTY], lambda x: x + OFFSET)
    short = kept(healthy[8], slice(None, -450))
    root = write_each(tmp_path / "logs", [*healthy[:FAULTY], faulty, short, *healthy[9:]])
    file, model = tmp_path / "w.h5", tmp_path / "m.safetensors"
    succeed("prepare", root, "--window-s", 2, "-o", file, "-q")
    windows = read_windows(file)
    is_odd = np.isin(windows.recording_id, [faulty.recording_id, short.recording_id])
    write_windows(file, replace(windows, split=np.where(is_odd, "test", windows.split)))
    assert not any(odd.is_marked for odd in rank_joined(file))
    write_windows(file, replace(windows, split=np.where(is_odd, "train", windows.split)))
    quick = ("--max-epochs", 1, "--set", "n_models=1", "--set", "features=none", "-q")
    code, _, err = said("train", file, "-o", model, *quick)
    assert code == 0
    text = " ".join(err.split())
    assert f"{faulty.recording_id} (state.knee is 0.297 above its usual offset" in text
    assert f"{short.recording_id} (ends " in text
    assert f"sensorseq inspect {file} --html look.html" in text


def test_inspect_lists_the_first_recordings_and_run_is_told(healthy, tmp_path):
    root = write_each(tmp_path / "logs", healthy)
    shown = succeed("inspect", root, "-q")
    assert "No recording stands out." in shown
    assert max(map(len, shown.splitlines())) <= 80
    faulty = changed(healthy[FAULTY], lambda x: x + OFFSET)
    write_each(root, [faulty])
    result = answer("inspect", root)
    first, *others = result["ranked"]
    assert first["recording_id"] == faulty.recording_id
    assert first["score"] > MARKED
    assert [odd["is_marked"] for odd in others] == [False] * 39
    assert result["odd"][0]["kind"] == "stands_out"
    assert f"--exclude {faulty.recording_id}" in result["odd"][0]["advice"]
    page = tmp_path / "look.html"
    shown = " ".join(succeed("inspect", root, "--html", page, "-q").split())
    assert f"* {faulty.recording_id}: state.knee is 0.297 above its usual offset" in shown
    html = page.read_text("utf-8")
    assert "stands out" in html
    assert html.count(f"<code>--exclude {faulty.recording_id}</code>") == 2
