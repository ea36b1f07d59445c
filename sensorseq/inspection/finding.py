"""Finding, the result type of all checks; `KINDS` has the text of each kind."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter, Template
from typing import Any, NamedTuple

from sensorseq.preprocessing.scale.odd_values import KINDS_OF_ODD_VALUES
from sensorseq.text import listed

_MOST_LISTED = 5


@dataclass(frozen=True)
class Finding:
    """One fact that a check found in the data.

    `kind` is one of `KINDS`, `values` are the figures, as plain values, and `where` names the
    affected channels, rows, recordings, classes or groups. `text` and `advice` are derived from
    them.
    """

    kind: str
    values: Mapping[str, Any] = field(default_factory=dict)
    where: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, kind: str, where: Mapping[str, Sequence[Any]] | None = None, /, **values: Any
    ) -> "Finding":
        """Make a finding with figures given by name."""
        return cls(kind, values, where or {})

    @property
    def text(self) -> str:
        """A sentence with the figures."""
        return self._said(KINDS[self.kind].text)

    @property
    def advice(self) -> str:
        """What to do about it; empty if nothing."""
        return self._said(KINDS[self.kind].advice)

    @property
    def severity(self) -> str:
        """``"leak"`` if it inflates a score on held-out windows, else ``"warning"``."""
        return "leak" if self.values.get("is_leak") else "warning"

    @property
    def count(self) -> int:
        """The number of windows, recordings, groups, files or channels affected by a leak."""
        return int(self.values["count"])

    def __str__(self) -> str:
        return f"{self.text} {self.advice}".rstrip()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: kind, values (including `where`), text and advice."""
        values = {**{name: list(names) for name, names in self.where.items()}, **self.values}
        return {"kind": self.kind, "values": values, "text": self.text, "advice": self.advice}

    def _said(self, template: str) -> str:
        known = {**self.values, **self.where}
        if (recordings := self.where.get("recordings")) and not self.values.get("everywhere"):
            what = "it" if len(recordings) == 1 else "them"
            some = shlex.quote(",".join(recordings[:3])) + ",..." * (len(recordings) > 3)
            known["or_leave_out"] = f", or leave {what} out with --exclude {some}"
        return _Words().vformat(template, (), known).strip()


class _Words(Formatter):
    """A formatter that joins lists with commas and chooses between words.

    ``{rows:row|rows}`` gives the first word for one item or for True, else the second;
    ``{x:?text}`` gives the text unless x is empty, zero or missing.
    """

    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return kwargs.get(str(key), "")

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec.startswith("?"):
            return format_spec[1:] if value else ""
        is_list = isinstance(value, list | tuple)
        if "|" in format_spec:
            one, other = format_spec.split("|", 1)
            return one if (len(value) if is_list else value) == 1 else other
        if is_list:
            return listed(value, int(format_spec or _MOST_LISTED))
        return str(format(value, format_spec))


class Kind(NamedTuple):
    """Text and advice of a kind of finding, as templates for `_Words`."""

    text: str
    advice: str


# Phrases shared by several kinds or with other reports, by a dollar sign and their name.
_SAID_AGAIN = {
    **{f"{kind}_seen": seen for kind, (seen, _) in KINDS_OF_ODD_VALUES.items()},
    **{f"{kind}_advice": advice for kind, (_, advice) in KINDS_OF_ODD_VALUES.items()},
    "shared_groups": (
        "{torn:?These groups are in both parts: {torn:12}. Keep each in one. }{shared:?These groups"
        " share windows: {shared:12}. If they are one recording, give them one group; if windows"
        " were copied, remove the copies. }"
    ),
    "give_groups": (
        "Give groups= with the recording of each window. In a search, cross-validation or pipeline,"
        " first call sklearn.set_config(enable_metadata_routing=True), then pass groups to it."
    ),
}


