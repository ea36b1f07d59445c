"""``python -m sensorseq.cli`` is the command ``sensorseq``."""

from sensorseq.cli import main

main()
