"""ONNX graphs of other libraries give here what they give there."""

import contextlib

import numpy as np
import onnx
import onnx.helper as make
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx.backend.test.case.node import lstm as backend_cases

from sensorseq import SensorLSTMClassifier, SensorLSTMRegressor
from sensorseq.errors import ArgumentError
from sensorseq.nn import LSTMLinear, OnnxLSTM, from_onnx


def value(name, shape=None):
    return make.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def model_of(nodes, inputs, outputs, **constants):
    constants = [onnx.numpy_helper.from_array(part, name) for name, part in constants.items()]
    graph = make.make_graph(nodes, "graph", inputs, outputs, initializer=constants)
    opset = [make.make_opsetid("", 17)]
    return make.make_model(graph, opset_imports=opset, ir_version=8)


def backend_case(monkeypatch, name):
    found = {}
    monkeypatch.setattr(backend_cases, "expect", lambda node, **case: found.update(case, node=node))
    getattr(backend_cases.LSTM, name)()
    return found


CASES = sorted(name for name in vars(backend_cases.LSTM) if name.startswith("export_"))


@pytest.mark.parametrize("name", CASES)
def test_the_cases_of_the_onnx_backend_pass(monkeypatch, name):
    case = backend_case(monkeypatch, name)
    node = case["node"]
    given = dict(zip(node.input, case["inputs"], strict=True))
    outputs = [name for name in node.output if name]
    model = model_of([node], [value(name) for name in given], [value(name) for name in outputs])
    weights = {name: given[name] for name in ("W", "R", "B", "P") if name in given}
    if "P" in given:
        with pytest.raises(ArgumentError, match=r"has peepholes \(input P\), which are not"):
            from_onnx(model, weights)
        return
    module = from_onnx(model, weights)
    assert isinstance(module, OnnxLSTM)
    made = dict(zip(("Y", "Y_h", "Y_c"), module(torch.tensor(given["X"])), strict=True))
    for name, expected in zip(outputs, case["outputs"], strict=True):
        assert made[name].shape == expected.shape
        np.testing.assert_allclose(made[name].detach(), expected, atol=1e-6)


def test_there_are_cases():
    assert {"export_defaults", "export_peepholes", "export_batchwise"} <= set(CASES)


@given(
    st.sampled_from(["forward", "reverse", "bidirectional"]),
    st.integers(1, 5),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**31),
)
def test_a_node_gives_what_onnxruntime_gives(direction, n_steps, hidden, has_lens, has_state, seed):
    rng = np.random.default_rng(seed)
    n_directions = 2 if direction == "bidirectional" else 1

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    weights = {
        "W": draw(n_directions, 4 * hidden, 3),
        "R": draw(n_directions, 4 * hidden, hidden),
        "B": draw(n_directions, 8 * hidden),
    }
    given = {"X": draw(n_steps, 4, 3)}
    if has_lens:
        given["sequence_lens"] = rng.integers(1, n_steps + 1, 4).astype(np.int32)
    if has_state:
        given["initial_h"], given["initial_c"] = draw(2, n_directions, 4, hidden)
    names = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c"]
    node = make.make_node(
        "LSTM",
        [name if name in given or name in weights else "" for name in names],
        ["Y", "Y_h", "Y_c"],
        hidden_size=hidden,
        direction=direction,
    )
    lens = make.make_tensor_value_info("sequence_lens", onnx.TensorProto.INT32, None)
    inputs = [lens if name == "sequence_lens" else value(name) for name in given]
    model = model_of([node], inputs, [value(name) for name in node.output], **weights)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    expected = session.run(None, given)
    module = from_onnx(model)
    tensors = {name: torch.tensor(part) for name, part in given.items()}
    with torch.no_grad():
        for own, theirs in zip(module(**tensors), expected, strict=True):
            np.testing.assert_allclose(own, theirs, atol=1e-5)
        batch_first = OnnxLSTM(module.lstm, direction, 1)
        turned = {
            name: part if part.dim() == 1 else part.transpose(0, 1)
            for name, part in tensors.items()
        }
        Y, Y_h, Y_c = batch_first(**turned)
        for own, theirs in zip(
            (Y.permute(1, 2, 0, 3), Y_h.transpose(0, 1), Y_c.transpose(0, 1)), expected, strict=True
        ):
            np.testing.assert_allclose(own, theirs, atol=1e-5)


