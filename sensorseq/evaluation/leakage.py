"""Check whether test windows of a prepared file reach training."""

import os

from sensorseq.preprocessing.leakage import LeakageReport, find_leakage
from sensorseq.storage.prepared import PreparedFile


def inspect_leakage(path: str | os.PathLike[str]) -> LeakageReport:
    """Look for leaks between the parts of a prepared file, its statistics and its balance included.

    Raises
    ------
    PreparedFileError
        If the file is missing, damaged, from another program or from a newer version.
    """
    with PreparedFile(path) as file:
        return find_leakage(file.windows(), sample_indices=file.sample_indices, scaler=file.scaler)
