"""Resample signals and recordings to an even rate, offline or in streams."""

from sensorseq.preprocessing.resample.regrid import regrid
from sensorseq.preprocessing.resample.signal import StreamResampler, resample, resample_recording

__all__ = ["StreamResampler", "regrid", "resample", "resample_recording"]
