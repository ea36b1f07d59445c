"""What a healthy run is allowed to do: every threshold of the verdict, and where it is from."""

# Calibrated: benchmarks/results/verdict_calibration.json, 252 healthy and noisy-but-normal runs on
# three simulated data sets and 216 that were made to move, each beside its healthy twin. The noise
# of both losses over the second half of the run, in nats: 2 % of the healthy and 8 % of the
# noisy-but-normal runs pass both edges. Both have to be passed, for each alone is moved by what is
# no fault: the validation loss by few windows and by overconfidence, the training loss by dropout.
FIXED_LOSS_NOISE_NATS = 0.022  # noise of a fixed part of the training windows, after each epoch
LOSS_NOISE_NATS = 0.016  # noise of the mean over an epoch, which moves less
VALIDATION_LOSS_NOISE_NATS = 0.031
STRONG_EDGES = 2.0  # times both edges
# leap of both losses in one epoch: 1 % of healthy runs, 35 % of restless ones
COMMON_LEAP_NATS = 0.15
COMMON_LEAP_EPOCHS = 7  # before it, whose median a leap is measured from
ONE_SIDE_EDGES = 2.0  # times its edge, for a history that has one side only
SURE_SHARE = 0.15  # share of an edge that the noise surely exceeds most of the time
EXCESS_PLATEAU_NATS = 0.05  # what the noise of the weights may cost, in loss
ALPHA = 0.05  # level of all statistics tested together, by Holm's method
RATE_RISE = 1.05  # times the rate of the epoch before: a restart or a warm-up, not rounding ...
RATE_RISE_EPOCHS = 3  # ... and so many epochs from it on are no fluctuation but what was asked for
MIN_DIFFERENCES = 10  # second differences that are left must be as many as 12 epochs have
ACCURACY_NOISE = 0.015  # a fraction: where an accuracy begins to look rough ...
ACCURACY_NOISE_WINDOWS = 1.5  # ... and never less than this many windows changing sides
# Fixed validation sets scatter less than the binomial bound: 0.13 to 1.28 times in calm runs of two
# pilots, 0.9 to 3.1 in hot ones.
EXCESS_OVER_SAMPLING = 1.5
STRONG_EXCESS_OVER_SAMPLING = 2.0
SPIKE_SHARE = 0.02  # more epochs than these leaping is a heavy tail, not bad luck
# probability that an epoch of white noise of the edge's size leaps: 0.002 simulated
SPIKE_CHANCE = 0.01
SPIKE_EDGES = 3.0  # a leap that matters, in units of the two loss edges
MIN_EPOCHS = 12  # after the initial descent; below, the noise estimate is off by 40 %
COLLAPSE_MARGIN = 0.1  # accuracy once this far above guessing, and then back to it: collapsed
COLLAPSE_EPOCHS = 3
RECOVERY_EPOCHS = 3  # finite at the end of a run that recovered from a loss that was not ...
RECOVERED_SHARE = 0.1  # ... in at most so many of its epochs, or in one
UNKNOWN_SIZE_MARGIN = 0.05  # above guessing, where the number of windows is not known
LATE_START_RISE = 0.05  # rise of the accuracy over the epochs judged
LATE_START_FALL = 0.03  # fall of the training loss, as a share of itself
NO_DESCENT = 0.02  # a loss that has not lost this share of itself has not been trained
OVERFITTING_RISE_NATS = 0.1  # rise of the validation loss above its lowest, beyond what is luck
TREND_Z = 1.96  # two-sided 95 % point of the normal distribution
TREND_RATIO = 1.5  # a change of noise worth a sentence
ONE_SIDED_95 = 1.645
ONE_SIDED_99 = 2.326
SURELY_BELOW_Z = 3.0  # windows of few recordings err together, so that 1.645 is not 95 % of them
# Simulated: 27 changes, 120 windows, a model that moves half as much as its recordings do by
# themselves. The test by groups finds it in 31 % of runs with 3 groups, 53 % with 4, 77 % with 8,
# 87 % with 10, 95 % with 16; one that moves as much as they do in 97 % with 4.
MIN_GROUPS = 10
# Halves of few windows pick a worse epoch than all of them: in simulations 20 windows came out 7
# points too low.
MIN_UNITS_TO_SCORE = 60
EXCESS_RATIO = 1.5  # R or R_g above this, and surely above 1, is moving together; as the sd ratio^2
RESTLESS_WINDOWS = 0.1  # share of all windows ...
RESTLESS_SHARE = 0.6  # ... carrying this share of all flips: they, not the model, make it rough
ONE_CLASS_WINDOWS = 10  # at least so many windows: all predicted alike is no coincidence
# For a network below what the data allow: two rivals are tested, each at 1 %. Where groups are
# too few for a test of their signs, windows are compared, with a gap that groups rarely make.
LEVEL_ALPHA = 0.01
LEVEL_GAP = 0.1  # difference in accuracy
LEVEL_GROUPS = 8
LEVEL_GAP_OF_FEW_GROUPS = 0.2
STILL_FALLS = 0.02  # share of itself that a training loss must lose in ten epochs to be worth more
