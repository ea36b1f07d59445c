"""Recordings from other programs' files."""

from sensorseq.readers.csv import read_csv

__all__ = ["read_csv"]
