"""The diagram of packages in CONTRIBUTING.md shows the layers that imports must respect."""

from checkout import ROOT, script

SCRIPT = ROOT / "docs" / "house_picture.py"


def test_the_path_of_a_window_goes_through_packages_of_the_layers():
    module = script(SCRIPT)
    packages = [name for layer in module.read_layers() for name in layer]
    assert {name for name, _ in module.WAY} <= set(packages)
    assert module.PICTURE.exists()


def test_the_folders_of_the_core_are_those_that_includes_are_held_to():
    groups = script(SCRIPT).read_core()
    below = script(ROOT / "tests" / "native" / "test_folders.py").BELOW
    assert sorted(name for group in groups for name in group) == sorted(below)
    for i, group in enumerate(groups):
        lower = {name for each in groups[:i] for name in each}
        assert {name for folder in group for name in below[folder]} <= lower
