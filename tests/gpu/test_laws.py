"""The checks of layer_laws detect faults: each check fails on a layer with one fault."""

import functools
import itertools
import warnings

import layer_laws
import pytest
from layer_laws import Variant

from sensorseq import ops

RIGHT = ops.lstm_linear
CALLS = itertools.count()


def with_logits(change):
    """The layer with its logits changed by a function of the logits and the arguments."""

    @functools.wraps(RIGHT)
    def layer(**arguments):
        logits, h_n, c_n = RIGHT(**arguments)
        return change(logits, arguments), h_n, c_n

    return layer


def without(name):
    return lambda **arguments: RIGHT(**{**arguments, name: None})


def beyond(logits, arguments):
    return logits + 0 * arguments["x"].sum(dim=(2, 3))[..., None]


def of_batch(logits, arguments):
    return logits + 1e-6 * logits.shape[1]


def of_models(logits, arguments):
    return logits + 1e-6 * logits.shape[0]


def of_call(logits, arguments):
    return logits + 1e-6 * next(CALLS)


def rounded(logits, arguments):
    return logits + (logits.bfloat16().float() - logits).detach() * 0.01


def steeper(logits, arguments):
    return logits * 1.00001 - (logits * 0.00001).detach()


def of_layout(logits, arguments):
    return logits if arguments["x"].is_contiguous() else logits + 1e-6


PLAIN = Variant(32, lengths="mixed")
FAULTS = [
    (layer_laws.check_error, PLAIN, with_logits(rounded)),
    (layer_laws.check_error, PLAIN, with_logits(steeper)),
    (layer_laws.check_error, PLAIN, without("lengths")),
    (layer_laws.check_error, Variant(32, states=True), without("c_0")),
    (layer_laws.check_error, Variant(32, mask=True), without("recurrent_mask")),
    (layer_laws.check_same_bits_twice, PLAIN, with_logits(of_call)),
    (layer_laws.check_batch_invariance, PLAIN, with_logits(of_batch)),
    (layer_laws.check_model_invariance, Variant(32, n_models=3), with_logits(of_models)),
    (layer_laws.check_chunks, Variant(32), without("h_0")),
    (layer_laws.check_beyond_lengths, PLAIN, with_logits(beyond)),
    (layer_laws.check_not_contiguous, PLAIN, with_logits(of_layout)),
]


def test_cudnns_warning_about_weights_in_several_tensors_fails_no_test():
    warnings.warn("RNN module weights are not part of single contiguous chunk.", stacklevel=1)


@pytest.mark.parametrize(("check", "variant", "layer"), FAULTS)
def test_a_fault_breaks_its_law(check, variant, layer, monkeypatch):
    check("cpu", variant, "float32")
    monkeypatch.setattr(ops, "lstm_linear", layer)
    with pytest.raises(AssertionError):
        check("cpu", variant, "float32")
