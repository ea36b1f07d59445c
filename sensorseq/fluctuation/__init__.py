"""Whether a training curve fluctuates more than it should, and what that means."""
