"""The command evaluate."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

from typer import Option

from sensorseq.cli import options as opt
from sensorseq.cli.app import command
from sensorseq.cli.models import load_model, naming, write_page
from sensorseq.cli.output import check_output, progress, say, warn
from sensorseq.errors import ArgumentError


@command(
    "sensorseq evaluate terrain.safetensors terrain.h5",
    "sensorseq evaluate terrain.safetensors terrain.h5 --folds 5 --json",
)
def evaluate(
    model_file: opt.ModelFile,
    windows: opt.Prepared,
    folds: Annotated[
        int | None, Option(min=2, help="Cross-validate: retrain on folds of whole groups.")
    ] = None,
    baselines: Annotated[
        bool, Option("--baselines/--no-baselines", help="Compare with simple baseline models.")
    ] = True,
    include_seen: Annotated[
        bool, Option("--include-seen", help="Also score recordings seen in training.")
    ] = False,
    seed: Annotated[int, Option(min=0, help="Seed of folds and intervals.")] = 0,
    smooth: opt.Smooth = "marginals",
    lag: opt.Lag = 3,
    mean_dwell_s: opt.MeanDwell = None,
    strict: opt.Strict = False,
    report: opt.Report = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    no_verify: opt.NoVerify = False,
) -> None:
    """Measure a model on test recordings it has never seen.

    Intervals are 95 %, from resampling whole groups of recordings. With --folds, a model with the
    same arguments is trained for each fold on the groups outside it.

    Recordings with several classes are also scored over time: what --smooth adds to single windows,
    and to a majority vote.
    """
    from sensorseq.evaluation.baselines import BASELINES
    from sensorseq.evaluation.comparison_text import format_comparison
    from sensorseq.evaluation.evaluate import evaluate_folds, evaluate_test
    from sensorseq.io.prepared import read_one_or_several, sensors_in
    from sensorseq.prediction.outside import report_outside
    from sensorseq.sequence.smoothing import Smoothing

    check_output(report, windows, model_file)
    if report is not None and sensors_in(windows):
        raise ArgumentError("--report is about one sensor; evaluate without it.")
    model = load_model(model_file, strict=strict)
    given: dict[str, Any] = {"baselines": BASELINES if baselines else (), "seed": seed}
    given["smoothing"] = Smoothing(smooth, lag, mean_dwell_s)
    with naming(windows), progress("evaluating", quiet=quiet) as advance:
        given["progress"] = partial(advance, 0, 0)
        read = read_one_or_several(windows)
        if folds is None:
            comparison = evaluate_test(model, read, include_seen=include_seen, **given)
        else:
            comparison = evaluate_folds(model, read, folds, **given)
        report_outside(comparison.outside, warn, strict=strict)
    if report is not None:
        from sensorseq.diagnosis.report_text import settings_as_options

        usual = type(model)().get_params()
        left = {"checkpoint", "device", "verbose"}
        own = {k: v for k, v in model.get_params().items() if k not in left and v != usual[k]}

        def again(changes: Mapping[str, Any]) -> str:  # the path of the training file is not known
            return f"sensorseq train H5 -o MODEL{settings_as_options({**own, **changes})}"

        write_page(
            report,
            model,
            windows,
            "test" if folds is None else None,
            False,
            title=f"{model_file.name} on {windows.name}",
            comparison=comparison,
            command=again,
            scores_first=True,
        )
    result = {"model": str(model_file), "windows": str(windows), **comparison.to_dict()}
    say(result, format_comparison(comparison), as_json)
