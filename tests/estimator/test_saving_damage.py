"""A model file that contradicts itself is refused with its path."""

import numpy as np
import pytest
from fits import lstm_weight, on_features, plain_classifier, use_members

from sensorseq import SensorLSTMClassifier, WindowSet
from sensorseq.errors import ModelFileError
from sensorseq.io.model_file import read_model, write_model

N = 48
Y = np.arange(N) % 2
X = np.random.default_rng(0).normal(size=(N, 30, 2)) + 1.2 * Y[:, None, None]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The file of two networks of patches and two members on features, of named recordings."""
    windows = WindowSet(X, y=Y, recording_id=np.array([f"r{i // 4}" for i in range(N)]))
    settings = {"hidden_size": 4, "max_epochs": 2, "n_models": 2, "patch": 5, "random_state": 1}
    clf, other = (
        plain_classifier(**settings, features=kind).fit(windows) for kind in ("summary", "boosting")
    )
    # as if one fit had chosen both kinds of features
    use_members(clf, lstm_weight(clf), on_features(clf) | on_features(other))
    path = tmp_path_factory.mktemp("model") / "model"
    clf.save(path)
    return path


def changed(name, change):
    """Return a damage of an array, or of its absence if `change` is None."""
    return lambda a, d: a.pop(name) if change is None else a.update({name: change(a[name])})


def with_nan(array, at=(0, 0)):
    array = array.copy()
    array[at] = np.nan
    return array


WEIGHT, BIAS = "member.summary.weight", "member.summary.bias"
SCALE, LINEAR = "member.lstm.patch.channel_scale", "module.linear.bias"
DAMAGES = {
    "an unknown parameter": lambda a, d: d["parameters"].update(hidden_sizes=3),
    "no classes": lambda a, d: d.update({"class": d.pop("classes")}),
    "classes of no known type": lambda a, d: d.update(classes={"dtype": "V8", "values": []}),
    "shares of other classes": lambda a, d: d.update(class_shares=[0.2] * 5),
    "a share of 0": lambda a, d: d.update(class_shares=[0.0, 1.0]),
    "other channels": lambda a, d: d.update(n_channels=5),
    "channels as text": lambda a, d: d.update(n_channels="2"),
    "a type without kernels": lambda a, d: d.update(dtype="float16"),
    "a function of torch": lambda a, d: d.update(dtype="set_default_device"),
    "no history": lambda a, d: d.update(history=[]),
    "a history of text": lambda a, d: d.update(history=["x"]),
    "no history of the second network": lambda a, d: d.update(other_histories=[]),
    "an engine of numbers": lambda a, d: d.update(engine=[1, 2, 3]),
    "an unknown pooling": lambda a, d: d["architecture"].update(pooling="sum"),
    "no architecture": lambda a, d: d.update(architecture={}),
    "flat windows of text": lambda a, d: d.update(flat_timesteps="x"),
    "impossible facts": lambda a, d: d.update(report_facts={"n_val": -1}),
    "no list of recordings": lambda a, d: d["preparation"].pop("recordings"),
    **{
        f"report: {wrong}": lambda a, d, wrong=wrong: d.update(fluctuation=wrong)
        for wrong in (None, 3, {}, {"format": "sensorseq.fluctuation"})
    },
    "no bias": changed(LINEAR, None),
    "a bias of other classes": changed(LINEAR, lambda a: np.zeros(4, np.float32)),
    "another weight of the network": lambda a, d: a.update({"module.extra": np.zeros(4, "f4")}),
    "an unknown array": lambda a, d: a.update({"unknown": np.zeros(4, "f4")}),
    "a scaler of other channels": changed("scaler.channel_center", lambda a: np.zeros(7)),
    "a scaler of no kind": changed("scaler.kind", None),
    "no second network": lambda a, d: [
        a.pop(name) for name in [*a] if name.startswith("module_1.")
    ],
    "ranges of other channels": changed("ranges.low", lambda a: a[:, :1]),
    "ranges in the wrong order": changed("ranges.low", lambda a: a + 1e9),
    "infinite ranges": changed("ranges.high", lambda a: np.full_like(a, np.inf)),
    "ranges of NaN": changed("ranges.high", with_nan),
    "ranges of negative scale": changed("ranges.scale", lambda a: -a),
    "ranges of a shorter scale": changed("ranges.scale", lambda a: a[:1]),
    "ranges of another type": changed("ranges.scale", lambda a: a.astype(np.float32)),
    "no lower ranges": changed("ranges.low", None),
    "no scale of ranges": changed("ranges.scale", None),
    **{
        f"patch: {wrong!r}": lambda a, d, wrong=wrong: d["sum"]["members"]["lstm"].update(
            patch=wrong
        )
        for wrong in (1, -9, 9.0, "9", [9], True, 40)  # frames of 40 have more bands
    },
    "no arrays of patches": lambda a, d: [a.pop(name) for name in [*a] if ".patch." in name],
    "a shorter scale of patches": changed(SCALE, lambda a: a[:-1]),
    "no member": lambda a, d: d["sum"]["members"].pop("summary"),
    "no mapping": lambda a, d: d["sum"].update(members=3),
    "unknown kind": lambda a, d: [
        d["sum"][part].update(forest=d["sum"][part]["boosting"]) for part in ("members", "weights")
    ],
    "weight": lambda a, d: d["sum"]["weights"].update(lstm=float("nan")),
    "weight of trees": lambda a, d: d["sum"]["weights"].update(boosting=float("inf")),
    "no weights": lambda a, d: d["sum"].pop("weights"),
    "no lstm": lambda a, d: [d["sum"][part].pop("lstm") for part in ("weights", "members")],
    "bias of the sum": lambda a, d: d["sum"].update(bias=[0.0]),
    "bias of the sum not finite": lambda a, d: d["sum"].update(bias=[0.0, float("nan")]),
    "weights cut": changed(WEIGHT, lambda a: a[:-1]),
    "weights of another type": changed(WEIGHT, lambda a: a.astype(np.float64)),
    "weights not finite": changed(WEIGHT, with_nan),
    "two biases of a class": changed(BIAS, lambda a: np.zeros((2, 2))),
    "one bias": changed(BIAS, lambda a: np.zeros(1)),
    "no thresholds": changed("member.summary.state.thresholds", None),
    "more outputs": lambda a, d: a.update(
        {BIAS: np.zeros(3), WEIGHT: np.repeat(a[WEIGHT], 2, 1)[:, :3]}
    ),
    "cycle": changed("member.boosting.left", np.zeros_like),
    "channels": lambda a, d: d["sum"]["members"]["boosting"]["summary"].update(n_channels=1),
    "no trees": lambda a, d: d["sum"]["members"]["boosting"].pop("trees"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_model_that_contradicts_itself_is_refused_with_its_path(damage, path, tmp_path):
    edited = tmp_path / "edited"
    arrays, description = read_model(path)
    DAMAGES[damage](arrays, description)
    write_model(edited, arrays, description)
    with pytest.raises(ModelFileError, match=str(edited)) as raised:
        SensorLSTMClassifier.load(edited)
    assert "ranges" in str(raised.value) or "ranges" not in damage


def test_a_file_that_is_read_and_written_again_is_unchanged(path, tmp_path):
    write_model(tmp_path / "same", *read_model(path))
    assert (tmp_path / "same").read_bytes() == path.read_bytes()
    same, own = (SensorLSTMClassifier.load(file) for file in (tmp_path / "same", path))
    np.testing.assert_array_equal(same.predict_proba(X), own.predict_proba(X))
