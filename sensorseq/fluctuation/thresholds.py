"""What a healthy run is allowed to do: every threshold of the verdict, and where it is from."""

# "Pilot": 40-epoch LSTM runs on synthetic sinusoids and on BorealTC motor currents, 14 settings, 3
# seeds each. Every run with a decayed or a low rate stayed below the two loss edges, every run with
# a hot rate, batches of 2 or RMSprop 1e-2 went above. Both must be passed: one scale exaggerates a
# large loss, the other a vanishing one. "Check": 95 further runs on sinusoids, 19 settings, 5
# seeds, 40 to 100 epochs: none of 55 calm ones was above both edges, 26 of 30 hot ones were (two
# of the others diverged, two were found by their validation curve).
LOSS_NOISE_NATS = 0.03
LOSS_NOISE_RELATIVE = 0.045
STRONG_LOSS_NOISE_NATS = 2 * LOSS_NOISE_NATS
STRONG_LOSS_NOISE_RELATIVE = 1.5 * LOSS_NOISE_RELATIVE
VALIDATION_LOSS_NOISE_RELATIVE = 0.05  # where a validation loss begins to look rough
ACCURACY_NOISE = 0.015  # a fraction: where an accuracy begins to look rough ...
ACCURACY_NOISE_WINDOWS = 1.5  # ... and never less than this many windows changing sides
# Fixed validation sets scatter less than the binomial bound: 0.24 to 1.07 times in the pilot's calm
# runs, 0.13 to 1.28 in those of the check, 0.9 to 3.1 in its hot ones.
EXCESS_OVER_SAMPLING = 1.5
STRONG_EXCESS_OVER_SAMPLING = 2.0
VALIDATION_ONLY_FACTOR = 3.0  # without training loss and validation size, only what is blatant
SPIKE_SHARE = 0.02  # more epochs than these leaping is a heavy tail, not bad luck
SPIKE_EDGES = 3.0  # a leap that matters, in units of the two loss edges
MIN_EPOCHS = 12  # after the initial descent; below, the noise estimate is off by 40 %
MIN_EPOCHS_FOR_THIRDS = 24  # so that a third is eight epochs
COLLAPSE_MARGIN = 0.1  # accuracy once this far above guessing, and then back to it: collapsed
COLLAPSE_EPOCHS = 3
UNKNOWN_SIZE_MARGIN = 0.05  # above guessing, where the number of windows is not known
LATE_START_RISE = 0.05  # of accuracy, over the epochs judged
LATE_START_FALL = 0.03  # of the training loss, as a share of itself
NO_DESCENT = 0.02  # a loss that has not lost this share of itself has not been trained
OVERFITTING_RISE_NATS = 0.1  # of the validation loss above its lowest, beyond what is luck
TREND_Z = 1.96  # two-sided 95 % point of the normal distribution
TREND_RATIO = 1.5  # a change of noise worth a sentence
ONE_SIDED_95 = 1.645
