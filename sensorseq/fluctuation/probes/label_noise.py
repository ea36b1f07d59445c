"""suspected_labels: windows whose labels look wrong to networks that were trained without them."""

import math

import numpy as np

from sensorseq.data_checks.wrong_labels import judge_labels
from sensorseq.fluctuation.causes.cause import NotTested, Suspect, Trial
from sensorseq.fluctuation.probes.arm import Lab
from sensorseq.fluctuation.probes.purse import Findings

LEAST_SHARE, LEAST_SUSPECTS = 0.02, 3  # wrong labels that are worth a cause
MOST_SUSPECTS = 100
DRAWN_POINTS = 200  # of a channel of a suspect
CODE = "sensorseq.find_label_errors(SensorLSTMClassifier(), X, y, groups=...)"
_CAUSE = "label_noise"


def suspected_labels(lab: Lab) -> Findings:
    """Judge the labels by predictions that the fit already has, without any training.

    These are the predictions of the folds on which the features were weighed. Where classes are
    hard to tell apart, right labels look wrong too, so wrong labels are never proved here: the
    trial is undecided and names the suspects, or rejected when hardly any label looks wrong.

    Parameters
    ----------
    lab : Lab
        The fit; `out_of_fold` has the rows of X and the probabilities, where there are any.
    """
    predicted = getattr(lab, "out_of_fold", None)
    train = lab.train
    if predicted is None or train.rows is None:
        reason = "the fit has no predictions of windows by networks that were trained without them"
        return Findings(not_tested=[NotTested(_CAUSE, reason, CODE)])
    _, at, judged = np.intersect1d(train.rows, predicted[0], return_indices=True)
    if len(np.unique(train.target[at])) < 2:
        return Findings(not_tested=[NotTested(_CAUSE, "too few windows were predicted", CODE)])
    groups = None if train.groups is None else train.groups[at]
    found = judge_labels(predicted[1][judged], train.target[at], np.array(lab.classes), groups)
    n_wrong, n_least = found.n_estimated, max(LEAST_SUSPECTS, math.ceil(LEAST_SHARE * len(at)))
    sentence = (
        f"Networks that were trained without them contradict {n_wrong} of {len(at)} labels"
        f" ({n_wrong / len(at):.0%})"
    )
    suspects = []
    if n_wrong < n_least:
        sentence += f", fewer than the {n_least} that would matter."
    else:
        sentence += f". Check these labels; {CODE} ranks all of them."
        for i in range(min(n_wrong, MOST_SUSPECTS)):
            row = int(at[found.row[i]])
            n_steps = train.X.shape[1] if train.lengths is None else int(train.lengths[row])
            shown = np.unique(np.linspace(0, n_steps - 1, min(n_steps, DRAWN_POINTS)).astype(int))
            suspects.append(
                Suspect(
                    row=int(train.rows[row]),
                    label=str(found.given[i]),
                    rival=str(found.likelier[i]),
                    probability=float(found.probability[i]),
                    recording=None if train.groups is None else str(train.groups[row]),
                    values=train.X[row][shown].T.astype(float).tolist(),
                )
            )
    trial = Trial(
        cause=_CAUSE,
        name="labels judged by networks trained without them",
        change={},
        kind="inference",
        outcome="undecided" if suspects else "rejected",
        sentence=sentence,
    )
    return Findings(trials=[trial], suspects=suspects)
