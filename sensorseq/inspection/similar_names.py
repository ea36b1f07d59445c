"""Find misspelt classes."""

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import NamedTuple

_BETWEEN_WORDS = r"[\s_.-]+|(?<=[a-z])(?=[A-Z])"


class SimilarNames(NamedTuple):
    """Two class names that differ by a slip of the keyboard."""

    names: tuple[str, str]
    text: str
    advice: str


def similar_names(n_recordings: Mapping[str, int]) -> Iterator[SimilarNames]:
    """Yield pairs of classes whose names are nearly the same, the one with fewer recordings first.

    Such names differ in case or separators alone, or within a word of at least five characters by
    one letter, or by two that changed places. The first letter of a word is rarely a slip, and a
    capital after a small letter begins a word: gripL, gripR. Other numbers make other classes.
    """
    for pair in combinations(sorted(n_recordings, key=lambda name: n_recordings[name]), 2):
        one, other = (re.split(_BETWEEN_WORDS, name.strip()) for name in pair)
        one, other = ([word.casefold() for word in words] for words in (one, other))
        words = [(a, b) for a, b in zip(one, other, strict=False) if a != b]
        is_slip = len(one) == len(other) and len(words) == 1 and _is_slip(*words[0])
        is_same = "".join(one) == "".join(other) and _numbers(pair[0]) == _numbers(pair[1])
        if is_slip or is_same:
            named = " and ".join(f"{n!r} ({n_recordings[n]} recording(s))" for n in pair)
            yield SimilarNames(
                pair,
                f"The names of the classes {named} are nearly the same.",
                "If they are one class, give both the same name.",
            )


def _numbers(name: str) -> list[str]:
    return re.findall(r"(?:(?<![^\W_])-)?\d+(?:\.\d+)?", name)


def _is_slip(one: str, other: str) -> bool:
    if min(len(one), len(other)) < 5 or abs(len(one) - len(other)) > 1 or one[0] != other[0]:
        return False
    pairs = zip(one, other, strict=False)
    start = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
    a, b = one[start:], other[start:]
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    swapped = len(a) == 2 and a == b[::-1]
    return (swapped or max(len(a), len(b)) == 1) and not re.search(r"\d", a + b)