class Network(torch.nn.Module):
    """What users write around an LSTM."""

    def __init__(self, how, end, **options):
        super().__init__()
        self.how, self.end = how, end
        self.lstm = torch.nn.LSTM(3, 5, **{"batch_first": True, **options})
        n_directions = 2 if self.lstm.bidirectional else 1
        width = 5 * n_directions * (2 if how == "meanmax" else 1)
        self.linear = torch.nn.Linear(width, 4)

    def forward(self, x):
        hidden, (final, _) = self.lstm(x if self.lstm.batch_first else x.transpose(0, 1))
        hidden = hidden if self.lstm.batch_first else hidden.transpose(0, 1)
        final = torch.cat([final[-2], final[-1]], 1) if self.lstm.bidirectional else final[-1]
        pooled = {
            "final": lambda: final,
            "last": lambda: hidden[:, -1],
            "mean": lambda: hidden.mean(1),
            "max": lambda: hidden.amax(1),
            "meanmax": lambda: torch.cat([hidden.mean(1), hidden.amax(1)], 1),
        }[self.how]()
        return self.end(self.linear(pooled))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("how", ["final", "last", "mean", "max", "meanmax"])
@pytest.mark.parametrize(
    "options",
    [{}, {"num_layers": 2}, {"bidirectional": True, "num_layers": 2}, {"batch_first": False}],
    ids=str,
)
def test_networks_that_torch_exports_keep_their_outputs(tmp_path, how, options):
    torch.manual_seed(0)
    end = torch.nn.Softmax(dim=1) if how == "mean" else torch.nn.Identity()
    network = Network(how, end, **options).eval()
    x = torch.randn(6, 7, 3)
    path = tmp_path / "network.onnx"
    axes = {"x": {0: "n", 1: "t"}}
    torch.onnx.export(network, (x,), path, dynamo=False, input_names=["x"], dynamic_axes=axes)
    if how == "last" and options.get("bidirectional"):
        with pytest.raises(ArgumentError, match="takes another step than the last"):
            from_onnx(path)
        return
    module = from_onnx(path)
    assert isinstance(module, LSTMLinear)
    expected = network(x).detach()
    np.testing.assert_allclose(end(module(x)).detach(), expected, atol=1e-6)
    clf = SensorLSTMClassifier.from_onnx(path, classes=list("abcd"), device="cpu")
    np.testing.assert_allclose(
        clf.predict_proba(x.numpy()),
        expected if how == "mean" else expected.softmax(1),
        atol=1e-6,
    )
    if how == "mean":
        with pytest.raises(ArgumentError, match="the ONNX model ends in softmax"):
            SensorLSTMRegressor.from_onnx(path)
    else:
        reg = SensorLSTMRegressor.from_onnx(path, device="cpu")
        np.testing.assert_allclose(reg.predict(x.numpy()), expected, atol=1e-6)


W, R = np.ones((1, 8, 3), np.float32), np.ones((1, 8, 2), np.float32)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"clip": 1.0}, "has clip=1.0"),
        ({"input_forget": 1}, "has input_forget=1"),
        ({"activations": ["Relu", "Tanh", "Tanh"]}, "has activations=Relu, Tanh, Tanh"),
    ],
)
def test_what_an_lstm_cannot_do_is_refused_by_name(options, said):
    node = make.make_node("LSTM", ["X", "W", "R"], ["Y"], "cell", hidden_size=2, **options)
    model = model_of([node], [value("X")], [value("Y")], W=W, R=R)
    with pytest.raises(ArgumentError, match=f"node 'cell' .LSTM. of the ONNX graph {said}"):
        from_onnx(model)


def test_other_nodes_and_missing_weights_are_refused_by_name():
    lstm = make.make_node("LSTM", ["X", "W", "R"], ["Y"], "cell", hidden_size=2)
    conv = make.make_node("Conv", ["Y", "W"], ["Z"], "conv")
    both = model_of([lstm, conv], [value("X")], [value("Z")], W=W, R=R)
    with pytest.raises(
        ArgumentError, match=r"node 'conv' .Conv. of the ONNX graph is not supported"
    ):
        from_onnx(both)
    with pytest.raises(ArgumentError, match="reads 'W', which is not a constant"):
        from_onnx(model_of([lstm], [value("X"), value("W")], [value("Y")], R=R))
    relu = make.make_node("Identity", ["X"], ["Y"], "same")
    with pytest.raises(ArgumentError, match="not that of a linear layer after an LSTM"):
        from_onnx(model_of([relu], [value("X")], [value("Y")]))


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_graph_is_taken_over_or_refused(tmp_path, seed):
    rng = np.random.default_rng(seed)
    weights = {"W": rng.normal(size=(1, 8, 3)), "R": rng.normal(size=(1, 8, 2))}
    node = make.make_node("LSTM", ["X", "W", "R"], ["Y"], "lstm", hidden_size=2)
    constants = {name: part.astype(np.float32) for name, part in weights.items()}
    content = bytearray(
        model_of([node], [value("X")], [value("Y")], **constants).SerializeToString()
    )
    for at in rng.integers(len(content), size=3):
        content[at] = rng.integers(256)
    (tmp_path / "model.onnx").write_bytes(content)
    with contextlib.suppress(ArgumentError):
        from_onnx(tmp_path / "model.onnx")
