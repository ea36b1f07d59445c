"""SensorBlendClassifier: its members, its file, its place in scikit-learn."""

import pickle

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sensorseq import SensorBlendClassifier, SensorLSTMClassifier
from sensorseq.errors import ArgumentError, InputError
from sensorseq.estimator import feature_head
from sensorseq.features import trees
from sensorseq.features.summary import FEATURES

RNG = np.random.default_rng(0)
Y = np.array(["ice", "mud"])[np.arange(40) % 2]
X = RNG.normal(size=(40, 12, 2)) * (1 + 2 * (Y == "mud")[:, None, None])
GROUPS = np.arange(40) // 4
NEW = RNG.normal(size=(7, 12, 2)) * 2


@pytest.fixture(autouse=True)
def _few_convolutions(monkeypatch):
    monkeypatch.setattr(feature_head, "ROCKET_FEATURES", 168)


def network(**arguments):
    settings = {"hidden_size": 4, "max_epochs": 2, "batch_size": 8, "device": "cpu", "refit": None}
    return SensorLSTMClassifier(**{**settings, **arguments})


def blend(estimators="auto", **arguments):
    return SensorBlendClassifier(estimators, network(**arguments), random_state=0)


@pytest.mark.trains
def test_it_is_the_network_with_these_features(tmp_path):
    clf = blend().fit(X, Y, groups=GROUPS)
    alone = network(features=["rocket", "summary", "boosting"], random_state=0)
    alone.fit(X, Y, groups=GROUPS)
    for method in ("predict", "predict_proba", "decision_function"):
        np.testing.assert_array_equal(getattr(clf, method)(NEW), getattr(alone, method)(NEW))
    assert clf.score(X, Y) == alone.score(X, Y) > 0.8
    assert clf.classes_.tolist() == ["ice", "mud"]
    assert clf.n_features_in_ == 2
    names = [tried.name for tried in clf.network_.features_.candidates]
    assert names == ["lstm", "rocket", "summary", "boosting", "together"]
    clf.save(tmp_path / "model")
    loaded = SensorBlendClassifier.load(tmp_path / "model", device="cpu")
    lstm = SensorLSTMClassifier.load(tmp_path / "model")
    for again in (loaded, lstm, pickle.loads(pickle.dumps(clf))):
        np.testing.assert_array_equal(again.predict_proba(NEW), clf.predict_proba(NEW))
        assert again.classes_.tolist() == clf.classes_.tolist()
    assert loaded.estimators == ["ridge", "boosting"]
    # the arguments of the network came back: a second fit is the first
    again = clone(loaded).fit(X, Y, groups=GROUPS)
    np.testing.assert_array_equal(again.predict_proba(NEW), clf.predict_proba(NEW))


@pytest.mark.trains
def test_boosting_on_the_most_important_of_many_statistics(tmp_path, monkeypatch):
    y = np.tile(Y, 3)
    windows = RNG.normal(size=(120, 12, 2)) * (1 + 2 * (y == "mud")[:, None, None])
    n_statistics, chosen_from = 2 * len(FEATURES), []
    choose = trees.important_statistics

    def watched(statistics, class_index, weight, most):
        chosen_from.append(len(statistics))
        return choose(statistics, class_index, weight, most)

    monkeypatch.setattr(feature_head, "BOOSTED_STATISTICS", 3)
    monkeypatch.setattr(feature_head, "important_statistics", watched)
    clf = blend(["boosting"]).fit(windows, y, groups=np.arange(120) // 4)
    head = clf.network_._head
    (block,) = head.blocks
    feature = block.classifier.state()["arrays"]["feature"]
    assert 1 <= len(np.unique(feature[feature >= 0])) <= 3
    assert block.classifier.n_statistics == n_statistics
    # chosen without the windows that are left out
    assert len(chosen_from) == 2
    assert max(chosen_from) == 120 - len(head.out_of_fold)
    assert clf.score(windows, y) > 0.8
    clf.save(tmp_path / "model")
    again = SensorBlendClassifier.load(tmp_path / "model", device="cpu")
    np.testing.assert_array_equal(again.predict_proba(NEW), clf.predict_proba(NEW))


@pytest.mark.trains
def test_classifiers_of_scikit_learn_join(tmp_path):
    members = [LogisticRegression(), make_pipeline(StandardScaler(), LogisticRegression())]
    clf = blend(["ridge", *members], class_weight="balanced").fit(X, Y, groups=GROUPS)
    names = [tried.name for tried in clf.network_.features_.candidates]
    assert names[3:] == ["LogisticRegression_2", "Pipeline_3", "together"]
    assert not hasattr(members[0], "coef_")  # clones are fitted
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(NEW), clf.predict_proba(NEW))
    with pytest.raises(InputError, match=r"a model file cannot hold \w+, only the network, ridge"):
        clf.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.trains
def test_without_members_it_is_the_network():
    clf = blend([]).fit(X, Y, groups=GROUPS)
    assert clf.network_.features is None
    assert clf.network_.features_.candidates == ()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"estimators": "ridge"}, "estimators='ridge' is not 'auto' or a list"),
        ({"estimators": None}, "estimators=None is not 'auto' or a list"),
        ({"estimators": ["trees"]}, "estimators has 'trees'; use 'ridge', 'boosting' or"),
        ({"estimators": [StandardScaler()]}, "estimators has StandardScaler"),
        ({"estimators": ["ridge", "ridge"]}, "names 'ridge' twice"),
        ({"network": LogisticRegression()}, "is not a SensorLSTMClassifier"),
        ({"network": "lstm"}, "network='lstm' is not a SensorLSTMClassifier"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ArgumentError, match=message):
        SensorBlendClassifier(**arguments).fit(X, Y)


def test_arguments_are_those_of_scikit_learn():
    clf = blend(["boosting"])
    assert set(clf.get_params(deep=False)) == {"estimators", "network", "random_state"}
    assert clf.get_params()["network__hidden_size"] == 4
    other = clone(clf).set_params(network__hidden_size=9)
    assert other.network.hidden_size == 9
    assert clf.network.hidden_size == 4
    assert other.network.features == "auto"  # replaced in the fit alone
    with pytest.raises(Exception, match="not fitted"):
        clf.predict(X)


@pytest.mark.trains
def test_groups_reach_the_fits_of_cross_validate(monkeypatch):
    seen = []
    fit = SensorLSTMClassifier.fit

    def watched(self, *arguments, **options):
        seen.append(options["groups"])
        return fit(self, *arguments, **options)

    monkeypatch.setattr(SensorLSTMClassifier, "fit", watched)

    with sklearn.config_context(enable_metadata_routing=True):
        scores = cross_validate(blend(["ridge"]), X, Y, cv=GroupKFold(2), params={"groups": GROUPS})
    assert (scores["test_score"] > 0.6).all()
    assert len(seen) == 2
    assert not set(seen[0]) & set(seen[1])
    assert set(seen[0]) | set(seen[1]) == set(GROUPS)
