"""Learners: what fits the members of a model, one file for each kind."""
