"""All messages of inspection and diagnosis by kind, and the formatter that inserts values."""

import re
from collections.abc import Callable, Mapping
from string import Formatter, Template
from typing import Any, NamedTuple

from sensorseq.base.text import listed, percent, plural, times


class Message(NamedTuple):
    """The wording of one kind of finding or statement, as templates for `fill`."""

    text: str
    advice: str = ""  # empty if there is nothing to do
    topic: str = ""  # the section of the table; code selects messages by topic


_SERIES = {
    "loss": "The training loss",
    "fixed_loss": "The loss of fixed training windows",
    "val_loss": "The validation loss",
}
_FORMATS: Mapping[str, Callable[[Any], str]] = {
    "points": lambda value: f"{100 * value:.1f}",
    "in_points": lambda value: f"{(size := f'{100 * value:.2g}')} point{'s' * (size != '1')}",
    "epochs": lambda value: f"epoch{'s' * (len(value) != 1)} {listed(value, 8)}",
    "series": lambda value: _SERIES.get(value, str(value)),
}
_MOST_LISTED = 5


class _MessageFormatter(Formatter):
    """A formatter with the format specifications of `fill`."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec.startswith("?"):
            return format_spec[1:] if value else ""
        is_list = isinstance(value, list | tuple)
        if "|" in format_spec:
            first, second = format_spec.split("|", 1)
            return first if (len(value) if is_list else value) == 1 else second
        if format_spec.startswith("#"):
            return plural(value, format_spec[1:])
        if value is None:  # a non-finite number, read from a file
            return "?"
        if format_spec in _FORMATS:
            return _FORMATS[format_spec](value)
        if format_spec.startswith("times "):
            return times(value, *format_spec[6:].split("/"))
        if format_spec.endswith("%"):
            return percent(value, int(format_spec[1:-1]))
        if is_list:
            return listed(value, int(format_spec or _MOST_LISTED))
        return str(format(value, format_spec))


_FORMATTER = _MessageFormatter()


def fill(template: str, values: Mapping[str, Any]) -> str:
    """Fill a template with values and return the text; a KeyError names a missing value.

    Besides the format specifications of `str.format`, these are available:

    - ``{rows:row|rows}``: the first text for one item, 1 or True, otherwise the second;
    - ``{x:?text}``: the text, unless x is empty, zero or None;
    - ``{n:#window}``: a count with its noun, as in "2 windows";
    - ``{rows:12}``: a comma-separated list of at most 12 items; ``{rows}``: at most 5;
    - ``{x:times as much as/less than}``: a ratio, as in "3 times as much as", and below a half with
      the second words, as in "2 times less than";
    - ``{x:.1%}``: a fraction in percent, as in "97.0 %";
    - ``points``: a fraction times 100, with one decimal; ``in_points``: with two significant
      digits and the unit;
    - ``epochs``: a list of epochs, as in "epochs 2, 5"; ``series``: a column of a history as a
      noun phrase.

    >>> fill("{n:#window} in {rows:row|rows} {rows}", {"n": 2, "rows": [3, 4]})
    '2 windows in rows 3, 4'
    """
    return _FORMATTER.vformat(template, (), values)


# How a recording differs from the others of its class, by measure.
ODD_MEASURES = {
    "duration": "ends {apart:.3g} s {is_more:after|before} the others",
    "idle": "stands still for {value:.3g} s",
    "held": "no channel changes for {value:.3g} s",
    "level": "{name} is {apart:.3g}{unit} {is_more:above|below} its usual level",
    "reversed": "{name} has the opposite sign: it is at {value:.3g}{unit}, usually at {usual:.3g}",
    "low": "{name} goes down to {value:.3g}{unit}, usually to {usual:.3g}",
    "high": "{name} goes up to {value:.3g}{unit}, usually to {usual:.3g}",
    "first": "{name} starts at {value:.3g}{unit}, usually at {usual:.3g}",
    "last": "{name} ends at {value:.3g}{unit}, usually at {usual:.3g}",
    "late": "{name} starts {value:.3g} s after the recording",
    "early": "{name} ends {value:.3g} s before the recording",
    "missing": "{value:.1%} of {name} is missing",
    "stuck": "{name} keeps one value for {value:.3g} s while others move",
    "spread": "{name} varies {times:times as much as/less than} usual",
    "speed": "{name} moves {times:times as fast as/slower than} usual for a second",
    "jerk": "{name} jerks {times:times as much as/less than} usual",
    "agreement": "{name} follows {other} with a correlation of {value:.2f}, usually {usual:.2f}",
    "sign": "{name} has the opposite sign to usual, compared with {other}",
    "delay": "{name} follows {other} after {value:.2f} s, usually after {usual:.2f} s",
    "gain": "{name} is {times:times as large as/smaller than} usual, compared with {other}",
    "offset": "{name} is {apart:.3g}{unit} {is_more:above|below} its usual offset from {other}",
    "copy": "{share:.0%} of its samples are also in {other}",
    "contains": "contains {share:.0%} of the samples of {other}",
}
ODD_VALUES = {
    "unsigned": (
        "whole numbers that jump between the ends of their range",
        "These are probably signed numbers that were stored as unsigned ones: subtract the full"
        " range (65536 for 16 bits) from the values in the upper half of the range.",
    ),
    "marks": (
        "one value, far from all others, occurs again and again",
        "It is probably a placeholder for failed reads: leave these fields empty (NaN), so that"
        " they are read as missing.",
    ),
    "rescaled": (
        "the scale of the signal changes midway, but its shape does not",
        "The unit or the measuring range was probably changed: convert the values.",
    ),
    "wraps": (
        "the values wrap around",
        "Resampling, filtering and averaging create intermediate values that never occurred:"
        " replace an angle by its sine and cosine, and a counter by its increments, or choose other"
        " `channels`.",
    ),
    "signs": (
        "the four values of a quaternion change their signs in one step",
        "The orientation stays the same, but resampling, filtering and averaging create values"
        " near 0: row by row, change the signs if the product with the row before is negative.",
    ),
}
"""Kinds of doubtful values, the most important first, each with a description and advice."""


# Phrases that several messages share; `$name` in a message stands for the phrase of that name.
_PHRASES = {
    **{f"{kind}_seen": seen for kind, (seen, _) in ODD_VALUES.items()},
    **{f"{kind}_advice": advice for kind, (_, advice) in ODD_VALUES.items()},
    "shared_groups": (
        "{torn:?These groups are in both parts: {torn:12}. Keep each group in one part. }{shared:?"
        "These groups share windows: {shared:12}. If they come from one recording, make them one"
        " group; if windows were copied, remove the copies. }"
    ),
    "give_groups": (
        "Give groups= with the recording of each window. For a search, cross-validation or"
        " pipeline, first call sklearn.set_config(enable_metadata_routing=True)."
    ),
    "other_recordings": "Take validation windows from other recordings, and remove copies.",
    "moves": "{column:series} moves +-{noise:.3f} nats per epoch over the second half",
    "like": (
        "{n:#validation window} move like {like} independent ones (R = {ratio:.1f}, p = {p:.3f})"
    ),
    "whether": (
        "it cannot be determined whether recordings flip as blocks or the model moves as a whole"
    ),
    "of_groups": "R_g = {group_ratio:.1f}, p = {group_p:.3f}",
    "kept_epoch": "The weights kept are those of epoch {epoch} of {n_epochs}",
    "picked_score": (
        "The best epoch scores {accuracy:.1%} (standard error {error:points}) on windows that"
        " were not used to pick it"
    ),
}

# In the tables below, each message starts with its kind and a colon; advice follows " > ".

# Findings in recordings before windows are cut, the most important first.
_OF_RECORDINGS = """
[recordings]
time_unit: The sample rate of {channels:12} points to a wrong time unit in {places:12}.
  > Set the unit of the timestamps with --time-unit{or_leave_out}.
unit: {channels:12}: the same shape but a different scale in {places:12}, so probably a different
  unit.
  > Convert the values{or_leave_out}.
unsigned: {channels:12}: $unsigned_seen, in {places:12} ({example}).
  > $unsigned_advice
marks: {channels:12}: $marks_seen, in {places:12} ({example}).
  > $marks_advice
rescaled: {channels:12}: $rescaled_seen, in {places:12} ({example}).
  > $rescaled_advice
wraps: {channels:12}: $wraps_seen, in {places:12} ({example}).
  > $wraps_advice
signs: {channels:12}: $signs_seen, in {places:12} ({example}).
  > $signs_advice
empty: {channels:12}: no values in {places:12}.
  > Choose other channels with --channels{or_leave_out}.
constant: {channels:12}: constant in {places:12}; the sensor may not have been connected.
  > Choose other channels with --channels{or_leave_out}.
stuck: {channels:12}: stuck at one value in {places:12} while other channels move.
  > The sensor or its driver may have hung: cut that part out{or_leave_out}.
saturated: {channels:12}: at the limits in {places:12}: a sensor at the end of its range, or a robot
  at its top speed.
  > If it is the sensor, the values beyond are lost: choose a larger measuring range.
gaps: Samples of {channels:12} are missing in {places:12}.
  > Preparation cuts at gaps longer than --max-gap-s and fills shorter ones.
outliers: {channels:12}: values whose distance from the median exceeds 10 times the usual range, in
  {places:12}.
  > Repair these values, or mark them as missing; a placeholder such as -9999 is an outlier, too.
rates: The sample rate of {channels:12} in {places:12} differs from that of most recordings.
  > Resampling gives all recordings the same rate, but cannot restore the high frequencies that the
  slowest recording lacks.
stands_out: Unlike the others of {recordings:its class|their classes}: {places:12}.
  > Check the sensors and their order in the recording{recordings:|s}{or_leave_out}.
copies: The same samples are in {pairs:12}; {pairs:the second|the second of each pair} can be left
  out.{n_labels:? {n_labels} {n_labels:pair has|pairs have} different classes, so one of the two
  labels is wrong.}
  > Use {leave_out}.
channel_sets: The recordings have {n_sets} different sets of channels: {sets} recordings.
  > Join the files that belong to one recording with --pair, or select some files with --files.
missing_channel: Channel {channels} is missing in {recordings:12}.
  > Choose other channels with --channels{or_leave_out}.
similar_classes: The names of the classes {classes[0]} and {classes[1]} are nearly the same.
  > If they are one class, give both the same name.
few_groups: Fewer than {n_least} groups contain class {classes:12}, so training, validation and test
  cannot all contain it.
  > Record the class again in other groups (another robot, day or place).
class_is_group: Each of {n_groups} groups contains only one class, so differences between groups
  (day, robot) cannot be distinguished from differences between classes.
  > Record each class in several of the groups.
class_order: The classes were recorded one after the other, each in one go, so anything that drifts
  with time (battery, temperature) separates them.
  > Alternate between the classes when you record, and test on recordings from another day.
class_by_length: The length of a recording alone separates class {classes:12} from the others.
  > Make sure that no step preserves this difference: cut windows of the same length and rate.
class_by_rate: The rate of a recording alone separates class {classes:12} from the others.
  > Make sure that no step preserves this difference: cut windows of the same length and rate.
"""

# Findings in windows and their split, as a network would see them.
_OF_WINDOWS = """
[training_windows]
constant_channels: {severe:No channel of the training windows ever changes|{channels} of
  {n_channels} channels never {channels:changes|change} in {n_train} training windows (value
  {value:.3g})}: the sensor was not connected, or the column is not a signal.
  > Remove the channel, or check why it has no signal.
clock_channels: {channels}: a straight line with the same slope in at least {share:.0%} of {n_train}
  training windows, so this is a clock or a row number. The network can recognize each recording by
  this channel, and in new recordings, the channel has values outside the range seen in training.
  > Remove the channel of timestamps or row numbers.
still_windows: In {n_windows} of {n_train} training windows (rows {rows}), no channel changes: the
  sensors had stopped.
  > Remove windows that were cut after the sensors had stopped.
clipped: {channels}: many values are exactly the maximum or the minimum ({share:.0%} of channel
  {worst}): a sensor or amplifier at the end of its range, or a robot at its top speed.
  > If it is the sensor, lower the gain or use a larger measuring range, and record again.
not_scaled: The inputs of the network are far from unit scale.{far:? {far}: the mean is up to
  {offset:.3g} standard deviations from zero.}{off:? {off}: the standard deviation is {sd} where 1
  is expected.}{differ:? Standard deviations of the channels differ by a factor of {ratio:.3g}.}
  > Scale each channel by its mean and standard deviation over training windows.
outlier_windows: Values lie more than {n_sds:.0f} robust standard deviations from the median:
  {channels:3}; they occur in {n_windows} windows, the farthest in rows {rows}.
  > Clip values beyond {n_sds:.0f} standard deviations when preparing the windows, or repair the
  recordings.
padding_as_signal: {share:.0%} of {n_train} training windows have the same constant in every channel
  at their {side}, for at least a tenth of their steps. This is padding, but without lengths= it is
  read as signal.{is_other:? The validation windows are padded at the other end.}
  > {is_leading:?Pad at the end instead. }Give lengths=, or give the windows as a list of arrays.
mixed_units: {channels}: in some groups the values vary {ratio:times as much as/less than} in
  other groups of the same class, and no group lies in between: the units of these groups may
  differ.
  > Convert all recordings to the same units before they are cut into windows.
level_shift: {channels} {channels:is|are} at a different level in validation: {shift:+.2f} standard
  deviations for {channels[0]} (standard error {error:.2f}, from {n_train} training and
  {n_validation} validation {by_group:groups|windows}).
  > Check whether both parts were recorded and scaled alike; scaling each recording separately
  removes its level.
groups_apart: {channels}: validation groups are at different levels from training groups: for
  {channels[0]}, they are {apart:.2g} standard deviations from the mean on average, compared with
  {usual:.2g} for training groups.
  > Check whether all groups were recorded and calibrated alike; scaling each recording separately
  removes its level.
dominant_class: {share:.0%} of the windows belong to class {classes}: a classifier that always
  predicts this class reaches that accuracy, and the loss rewards such predictions.
  > Use class_weight='balanced' or sampler='balanced', and compare balanced accuracy.
single_window: class {classes} of y has only one window ({n_classes} such class{n_classes:|es}), so
  validation cannot show whether it is learned.
  > Record more windows of the class, or drop it.
single_group: All windows of class {classes} come from one group: the network may learn that group
  instead of the class.
  > Record the class again in another group.
class_not_in_training: There is no training window of class {classes}, so {n_windows} of
  {n_validation} validation windows cannot be predicted correctly.
  > Split so that every part has every class, or drop the class.
class_not_in_validation: There is no validation window of class {classes}, which has {n_windows} of
  {n_train} training windows: validation measures a different problem.
  > Split so that every part has every class.
labels_off: The label {distance} {is_after:after|before} each window fits it better than its own
  label: a linear classifier on the mean and spread of the channels is right for {other:.0%} of the
  windows with shifted labels, and for {own:.0%} with the labels as given; guessing gives
  {guess:.0%}.
  > Check how windows and labels were joined; either the windows or the labels lost or gained rows.
two_labels: {n_windows} of {n_train} training windows occur with two different labels: row {pair[0]}
  is {classes[0]}, and row {pair[1]} with the same values is {classes[1]} (rows {rows}). No network
  can predict both correctly.
  > Decide which label is right, and remove the others.
copied_windows: {n_windows} of {n_train} training windows are copies of other training windows, so
  there are only {n_different} different ones.
  > Remove the copies. To give windows more weight, use sample_weight or sampler.
windows_in_both_parts: {n_windows} of {n_validation} validation windows (rows {rows}) are identical
  to training windows, so the validation score is higher than the score on new recordings.
  > ${shared_groups}{drawn:?Split by recording: give groups=, and remove
  copies.}{chosen:?$other_recordings}
windows_overlap: {n_windows} of the {n_checked} windows held out for validation{n_more:? that were
  checked ({n_validation} in total)} overlap training windows, so the validation score is inflated,
  and early stopping, the temperature, features_ and fluctuation_ are misled.
  > ${shared_groups}{drawn:?$give_groups}{chosen:?$other_recordings}
windows_in_a_row: each window continues the one before it, so the windows come from few recordings.
  Windows of one recording on both sides of the validation split inflate the validation score and
  mislead early stopping and fluctuation_.
  > $give_groups
"""

# Findings of `find_leakage`: leaks, and warnings about overlaps that may be intended.
_OF_LEAKS = """
[leaks]
rows_in_two_parts: {count:#row} {count:is|are} used for both training and testing
  > Make folds whose training and test rows do not overlap.
overlapping_windows: {count:#held-out window} {count:overlaps|overlap} a window of another part
  > Keep each recording in one part (split_by_group, GroupBalancedKFold), or split by time and leave
  out windows between the parts (split_by_time, BlockedTimeSplit).
simultaneous_windows: {count:#held-out window} {count:covers|cover} the same time as a window of
  another recording in another part
  > Give recordings made at the same time the same group; join the sensors of one recording with
  --pair.
shared_recordings: {count:#recording} {count:has|have} windows in more than one part{is_leak:|, at
  least one window length apart, so the scores apply only to known recordings}
  > Keep each recording in one part, or leave out the windows within one window length of another
  part (embargo_s of split_by_time and BlockedTimeSplit).
shared_groups: {count:#group} {count:has|have} windows in more than one part{is_leak:|, so the
  scores apply only to known groups}
  > Split by group: split_by_group, GroupBalancedKFold.
same_source: {count:#file} {count:appears|appear} under two names{is_leak:, in more than one part|,
  counted twice}
  > Leave out all but one of the copies, or give them the same group.
identical_windows: {count:#held-out window} {count:is|are} identical to a window of another part
  > Leave out one of the recordings, or give both the same group.
shared_stretches: {count:#held-out window} {count:begins or ends|begin or end} with half a window of
  samples that also occurs in another part
  > Leave out one of the recordings, or give both the same group.
near_duplicates: {count:#held-out window} {count:is a copy|are copies}, with added noise or a
  different gain, of a window of another part
  > Check the named recordings; leave one out, or give both the same group. Augment only training
  windows, after the split.
held_out_copies: {count:#held-out window} {count:is a copy|are copies} of another window in the
  same part (same recording and start); the copies were made before the split, so a score
  counts a window twice
  > Split first; then balance and augment only the training part.
balanced_before_split: the windows were {made} before the split (see their provenance)
  > Split first; then balance and augment only the training part.
samples_outside_train: {count:#window} chosen for training {count:is|are} not in the training part
  > Balance after the split: sample_indices may contain only training windows.
scaler_fit_beyond_train: the scaler's statistics match {whose}, not the training part
  > Fit the scaler only on training windows.
label_channels: {channels:channel|channels} {channels:12} {channels:is|are} constant within windows,
  and {channels:its value|their values} alone {channels:gives|give} the class of {share:.1%} of the
  windows{is_leak:: probably a second copy of the label|; with only one recording of a class, this
  may be a property of that recording}
  > Leave {channels:it|them} out: give only the other channels (--channels of prepare).
scaler_unknown: the scaler's statistics match neither the training part nor all windows
  > Fit the scaler on the training windows of this set.
"""

# The verdict: accuracy, loss and generalization, one line each.
_OF_VERDICT = """
[accuracy]
accuracy_luck: Chance explains the accuracy jumps ({n_val} windows, {step:in_points} each).
accuracy_restless: Accuracy jumps because a few of {n_val} windows are close to the decision
  boundary, not because the model changes.
accuracy_recordings: Accuracy jumps because {n_groups} recordings flip as blocks, not because the
  model changes.
accuracy_together: Accuracy jumps {ratio:.1f} times as far as chance explains with {n_val} windows;
  there are too few groups to find out why.
accuracy_real: Accuracy jumps {ratio:.1f} times as far as chance explains with {n_val} windows.
accuracy_alone: Accuracy jumps {ratio:.1f} times as far as chance explains with {n_val} windows, but
  training is calm.
accuracy_unsized: Accuracy jumps; without n_val, it cannot be determined whether this is chance.
accuracy_calm: Accuracy is calm: +-{sd:points} points per epoch.
[loss]
loss_constant_rate: The loss jumps because the learning rate is constant, not by chance.
loss_moves: The loss jumps because the model itself changes, not by chance.
loss_together: Both losses leap up together in {epochs:epochs}: the model is thrown off.
loss_costs: The loss jumps by more than chance explains. Averaging the weights would save
  {excess:.2f} nats: let the learning rate decay.
loss_leaps: The loss leaps up in {epochs:epochs} and recovers.
loss_of_validation: The validation loss jumps between epochs by more than chance explains.
loss_calmed: The loss jumped at first and has calmed down.
loss_unsure: The loss moves more than in calm runs, but not significantly.
loss_alone: The training loss moves a little more than in calm runs: no cause for alarm.
loss_dropout: The training loss jumps, but the validation loss does not: dropout or augmentation
  causes this.
loss_harmless: The training loss jumps, but the validation loss does not; a decaying learning rate
  would calm it.
loss_unjudged: There are too few epochs between rises of the learning rate to judge the loss.
loss_validation_only: The training loss is calm, but the validation loss moves: there are few
  validation windows, or some of them are hard to classify.
loss_calm: The loss is calm.
[generalization]
overfits: The network overfits: the validation loss rises from epoch {epoch} on.
got_worse: The network got worse: validation accuracy ends {fall:points} points below its best,
  which is more than chance explains.
not_carried_over: The network does not generalize: validation accuracy ends at {level:.1%},
  where guessing gives {chance:.1%}; training accuracy is {train:.1%}.
parts_apart: The network does not generalize: training accuracy ends at {train:.1%}, validation
  accuracy at {level:.1%}.
not_carried_over_loss: The network does not generalize: validation accuracy ends at
  {level:.1%}, where guessing gives {chance:.1%}; the training loss fell from
  {first:.3g} to {last:.3g}.
not_beyond_guessing: Validation accuracy, {level:.1%}, is no better than guessing
  ({chance:.1%}).
not_beyond_guessing_sized: Validation accuracy, {level:.1%}, is no better than what guessing
  can reach with {n_val} windows ({chance:.1%}).
one_class: Validation accuracy cannot be judged: all validation windows belong to one class. Hold
  out recordings of every class.
no_overfitting: The validation loss did not rise by more than chance explains.
val_loss_guesses: The network does not generalize: the validation loss, {level:.3g} nats, is no
  better than that of guessing, {guess:.3g} nats; the training loss is {last:.2g} nats.
[recovery]
recovered: The {part} loss was not finite in {epochs:epochs}; the run recovered.
[unit]
loss_is_sum: {column:series} begins at {first:.3g}, where guessing costs {guess:.3g} nats: it is not
  a mean over windows, but perhaps a sum over batches. This report divides it by {scale:.3g}.
loss_has_penalty: Both losses begin at {first:.3g}, far above the loss of guessing, but close to
  each other: they probably contain more than the cross-entropy, such as an L1 or L2 penalty. Their
  noise was not judged. Log the cross-entropy alone, and name it with --column loss=NAME --column
  val_loss=NAME. If they are sums over batches, divide them by the number of batches.
loss_too_small: {column:series} is as low as {loss:.2g} while {wrong:.1%} of the windows are
  predicted wrongly, which costs at least {least:.2g} nats: either this is not a mean cross-entropy
  in nats, or the accuracy belongs to other windows or means nothing, as in a regression. The noise
  of this loss was not judged.
"""

# Why a run failed, or cannot be judged.
_OF_FAILURE = """
[failure]
broken_from: The {part} loss is {what} from epoch {epoch} on.
broken_in: The {part} loss is {what} in epoch {epoch}.
broken_validation: The training loss stayed finite, so first look for NaN or extreme values in the
  validation windows.
exploded: The {part} loss is above ten times its first value ({first:.3g} nats) for three epochs
  from epoch {epoch} on; it is {value:.3g} nats in that epoch.
collapsed: {part} accuracy had reached {once:.1%} and ended at {last:.1%}, no better than
  guessing: the model has collapsed.
broke_down: From epoch {epoch} on, all columns are far worse than before: the training loss rose
  from {before:.3g} to {last:.3g} nats.
too_short: Of {n_epochs:#recorded epoch}, {n_left} come after the initial descent; at least {least}
  are needed to distinguish noise from progress.
one_answer: The model gives all {n_windows} validation windows the same answer: it has learned
  nothing that tells them apart, so a calm curve means nothing.
nothing_learned: Training accuracy ends at {level:.1%}; guessing gives {chance:.1%}. The
  model has learned nothing so far, so a calm curve means nothing.
validation_guesses: Validation accuracy ends at {level:.1%}; guessing gives {chance:.1%}.
guessing_limit: With {n_val} windows, guessing alone can reach {limit:.1%}.
no_descent: The training loss has not fallen: {first:.3g} nats in the first epoch, {last:.3g} at the
  end. Nothing is being learned, or everything was learned before this history began.
no_descent_of_validation: The validation loss has not fallen: {first:.3g} nats in the first epoch,
  {last:.3g} at the end. Nothing is being learned, or everything was learned before this history
  began.
one_accuracy: {part} accuracy stays at exactly {level:.1%}{level:?, and the loss is flat}: the
  model seems to give all windows the same answer, so a calm curve means nothing.
no_history: There is no history: the network was trained elsewhere.
"""

# Numbers behind the verdict.
_OF_FIGURES = """
[movement]
movement: $moves; calm runs stay below {edge}.
movement_unsure: $moves, which is above the limit for calm runs, {edge}, but not significantly.
movement_leap: $moves, which is above the limit for calm runs, {edge}, but only because of a single
  leap.
movement_calmed: {column:series} moved +-{before:.3f} nats per epoch at first, and +-{noise:.3f}
  over the second half.
movement_calm: {column:series} is calm: +-{noise:.3f} nats per epoch over the second half.
accuracy_moves: Validation accuracy moves +-{sd:points} points per epoch.
accuracy_within_luck: Validation accuracy moves +-{sd:points} points per epoch; sampling {n_val}
  windows alone gives up to +-{sampling:points}.
accuracy_beyond_luck: Validation accuracy moves +-{sd:points} points per epoch, {ratio:.1f} times
  the +-{sampling:points} that sampling {n_val} windows can explain.
training_accuracy_moves: Accuracy on the training windows moves +-{sd:points} points per epoch.
weights_cost: The noise of the weights costs {excess:.2f} nats of training loss: averaging the
  weights of the last epochs lowers the loss by this much.
thrown_off: The training loss leaps up in {epochs:epochs}.
overfitting_figures: Validation loss was lowest in epoch {epoch} ({lowest:.2f} nats) and ended at
  {end:.2f}, while training loss went from {train_then:.2f} to {train_end:.2f}.
lucky_best: The last epoch is {fall:points} points of accuracy below the best one; picking the best
  of so many noisy epochs explains about {luck:points}. This is not evidence that accuracy declined.
training_near_guessing: Training accuracy is only {level:.1%} so far; guessing gives
  {chance:.1%}.
training_rises: Training accuracy is only {level:.1%} so far, but rising; guessing gives
  {chance:.1%}.
"""

# Flips of validation windows.
_OF_FLIPS = """
[windows]
windows_independent: The windows flip independently of each other (R = {ratio:.1f}, p = {p:.3f});
  with so few windows, this gives +-{sd:points} points.
windows_restless: {top:.0%} of the windows account for {share:.0%} of all flips:
  borderline or mislabeled windows make the curve rough.
windows_ungrouped: $like. Without groups, $whether.
windows_few_groups: $like. With {n_groups:#group}, $whether; at least {least} groups are needed.
windows_recordings: $like: each recording flips as a block, independently of the others
  ($of_groups).
windows_model: $like, and different recordings flip together ($of_groups): the model moves as a
  whole.
shares: Windows that flip independently explain {by_windows:.0%} of the variance of the
  accuracy; the rest comes from windows that flip together.
shares_grouped: The variance of the accuracy comes from windows that flip independently
  ({by_windows:.0%}), recordings that flip as blocks ({by_groups:.0%}) and the model as
  a whole ({rest:.0%}).
"""

# Would more epochs help?
_OF_MORE_EPOCHS = """
[noise]
noise_falls: The noise is falling over the epochs: more epochs may calm it.
noise_falls_little: The noise falls a little over the epochs (to {ratio:.2f} of the early noise):
  more epochs alone will hardly calm it.
noise_rises: The noise is rising over the epochs: more epochs would make it worse.
noise_rises_little: The noise rises a little over the epochs (to {ratio:.2f} of the early noise):
  more epochs will not calm it.
noise_constant: The noise is constant over the epochs: more epochs alone will not calm it.
[descent]
flat: The training loss has been flat since epoch {epoch} of {n_epochs}: more epochs of the same
  kind will not lower it.
still_falls: The training loss still falls, by {fall:.3f} nats in ten epochs: more epochs may lower
  it further.
hardly_falls: The training loss hardly falls any more: more epochs of the same kind gain little.
"""

# Which weights were kept, and how good they are.
_OF_KEPT_WEIGHTS = """
[kept]
kept_unknown: The history does not record which epoch's weights were kept.
kept: $kept_epoch.
kept_loss: $kept_epoch (validation loss {loss:.3f} nats).
kept_accuracy: $kept_epoch (accuracy {accuracy:.1%}).
kept_both: $kept_epoch (validation loss {loss:.3f} nats, accuracy {accuracy:.1%}).
[worth]
picked: $picked_score.
picked_gains: $picked_score. This is {gain:points} points more than in the last epoch.
"""

# Questions that the measurements cannot answer.
_OF_OPEN_QUESTIONS = """
[open]
movement_unknown: Whether the model itself moves cannot be determined without a training loss.
foreign_record: The record and the history of the run differ in their numbers of epochs, so the
  record was not used.
no_validation: How well the model does on new recordings cannot be determined without validation
  results.
no_size: How much of the validation curve is chance cannot be determined without the number of
  validation windows: give n_val.
few_validations: The epochs after the initial descent have {n} validation results; at least {least}
  are needed to judge.
no_chance: Whether the model beats guessing cannot be determined: give majority_fraction or
  n_classes.
no_record: A history alone does not show whether a few recordings, a few windows or the model itself
  move the validation curve.
running_loss: The training loss is a mean over each epoch: it also moves with the random batches,
  dropout and augmentation. A fit of this package also records the loss of fixed windows.
none_sought: The cause is unknown: this report did not look for one.
not_tried: No change was tried, so the first cause may not be the true one. To test it, see
  docs/fluctuation.md (Testing a cause).
one_run: One run cannot show the effect of another seed or split.
"""

_OTHERS = """
[other]
loss_not_judged: The loss ({loss}) is not cross-entropy in nats and was not judged.
nothing_else: Without validation windows, nothing else can be judged.
"""

# Evidence for causes.
_OF_CAUSES = """
[cause]
unusual_setting: {name} is {value}, usually {usual}.
few_validation_windows: Validation accuracy moves +-{noise:points} points per epoch{luck:? (chance
  alone gives up to +-{luck:points})}, and the training loss moves +-{loss:.3f} nats per epoch.
  > Training is fine. Hold out more windows or cross-validate, and watch the validation loss.
windows_never_fit: {stuck:.3g} % of the training windows never fit; they are {depth:.2g} times as
  far on the wrong side of the decision boundary as typical windows are on the right side{wrong:?,
  and {wrong:.3g} % of the validation errors are always the same windows}.
  > Check the labels of the windows that never fit.
cause_unclear: Cause unclear.
  > A safe first change: scaled inputs, Adam with a learning rate of 0.001 to 0.003 that falls to
  zero, and gradients clipped at 1.
scaled_but_far_off: The inputs were scaled.
  > Check why values that were scaled are so far from unit scale.
"""


def _read(table: str) -> dict[str, Message]:
    """Parse messages; a line in brackets is the topic of the messages that follow."""
    messages = {}
    topic = ""
    for entry in re.split(r"\n(?=[\w\[])", Template(table).substitute(_PHRASES).strip()):
        if entry.startswith("["):
            topic = entry[1:-1]
            continue
        kind, words = entry.split(": ", 1)
        text, _, advice = " ".join(words.split()).partition(" > ")
        messages[kind] = Message(text, advice, topic)
    return messages


MESSAGES = _read(
    "".join(
        (
            _OF_RECORDINGS,
            _OF_WINDOWS,
            _OF_LEAKS,
            _OF_VERDICT,
            _OF_FAILURE,
            _OF_FIGURES,
            _OF_FLIPS,
            _OF_MORE_EPOCHS,
            _OF_KEPT_WEIGHTS,
            _OF_OPEN_QUESTIONS,
            _OTHERS,
            _OF_CAUSES,
        )
    )
)


def text_of(kind: str, /, **values: Any) -> str:
    """Return the text of a message with its values."""
    return fill(MESSAGES[kind].text, values)


def advice_of(kind: str, /, **values: Any) -> str:
    """Return the advice of a message with its values."""
    return fill(MESSAGES[kind].advice, values)
