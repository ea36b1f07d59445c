"""The runtime's command streams several sensors with the same results as the toolkit."""

import importlib
import json

import numpy as np
from fits import fused_classifier

from sensorseq import PreparePipeline, Recording
from sensorseq.recording import Channel

RATES_HZ = {"imu": 50.0, "motor": 6.5}


def recorded(sensor, number):
    t = np.arange(int(20 * RATES_HZ[sensor])) / RATES_HZ[sensor]
    noise = np.random.default_rng([number, len(sensor)]).normal(size=(len(t), 1))
    x = np.sin((1 + number % 2) * t)[:, None] + 0.1 * noise
    return Recording(x, t, (Channel("a"),), f"r{number}", f"r{number}", f"class {number % 2}")


def test_lines_of_sensors_get_the_decisions_of_the_toolkit(runtime, tmp_path, capsys):
    windows = PreparePipeline(window_s=2, native_rates=True, split=None).prepare(
        {name: [recorded(name, i) for i in range(6)] for name in RATES_HZ}
    )
    settings = {"features": "summary", "max_epochs": 2, "hidden_size": 4, "random_state": 0}
    fitted = fused_classifier(**settings).fit(windows)
    model, lines = tmp_path / "m.safetensors", tmp_path / "lines"
    fitted.save(model)
    parts = {name: recorded(name, 9) for name in RATES_HZ}
    rows = sorted(
        (t, f"{name},{t!r},{x[0]!r}\n")
        for name, recording in parts.items()
        for t, x in zip(recording.timestamps_s.tolist(), recording.values.tolist(), strict=True)
    )
    lines.write_text("".join(line for _, line in rows))
    main = importlib.import_module(f"{runtime.__name__}.__main__").main
    assert main(["stream", str(model), "--input", str(lines)]) == 0
    out, err = capsys.readouterr()
    got = [list(json.loads(line)["probabilities"].values()) for line in out.splitlines()]
    np.testing.assert_allclose(
        got, fitted.timeline(parts, smooth="none").probabilities, rtol=0, atol=1e-9
    )
    assert "expects imu: a at 50 Hz; motor: a at 6.5 Hz" in err
    command = ["stream", str(model), "--input", str(lines), "--sample-rate-hz"]
    assert main([*command, "imu=50", "--sample-rate-hz", "motor=6.5", "--quiet"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(got) == 10
    for options, message in (
        (["50"], "give the rate of each sensor"),
        (["imu=50", "--smooth", "lag"], "is for a stream of one sensor"),
        (["imu=50", "--format", "float32"], "--format float32 cannot name the sensor"),
        (["imu=50", "--lag", "5"], "lag=5 has no effect with smooth='none'"),
        (["imu=50", "--max-clients", "9"], "--max-clients applies only to --tcp; leave it out."),
    ):
        assert main([*command, *options]) == 2
        assert message in capsys.readouterr().err
