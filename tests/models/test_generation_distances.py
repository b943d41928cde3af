"""How far what a model writes is from music, and what of it is copied, on notes made here."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (make setup-train): the training side is not tested")

from scalesheets import folder_of_scales  # noqa: E402  (needs torch)

from models.generation import distances  # noqa: E402  (needs torch)


def melody(seed: int, n: int = 60, key: int = 60) -> np.ndarray:
    """(onset, pitch, duration) of a line that wanders."""
    rng = np.random.default_rng(seed)
    step, interval = rng.choice([6, 12, 24], n), rng.integers(-7, 8, n)
    return np.stack([np.cumsum(step), key + np.cumsum(interval) % 24, rng.choice([6, 12, 18], n)], axis=1)


def test_the_same_notes_have_no_distance() -> None:
    notes = [melody(k) for k in range(3)]
    assert distances.distance(notes, notes) == {k: {"overlap": 1.0, "kl": 0.0} for k in distances.FEATURES}


@pytest.mark.parametrize(
    ("feature", "notes"),
    [
        ("interval", [(0, 60, 24), (24, 65, 24), (48, 70, 24), (72, 75, 24)]),
        ("duration", [(0, 60, 20), (24, 62, 20), (48, 64, 20), (72, 66, 20)]),
        ("pitch_class", [(0, 60, 24), (24, 62, 24), (48, 60, 24), (72, 62, 24)]),
    ],
)
def test_each_feature_sees_what_it_is_of(feature: str, notes: list[tuple[int, int, int]]) -> None:
    """Whole tones in quarters, and notes that differ from them in this alone, or in this and the interval too."""
    music = np.array([(0, 60, 24), (24, 62, 24), (48, 64, 24), (72, 66, 24)])
    found = distances.distance([music], [np.array(notes)])
    assert found[feature]["overlap"] < 1.0
    assert found[feature]["kl"] > 0.0
    assert found["inter_onset"] == found["polyphony"] == {"overlap": 1.0, "kl": 0.0}


def test_keys_that_are_down_are_counted_once_a_chord_is_struck() -> None:
    notes = np.array([(0, 48, 24), (0, 60, 6), (6, 62, 6), (24, 64, 6)])
    assert distances.histogram([notes], "polyphony").tolist()[:4] == [0, 1, 2, 0]  # 2 at 0, 2 at 6, 1 at 24


def test_a_copy_is_found_in_another_key() -> None:
    copies = distances.Copies([melody(1), melody(2)])
    inside = melody(3).copy()
    inside[20:35] = melody(2)[30:45]
    inside[20:35, 0] += inside[19, 0] + 5 - melody(2)[30, 0]
    inside[20:35, 1] -= 4
    inside[35:, 0] += inside[34, 0]
    assert copies.longest(inside) == 15
    assert copies.share(inside, 15) == pytest.approx(15 / 60)


def test_no_copy_runs_from_one_piece_into_the_next() -> None:
    a, b = melody(1), melody(2)
    joined = np.concatenate([a, b + np.array([a[-1, 0], 0, 0])])
    assert distances.Copies([a, b]).longest(joined) == 60
    assert distances.Copies([joined]).longest(joined) == 120


def test_a_piece_that_is_all_copied_is_found_whole() -> None:
    assert distances.Copies([melody(1)]).longest(melody(1)[10:40]) == 30


def test_one_command_writes_all_of_it_and_the_seed_says_what(tmp_path: Path) -> None:
    """Of the shipped model, beside pieces made here."""
    out = tmp_path / "found.json"
    arguments = [str(folder_of_scales(tmp_path)), "--notes", "24", "-o", str(out)]
    distances.main(distances.parser().parse_args(arguments))
    first = json.loads(out.read_text())["found"]
    assert set(first["distance"]) == set(first["copies"]) == {"music", "model", "order_0"}
    assert first["copies"]["music"]["longest"] == 24, "a scale is a scale"
    distances.main(distances.parser().parse_args(arguments))
    assert json.loads(out.read_text())["found"] == first
