"""Members: the models whose logits a trained classifier adds up, on numpy alone."""
