"""Recordings to windows that cannot leak: resample, window, split by group, scale, balance."""
