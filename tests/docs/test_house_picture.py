"""The picture of the packages in CONTRIBUTING.md is drawn from the imports."""

from pathlib import Path

from checkout import script

SCRIPT = Path(__file__).resolve().parents[2] / "docs" / "house_picture.py"


def test_parts_stand_above_what_they_import_and_the_way_of_a_window_exists():
    module = script(SCRIPT)
    imports = module.read_imports()
    layers = module.find_layers(imports)
    assert layers["estimator"] > layers["training"] > layers["ops"] > layers["io"]
    assert all(layers[name] > layers[other] for name in imports for other in imports[name])
    assert {name for name, _ in module.WAY} <= set(imports)
    assert module.PICTURE.exists()
