"""Find faults in data before training, or with short trainings of known outcome."""
