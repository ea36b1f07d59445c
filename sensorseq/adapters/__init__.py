"""The estimators in the shapes of other libraries; each module needs its library."""
