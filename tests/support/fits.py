"""What two fits are compared by."""


def weights(fitted):
    """Return the tensors of a module, or of an estimator's, as bytes by name."""
    state = getattr(fitted, "module_", fitted).state_dict()
    return {name: tensor.numpy().tobytes() for name, tensor in state.items()}


def without_time(history):
    """Return the rows of a history but for the time that each epoch took."""
    return [{k: v for k, v in row.items() if k != "duration_s"} for row in history]
