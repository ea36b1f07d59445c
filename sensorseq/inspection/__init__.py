"""Find faults in data before training, or with short runs whose outcome is known in advance."""
