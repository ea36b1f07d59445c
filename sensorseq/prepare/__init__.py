"""Prepare recordings as one file: the function and the command `prepare`."""

from sensorseq.prepare.run import prepare

__all__ = ["prepare"]
