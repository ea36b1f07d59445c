"""measure: numbers of what happened in a run, from which its causes are told apart."""

from sensorseq.fluctuation.causes.curve_features import measure_curves
from sensorseq.fluctuation.causes.loss_features import measure_loss
from sensorseq.fluctuation.causes.measuring import merged
from sensorseq.fluctuation.causes.start_features import measure_start
from sensorseq.fluctuation.causes.step_features import measure_steps
from sensorseq.fluctuation.causes.window_features import measure_windows
from sensorseq.fluctuation.run import Run


def measure(run: Run) -> dict[str, float]:
    """Return the features of a run; NaN where something could not be measured.

    They speak of what happened alone: losses, gradients, steps, gates, margins and answers. No
    argument of the estimator is among them; of the learning rate only whether it fell.
    ``windows_per_step`` and ``steps_per_epoch`` choose between the learning rate and the batch
    size, whose dynamics are the same, and serve nothing else.

    Parameters
    ----------
    run : Run
        After `judge`, whose statistics are used.

    Returns
    -------
    dict of str to float
        The same names for every run. Losses are in nats, accuracies and shares are fractions.
    """
    return merged(
        measure_curves(run),
        measure_steps(run),
        measure_start(run),
        measure_loss(run),
        measure_windows(run),
    )
