"""Controlled re-runs of a recorded fit: what proves a cause, or clears it."""