def _read(table: str) -> dict[str, Kind]:
    """Parse kinds: each is a name, a colon and the text, with the advice after " > "."""
    kinds = {}
    for entry in re.split(r"\n(?=\w)", Template(table).substitute(_SAID_AGAIN).strip()):
        name, words = entry.split(": ", 1)
        text, _, advice = " ".join(words.split()).partition(" > ")
        kinds[name] = Kind(text, advice)
    return kinds


# Findings in recordings before windows are cut, the most important first.
_OF_RECORDINGS = """
time_unit: The sample rate of {channels:12} points to a wrong time unit in {places:12}.
  > Set the unit of the time stamps with --time-unit{or_leave_out}.
unit: {channels:12}: another scale but the same shape in {places:12}, so probably another unit.
  > Convert the values{or_leave_out}.
unsigned: {channels:12}: $unsigned_seen, in {places:12} ({example}).
  > $unsigned_advice
marks: {channels:12}: $marks_seen, in {places:12} ({example}).
  > $marks_advice
rescaled: {channels:12}: $rescaled_seen, in {places:12} ({example}).
  > $rescaled_advice
wraps: {channels:12}: $wraps_seen, in {places:12} ({example}).
  > $wraps_advice
empty: {channels:12}: no value in {places:12}.
  > Choose others with --channels{or_leave_out}.
constant: {channels:12}: constant in {places:12}; the sensor may not have been connected.
  > Choose others with --channels{or_leave_out}.
flipped: {channels:12}: opposite sign in {places:12}; the axis may be reversed.
  > Check how the sensor was mounted{or_leave_out}.
stuck: {channels:12}: one value for long while other channels move, in {places:12}.
  > The sensor or its driver may have hung: cut that part out{or_leave_out}.
saturated: {channels:12}: cut off at the limits in {places:12}.
  > What the sensor or the controller cut off is lost; choose a larger range if you can.
gaps: Samples of {channels:12} are missing in {places:12}.
  > Preparing cuts at gaps longer than --max-gap-s and fills shorter ones.
outliers: {channels:12}: values more than 10 times the range away in {places:12}.
  > Repair them, or mark them as missing; a mark such as -9999 is one too.
rates: The sample rate of {channels:12} is unlike that of most recordings in {places:12}.
  > Resampling evens it out, but the slowest recording has no higher frequencies.
swapped: {channels[0]} and {channels[1]} look exchanged in {recordings:12}: each is like the other.
  > Check the wiring or the column names{or_leave_out}.
copies: The same samples are in {pairs:12}.{n_labels:? {n_labels} of these pairs are in different
  classes, so one label is wrong.}
  > Keep one of each: --exclude {exclude}.
channel_sets: There are {n_sets} sets of channels: {sets} recordings.
  > Join the files of one recording with --pair, or choose some with --files.
missing_channel: There is no {channels} in {recordings:12}.
  > Choose other channels with --channels{or_leave_out}.
similar_classes: The names of the classes {classes[0]} and {classes[1]} are nearly the same.
  > If they are one class, give both the same name.
few_groups: Fewer than {n_least} groups hold class {classes:12}, so it cannot be in training,
  validation and test.
  > Record the class again in other groups (another robot, day or place).
class_is_group: Each of {n_groups} groups holds one class only, so what differs between groups (the
  day, the robot) cannot be told from the class.
  > Record each class in several of the groups.
class_order: Each class was recorded in one go, one after the other: what drifts with time (battery,
  temperature) tells the classes apart.
  > Record the classes in turns, and test on another day.
class_by_length: The length of a recording alone tells class {classes:12} from the others.
  > Make sure that no step keeps it: cut windows of one length and rate.
class_by_rate: The rate of a recording alone tells class {classes:12} from the others.
  > Make sure that no step keeps it: cut windows of one length and rate.
"""

