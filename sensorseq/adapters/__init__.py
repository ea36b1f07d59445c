"""Adapters of the estimators for other libraries; each module needs its library."""
