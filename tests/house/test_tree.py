"""The folders show the house: doors at the top, rooms below, tests where their file is."""

import importlib
import subprocess
from pathlib import PurePosixPath

import pytest
from checkout import ROOT

PACKAGE, TESTS = ROOT / "sensorseq", ROOT / "tests"
# what users import by name, and the tables that all rooms share
DOORS = """__init__ __main__ errors history messages model_selection options recording
           sensor_windows windows"""
MOST_ROOMS = 45
WITHOUT_MIRROR = "cuda docs examples gpu house native peers rounding runtime support"
PUBLIC = {  # names may be added; a name that leaves its module breaks the code of users
    "sensorseq": """ChannelScaler ClassBalancer FluctuationReport PreparePipeline Recording
        Resampler SensorFusionClassifier SensorLSTMClassifier SensorWindows WindowSet Windower
        __version__ find_label_errors read_recordings read_sensors run""",
    "sensorseq.cli": "app main run",
    "sensorseq.datasets": """SURFACES_SAMPLE_RATE_HZ SURFACES_WINDOW_SAMPLES fetch_borealtc
        load_surfaces""",
    "sensorseq.diagnosis": "FluctuationReport TrainingMonitor",
    "sensorseq.errors": """ArgumentError ConfigurationError DivergedError EnvironmentProblemError
        InputError LeakWarning ModelFileError OpenQuestionsError OutOfMemoryError OutputError
        PreparedFileError RecordingError SensorseqError SignalError SplitError WindowError""",
    "sensorseq.estimator": "SensorFusionClassifier SensorLSTMClassifier load_estimator",
    "sensorseq.estimator.classifier": "SensorLSTMClassifier",
    "sensorseq.evaluation": "OutsideWindows calibration_error score_predictions",
    "sensorseq.evaluation.calibration": "calibration_error",
    "sensorseq.evaluation.predict": "predict_recordings",
    "sensorseq.features": "CompetingKernels RandomConvolutions SummaryFeatures SummarySteps",
    "sensorseq.first_model": "run",
    "sensorseq.history": "History",
    "sensorseq.io.prepared": "PreparedFile read_windows write_windows",
    "sensorseq.model_selection": "cross_validate",
    "sensorseq.nn": "DropoutSource HEAD_NORMS LSTM LSTMLinear Stream",
    "sensorseq.ops": "LOSSES POOLINGS check_loss lstm pooled_size",
    "sensorseq.ops.lstm_linear": "lstm_linear",
    "sensorseq.ops.lstm_linear_loss": "lstm_linear_loss",
    "sensorseq.options": "ReadOptions",
    "sensorseq.prediction": "TrainedModel load",
    "sensorseq.prepare": "prepare",
    "sensorseq.preprocessing": """Augmentation BlockedTimeSplit ChannelScaler ClassBalancer
        GroupBalancedKFold PreparationOptions PreparePipeline Resampler SignalSteps StreamResampler
        Windower find_leakage""",
    "sensorseq.preprocessing.resample": "StreamResampler resample resample_recording",
    "sensorseq.preprocessing.windowing": "Augmentation augment_windows",
    "sensorseq.readers": """ON_ERROR ReadOptions RecordingSource Topic digest_file digest_source
        find_recordings join_sensors list_arrays list_topics read_arrays read_csv read_hdf5
        read_parquet read_recordings read_robot_log read_sensors read_source read_source_rate""",
    "sensorseq.recording": "Channel LabelSpan Recording repair_stamps sample_rate_of",
    "sensorseq.sensor_windows": "SensorWindows align_sensors",
    "sensorseq.sequence": "SMOOTH Smoothing Span Timeline timeline_of",
    "sensorseq.training": """Callback EngineChoice TrainingConfig TrainingData TrainingResult
        choose_engine evaluate train_network""",
    "sensorseq.training.callbacks": "Callback",
    "sensorseq.windows": "WindowSet",
}


def test_only_doors_stand_at_the_top_of_the_package():
    assert {path.stem for path in PACKAGE.glob("*.py")} == set(DOORS.split())


def test_the_house_has_few_rooms():
    """Count the folders with code, and the files with code beside them."""
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.pyi", "*.h", "*.cpp", "*.cu", "*.cuh"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [PurePosixPath(name).parts for name in listed.stdout.splitlines()]
    top = {parts[0] for parts in paths} - {"tests", "docs", "sensorseq"}
    rooms = top | {parts[1] for parts in paths if parts[0] == "sensorseq"}
    assert 30 < len(rooms) <= MOST_ROOMS


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_stay_where_they_are(module):
    imported = importlib.import_module(module)
    assert [name for name in PUBLIC[module].split() if not hasattr(imported, name)] == []


def files_without_a_source(tests):
    """Yield the tests whose name begins with no file of the folder that their folder mirrors."""
    for path in sorted(tests):
        folder = PACKAGE / path.parent.relative_to(TESTS)
        stems = {source.name.split(".")[0].lstrip("_") for source in folder.glob("*.py*")}
        name = path.stem.removeprefix("test_")
        if not any(name == stem or name.startswith(f"{stem}_") for stem in stems):
            yield path.relative_to(TESTS).as_posix()


def test_a_test_is_found_by_the_name_of_the_file_it_tests():
    kept = set(WITHOUT_MIRROR.split())
    tests = [p for p in TESTS.rglob("test_*.py") if p.relative_to(TESTS).parts[0] not in kept]
    assert len(tests) > 150
    assert list(files_without_a_source(tests)) == []
    assert list(files_without_a_source([TESTS / "readers" / "test_tables.py"])) != []
