import importlib
import sys

import pytest


@pytest.mark.parametrize("library", ["aeon", "sktime"])
def test_without_its_library_an_adapter_names_the_extra(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"sensorseq.adapters.{library}", raising=False)
    with pytest.raises(ImportError, match=rf'pip install "sensorseq\[{library}\]"'):
        importlib.import_module(f"sensorseq.adapters.{library}")