# Findings in windows and their split, as a network would see them.
_OF_WINDOWS = """
constant_channels: {severe:No channel of the training windows ever changes|{channels} of
  {n_channels} never {channels:changes|change} in {n_train} training windows (value {value:.3g})}:
  the sensor was not connected, or the column is not a signal.
  > Remove the channel, or check why it holds no signal.
clock_channels: {channels}: a straight line of one slope in at least {share:.0%} of {n_train}
  training windows, so this is a clock or a row number. The network can learn the recording from it,
  and new recordings lie outside its range.
  > Remove the channel of time stamps or row numbers.
still_windows: In {n_windows} of {n_train} training windows (rows {rows}) no channel changes: the
  recording had stopped.
  > Remove windows cut after a recording had stopped.
clipped: {channels}: many values are exactly the largest or the smallest one ({share:.0%} of channel
  {worst}), so the sensor or its amplifier is at its limit.
  > Lower the gain or use a larger measuring range, and record again.
not_scaled: The inputs of the network are far from unit scale.{far:? {far}: the mean is up to
  {offset:.3g} standard deviations from zero.}{off:? {off}: the standard deviation is {sd} where 1
  is expected.}{differ:? Standard deviations of the channels differ {ratio:.3g} times.}
  > Scale each channel by its mean and standard deviation over training windows.
outlier_windows: Values lie beyond {n_sds:.0f} robust standard deviations of the median:
  {channels:3}; in {n_windows} windows, the farthest in rows {rows}.
  > Clip values beyond {n_sds:.0f} deviations when preparing, or repair the recordings.
padding_as_signal: {share:.0%} of {n_train} training windows have the same constant in every channel
  at their {side}, for a tenth of their steps or more. That is padding; without lengths it is read
  as signal.{is_other:? The validation windows are padded at the other side.}
  > {is_leading:?Pad at the end instead. }Give lengths=, or the windows as a list of arrays.
mixed_units: {channels}: in some groups the values vary {ratio:.2g} times as much as in other groups
  of the same class, and no group lies between: they may be in other units.
  > Bring all recordings to the same units before they are cut into windows.
level_shift: {channels} {channels:is|are} at another level in validation: {shift:+.2f} standard
  deviations for {channels[0]}; the standard error between {n_train} and {n_validation}
  {by_group:groups|windows} is {error:.2f}.
  > Check whether both parts were recorded and scaled alike; scaling each recording by itself
  removes its level.
groups_apart: {channels}: validation groups are at other levels than training groups, {apart:.2g}
  standard deviations from the mean for {channels[0]}; training groups are {usual:.2g}.
  > Check whether all groups were recorded and calibrated alike; scaling each recording by itself
  removes its level.
dominant_class: {share:.0%} of the windows belong to class {classes}: a classifier that always
  predicts it reaches that accuracy, and the loss rewards it for that.
  > Use class_weight='balanced' or sampler='balanced', and compare balanced accuracy.
single_window: class {classes} of y has one window ({n_classes} such class{n_classes:|es}), so
  validation cannot show whether it is learned.
  > Record more of it, or drop the class.
single_group: All windows of class {classes} come from one group: the network may learn that group
  instead of the class.
  > Record the class again in another group.
class_not_in_training: There is no training window of class {classes}: {n_windows} of {n_validation}
  validation {n_windows:window belongs to one|windows belong to such classes}, and cannot be
  predicted correctly.
  > Split so that every part has every class, or drop the class.
class_not_in_validation: There is no validation window of class {classes}, which has {n_windows} of
  {n_train} training windows: validation measures a different problem.
  > Split so that every part has every class.
labels_off: The label {distance} {is_after:after|before} fits each window better than its own: a
  linear classifier on mean and spread of the channels is right for {other:.0%} with it and for
  {own:.0%} as they are; guessing gives {guess:.0%}.
  > Check how windows and labels were joined; one of them lost or gained rows.
two_labels: {n_windows} of {n_train} training windows occur with two labels: row {pair[0]} is
  {classes[0]}, and row {pair[1]} with the same values is {classes[1]} (rows {rows}). No network can
  predict both correctly.
  > Decide which label is right, and remove the others.
copied_windows: {n_windows} of {n_train} training windows are copies of other training windows, so
  there are only {n_different} different ones.
  > Remove the copies. To give windows more weight, use sample_weight or sampler.
windows_in_both_parts: {n_windows} of {n_validation} validation windows (rows {rows}) are identical
  to training windows, so the validation score is higher than on new recordings.
  > ${shared_groups}{drawn:?Split by recording: give groups=, and remove copies.}{chosen:?Take
  validation windows from other recordings, and remove copies.}
windows_overlap: {n_windows} of the {n_checked} windows held out for validation{n_more:? that were
  checked ({n_validation} in total)} overlap training windows, so the validation score is inflated,
  and early stopping and fluctuation_ are misled.
  > ${shared_groups}{drawn:?$give_groups}
windows_in_a_row: each window continues the one before it, so they come from one recording or a few.
  Windows of one recording on both sides of the validation split inflate the validation score and
  mislead early stopping and fluctuation_.
  > $give_groups
"""

