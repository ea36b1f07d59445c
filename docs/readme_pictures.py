"""Make the pictures of the README from simulated robots, with the commands that it shows.

    .venv/bin/python docs/readme_pictures.py

Chromium takes the pictures (on Debian, apt-get install chromium). The script needs Pillow, which
comes with matplotlib.
"""

import shutil
import subprocess
import sys
import tempfile
from contextlib import chdir
from pathlib import Path

import numpy as np
from PIL import Image

from sensorseq.cli import run
from sensorseq.io.prepared import read_windows
from sensorseq.readers import read_recordings
from sensorseq.recording import Recording

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "data" / "simulator"))
from simulate import SURFACES, Sampling, draw_robot, simulate_recordings  # noqa: E402

IMAGES = ROOT / "docs" / "images" / "readme"
SIZES = {"page": (800, 735), "look": (800, 800), "timeline": (800, 445)}
CHANNELS = ("current_a", "wheel_speed_m_s", "battery_v")
DRIVE = (("paving", 40), ("ice", 30), ("paving", 25), ("gravel", 45), ("sand", 35), ("grass", 40))
N_ROBOTS, DURATION_S = 6, 40.0


def write_csv(path: Path, columns: dict[str, list[str]]) -> None:
    """Write columns with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [columns, *zip(*columns.values(), strict=True)]
    path.write_text("".join(",".join(row) + "\n" for row in rows))


def write_logs(folder: Path) -> None:
    """Simulate robots with three faults: a wrong unit, a sensor that is stuck, and a long gap."""
    robots = [draw_robot(np.random.default_rng([2, n]), f"robot_{n}") for n in range(N_ROBOTS)]
    plan = [(name, robot) for name in SURFACES for robot in robots]
    recordings = simulate_recordings(
        [name for name, _ in plan],
        [robot for _, robot in plan],
        DURATION_S,
        random_states=[[2, n] for n in range(len(plan))],
        recording_ids=[f"{name}/{robot.name}" for name, robot in plan],
        sampling=Sampling(gap_probability=0.0),
        channels=CHANNELS,
    )
    for recording in recordings:
        name, values, time_s = recording.recording_id, recording.values, recording.timestamps_s
        kept = np.ones(len(time_s), bool)
        if name == "ice/robot_2":
            values[:, 0] *= 1000
        elif name == "grass/robot_1":
            values[900:1400, 1] = values[900, 1]
        elif name == "sand/robot_3":
            kept = (time_s < 12) | (time_s > 21)
        columns = {"time_s": [f"{t:.3f}" for t in time_s[kept]]}
        for channel, column in zip(CHANNELS, values[kept].T, strict=True):
            columns[channel] = [f"{value:.3f}" for value in column]
        write_csv(folder / f"{name}.csv", columns)


def write_drive(path: Path, recordings: list[Recording]) -> None:
    """Join recordings of one robot to a drive over several surfaces."""
    columns: dict[str, list[str]] = {"time_s": [], "current_a": [], "surface": []}
    start_s = 0
    for name, duration_s in DRIVE:
        recording = next(each for each in recordings if each.label == name)
        if (name, duration_s) == DRIVE[2]:  # paving a second time, from another recording
            recording = [each for each in recordings if each.label == name][1]
        time_s = recording.timestamps_s - recording.timestamps_s[0]
        for t, value in zip(time_s, recording.values[:, 0], strict=True):
            if t < duration_s:
                columns["time_s"].append(f"{start_s + t:.3f}")
                columns["current_a"].append(f"{value:.3f}")
                columns["surface"].append(name)
        start_s += duration_s
    write_csv(path, columns)


def write_pages() -> dict[str, Path]:
    """Run the commands of the README in the current folder; return the pages that they write."""

    def call(*words: str) -> None:
        if code := run(words):
            sys.exit(code)

    write_logs(Path("logs"))
    call("inspect", "logs", "--html", "look.html", "-q")
    Path("robots").symlink_to(ROOT / "data" / "surfaces")
    call("run", "robots", "-o", "first")
    robot = str(read_windows(Path("first/windows.h5")).part("test").groups[0])  # unseen
    recordings = read_recordings("robots")
    write_drive(Path("drive.csv"), [each for each in recordings if each.group == robot])
    smooth = ("--mean-dwell-s", "30", "--hop-s", "1", "--label-column", "surface")
    call("predict", "first/model.safetensors", "drive.csv", *smooth, "--html", "drive.html")
    pages = {"page": "first/page.html", "look": "look.html", "timeline": "drive.html"}
    return {name: Path(page).resolve() for name, page in pages.items()}


def take_picture(chromium: str, page: Path, picture: Path, size: tuple[int, int]) -> None:
    """Write the upper part of a page as a picture of few colors, with two pixels for each point."""
    raw = page.with_suffix(".png")
    options = [
        "--headless=new",
        "--no-sandbox",
        "--hide-scrollbars",
        "--force-device-scale-factor=2",
    ]
    options += [f"--window-size={size[0]},{size[1]}", f"--screenshot={raw}"]
    subprocess.run([chromium, *options, page.as_uri()], check=True, capture_output=True)
    with Image.open(raw) as image:
        few = image.convert("RGB").quantize(48, dither=Image.Dither.NONE)
        few.save(picture, optimize=True)


def main() -> None:
    """Write the three pictures."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("Chromium is missing: on Debian, apt-get install chromium.")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        for name, page in write_pages().items():
            take_picture(chromium, page, IMAGES / f"{name}.png", SIZES[name])
    sizes = ", ".join(f"{p.name} {p.stat().st_size // 1000} kB" for p in IMAGES.glob("*.png"))
    print(f"wrote {IMAGES}: {sizes}")


if __name__ == "__main__":
    main()
