"""Scale channels by statistics of training windows or recordings, or by rated values."""

from sensorseq.preprocessing.scale.scaler import Scaler, fit_scaler

__all__ = ["Scaler", "fit_scaler"]
