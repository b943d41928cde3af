"""Separation models made on the spot."""

from __future__ import annotations

import pytest
from separators import make

from rtserver.separation.model import SeparationModel, read_model


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> SeparationModel:
    """Drums, bass, other."""
    pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): no model can be built to be loaded")
    return read_model(str(make(tmp_path_factory.mktemp("tiny"))))


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> SeparationModel:
    """Another one of the same stems."""
    pytest.importorskip("onnx", reason="onnx is not installed (make setup-train): no model can be built to be loaded")
    return read_model(str(make(tmp_path_factory.mktemp("other"), "other", seed=1)))
