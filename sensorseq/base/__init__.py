"""Checks of arguments, words, formulas, optimizers and the C library, for every room."""
