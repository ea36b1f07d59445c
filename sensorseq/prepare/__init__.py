"""Prepare recordings as one file: `sensorseq prepare` and the function behind it."""

from sensorseq.prepare.run import prepare

__all__ = ["prepare"]
