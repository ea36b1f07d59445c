"""Adapters for using the classifier in other libraries; each module is named after its library."""
