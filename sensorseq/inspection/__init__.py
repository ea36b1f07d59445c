"""What can be seen wrong in data, before training or by short trainings of known outcome."""
