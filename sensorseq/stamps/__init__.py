"""The timestamps of a log: their names, units, period and repair, and the clocks of streams."""
