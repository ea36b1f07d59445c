"""Run the command ``sensorseq`` with ``python -m sensorseq.cli``."""

from sensorseq.cli import main

main()
