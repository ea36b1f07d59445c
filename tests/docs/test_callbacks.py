"""The code of docs/callbacks.md runs in the order of the page."""

import pytest
from checkout import code_in, page_of

PAGE = page_of("callbacks.md")


def test_the_page_can_be_typed_from_top_to_bottom(in_tmp_path, capsys):
    for library in ("pandas", "matplotlib"):
        pytest.importorskip(library)
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    names, histories = {}, []
    for block in code_in(PAGE):
        if "mlflow" not in block:  # tests/peers/test_mlflow.py
            # without features and refit, because the page's claims are about the epochs of one
            # training run
            exec(
                block.replace("random_state=0", "features=None, refit=None, random_state=0"), names
            )
        if "SummaryWriter" in block:
            histories.append(names["clf"].history_)
    written = {path.name for path in in_tmp_path.iterdir()}
    assert written == {"history.json", "runs"}
    (history,) = histories
    columns = set(history.names)
    assert all(f"`{name}`" in PAGE for name in columns)
    assert "at most 20 epochs" in capsys.readouterr().out
    assert len(names["scores"]) == 5
    assert 0 < names["scores"][-1] <= 1
    events = reading.EventAccumulator("runs/first")
    events.Reload()
    assert set(events.Tags()["scalars"]) == columns
    for name in columns:
        noted = [(event.step, event.value) for event in events.Scalars(name)]
        values = history[name].astype("f4").tolist()
        assert noted == list(enumerate(values, 1))
