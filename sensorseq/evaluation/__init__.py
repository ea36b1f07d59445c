"""How good a model is, against what, shown."""
