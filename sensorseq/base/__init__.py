"""Checks of arguments, words, formulas and the table of optimizers, which every room may use."""
