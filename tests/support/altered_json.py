"""Replaces or removes values in a file's JSON."""

import json

OTHERS = (None, True, -1, 10**9, 10**30, 0.5, 1e308, "", "a", [], {}, [None], {"": None}, [0] * 300)


def altered(rng, described, removed=0.0):
    """Return a copy with one value replaced, or removed with probability `removed`."""
    changed = json.loads(json.dumps(described))
    holder, key = changed, rng.choice(sorted(changed))
    while isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.85:
        holder = holder[key]
        key = rng.choice(sorted(holder)) if isinstance(holder, dict) else rng.integers(len(holder))
    if isinstance(holder, dict) and rng.random() < removed:
        del holder[key]
    else:
        holder[key] = OTHERS[rng.integers(len(OTHERS))]
    return changed
