"""Files of the version before are read; they kept features apart from the LSTM."""

import json

import numpy as np
import pytest
from fits import fused_classifier, plain_classifier, use_members

from sensorseq import SensorFusionClassifier, SensorLSTMClassifier
from sensorseq.errors import ArgumentError, ModelFileError
from sensorseq.estimator.saving import current_arguments
from sensorseq.io.model_file import pack, read_model, to_jsonable
from sensorseq.prediction.loading import load

RNG = np.random.default_rng(0)
Y = np.arange(40) % 2
X = np.sin(np.arange(30)[:, None] * (0.3 + 0.3 * Y[:, None, None])) + 0.3 * RNG.normal(
    size=(40, 30, 2)
)


def as_version_7(path, change=lambda description: None):
    """Write a model file again in the form of version 7."""
    arrays, description = read_model(path)
    for number, of_model in enumerate(description.get("sensors", [description])):
        before = f"sensor.{number}." if "fusion" in description else ""
        whole, choice = of_model.pop("sum"), of_model["features"]
        (lstm, *features), members = whole["weights"], whole["members"]
        assert lstm == "lstm"
        for name in features:
            weight = whole["weights"][name]
            if name == "boosting":
                members[name]["factor"] = weight
                continue
            for part in ("weight", "bias"):
                key = f"{before}member.{name}.{part}"
                arrays[key] = (arrays[key] * weight).astype(arrays[key].dtype)
        of_model["patch"] = members.pop(lstm)["patch"]
        head = {"lstm_weight": whole["weights"][lstm], "choice": choice, "blocks": members}
        of_model["features"] = head if choice["candidates"] else None
    change(description)
    renamed = {
        key.replace("member.lstm.", "").replace("member.", "features."): array
        for key, array in arrays.items()
    }
    content = pack(renamed, json.dumps(to_jsonable(description)))
    path.write_bytes(content.replace(b'"version":"8"', b'"version":"7"'))


@pytest.mark.parametrize("features", [None, ["summary", "boosting"]])
def test_a_file_of_version_7_predicts_as_before(tmp_path, features):
    path = tmp_path / "model.safetensors"
    arguments = {"max_epochs": 2, "hidden_size": 3, "patch": 6, "features": features}
    clf = plain_classifier(**arguments).fit(X, Y)
    if features:
        assert clf.features_.candidates
        use_members(clf, 0.7)
    clf.save(path)
    as_version_7(path)
    again, alone = SensorLSTMClassifier.load(path), load(path)
    for model in (again, alone):
        np.testing.assert_allclose(model.predict_proba(X), clf.predict_proba(X), rtol=0, atol=1e-6)
    assert again.features_ == clf.features_
    assert again.patch_.n_samples == 6
    again.save(path)  # in the form of this version
    assert load(path).predict_proba(X).tobytes() == alone.predict_proba(X).tobytes()


def test_a_file_of_several_sensors_of_version_7_predicts_as_before(tmp_path):
    path, sensors = tmp_path / "model.safetensors", {"imu": X, "motor": X[:, ::2]}
    clf = fused_classifier(max_epochs=2, hidden_size=3, features="summary").fit(sensors, Y)
    clf.save(path)
    as_version_7(path)
    for model in (SensorFusionClassifier.load(path), load(path)):
        found = model.predict_proba(sensors)
        np.testing.assert_allclose(found, clf.predict_proba(sensors), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda description: description.pop("features"),
        lambda description: description.update(features=3),
        lambda description: description["features"].pop("blocks"),
        lambda description: description["features"]["blocks"].update(summary=3),
        lambda description: description.update(sensors=3, fusion={}),
    ],
)
def test_an_inconsistent_file_of_version_7_is_refused(tmp_path, change):
    path = tmp_path / "model.safetensors"
    plain_classifier(max_epochs=1, hidden_size=3, features="summary").fit(X, Y).save(path)
    as_version_7(path, change)
    for read in (SensorLSTMClassifier.load, SensorFusionClassifier.load, load):
        with pytest.raises(ModelFileError):
            read(path)


def test_a_momentum_of_an_earlier_file_or_program_has_one_place():
    """`momentum` was an argument of its own."""
    stored = {**SensorLSTMClassifier(optimizer="sgd").get_params(), "momentum": 0.5}
    assert current_arguments(stored)["optimizer_params"] == {"momentum": 0.5}
    stored |= {"optimizer": "adam"}
    assert current_arguments(stored)["optimizer_params"] is None
    with pytest.raises(ArgumentError, match="use optimizer_params="):
        SensorLSTMClassifier(momentum=0.5)


def stored_with(path, **parameters):
    """Return the path of a model file that contains these parameters, too."""
    arrays, description = read_model(path)
    description["parameters"].update(parameters)
    path.write_bytes(pack(arrays, json.dumps(to_jsonable(description))))
    return path


@pytest.mark.parametrize(
    ("name", "without_effect", "used"), [("l1", 0.0, 0.01), ("clip_by", "norm", "value")]
)
def test_a_file_with_an_argument_that_is_gone_predicts_as_before(
    tmp_path, name, without_effect, used
):
    path = tmp_path / "model.safetensors"
    clf = plain_classifier(max_epochs=1, hidden_size=3).fit(X, Y)
    clf.save(path)
    loaded = SensorLSTMClassifier.load(stored_with(path, **{name: without_effect}))
    assert loaded.predict_proba(X).tobytes() == clf.predict_proba(X).tobytes()
    stored_with(path, **{name: used})
    with pytest.warns(UserWarning, match=f"trained with {name}=.* fit will not use {name}"):
        loaded = SensorLSTMClassifier.load(path)
    for model in (loaded, load(path)):
        assert model.predict_proba(X).tobytes() == clf.predict_proba(X).tobytes()


@pytest.mark.parametrize(
    ("name", "value"),
    [("loss", "mse"), ("optimizer", "lion"), ("lr_schedule", "one_cycle"), ("scale", "min_max")],
)
def test_a_file_with_a_value_that_is_gone_predicts_as_before_and_fit_refuses_it(
    tmp_path, name, value
):
    path = tmp_path / "model.safetensors"
    clf = plain_classifier(max_epochs=1, hidden_size=3).fit(X, Y)
    clf.save(path)
    loaded = SensorLSTMClassifier.load(stored_with(path, **{name: value}))
    for model in (loaded, load(path)):
        assert model.predict_proba(X).tobytes() == clf.predict_proba(X).tobytes()
    loaded.save(path)
    with pytest.raises(ArgumentError, match=f"{name}='{value}' is not known"):
        SensorLSTMClassifier.load(path).fit(X, Y)
