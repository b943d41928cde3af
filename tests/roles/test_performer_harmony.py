"""What the performer role takes for harmony: the whole sound, or its harmonic part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtserver.config import Config, Generation
from rtserver.dsp.layout import HARMONIC_CHROMA, HARMONIC_LEVEL, LEVEL, N_CHROMA, N_HEARD
from rtserver.roles.performer import PerformerRole
from rtserver.shared.memory import Layout
from rtserver.shared.session import Session, Setup

HOP = 480
C_MAJOR, F_SHARP_MAJOR = [0, 4, 7], [6, 10, 1]


def heard(folder: Path, harmony: str, harmonic_db: float = -20.0) -> list[int]:
    """The strongest three pitch classes, where the whole sounds like one triad and its harmonic part like another."""
    layout = Layout()
    Session.declare(layout, 1, 1, N_HEARD)
    config = Config(generation=Generation(harmony=harmony, listen="sound"))  # pyright: ignore[reportArgumentType]
    session = Session.create(layout, Setup(config, str(folder)))
    role = PerformerRole(session)
    role.prepare()
    x = np.full(N_HEARD, 0.1, np.float32)
    x[:N_CHROMA][F_SHARP_MAJOR] = x[HARMONIC_CHROMA:HARMONIC_LEVEL][C_MAJOR] = 0.5
    x[LEVEL], x[HARMONIC_LEVEL] = -20.0, harmonic_db
    for k in range(50):
        session.features.write(x, (k + 1) * HOP)
        role.step()
    assert role.playing is not None
    found = role.playing.accompanist.listener.heard
    return sorted(np.argsort(found)[-3:].tolist()) if found.any() else []


@pytest.mark.parametrize(("harmony", "classes"), [("whole", F_SHARP_MAJOR), ("harmonic", C_MAJOR)])
def test_the_configuration_says_which(tmp_path: Path, harmony: str, classes: list[int]) -> None:
    assert heard(tmp_path, harmony) == sorted(classes)


def test_what_drums_leave_in_the_harmonic_part_is_no_harmony(tmp_path: Path) -> None:
    assert heard(tmp_path, "harmonic", harmonic_db=-40.0) == []
