import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from preparing import assert_same_windows
from sklearn.utils import _safe_indexing

from sensorseq.errors import InputError, WindowError
from sensorseq.prediction.checked_windows import windows_of
from sensorseq.windows import PARTS, WindowSet


def window_set(n_windows=12, seed=0, **more):
    rng = np.random.default_rng(seed)
    fields = {
        "X": rng.normal(size=(n_windows, 7, 2)).astype(np.float32),
        "lengths": rng.integers(0, 8, n_windows),
        "y": rng.choice(["ice", "mud"], n_windows),
        "groups": rng.choice(["robot a", "robot b"], n_windows),
        "recording_id": rng.choice(["run 1", "run 2"], n_windows),
        "start_s": rng.uniform(0, 9, n_windows),
        "split": rng.choice(PARTS, n_windows),
        "channels": ("current", "gyro"),
        "sample_rate_hz": 100.0,
    }
    return WindowSet(**{**fields, **more})


def assert_same(one, other):
    assert_same_windows(one, other)
    assert (one.channels, one.sample_rate_hz) == (other.channels, other.sample_rate_hz)


@given(cuts=st.lists(st.integers(0, 12), max_size=4), seed=st.integers(0, 99))
def test_joining_all_pieces_gives_the_whole(cuts, seed):
    whole = window_set(seed=seed)
    edges = [0, *sorted(cuts), 12]
    pieces = [whole.take(np.arange(a, b)) for a, b in itertools.pairwise(edges)]
    assert_same(WindowSet.concatenate(pieces), whole)


@given(seed=st.integers(0, 99))
def test_permuting_and_back_is_identity(seed):
    whole = window_set(seed=seed)
    order = np.random.default_rng(seed).permutation(len(whole))
    assert_same(whole.take(order).take(np.argsort(order)), whole)


def test_a_mask_and_its_indices_take_the_same_windows():
    whole = window_set()
    mask = whole.y == "ice"
    assert_same(whole.take(mask), whole.take(np.flatnonzero(mask)))


def test_the_parts_are_the_whole_and_share_nothing():
    whole = window_set(n_windows=40)
    parts = [whole.part(name) for name in PARTS]
    assert sum(len(part) for part in parts) == len(whole)
    for name, part in zip(PARTS, parts, strict=True):
        assert set(part.split) == {name}


def test_arguments_that_are_not_given_have_defaults():
    bare = WindowSet(np.zeros((3, 4, 2)))
    np.testing.assert_array_equal(bare.lengths, [4, 4, 4])
    assert bare.X.dtype == np.float32
    assert bare.channels == ("channel_0", "channel_1")
    assert (len(bare), bare.n_timesteps, bare.n_channels) == (3, 4, 2)
    assert bare.y is bare.groups is bare.split is None
    cut = WindowSet(np.zeros((3, 4, 2)), recording_id=["a", "a", "b"])
    np.testing.assert_array_equal(cut.groups, ["a", "a", "b"])


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (r"X has shape \(3, 4\)", {"X": np.zeros((3, 4))}),
        (r"lengths has shape", {"lengths": [1, 2]}),
        (r"y has shape", {"y": [0]}),
        (r"groups has shape", {"groups": np.zeros((12, 2))}),
        (r"lengths\[2\] is 8; it must be in 0\.\.7", {"lengths": [0, 7, 8] + [1] * 9}),
        (r"lengths\[0\] is -1", {"lengths": [-1] + [1] * 11}),
        (r"split contains 'dev'; expected train", {"split": ["dev"] * 12}),
        (r"1 channel names for 2 channels", {"channels": ("a",)}),
        (r"X cannot be read as numbers", {"X": [["a"]]}),
        (r"complex", {"X": np.ones((12, 2, 1), complex)}),
        (r"X\[0, 0, 0\] is .*outside the range", {"X": np.full((12, 7, 2), 1e300)}),
        (r"it must contain integers", {"lengths": [1.7] * 12}),
        (r"split contains None", {"split": np.array([None] * 12)}),
        (r"sample_rate_hz=0\.0", {"sample_rate_hz": 0.0}),
        (r"'a' is used more than once", {"channels": ("a", "a")}),
    ],
)
def test_windows_that_contradict_themselves_are_an_error(message, fields):
    with pytest.raises(WindowError, match=message):
        window_set(**fields)


def test_parts_need_a_split_and_a_known_name():
    with pytest.raises(WindowError, match="have not been split"):
        window_set(split=None).part("train")
    with pytest.raises(WindowError, match="'dev' is not known"):
        window_set().part("dev")


def test_only_sets_of_the_same_form_are_joined():
    whole = window_set()
    cases = {
        "n_timesteps": window_set(X=np.zeros((12, 9, 2))),
        "channels": window_set(channels=("a", "b")),
        "sample_rate_hz": window_set(sample_rate_hz=50.0),
        "some window sets have y": window_set(y=None),
    }
    for message, other in cases.items():
        with pytest.raises(WindowError, match=message):
            WindowSet.concatenate([whole, other])
    with pytest.raises(WindowError, match="no window sets"):
        WindowSet.concatenate([])


def test_joining_keeps_where_each_set_came_from():
    one, two = (WindowSet(np.ones((1, 2, 1)), provenance={"source": s}) for s in "ab")
    assert WindowSet.concatenate([one, one]).provenance == {"source": "a"}
    joined = WindowSet.concatenate([one, two]).provenance
    assert joined == {"joined": [{"source": "a"}, {"source": "b"}]}


def test_the_repr_of_a_set_describes_its_content_without_samples():
    said = repr(WindowSet(np.zeros((4, 5, 2)), y=[0, 1, 0, 1], split=["train"] * 3 + ["test"]))
    assert said == "WindowSet(4 windows of 5 steps and 2 channels, 2 classes, 3 train + 1 test)"
    said = repr(WindowSet(np.zeros((1, 5, 1)), sample_rate_hz=20.0))
    assert said == "WindowSet(1 window of 5 steps and 1 channel, 20 Hz)"


def test_scikit_learn_can_index_a_set_and_does_not_treat_it_as_a_sequence():
    windows = window_set(n_windows=7)
    for rows in (np.array([4, 1]), np.arange(7) % 2 == 0, slice(2, 5)):
        assert_same(_safe_indexing(windows, rows), windows.take(np.arange(7)[rows]))
    assert_same(windows[3], windows.take([3]))
    assert windows.shape == windows.X.shape
    with pytest.raises(TypeError, match="not iterable"):
        iter(windows)
    with pytest.raises(InputError, match=r"X\[0\] is a WindowSet; .*WindowSet.concatenate"):
        windows_of([windows, windows])
