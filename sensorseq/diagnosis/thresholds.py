"""All thresholds of the verdict, with the sources of the limits for healthy runs."""

# These limits were calibrated in benchmarks/results/verdict_calibration.json, with 252 healthy or
# noisy-but-normal runs on three simulated data sets, and 216 runs made to fluctuate, each paired
# with its healthy twin. The noise of both losses, in nats, is measured over the second half of the
# run. The noise exceeds both limits in 2 % of the healthy and 8 % of the noisy-but-normal runs.
# Both limits are tested, because each loss alone also reacts to harmless effects: the validation
# loss to few windows and overconfidence, the training loss to dropout.
FIXED_LOSS_NOISE_NATS = 0.022  # limit for fixed training windows, evaluated after each epoch
LOSS_NOISE_NATS = 0.016  # limit for the running loss; averaging over an epoch reduces noise
VALIDATION_LOSS_NOISE_NATS = 0.031
STRONG_EDGES = 2.0  # the fluctuation is strong if both limits are exceeded by this factor
# both losses leap by this much in the same epoch in 1 % of healthy and 35 % of restless runs
COMMON_LEAP_NATS = 0.15
COMMON_LEAP_EPOCHS = 7  # the baseline of a leap is the median of this many preceding epochs
ONE_SIDE_EDGES = 2.0  # multiplies the limit if the history has only one of the two losses
SURE_SHARE = 0.15  # fraction of the limit that the noise must exceed with confidence
EXCESS_PLATEAU_NATS = 0.05  # largest harmless increase of the loss due to noisy weights
ALPHA = 0.05  # significance level of all tests together (Holm)
# A learning rate above this multiple of the previous rate is a restart or warm-up, not rounding.
RATE_RISE = 1.05
RATE_RISE_EPOCHS = 3  # leaps are ignored in this many epochs, beginning with the rise
MIN_DIFFERENCES = 10  # minimum number of second differences; 12 epochs have this many
ACCURACY_NOISE = 0.015  # the accuracy looks rough if its noise, a fraction, exceeds this
ACCURACY_NOISE_WINDOWS = 1.5  # a rough accuracy moves by more than this many windows
# The accuracy on a fixed validation set usually scatters less than the binomial bound. In two pilot
# studies, the ratio of scatter to bound was 0.13 to 1.28 in calm runs, and 0.9 to 3.1 in restless
# runs.
EXCESS_OVER_SAMPLING = 1.5
STRONG_EXCESS_OVER_SAMPLING = 2.0
SPIKE_SHARE = 0.02  # if more than this fraction of epochs leap, the noise is heavy-tailed
# upper bound on the probability of a leap in an epoch if the noise is white and at its limit; the
# probability was 0.002 in simulations
SPIKE_CHANCE = 0.01
SPIKE_EDGES = 3.0  # smallest leap that matters, as a multiple of the limit on the noise
MIN_EPOCHS = 12  # epochs after the initial descent; with fewer, noise estimates are off by 40 %
# An accuracy has collapsed if it was once this far above guessing and fell back to guessing.
COLLAPSE_MARGIN = 0.1
COLLAPSE_EPOCHS = 3
# A run has broken down if all its columns leave the range of the epochs before, and a loss rises by
# this fraction of its level.
BREAKDOWN_RISE = 0.5
CONCLUSIVE_EPOCHS = 5  # epochs in which overfitting can be conclusive, whatever the noise
RECOVERY_EPOCHS = 3  # minimum number of finite epochs after the last non-finite epoch
RECOVERED_SHARE = 0.1  # maximum fraction of non-finite epochs; one epoch is always allowed
UNKNOWN_SIZE_MARGIN = 0.05  # margin above guessing, if the number of windows is unknown
LATE_START_RISE = 0.05  # a rise of the accuracy by more than this shows learning
LATE_START_FALL = 0.03  # smallest relative fall of the training loss in a late start
NO_DESCENT = 0.02  # if the loss has fallen by less than this fraction, nothing was learned
LEARNED_FALL = 0.5  # a training loss below this fraction of its first value shows learning
OVERFITTING_RISE_NATS = 0.1  # smallest rise of the validation loss, beyond chance, that matters
TREND_Z = 1.96  # two-sided 95 % point of the normal distribution
TREND_RATIO = 1.5  # a change of the noise by up to this factor is reported as "a little"
ONE_SIDED_95 = 1.645
ONE_SIDED_99 = 2.326
SURELY_BELOW_Z = 3.0  # errors within a recording are correlated, so 1.645 would not give 95 %
# In simulations with 27 epoch-to-epoch changes and 120 windows, the model moved half as much as the
# recordings did. The test by groups detected the model in 31 % of runs with 3 groups, 53 % with 4,
# 77 % with 8, 87 % with 10, and 95 % with 16. When the model moved as much as the recordings, the
# test detected the model in 97 % of runs with 4 groups.
MIN_GROUPS = 10
# `cross_fit` chooses the best epoch on half of the windows. With few windows, this choice is worse
# than a choice on all of them: in simulations with 20 windows, the accuracy that `cross_fit` gave
# for the best epoch was 7 points too low.
MINOR_SHARE = 0.1  # with a smaller share of the sum, the settings of the LSTM matter little
MIN_UNITS_TO_SCORE = 60
# Windows move together if R or R_g (ratios of variances) is above this and significantly above 1.
EXCESS_RATIO = 1.5
RESTLESS_WINDOWS = 0.1  # fraction of windows that count as restless: those that flip most
RESTLESS_SHARE = 0.6  # restless windows with this fraction of all flips make the curve rough
ONE_CLASS_WINDOWS = 10  # with this many windows, equal predictions are not a coincidence
# Is a loss a mean in nats? In the first epochs, a mean is close to the loss of guessing. A sum over
# batches is far above the loss of guessing at first, and for many epochs the sum remains above the
# loss that matches the accuracy.
FIRST_EPOCHS = 3
ASSUMED_CLASSES = 20  # if the number of classes is unknown
SUM_TIMES_GUESS = 2.5
SUM_TIMES_ACCURACY = 2.0
# Sums over batches differ by the difference of the means times the batches. Two high losses that
# are closer than this probably contain the same penalty.
PENALTY_GAP_NATS = 0.5
TOO_SMALL = 0.5  # a loss below this fraction of ln 2 per wrong window is too small
MOST_RIGHT = 0.95  # only epochs with an accuracy below this show that a loss is too small
SURE_RISE_Z = 4.0  # smallest rise of the accuracy that shows learning, in standard errors
# If a flat loss is below this fraction of a constant answer's loss, the network was pretrained.
BELOW_CONSTANT_ANSWER = 0.8
# Relative fall of the training loss in ten epochs that makes more epochs worthwhile.
STILL_FALLS = 0.02
