"""A program that prepares in processes which may be killed: `python killable_preparations.py`.

It imports once and waits: each line of JSON on its stdin holds the arguments of one `prepare`, run
in a process forked for it. That process says "pid N" as it begins; how it ended, by its own exit or
by a signal, is said by the one that waits for it: "ended N".
"""

import json
import os
import sys

from sensorseq.prepare import prepare


def say(text):
    os.write(1, f"{text}\n".encode())  # one write, so that a line is whole or not there


def main():
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            say(f"pid {os.getpid()}")
            code = 1
            try:
                prepare(**asked)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        say(f"ended {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
