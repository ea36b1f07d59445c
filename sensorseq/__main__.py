"""Run the command ``sensorseq`` with ``python -m sensorseq``."""

from sensorseq.cli import main

if __name__ == "__main__":
    main()
