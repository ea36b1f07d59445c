"""Trainings side by side that find settings with which a run does better."""
