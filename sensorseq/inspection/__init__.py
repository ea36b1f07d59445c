"""Find faults in data, without training or with short runs whose outcome is known in advance."""
