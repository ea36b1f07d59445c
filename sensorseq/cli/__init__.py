"""The command line: arguments in, exit code out; a file for each group of commands."""

from sensorseq.cli.app import app
from sensorseq.cli.program import main, run

__all__ = ["app", "main", "run"]
