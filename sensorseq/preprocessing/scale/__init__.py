"""Scale channels by what is learned from training windows, recordings or rated values."""

from sensorseq.preprocessing.scale.scaler import Scaler, fit_scaler

__all__ = ["Scaler", "fit_scaler"]