# Findings of `find_leakage`: leaks, or warnings about what may be intended.
_LEAKS = """
rows_in_two_parts: {count} row(s) are used for training and testing
  > Make folds whose training and test rows do not overlap.
overlapping_windows: {count} held-out window(s) overlap a window of another part
  > Split whole recordings (split_by_group, GroupBalancedKFold), or split by time and leave out
  windows between the parts (split_by_time, BlockedTimeSplit).
simultaneous_windows: {count} held-out window(s) are of the same time as a window of another
  recording in another part
  > Give the recordings of one time one group; join sensors of one recording with --pair.
shared_recordings: {count} recording(s) have windows in more than one part{is_leak:|, at least a
  window apart: a score is for known recordings}
  > Split whole recordings, or leave out the windows within one window length of another part
  (embargo_s of split_by_time and BlockedTimeSplit).
shared_groups: {count} group(s) have windows in more than one part{is_leak:|: a score is for known
  groups}
  > Split by group: split_by_group, GroupBalancedKFold.
same_source: {count} file(s) appear under two names{is_leak:, in more than one part| and count
  twice}
  > Leave out all but one of the copies, or give them one group.
identical_windows: {count} held-out window(s) are identical to a window of another part
  > Leave out one of the recordings, or give both one group.
shared_stretches: {count} held-out window(s) begin or end with half a window of samples that also
  occurs in another part
  > Leave out one of the recordings, or give both one group.
near_duplicates: {count} held-out window(s) copy a window of another part up to noise or gain
  > Check the recordings named; leave one out, or give both one group. Augment only training
  windows, after the split.
held_out_copies: {count} held-out window(s) are copies of others in their part (same recording and
  start); they were made before the split, and a score counts them twice
  > Split first; then balance and augment only the training part.
balanced_before_split: the windows were {made} before the split (see their provenance)
  > Split first; then balance and augment only the training part.
samples_outside_train: {count} window(s) chosen to train on are not in the training part
  > Balance after the split: sample_indices may contain only training windows.
scaler_fit_beyond_train: the scaler's statistics are those of {whose}, not of the training part
  > Fit the scaler only on training windows.
label_channels: {channels:channel|channels} {channels:12} {channels:is|are} constant within windows,
  and {channels:its value|their values} alone {channels:gives|give} the class of {share:.1%}
  of the windows{is_leak:: the label probably stands there a second time|; but only one recording of
  a class is known, whose value that may be}
  > Leave {channels:it|them} out: give the other channels only (--channels of prepare).
scaler_unknown: the scaler's statistics match neither the training part nor all windows
  > Fit the scaler on the training windows of this set.
"""

