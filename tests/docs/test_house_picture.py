"""The picture of the packages in CONTRIBUTING.md is drawn from the imports."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "house_picture.py"


def test_parts_stand_above_what_they_import_and_the_way_of_a_window_exists():
    spec = importlib.util.spec_from_file_location("house_picture", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    imports = script.read_imports()
    layers = script.find_layers(imports)
    assert layers["estimator"] > layers["training"] > layers["ops"] > layers["io"]
    assert all(layers[name] > layers[other] for name in imports for other in imports[name])
    assert {name for name, _ in script.WAY} <= set(imports)
    assert script.PICTURE.exists()
