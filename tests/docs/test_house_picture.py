"""The diagram of packages in CONTRIBUTING.md shows the layers that imports must respect."""

from pathlib import Path

from checkout import script

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "house_picture.py"


def test_the_path_of_a_window_goes_through_packages_of_the_layers():
    module = script(SCRIPT)
    packages = [name for layer in module.read_layers() for name in layer]
    assert {name for name, _ in module.WAY} <= set(packages)
    assert module.PICTURE.exists()
