"""Invented records of healthy runs, to which each test of causes adds a fault."""

import math

import numpy as np

from sensorseq.diagnosis.judge import judge
from sensorseq.diagnosis.metrics import Column, Run
from sensorseq.history import STEP_NAMES, TrainingRecord

N_CLASSES, N_EPOCHS, STEPS_PER_EPOCH, N_TRAIN, N_VAL = 4, 40, 10, 320, 120
N_STEPS = N_EPOCHS * STEPS_PER_EPOCH


def cross_entropy(logits, target):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return -np.take_along_axis(log_p, target[..., None], -1)[..., 0]


def softmax(logits):
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def margins(logits, target):
    of_target = np.take_along_axis(logits, target[..., None], -1)[..., 0]
    rivals = np.array(logits, copy=True)
    np.put_along_axis(rivals, target[..., None], -np.inf, -1)
    return of_target - rivals.max(axis=-1)


def logits_of(seed, n):
    """Return logits (E, n, K) that grow toward the right class; some windows are hard."""
    rng = np.random.default_rng(seed)
    target = np.arange(n) % N_CLASSES
    strength = rng.normal(3.0, 1.5, n)
    rise = 1 - np.exp(-np.arange(N_EPOCHS) / 5)
    logits = 0.3 * rng.normal(size=(N_EPOCHS, n, N_CLASSES))
    logits += rise[:, None, None] * strength[:, None] * np.eye(N_CLASSES)[target]
    return logits, target


def healthy_record(seed=0):
    """Return the record of a run that learns, with a falling learning rate and unbiased batches."""
    rng = np.random.default_rng(seed)
    train, train_target = logits_of(seed, N_TRAIN)
    val, val_target = logits_of(seed + 1, N_VAL)
    train_loss = cross_entropy(train, np.broadcast_to(train_target, train.shape[:2])).mean(axis=1)
    steps = {name: np.full(N_STEPS, 0.02) for name in STEP_NAMES}
    of_step = np.repeat(train_loss, STEPS_PER_EPOCH)
    # a step is mostly sampling noise, and batch losses vary as expected for 32 windows
    norm = 0.5 * np.exp(0.8 * rng.normal(size=N_STEPS))
    falls = np.linspace(1, 0.01, N_STEPS)
    steps |= {
        "n_windows": np.full(N_STEPS, 32.0),
        "learning_rate": 1e-3 * falls,
        "loss": of_step + 0.05 * rng.normal(size=N_STEPS),
        "loss_variance": np.full(N_STEPS, 32 * 0.05**2),
        "grad_norm": norm,
    }
    steps["loss"][0] = math.log(N_CLASSES)
    fixed = train_loss * (1 + 0.005 * rng.normal(size=N_EPOCHS))
    return TrainingRecord(
        epoch_steps=STEPS_PER_EPOCH * np.arange(N_EPOCHS + 1),
        steps=steps,
        class_counts=np.full((N_STEPS, N_CLASSES), 8, np.int32),
        fixed_rows=np.arange(64),
        fixed_loss=fixed,
        fixed_accuracy=(train.argmax(2) == train_target).mean(axis=1),
        averaged_loss=float(fixed[-5:].mean()),
        val_target=val_target,
        val_groups=np.arange(N_VAL) // 8,
        val_predicted=val.argmax(2).astype(np.uint16),
        val_margin=margins(val, np.broadcast_to(val_target, val.shape[:2])).astype(np.float16),
        train_target=train_target,
        train_margin=margins(train, np.broadcast_to(train_target, train.shape[:2])).astype(
            np.float16
        ),
    )


def history_of(record, seed=0):
    """Return the history that belongs to a record, with cross-entropy as the loss."""
    rng = np.random.default_rng(seed + 7)
    val_loss = np.log1p((N_CLASSES - 1) * np.exp(-record.val_margin.astype(float))).mean(axis=1)
    return {
        "loss": record.steps["loss"].reshape(N_EPOCHS, -1).mean(axis=1),
        "val_loss": val_loss * (1 + 0.01 * rng.normal(size=N_EPOCHS)),
        "accuracy": record.fixed_accuracy,
        "val_accuracy": record.val_correct.mean(axis=1),
    }


def judged_run(record, history=None):
    """Return a Run that `judge` has judged, and the verdict."""
    run = unjudged_run(record, history)
    verdict, _, _ = judge(run)
    return run, verdict


def unjudged_run(record, history=None):
    """Return a Run with only its columns and its record."""
    columns = {
        name: Column(np.asarray(values, float), np.ones(N_EPOCHS, bool))
        for name, values in (history or history_of(record)).items()
    }
    return Run(
        columns,
        N_EPOCHS,
        n_val=N_VAL,
        n_train=N_TRAIN,
        n_classes=N_CLASSES,
        majority_fraction=1 / N_CLASSES,
        best_epoch=N_EPOCHS,
        record=record,
    )
