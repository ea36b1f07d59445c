"""Split windows into parts and folds that keep groups whole or are separate in time."""

from sensorseq.preprocessing.split.parts import split_by_group, split_by_time

__all__ = ["split_by_group", "split_by_time"]
