"""Measure the speed of a machine, and check that the installation computes correctly."""
