"""What a record says that a change is sized by: rates, norms, the noise of the gradient."""

import math

import numpy as np

from sensorseq.fluctuation.probes.arm import Floats, Lab, LabWindows
from sensorseq.training_record import TrainingRecord

_LEAST_BATCH = 8  # windows; smaller ones are the likelier end of lr / B to be wrong
_BATCH_SHARE = 1 / 50  # of the training windows, the same
_NOISE_SCALE_SHARE = 1 / 8  # of the gradient noise scale, the same
# Root mean square of Adam's step over its rate where the gradient is nothing but noise, at
# beta_1 = 0.9: sqrt((1 - 0.9) / (1 + 0.9)).
_ADAM_STEP_PER_RATE = 0.23
_ALREADY_SCALED = (0.5, 2.0)  # standard deviations that no scaling would change much
_MEAN_PER_SD = 0.5  # the same for a mean


def steps_before(record: TrainingRecord, start: int) -> slice:
    """Return the steps of the quarter of the run that ends at a snapshot, 20 at least."""
    last = record.snapshots[start].step if record.snapshots else 0
    n_steps = int(record.epoch_steps[-1])
    last = last if last > 0 else n_steps
    return slice(max(0, last - max(20, n_steps // 4)), last)


def rate_at(record: TrainingRecord, start: int) -> float:
    """Return the learning rate of the last step before a snapshot; NaN where it is not known."""
    rates = record.steps.get("learning_rate", np.zeros(0))[steps_before(record, start)]
    return float(rates[-1]) if len(rates) else math.nan


def rate_falls(record: TrainingRecord) -> bool:
    """Whether the learning rate of the run fell to less than half over its second half."""
    rates = record.steps.get("learning_rate", np.zeros(0))
    late = rates[len(rates) // 2 :]
    late = late[np.isfinite(late)]
    return bool(len(late) and late[-1] < late.max() / 2)


def clip_norm(record: TrainingRecord, start: int) -> float:
    """Return the 75 % point of the gradient norms before a snapshot; NaN where none is known."""
    norms = record.steps.get("grad_norm", np.zeros(0))[steps_before(record, start)]
    norms = norms[np.isfinite(norms)]
    return float(np.quantile(norms, 0.75)) if len(norms) and norms.max() > 0 else math.nan


def matched_adam_rate(lab: Lab, start: int) -> float:
    """Return the rate with which Adam's median step is as long as those before a snapshot.

    NaN where the length of the steps was not noted.
    """
    ratios = lab.record.steps.get("update_ratio", np.zeros(0))[steps_before(lab.record, start)]
    ratios = ratios[np.isfinite(ratios)]
    if not len(ratios):
        return math.nan
    squares, count = 0.0, 0
    for parameter in lab.module_at(start).parameters():
        squares += float(parameter.detach().double().square().sum())
        count += parameter.numel()
    if not (squares > 0 and np.median(ratios) > 0):
        return math.nan
    step = float(np.median(ratios)) * math.sqrt(squares / count)
    return step / _ADAM_STEP_PER_RATE


def gradient_noise_scale(record: TrainingRecord) -> float:
    """Return the noise scale over the run, in windows: trace of the covariance over |G|^2.

    Numerator and denominator are averaged apart, for the mean of a ratio of noisy terms is
    anything. NaN where it was not measured.

    References
    ----------
    .. [1] S. McCandlish, J. Kaplan, D. Amodei, *An Empirical Model of Large-Batch Training*, 2018.
    """
    names = ("gradient_noise", "grad_norm", "n_windows")
    if not all(name in record.steps for name in names):
        return math.nan
    trace, norm, size = (np.asarray(record.steps[name], np.float64) for name in names)
    known = np.isfinite(trace) & np.isfinite(norm) & (size > 0)
    if not known.any():
        return math.nan
    square = float(np.mean(norm[known] ** 2 - trace[known] / size[known]))
    return float(np.mean(trace[known])) / square if square > 0 else math.inf


def small_batch(lab: Lab) -> str:
    """Return why the batches, not the rate, are the likelier end of lr / B; "" if they are not.

    While noise dominates, dynamics know the rate over the batch size only; what tells the two apart
    is where the batch size lies. The noise scale counts as the training windows at most.
    """
    sizes = lab.record.steps.get("n_windows", np.zeros(0))
    n_train = len(lab.train.X)
    if not len(sizes) or not n_train:
        return ""
    size = float(np.median(sizes))
    least = max(_LEAST_BATCH, _BATCH_SHARE * n_train)
    if size < least:
        return f"batches of {size:g} are small: under {least:g} windows"
    scale = min(gradient_noise_scale(lab.record), float(n_train))
    if size < _NOISE_SCALE_SHARE * scale:
        return f"batches of {size:g} are small beside a gradient noise scale of {scale:.0f} windows"
    return ""


def input_scale(windows: LabWindows) -> tuple[Floats, Floats] | None:
    """Return mean and standard deviation of each channel; None where the input is scaled already.

    A constant channel is left as it is.
    """
    X = np.asarray(windows.X, np.float64)
    if X.ndim != 3 or not X.size:
        return None
    if windows.lengths is None:
        values = X.reshape(-1, X.shape[2])
    else:
        values = X[np.arange(X.shape[1]) < np.asarray(windows.lengths)[:, None]]
    if not np.isfinite(values).all():
        return None
    mean, sd = values.mean(axis=0), values.std(axis=0)
    varies = sd > 1e-12
    low, high = _ALREADY_SCALED
    is_scaled = (sd >= low) & (sd <= high) & (np.abs(mean) <= _MEAN_PER_SD * sd)
    if (is_scaled | ~varies).all():
        return None
    return np.where(varies, mean, 0.0), np.where(varies, sd, 1.0)
