"""What is written of values that are no measurements, apart from what finds them."""

WORDS = {
    "unsigned": (
        "whole numbers that jump between the ends of their range",
        "These are probably signed numbers that were stored as unsigned ones: subtract the full"
        " range (65536 for 16 bits) from the values in its upper half.",
    ),
    "marks": (
        "one value, apart from all others, comes again and again",
        "It is probably a mark for failed reads: leave these fields empty (NaN), so that they are"
        " read as missing.",
    ),
    "rescaled": (
        "the scale changes midway, but not the shape of the signal",
        "Probably the unit or the measuring range was changed: convert the values.",
    ),
    "wraps": (
        "the values wrap around",
        "Resampling, filters and means make values in between that were never there: replace an"
        " angle by its sine and cosine and a counter by its steps, or choose other `channels`.",
    ),
}
"""For each kind, the most important first, what is seen, and what to do."""
