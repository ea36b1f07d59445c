"""The command predict."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sensorseq.cli.app import Json, MeanDwell, ModelFile, Quiet, Strict, app, example, with_options
from sensorseq.cli.models import load_model, tell_outside
from sensorseq.cli.output import check_output, progress, say
from sensorseq.io.atomic import write_whole
from sensorseq.preprocessing.options import READ_AS_IN_TRAINING


@app.command(
    epilog=example(
        "sensorseq predict terrain.safetensors logs/ICE/pro_01.csv",
        "sensorseq predict terrain.safetensors drive.csv --mean-dwell-s 30 \\",
        "    --csv spans.csv",
        "sensorseq predict terrain.safetensors new_logs --windows --json",
    )
)
@with_options(READ_AS_IN_TRAINING)
def predict(
    model_file: ModelFile,
    recordings: Annotated[
        list[Path], typer.Argument(metavar="RECORDING...", help="Raw files, or folders of them.")
    ],
    every_window: Annotated[
        bool, typer.Option("--windows", help="Print one line per window instead of per span.")
    ] = False,
    smooth: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="Smooth over time: marginals, viterbi, lag, filter, none [default: marginals].",
        ),
    ] = "marginals",
    mean_dwell_s: MeanDwell = None,
    table: Annotated[
        Path | None, typer.Option("--csv", metavar="CSV", help="Write the spans as a table.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="HTML", help="Write a page with the classes over the signals."),
    ] = None,
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **reading: Any,
) -> None:
    """Classify raw recordings.

    They are read as the training recordings were, unless an option here says otherwise, and go
    through the same steps as the training windows: rate, channels, filters and features, windows,
    scaling. Each line gives a time span and its class; with --windows, a single window.

    A robot stays on a surface for a while, so the windows around a window count, too. --smooth none
    shows what each window says by itself.
    """
    from sensorseq.data_checks import join_outside
    from sensorseq.evaluation.predict import predict_recordings, table_of_spans
    from sensorseq.evaluation.text import format_prediction

    check_output(html, model_file, *recordings)
    check_output(table, model_file, *recordings)
    model = load_model(model_file, strict=strict)
    with progress("predicting", quiet=quiet) as advance:
        found = predict_recordings(
            model,
            recordings,
            smooth=smooth,
            mean_dwell_s=mean_dwell_s,
            with_facts=html is not None,
            progress=advance,
            **reading,
        )
    if table is not None:
        write_whole(table, table_of_spans(found).encode())
    if html is not None:
        from sensorseq.evaluation.drive_page import make_drive_page

        title = recordings[0].name if len(recordings) == 1 else f"{len(found)} recordings"
        write_whole(html, make_drive_page(found, title=title).encode())
    outside = [one.outside for one in found if one.outside is not None]
    tell_outside(join_outside(outside) if outside else None, strict=strict)
    result = {
        "model": str(model_file),
        "classes": model.classes_.tolist(),
        "recordings": [prediction.to_dict() for prediction in found],
    }
    text = "\n\n".join(format_prediction(one, every_window=every_window) for one in found)
    say(result, text, as_json)
