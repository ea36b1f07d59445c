"""The values read from logs of other libraries equal the values that the libraries logged."""

import numpy as np
import pytest

pytestmark = pytest.mark.peers
N_EPOCHS = 4


def two_means(n=64, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    return (rng.normal(size=(n, 3)) + y[:, None]).astype(np.float32), y


def read(source):
    from sensorseq.diagnosis.logs import read_history

    rows = read_history(source).rows
    assert len(rows) == N_EPOCHS
    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    return {name: [row[name] for row in rows] for name in names}


def test_keras_in_memory_and_in_its_csv(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    X, y = two_means()
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, activation="softmax")])
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(
        X, y, epochs=N_EPOCHS, validation_split=0.25, verbose=0,
        callbacks=[keras.callbacks.CSVLogger(tmp_path / "log.csv")],
    )  # fmt: skip
    expected = {name: list(map(float, history.history[name])) for name in history.history}
    expected.pop("learning_rate", None)
    assert read(history) == read(history.history) == expected
    assert read(tmp_path / "log.csv") == expected


def test_skorch_in_memory_and_in_its_file(tmp_path):
    skorch = pytest.importorskip("skorch")
    import torch

    X, y = two_means()
    net = skorch.NeuralNetClassifier(
        torch.nn.Linear(3, 2),
        criterion=torch.nn.CrossEntropyLoss,
        max_epochs=N_EPOCHS,
        verbose=0,
        callbacks=[
            skorch.callbacks.EpochScoring("accuracy", on_train=True, name="train_acc"),
        ],
    ).fit(X, y)
    net.history.to_file(tmp_path / "history.json")
    theirs = ("train_loss", "train_acc", "valid_loss", "valid_acc")
    expected = [list(map(float, net.history[:, name])) for name in theirs]
    assert list(read(net.history).values()) == expected
    assert list(read(tmp_path / "history.json").values()) == expected


def test_lightning_in_its_csv(tmp_path):
    lightning = pytest.importorskip("lightning")
    import torch
    from lightning.pytorch.callbacks import Callback, LearningRateMonitor
    from lightning.pytorch.loggers import CSVLogger

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(3, 2)

        def log_of(self, batch, part):
            X, y = batch
            scores = self.layer(X)
            loss = torch.nn.functional.cross_entropy(scores, y)
            self.log(f"{part}_loss", loss, on_step=part == "train", on_epoch=True)
            self.log(
                f"{part}_acc", (scores.argmax(1) == y).float().mean(), on_step=False, on_epoch=True
            )
            return loss

        def training_step(self, batch, index):
            return self.log_of(batch, "train")

        def validation_step(self, batch, index):
            self.log_of(batch, "val")

        def test_step(self, batch, index):
            self.log_of(batch, "test")

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 0.01)

    X, y = (torch.from_numpy(part) for part in two_means())
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, y), batch_size=16)
    logger = CSVLogger(tmp_path)
    seen = []

    class Recorder(Callback):
        def on_train_end(self, trainer, model):
            seen.append({name: float(v) for name, v in trainer.callback_metrics.items()})

    trainer = lightning.Trainer(
        max_epochs=N_EPOCHS, logger=logger, accelerator="cpu", log_every_n_steps=2,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        callbacks=[LearningRateMonitor("step"), Recorder()],
    )  # fmt: skip
    model = Model()
    trainer.fit(model, loader, loader)
    trainer.test(model, loader, verbose=False)
    columns = read(logger.log_dir)
    theirs = ("train_loss_epoch", "train_acc", "val_loss", "val_acc")
    last = [values[-1] for values in columns.values()]
    assert last == pytest.approx([seen[0][name] for name in theirs])
    assert len(set(columns["loss"])) == N_EPOCHS
