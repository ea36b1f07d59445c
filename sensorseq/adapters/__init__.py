"""Adapters of the estimators to other libraries; each module needs its library."""
