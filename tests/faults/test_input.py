"""What comes in by cable and by wire: samples that are no sound, requests that are none."""

import numpy as np
import pytest
import zmq
from faults import PERIOD, RATE, SILENT, Trial, sine

from rtserver.audio import table as t

PIECE = RATE // 5
NASTY = {
    "NaN": np.full(PIECE, np.nan),
    "Inf": np.full(PIECE, np.inf),
    "±1e30": np.tile([1e30, -1e30], PIECE // 2),
    "denormals": np.full(PIECE, 1e-42),
    "DC": np.full(PIECE, 1.0),
    "clipped at 4": np.clip(np.random.default_rng(0).normal(0, 8, PIECE), -4, 4),
    "silence": np.zeros(PIECE),
}
BETWEEN_S = 1.2  # of sine, before each and after the last


def test_samples_that_are_no_sound(stage, row):
    row.fault = f"input: {', '.join(NASTY)}, each for 0.2 s"
    sound = sine(BETWEEN_S)[0]
    signal = np.concatenate([sound, *(np.concatenate([piece, sound]) for piece in NASTY.values())]).astype(np.float32)[None]
    table = stage.session.block["audio.table"]
    before = int(table[t.NONFINITE_IN])
    with Trial(stage, signal=signal, note_s=0.5, tail_s=float("inf")) as trial:
        trial.strike(lambda: None)
    row.take(trial)
    assert np.isfinite(trial.record).all(), "nothing but sound leaves the server"
    assert int(table[t.NONFINITE_IN]) - before >= 2 * PIECE * 0.9, "what is scrubbed is counted"
    played = trial.record.sum(axis=0)
    lag = int(np.argmax(np.abs(played[:RATE]) > SILENT)) - int(np.argmax(np.abs(signal[0]) > SILENT))
    length = min(len(played) - lag, signal.shape[1])
    wrong = np.abs(played[lag : lag + length] - signal[0, :length]) > 1e-3
    late_s = sum(e["n_frames"] for e in trial.events("miss")) / RATE
    recovered_s = {}
    for n, name in enumerate(NASTY):
        after = (n + 1) * (len(sound) + PIECE)  # the sine begins again: how long until it comes out as it went in?
        until = min(after + len(sound) - RATE // 20, length)  # what follows rings into the window before it
        recovered_s[name] = int(np.flatnonzero(wrong[after:until]).max(initial=0)) / RATE
    row.audio = "yes; what is not finite is scrubbed"
    row.gap_s, row.back_s = None, max(recovered_s.values())
    row.lost, row.learned = "nothing", "`status`: nonfinite_in"
    assert row.back_s < 0.6 + late_s, f"forgotten when the windows have passed: {recovered_s}"
    assert trial.told() == []


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("no msgpack", [b"RT1", b"\xc1" * 64]),
        ("another protocol version", [b"RT9", b"\x80"]),
        ("an unknown op", [b"RT1", b"\x82\xa2id\xa1a\xa2op\xa4nope"]),
        ("too many parts", [b"x"] * 100),
        ("huge: 8 MB", [b"RT1", bytes(8 << 20)]),
    ],
)
def test_a_request_that_is_none(stage, row, name, frames):
    row.fault = f"request: {name}"
    with zmq.Context.instance().socket(zmq.DEALER) as control:
        control.linger = 0
        control.connect(stage.server.config.wire.control)
        control.send_multipart(frames)
        row.learned = (
            "an error reply" if control.poll(500 if name.startswith("huge") else 20_000) else "no reply: the connection is dropped"
        )
    row.audio, row.lost = "yes", "nothing"
    assert stage.ask("ping")["ok"], "others are served"
    assert stage.restarts("gateway") == 0
    assert (row.learned == "an error reply") == (not name.startswith("huge"))
    assert int(stage.session.block["audio.table"][t.BLOCK_SIZE]) == PERIOD
