"""Messages name command-line options, and show control characters instead of sending them."""

import json
import os
import re
import subprocess
import sys
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from commands import said, succeed, write_logs
from hypothesis import given
from hypothesis import strategies as st

from sensorseq import SensorLSTMClassifier
from sensorseq.cli import app
from sensorseq.cli.words import in_options
from sensorseq.errors import InputError, OutputError, printable
from sensorseq.prepare.summary import PreparedSummary
from sensorseq.preprocessing.options import OPTIONS

EVIL = "ev\x1b[31mil\x07\x9b2J\u202egpj\u2066\u200b\ufeff"
SHOWN = "ev\\x1b[31mil\\x07\\x9b2J\\u202egpj\\u2066\\u200b\\ufeff"
QUICK = ("--max-epochs", "1", "--no-compare", "--set", "features=none", "--set", "refit=none")
COMMANDS = typer.main.get_command(app).commands


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make recordings, a prepared file, a model and a log in one folder."""
    place = tmp_path_factory.mktemp("place")
    logs = write_logs(place / "logs", n=3, seconds=4, channels=["current"])
    succeed("prepare", logs, "--window-s", "1", "-o", place / "w.h5", "-q")
    succeed("train", place / "w.h5", "-o", place / "m", "-q", *QUICK)
    (place / "log.csv").write_text("epoch,loss,val_loss\n1,1,1\n2,.9,.9\n")
    (place / "c.toml").write_text("[window]\nwindow_s = 1\nhop_s = -1\n")
    (place / "e.toml").write_text("[window]\nwindow_s = 1\n[split]\nembargo_s = 1\n")
    return place


PREPARE = [
    ("--scale foo", "--scale foo is not known"),
    ("--normalize foo", "--normalize foo is not known"),
    ("--split-by foo", "--split-by foo is not known"),
    ("--split 0.5,0.5", "--split 0.5,0.5 must be three numbers"),
    ("--balance oversample --split none", "--balance oversample needs a split"),
    ("--engine foo", "--engine foo is not known"),
    ("--on-error foo", "--on-error foo is not known"),
    ("--label-rule foo", "--label-rule foo is not known"),
    ("--min-purity 0.4", "--min-purity 0.4 is only for --label-rule majority"),
    ("--short foo", "--short foo is not known"),
    ("--time-unit foo", "--time-unit foo is not known"),
    ("--time-column tim", "Did you mean --time-column time?"),
    ("--exclude A", "--exclude A matches no class"),
    ("--labels A", "--labels A is not a class"),
    ("--files x*.csv", "--files 'x*.csv' matches none"),
    ("--pair abc", "--pair abc must contain"),
    ("--pair {sensor}_{recording}_x", "does not match --pair '{sensor}_{recording}_x'"),
    ("--group-column g", "--group-column needs --recording-column"),
    ("--recording-column g", "--recording-column needs one table"),
    ("--recording-column g --files x", "--files is for folders"),
    ("--sample-rate-hz 0", "--sample-rate-hz 0.0 must be a number above zero"),
    ("--hop-s 0", "--hop-s 0.0 must be a number above zero"),
    ("--max-gap-s 0", "--max-gap-s 0.0 must be a number above zero"),
    ("--max-gap-s 0.00001", "--max-gap-s 1e-05 is shorter"),
    ("--train-hop-s 1 --split none", "--train-hop-s 1.0 applies to training windows"),
    ("--scale physical", "--scale physical and [scale] rated = {"),
    ("--window-s 100", "Use a shorter --window-s"),
    ("--window-s 100", "--resume continues"),
    ("--config {place}/c.toml", "[window] hop_s = -1.0 must be"),
    ("--config {place}/c.toml --hop-s -2", "--hop-s -2.0 must be"),
    ("--config {place}/e.toml", "use [split] by = time, or remove [split] embargo_s"),
    ("--balance none --normalize x", "--normalize x is not known"),
    ("--seed -1", "--seed -1 is not an integer of 0 or more"),
    ("--jobs 999999999999", "--jobs 999999999999 must be an integer from 1 to 4096"),
]
TRAIN = [
    ("--hidden-size 0", "--hidden-size 0 must be"),
    ("--set hidden_size=0", "--hidden-size 0 must be"),
    ("--learning-rate -1", "--learning-rate -1.0 must be"),
    ("--set dropout=2", "--set dropout=2 must be"),
    ("--set pooling=lest", "--set pooling=lest is not known"),
    ("--set random_state=-1", "--seed -1 must be"),
    ("--seed 4294967296", "'--seed': Input should be less than or equal to 4294967295"),
    ("--set class_weight=balanced --set sampler=balanced", "=balanced and --set sampler="),
]
OTHERS = [
    ("predict {place}/m {place}/logs --time-unit h", 2, "--time-unit h is not known"),
    ("export {place}/m -o {place}/c --format c --weights int4", 2, "--weights int4 is not known"),
    ("export {place}/m -o {place}/c --format c --sample-rate 0", 2, "--sample-rate 0.0 must be"),
    ("stream {place}/m --sample-rate-hz 0", 2, "--sample-rate-hz 0.0 must be"),
    ("stream {place}/m --max-gap-s 0.001", 2, "--max-gap-s 0.001 is shorter"),
    ("stream {place}/m --max-delay-s -1", 2, "--max-delay-s -1.0 must be"),
    ("stream {place}/m --format int", 2, "--format int is not known"),
    ("stream {place}/m --udp x", 2, "--udp x is not a port"),
    ("diagnose {place}/log.csv --column loss=a", 2, "--column: loss is set to 'a'"),
    ("diagnose {place}/log.csv --n-val 0", 2, "--n-val 0 must be"),
    ("diagnose {place}/logs/calm/run_0.csv", 3, "name one with --column val_loss=..."),
    ("stream {place}/m --replay {place}/logs", 3, "is a folder; give one recording to --replay"),
    (
        "export {place}/m -o {place}/e --sample-rate 0",
        2,
        "--sample-rate does not apply to --format",
    ),
    ("evaluate {place}/m {place}/w.h5 --folds 50", 3, "use --folds 3"),
]
ARGUMENT = re.compile(r"(?<![\w.-])(?!val_loss|val_accuracy)[a-z]+(?:_[a-z]+)+(?:\b|=)|\b[a-z]+='")


@pytest.mark.parametrize(("options", "message"), PREPARE)
def test_messages_of_prepare_name_options(options, message, place, tmp_path):
    typed = [] if "--window-s" in options or "--config" in options else ["--window-s", "1"]
    options = [one.format(place=place, sensor="{sensor}", recording="{recording}")
               for one in options.split()]  # fmt: skip
    code, out, err = said("prepare", place / "logs", "-o", tmp_path / "o.h5", *typed, *options)
    assert (code in (2, 3), out) == (True, "")
    check_message(err.replace(str(tmp_path), ""), message)


@pytest.mark.parametrize(("options", "message"), TRAIN)
def test_messages_of_train_name_options(options, message, place, tmp_path):
    code, out, err = said("train", place / "w.h5", "-o", tmp_path / "m", "-q", *options.split())
    assert (code, out) == (2, "")
    check_message(err, message)


@pytest.mark.parametrize(("line", "code", "message"), OTHERS)
def test_messages_of_commands_name_options(line, code, message, place):
    ended, out, err = said(*line.format(place=place).split())
    assert (ended, out) == (code, "")
    check_message(err, message)


def check_message(error, message):
    assert message in error
    told = re.sub(r"--set [\w=']+|\[\w+\] \w+|Known: .*|/\S+", "", error.splitlines()[-1])
    told = told.replace("{sensor}_{recording}", "")
    assert not ARGUMENT.findall(told), told


def test_a_zero_on_the_command_line_is_a_value_that_overrides_the_file(place, tmp_path):
    (tmp_path / "seed.toml").write_text("[window]\nwindow_s = 1\n[split]\nrandom_state = 7\n")
    made = []
    for number, seed in enumerate(("0", "7")):
        out = tmp_path / f"{number}.h5"
        typed = ["--config", tmp_path / "seed.toml", "--seed", seed, "-o", out]
        assert said("prepare", place / "logs", *typed)[0] == 0
        made.append(out.read_bytes())
    assert made[0] != made[1]


def test_every_argument_that_has_an_option_is_shown_as_it():
    """The options come from the parser, so that none can be forgotten."""
    for command in COMMANDS.values():
        for option in command.params:
            if not option.opts[0].startswith("--") or option.is_flag:
                continue
            shown = in_options(f"{option.name}='a b' is wrong; see `{option.name}`.",
                               command.params, (), ())  # fmt: skip
            flag = option.opts[0]
            assert shown == f"{flag} 'a b' is wrong; see {flag}."
    for name, option in OPTIONS.items():
        shown = in_options(f"{name}=3", COMMANDS["prepare"].params, (), ())
        assert shown == (f"{option.flag} 3" if option.help and option.toml is not bool else shown)
        assert not shown.startswith(name)


def test_names_in_quotes_paths_and_files_stay():
    for text in (
        "no channel 'window_s'; it has a",
        "logs/window_s/a.csv: no such file",
        "window_s.csv: no such file",
        "see docs/train-hop_s",
        "the files of the label",
    ):
        assert in_options(text, COMMANDS["prepare"].params, (), ()) == text


def test_switches_are_shown_without_a_value():
    params = COMMANDS["prepare"].params
    assert in_options("use resume=True or `resume`", params, (), ()) == "use --resume or --resume"
    assert in_options("exclude=['a', 'b c']", params, (), ()) == "--exclude 'a,b c'"
    assert in_options("leave label_column=None", params, (), ()) == "leave no --label-column"
    assert in_options("compare=False", COMMANDS["train"].params, (), ()) == "--no-compare"
    shown = in_options(
        "augment=None, monitor='a b'", COMMANDS["train"].params, ("augment", "monitor"), ()
    )
    assert shown == "--set augment=none, --set monitor='a b'"


def test_the_summary_of_a_preparation_names_options_in_the_command_and_arguments_in_python():
    rows = {"label": {"ice": 3, "mud": 2}}
    leak = {"recordings": ["mud/a", "mud/b"], "parts": ["train", "test"], "n_windows": 2}
    summary = PreparedSummary(
        Path("w.h5"), rows, 9, 5, 20, ("a", "time_unit"), 20.0, "given",
        dropped_columns={"time_unit": 2}, counters={"seq": 9}, constant_channels=["a"],
        copies=[leak], own_rates_hz=(5.0, 20.0), odd_rates_hz={"mud/a": 0.1},
        bridging_gaps_s={"mud/b": 2.5}, subjects="Use `group_column`.",
        simultaneous="Join them with pair='{sensor}_{recording}'.",
    )  # fmt: skip
    unlabeled = replace(summary, counts={"all": {"": 5}})
    command = unlabeled.text(lambda text: in_options(text, COMMANDS["prepare"].params, (), ()))
    for argument, option in {
        "`exclude`": "--exclude",
        "pair='{sensor}_{recording}'": "--pair '{sensor}_{recording}'",
        "`group_column`": "--group-column",
        "max_gap_s=2.5": "--max-gap-s 2.5",
        "`time_unit`": "--time-unit",
        "sample_rate_hz=5,": "--sample-rate-hz 5,",
        "with `channels`": "with --channels",
        "label_column='time_unit'": "--label-column time_unit",
        "`channels` can": "--channels can",
    }.items():
        assert argument in " ".join(str(unlabeled).split())
        assert option in " ".join(command.split())
    assert "`" not in command
    assert "--" not in str(unlabeled)
    assert "label_column" not in str(summary)
    assert max(map(len, f"{command}\n{unlabeled}".split("\n"))) <= 80


@given(st.text("aä走\\ \n\t\0\x1b\x7f\x9b\xa0\xad\u200b\u202e\u2066\ufeff\ud800\U000e0001"))
def test_what_is_shown_can_be_printed_and_printable_text_stays(text):
    shown = printable(text)
    assert shown.isprintable()
    assert shown == printable(shown)
    assert all(c in shown for c in text if c.isprintable())
    assert printable(text, "\n").count("\n") == text.count("\n")
    assert str(InputError(text)).isprintable()


def test_direction_and_zero_width_characters_are_not_printable():
    every = map(chr, range(0x110000))
    unseen = [c for c in every if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert all(printable(c) != c for c in unseen)
    for letters in ("Läufe", "走行", "עברית", "العربية", "🤖 5 µA ±2 °"):
        assert printable(letters) == letters


def test_notes_and_warnings_of_errors_are_shown_escaped():
    error = OutputError(f"{EVIL}: cannot be written")
    error.add_note(f"in {EVIL}")
    assert str(error) == f"{SHOWN}: cannot be written"
    assert error.__notes__ == [f"in {SHOWN}"]


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """Make recordings whose names would control a terminal, their prepared file, and a model."""
    place = tmp_path_factory.mktemp("evil")
    evil = {"labels": (f"a{EVIL}", f"b{EVIL}"), "channels": [f"c{EVIL}"]}
    logs = write_logs(place / f"logs{EVIL}", n=3, seconds=4, **evil)
    for path in list(logs.rglob("*.csv")):
        path.rename(path.with_name(f"{path.stem}{EVIL}.csv"))
    windows, model = place / f"w{EVIL}.h5", place / f"m{EVIL}"
    made = said("prepare", logs, "--window-s", "1", "-o", windows)
    trained = said("train", windows, "-o", model, "--report", place / f"r{EVIL}.html", *QUICK)
    assert (made[0], trained[0]) == (0, 0)
    return place, logs, windows, model, made + trained


def test_no_command_prints_control_characters(evil, tmp_path):
    place, logs, windows, model, made = evil
    recording = next(logs.rglob("*.csv"))
    everything = list(made)
    for line in (
        ("inspect", logs),
        ("inspect", logs, "--json"),
        ("inspect", logs, "--html", tmp_path / f"l{EVIL}.html"),
        ("inspect", windows, "--leakage"),
        ("evaluate", model, windows, "--no-baselines", "--report", tmp_path / f"e{EVIL}.html"),
        ("evaluate", model, windows, "--no-baselines", "--json"),
        ("predict", model, recording),
        ("predict", model, logs, "--windows"),
        ("predict", model, recording, "--json"),
        ("stream", model, "--replay", recording),
        ("info", model),
        ("info", windows),
        ("info", model, "--json"),
        ("diagnose", model),
        ("export", model, "--format", "c", "-o", tmp_path / f"c{EVIL}"),
        ("train", logs, "-o", tmp_path / "m"),
        ("train", place / f"{EVIL}.h5", "-o", tmp_path / "m"),
        ("prepare", place / f"{EVIL}", "-o", tmp_path / "o.h5", "--window-s", "1"),
        ("prepare", logs, "-o", tmp_path / "o.h5", "--window-s", "9"),
        ("prepare", logs, "-o", tmp_path / "o.h5", "--window-s", "1", "--exclude", EVIL),
        ("prepare", logs, "-o", windows, "--window-s", "1", "--hop-s", "0.5"),
        ("prepare", logs, "-o", tmp_path / "o.h5", "--window-s", "1", "--time-column", EVIL),
        ("predict", model, logs, EVIL),
        (EVIL,),
        ("info", EVIL, EVIL),
    ):
        _, out, err = said(*line)
        assert "Traceback" not in err, line
        if "--json" in line:
            assert any(EVIL in text for text in texts(json.loads(out)))
        everything += [out, err]
    for text in everything:
        if isinstance(text, str):
            assert [c for c in text if not c.isprintable() and c != "\n"] == []
    assert "is truncated" not in said("adapt", model, "--windows", model, "-o", tmp_path / "n")[2]
    pages = [*place.glob("*.html"), *tmp_path.glob("*.html")]
    assert len(pages) == 3
    for page in pages:
        text = page.read_text("utf-8")
        assert [c for c in text if not c.isprintable() and c not in "\n\t\N{NO-BREAK SPACE}"] == []
        assert "\\u202e" in text


def texts(value):
    if isinstance(value, dict):
        for key, part in value.items():
            yield key
            yield from texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part)
    elif isinstance(value, str):
        yield value


def test_characters_that_a_terminal_cannot_show_are_escaped(tmp_path):
    logs = write_logs(tmp_path, n=3, seconds=4, labels=("Öl", "Eis"))
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    code = f"""if True:
        from contextlib import suppress
        from sensorseq.cli import main
        for options in ([], ["--json"]):
            with suppress(SystemExit):
                main(["inspect", {str(logs)!r}, *options])
            print("and the other:")
    """
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, env=env, capture_output=True, encoding="ascii", check=True)
    shown, as_json, _ = done.stdout.split("and the other:")
    assert "\\xd6l" in shown
    assert "\\u00d6l" in as_json
    assert any("Öl" in text for text in texts(json.loads(as_json)))


def test_files_and_json_stay_exact(evil):
    _, logs, _, model, _ = evil
    assert SensorLSTMClassifier.load(model).classes_.tolist() == [f"a{EVIL}", f"b{EVIL}"]
    code, out, _ = said("predict", model, next(logs.rglob("*.csv")), "--json")
    assert (code, json.loads(out)["classes"]) == (0, [f"a{EVIL}", f"b{EVIL}"])


def test_a_replaced_file_is_reported(place, tmp_path):
    model, page, graph = tmp_path / "m", tmp_path / "page.html", tmp_path / "m.onnx"
    for earlier in (False, True):
        said_of = " replacing the earlier file"
        code, out, _ = said("train", place / "w.h5", "-o", model, "--report", page, "-q", *QUICK)
        assert (code, f"model written to {model}," + said_of in out) == (0, earlier)
        code, out, _ = said("export", model, "-o", graph)
        assert (code, said_of in out) == (0, earlier)
        assert said("export", model, "-o", tmp_path / "c", "--format", "c")[0] == 0
        code, out, _ = said("prepare", place / "logs", "--window-s", "1", "--hop-s",
                            "0.5" if earlier else "1", "-o", tmp_path / "w.h5")  # fmt: skip
        assert (code, f"replaced {tmp_path / 'w.h5'}" in " ".join(out.split())) == (0, earlier)


def test_an_output_that_cannot_be_written_has_one_exit_code(place, tmp_path, monkeypatch):
    monkeypatch.setattr(SensorLSTMClassifier, "fit", lambda *_: pytest.fail("it trained"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("x")
    model, windows, logs = place / "m", place / "w.h5", place / "logs"
    for where in ("folder", "missing/o", "folder/file/o"):
        out = tmp_path / where
        for line in (
            ("prepare", logs, "--window-s", "1", "-o", out),
            ("train", windows, "-o", out),
            ("train", windows, "-o", tmp_path / "new", "--report", out),
            ("evaluate", model, windows, "--report", out),
            ("inspect", logs, "--html", out),
            ("diagnose", model, "--html", out),
            ("export", model, "-o", out),
            ("export", model, "--format", "c", "-o", out),
        ):
            if "c" in line and where in ("folder", "missing/o"):
                continue  # C code is written into the existing folder, or into a new one
            code, _, err = said(*line)
            assert code == 3, line
            assert str(out) in err
            assert "Errno" not in err
            assert len(err.splitlines()) == 1
    for outputs in (["-o", "/proc/m"], ["-o", tmp_path / "new", "--report", "/proc/m"]):
        code, _, err = said("train", windows, *outputs)
        assert (code, "/proc/m" in err) == (4, True)
    code, _, err = said("export", model, "--format", "c", "-o", tmp_path / "folder" / "file")
    assert (code, "Errno" in err) == (3, False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder"]
