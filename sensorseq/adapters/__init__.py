"""Adapters of the classifier for aeon and sktime; each module needs the library in its name."""