# Findings of short trainings and of the checks before them.
_OF_TRAININGS = """
channels_vary: {n_channels:The channel varies|All {n_channels} channels vary}.
dead_channels: {n_constant} of {n_channels} channels are constant in all windows: {constant}.
  Nothing can be learned from them.
  > Check the sensor and how it was read, or drop the channel.
no_label_channels: No channel that is constant within windows gives the class.
classes_have_windows: Each of the {n_classes} classes has {smallest} windows or more; the largest
  has {largest_share:.0%} of all windows.
one_group: There is only one group.
nothing_shared: No two {unit} share samples ({n_windows} windows compared).
windows_share_samples: {n_sharing} of {n_windows} windows overlap or repeat another. Without groups=
  a split puts them on both sides, so validation tests on samples seen in training.
  > Give groups= with the recording of each window.
groups_share_samples: {n_sharing} of {n_windows} windows share samples with a window of another
  group, so validation tests on samples seen in training.
  > Check how groups= was made: overlapping or copied windows belong in one group.
loss_repeats: With a learning rate of 0 the validation loss is the same in every epoch, so changes
  in your curves come from training and not from the measurement.
loss_changes: With a learning rate of 0 the validation loss is {losses} in successive epochs; it
  should not change. The evaluation itself is random, or not finite.
  > Look for dropout or noise that is still on in evaluation, and for a custom loss that draws
  random numbers.
one_target: All {n_windows} windows have the same target.
memorized: The network memorized {n_windows} windows in {steps} steps ({reached}): network, loss,
  targets and gradients work together.
not_memorized: The network could not memorize {n_windows} windows in {steps} steps of Adam at 0.01
  without any regularization ({reached}). A network that sees its input can do that.
  > Look for identical windows labelled differently, an input without signal after scaling, a custom
  loss with the wrong sign or that ignores the target, and a very small hidden_size.
steps_too_large: {settings} takes the loss of {n_windows} windows from {first_loss:.4g} to
  {last_loss:.4g} in {steps} steps: the steps are too large.
  > Lower learning_rate by a factor of ten, and clip the gradient with max_grad_norm=1.
loss_falls: {settings} takes the loss of {n_windows} windows from {first_loss:.4g} to
  {last_loss:.4g} in {steps} steps{is_slow:: very little, which may be fine with many steps per
  epoch|}.
  > {is_slow:If fit learns slowly, raise learning_rate.|}
windows_too_short: Windows of {n_timesteps} steps are too short to show the shape of a wave.
waves_learned: The network learned to separate cosine from triangle waves of the same period in
  {epochs} epochs ({reached} on new windows). It can learn shapes in windows like yours, so if your
  training fails, look at the data and the labels.
waves_not_learned: The network did not learn to separate cosine from triangle waves of the same
  period in {epochs} epochs of Adam at 0.01 ({reached} on new windows); a working network needs only
  a few.
  > If overfits_a_batch failed too, start there. Otherwise try pooling='meanmax', the default
  weight_init and forget_bias, and a larger hidden_size.
too_few_recordings: There are only {n_units} {unit}, too few for a test with random labels.
  > Give windows of more recordings.
nothing_held_out: No part of the {unit} can be held out for validation.
  > Give more groups.
too_few_held_out: Only {n_votes} {unit} could be held out, too few to show more than chance even if
  all were predicted correctly.
  > Give windows of more recordings.
random_labels_predicted: The {unit} got random labels, and still {n_right} of {n_votes} held-out
  {unit} were predicted correctly (chance gives that in {p:.2%} of cases). Information leaks from
  training to validation, so every validation score is inflated.
  > Give groups= with the recording of each window, so that each recording is on one side of the
  split.
random_labels_at_chance: The {unit} got random labels, and {n_right} of {n_votes} held-out {unit}
  were predicted correctly, which is no better than chance. No leak from training to validation was
  found.
  > {is_blind:?Without groups= this check does not know which windows belong together; give the
  recording of each window to make it stronger.}
"""

KINDS = _read(_OF_RECORDINGS + _OF_WINDOWS + _LEAKS + _OF_TRAININGS)
