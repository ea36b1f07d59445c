"""Which cause a fluctuation has: findings, from what happened to a sentence with its figures."""
