"""The command line, from arguments to the exit code; each group of commands has its own file."""

from sensorseq.cli.app import app
from sensorseq.cli.program import main, run

__all__ = ["app", "main", "run"]
