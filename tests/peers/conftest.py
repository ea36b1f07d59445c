"""Ignores files that would fail to import, instead of being skipped, without a peer library."""

from importlib.util import find_spec

NEEDED = {"test_aeon_adapter.py": "aeon", "test_sktime_adapter.py": "sktime"}
collect_ignore = [file for file, library in NEEDED.items() if find_spec(library) is None]
