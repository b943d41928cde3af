"""What the performer is trained on: pieces and their split, windows and what is told in them, the metre."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserver.generation import vocabulary as v

torch = pytest.importorskip("torch", reason="torch is not installed (make setup-train): the training side is not tested")

from scalesheets import folder_of_scales  # noqa: E402  (needs torch)

from models.generation import data, metre, network, pieces  # noqa: E402  (needs torch)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of_scales(tmp_path_factory.mktemp("notes"))


def test_the_split_is_by_piece_and_always_the_same(folder: Path) -> None:
    parts = pieces.load(folder)
    assert [len(p) for p in parts] == [26, 2, 2]
    assert [[p.name for p in part] for part in parts] == [[p.name for p in part] for part in pieces.load(folder)]


def test_missing_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=pieces.FILES[0]):
        pieces.load(tmp_path)


def test_half_of_the_windows_listen(folder: Path) -> None:
    stream = data.Stream(pieces.load(folder)[0], 16, np.random.default_rng(0))
    share = np.mean([stream.draw().chroma[:, 12].all() for _ in range(400)])
    assert 0.4 < share < 0.6


def test_the_performers_own_notes_are_not_in_its_condition(folder: Path) -> None:
    piece = pieces.load(folder)[0][0]
    made = data.sequence(piece, piece.part == 0, 0, 40, told=data.Told(listen=True))
    bass = piece.pitch[piece.part == 1][0] % 12
    heard = made.chroma[1:, :12]
    assert np.all(np.flatnonzero(heard.sum(axis=0)) == [bass])


def test_a_transposed_window_has_transposed_chroma(folder: Path) -> None:
    piece = pieces.load(folder)[0][0]
    plain, up = (data.sequence(piece, piece.part == 0, 0, 40, told=data.Told(listen=True), shift=s) for s in (0, 3))
    np.testing.assert_array_equal(up.pitch[1:], plain.pitch[1:] + 3)
    np.testing.assert_allclose(up.chroma[:, :12], np.roll(plain.chroma[:, :12], 3, axis=1), atol=1e-6)


def test_a_change_of_key_is_heard_a_quarter_before_it_is_to_be_followed(folder: Path) -> None:
    piece = pieces.load(folder)[0][0]
    own = piece.part == 0
    shift = np.where(np.arange(40) >= 21, 5, 0)
    plain, turned = (data.sequence(piece, own, 0, 40, told=data.Told(listen=True), shift=s) for s in (0, shift))
    np.testing.assert_array_equal(turned.pitch[1:] - plain.pitch[1:], shift)
    changed = np.flatnonzero(np.abs(turned.chroma - plain.chroma).max(axis=1) > 1e-6)
    # Events come in quarters, the bass changes at the onset of event 20, and has been heard by that of event 21.
    assert changed[0] == 1 + 21


def test_what_comes_is_known_to_who_is_told(folder: Path) -> None:
    piece = pieces.load(folder)[0][0]
    own = piece.part == 0
    scored = data.sequence(piece, own, 0, 40, told=data.Told(score=True)).ahead
    bass = piece.pitch[~own][0] % 12
    assert np.all(scored[1:-4, 24] == 1.0)
    assert {int(x) for x in np.flatnonzero(scored[:, :12].sum(axis=0))} == {int(bass)}
    charted = data.sequence(piece, np.ones(len(own), bool), 0, 40, told=data.Told(chart=True))
    # At the first onset: the first two notes of the scale and the bass, then the next two and the bass.
    tick = int(piece.onset[0])
    for block in (0, 1):
        sounding = (piece.onset < tick + 48 * (block + 1)) & (piece.onset + piece.duration > tick + 48 * block)
        assert set(np.flatnonzero(charted.ahead[1, 12 * block : 12 * block + 12])) == set((piece.pitch[sounding] % 12).tolist())


def test_a_sketch_has_no_more_than_four_pitch_classes(folder: Path) -> None:
    piece = pieces.load(folder)[0][0]
    made = data.sequence(piece, np.ones(len(piece.onset), bool), 0, 40, told=data.Told(chart=True, sketch=True))
    assert set(np.unique(made.ahead)) <= {0.0, 1.0}
    assert (made.ahead[:, :12].sum(axis=1) <= 4).all()


def test_what_is_not_told_is_unknown(folder: Path) -> None:
    piece = pieces.load(folder)[0][0]
    made = data.sequence(piece, piece.part == 0, 0, 40, told=data.Told(phase=False))
    assert not (made.chroma.any() or made.ahead.any() or made.controls.any() or made.bar.any() or made.metre or made.texture or made.part)
    assert (made.phase == v.UNKNOWN_PHASE).all()


@given(st.integers(0, 2**32 - 1))
def test_keys_that_are_down(seed: int) -> None:
    rng = np.random.default_rng(seed)
    onset, _, pitch, duration = v.encode(rng.integers(0, 60, 12), rng.integers(40, 50, 12), rng.integers(1, 40, 12))
    after, before = data.down(onset, pitch, duration, np.r_[0, onset])
    for i, tick in enumerate(onset):
        sounding = {int(p) for o, p, d in zip(onset[: i + 1], pitch, duration, strict=False) if o <= tick < o + d}
        assert set(np.flatnonzero(after[i + 1]).tolist()) == sounding
        earlier = {int(p) for o, p, d in zip(onset[:i], pitch, duration, strict=False) if o + d > tick}
        assert set(np.flatnonzero(before[i]).tolist()) == earlier


@pytest.mark.parametrize(("bar", "line"), [(72, 24), (96, 0), (48, 24)])
def test_bar_lines_are_found_where_accents_are(bar: int, line: int) -> None:
    """A chord on every bar line, single quarters between, after an upbeat of `line` ticks."""
    onset, duration = [], []
    for tick in range(0, 60 * bar, 24):
        strong = (tick - line) % bar == 0
        onset += [tick] * (3 if strong else 1)
        duration += [48 if strong else 24] * (3 if strong else 1)
    assert metre.estimate(np.array(onset), np.array(duration)) == (bar, line)


def test_notes_without_accents_have_no_metre() -> None:
    assert metre.estimate(np.arange(400) * 24, np.full(400, 24)) is None


def test_packing_loses_nothing_that_matters(folder: Path) -> None:
    stream = data.Stream(pieces.load(folder)[0], 16, np.random.default_rng(0))
    batch = data.stack([stream.window()[0]])
    plain, packed = network.tensors(batch), network.tensors(data.pack(batch))
    assert plain.keys() == packed.keys()
    for k, x in plain.items():
        assert x.dtype == packed[k].dtype
        torch.testing.assert_close(x, packed[k], rtol=1e-3, atol=1e-3)


def test_windows_of_a_stream_follow_each_other(folder: Path) -> None:
    stream = data.Stream(pieces.load(folder)[0], 16, np.random.default_rng(0))
    first, fresh = stream.window()
    second, again = stream.window()
    assert fresh and not again
    assert first["next_pitch"][-1] == second["pitch"][0]
