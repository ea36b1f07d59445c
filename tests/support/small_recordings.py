"""Twelve short recordings of three classes, and recordings as files."""

import numpy as np

CLASSES = ("Eis", "great snow", "sand")


def write_recordings(folder, per_class=4, n_samples=300):
    for number, label in enumerate(CLASSES):
        (folder / label).mkdir(parents=True)
        for recording in range(per_class):
            rng = np.random.default_rng(10 * number + recording)
            t = np.arange(n_samples + 20 * recording) / 20
            columns = [t, np.sin(t * (1 + number)) + 0.1 * rng.normal(size=len(t))]
            path = folder / label / f"run_{recording:02d}.csv"
            np.savetxt(path, np.stack(columns, 1), "%.4f", ",", header="time,current", comments="")
    return folder


def write_each(root, recordings):
    """Write each recording as a CSV file with the name of its id."""
    for recording in recordings:
        file = root / f"{recording.recording_id}.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        table = np.column_stack([recording.timestamps_s, recording.values])
        names = ",".join(["time", *recording.channel_names])
        np.savetxt(file, table, "%.6g", ",", header=names, comments="")
    return root
