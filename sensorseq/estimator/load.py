"""Load the estimator of any model file."""

import os

from sensorseq.errors import ModelFileError, refusing
from sensorseq.estimator.classifier import SensorLSTMClassifier
from sensorseq.estimator.sensor_fusion import SensorFusionClassifier
from sensorseq.io.model_file import SAVE_AGAIN, read_model
from sensorseq.training.parameters import check_device

AnyClassifier = SensorLSTMClassifier | SensorFusionClassifier


def load_estimator(path: str | os.PathLike[str], *, device: str | None = None) -> AnyClassifier:
    """Load the fitted estimator of one sensor or of several that `save` wrote.

    Parameters
    ----------
    path : str or path
        The file.
    device : str, optional
        Overrides the saved `device`.
    """
    if device is not None:
        check_device(device)
    arrays, description = read_model(path)
    kind = SensorFusionClassifier if "fusion" in description else SensorLSTMClassifier
    with refusing(ModelFileError, f"{path} is inconsistent", SAVE_AGAIN, but=ModelFileError):
        return kind._restored(arrays, description, path, device)
