"""The command lines of the benchmarks."""

import argparse
from typing import Any


def make_parser(doc: str, **options: Any) -> argparse.ArgumentParser:
    """Return a parser whose help begins with the docstring of a module, line breaks included."""
    plain = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=doc, formatter_class=plain, **options)
