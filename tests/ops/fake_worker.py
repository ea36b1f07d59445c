"""A stand-in for sensorseq.ops.kernel_cases that returns values from a folder, or misbehaves.

fake_worker.py VALUES MISCHIEF CASE: in case CASE, the stand-in misbehaves as MISCHIEF requests.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path


def say(**fields):
    print(f"\n{json.dumps(fields)}", flush=True)  # a library may have printed an incomplete line


def garbage():
    os.write(1, b'\xff\x00 not a line of JSON\n[1, 2]\n{"done": "?"}\n' * 1000 + b"x" * 200_000)


values, mischief, at = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
job = json.loads(sys.stdin.readline())
if mischief == "never ready":
    time.sleep(3600)
say(ready=True)
for number, (precision, padded, n_timesteps) in enumerate(job["cases"]):
    name = f"{precision}-{padded}-{n_timesteps}.npz"
    say(begin=number)
    file = Path(job["folder"]) / f"{number}.npz"
    shutil.copy(values / name, file)
    same = True
    if name == f"{at}.npz":
        match mischief:
            case "hangs":
                time.sleep(3600)
            case "hangs with a child":
                if os.fork() == 0:
                    time.sleep(3600)
                time.sleep(3600)
            case "dies":
                print("CUDA error: an illegal memory access was encountered", file=sys.stderr)
                os.abort()
            case "raises":
                say(error="this GPU cannot run clusters of 8 blocks at a time")
                sys.exit(1)
            case "prints garbage for ever":
                while True:
                    garbage()
            case "prints garbage and dies":
                garbage()
                sys.exit(3)
            case "prints garbage, then goes on":
                garbage()
            case "other bits":
                same = False
            case "wrong digits":
                shutil.copy(values / "wrong.npz", file)
            case "not a number":
                shutil.copy(values / "nan.npz", file)
            case "another shape":
                shutil.copy(values / "shape.npz", file)
            case "half a file":
                file.write_bytes(file.read_bytes()[:1000])
            case "no file":
                file.unlink()
    say(done=number, file=str(file), same=same, seconds=0.0)
