"""``python -m sensorseq`` is the command ``sensorseq``."""

from sensorseq.cli import main

if __name__ == "__main__":
    main()
