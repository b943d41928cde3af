"""What the performer plays comes back by the microphone: it is taken away from what is heard of the player."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rtserver.config import Config, Following, Generation
from rtserver.dsp.features import Features
from rtserver.dsp.layout import LEVEL, N_FEATURES, N_HEARD
from rtserver.events import Note
from rtserver.node import Spec
from rtserver.roles.performer import PerformerRole
from rtserver.shared.memory import Layout
from rtserver.shared.session import Session, Setup

HOP, RATE = 480, 48000
N_HOPS = 1500


def performer(folder: Path, own_notes: str) -> PerformerRole:
    layout = Layout()
    Session.declare(layout, 1, 1, N_HEARD)
    generation = Generation(mode="free", tempo_bpm=120.0, seed=3, scale="C major", listen="sound")
    config = Config(generation=generation, following=Following(own_notes=own_notes))  # pyright: ignore[reportArgumentType]
    role = PerformerRole(Session.create(layout, Setup(config, str(folder))))
    role.prepare()
    return role


def play(role: PerformerRole, x: np.ndarray) -> tuple[list[Note], list[bool]]:
    """The notes, and at which hops somebody else seemed to play."""
    notes: list[Note] = []
    heard: list[bool] = []
    assert role.playing is not None
    for k, row in enumerate(x):
        role.session.features.write(np.pad(row, (0, N_HEARD - N_FEATURES)), (k + 1) * HOP)
        role.step()
        notes += [e for e in role.session.receive("midi") if isinstance(e, Note)]
        role.session.receive("gateway")
        heard.append(role.playing.accompanist.listener.sounding)
    return notes, heard


def sound_of(notes: list[Note]) -> np.ndarray:
    """Features of bells that ring where the notes are due."""
    signal = np.zeros((1, N_HOPS * HOP), np.float32)
    t = np.arange(RATE) / RATE
    for note in notes:
        ring = sum(np.sin(2 * np.pi * k * 440.0 * 2 ** ((note.pitch - 69) / 12) * t) * np.exp(-6.0 * k * t) / k for k in (1, 2, 3))
        ring *= 0.2 * (note.velocity / 127) ** 2 * np.minimum(t / 0.003, 1.0)
        part = signal[0, note.frame : note.frame + RATE]
        part += ring[: len(part)]
    node = Features(RATE)
    node.prepare(Spec.signal(RATE, 1, HOP))
    x = np.zeros((N_HOPS, N_FEATURES), np.float32)
    for k, out in enumerate(x):
        node.process(np.ascontiguousarray(signal[:, k * HOP : (k + 1) * HOP]), out)
    return x


@pytest.fixture(scope="module")
def own_sound(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """What comes back of what the performer plays in silence."""
    silence = np.zeros((N_HOPS, N_FEATURES), np.float32)
    silence[:, LEVEL] = -120.0
    notes, heard = play(performer(tmp_path_factory.mktemp("silence"), "ignore"), silence)
    assert len(notes) > 20
    assert not any(heard)
    return sound_of(notes)


def test_its_own_sound_is_hardly_taken_for_the_players(own_sound: np.ndarray, tmp_path: Path) -> None:
    _, with_own = play(performer(tmp_path, "hear"), own_sound)
    _, without = play(performer(tmp_path, "ignore"), own_sound)
    half = N_HOPS // 2  # by then it knows what it sounds like
    assert np.mean(with_own[half:]) > 0.8
    assert np.mean(without[half:]) < 0.5 * np.mean(with_own[half:])
