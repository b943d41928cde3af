"""A folder of somebody's own MIDI files as training data: what is kept, what is left out, and that it says so."""

import json
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed (make setup-train): the training side is not tested")

from scalesheets import folder_of_scales  # noqa: E402  (needs torch)

from models import loop  # noqa: E402  (needs torch)
from models.generation import midi_folder, pieces, train  # noqa: E402  (needs torch)
from models.generation.evaluate import evaluate  # noqa: E402

Note = tuple[float, float, int]  # onset and duration in quarters, MIDI pitch


def melody(seed: int = 0, n: int = 120) -> list[Note]:
    """Quarters and eighths up and down a scale."""
    rng = np.random.default_rng(seed)
    steps = np.abs(np.cumsum(rng.choice([-2, -1, 1, 2], n))) % 14
    lengths = rng.choice([0.5, 1.0], n)
    onset = np.cumsum(lengths) - lengths
    keys = [60 + 12 * (s // 7) + (0, 2, 4, 5, 7, 9, 11)[s % 7] for s in steps.tolist()]
    return list(zip(onset.tolist(), lengths.tolist(), keys, strict=True))


def write(path: Path, *tracks: list[Note], channel: int = 0, metres: tuple[tuple[int, int], ...] = (), division: int = 480) -> None:
    midi = mido.MidiFile(ticks_per_beat=division)
    head = mido.MidiTrack(mido.MetaMessage("time_signature", numerator=n, denominator=d) for n, d in metres)
    midi.tracks.append(head)
    for notes in tracks:
        rows = [(on + d, 0, p) for on, d, p in notes] + [(on, 1, p) for on, _, p in notes]
        track, now = mido.MidiTrack(), 0
        for quarter, down, pitch in sorted(rows):
            tick = round(quarter * division)
            track.append(mido.Message("note_on", channel=channel, note=pitch, velocity=70 * down, time=tick - now))
            now = tick
        midi.tracks.append(track)
    path.parent.mkdir(parents=True, exist_ok=True)
    midi.save(str(path))


def one(folder: Path) -> tuple[list[pieces.Piece], str, midi_folder.Report]:
    """What became of the only file of a folder."""
    made, report = midi_folder.read(folder)
    assert len(report.files) == 1
    return made, next(iter(report.files.values())), report


def test_notes_come_back_in_ticks(tmp_path: Path) -> None:
    notes = melody()
    write(tmp_path / "sub" / "a.mid", notes, metres=((3, 4),))
    made, said, _ = one(tmp_path)
    assert said == f"kept {len(notes)} notes"
    assert made[0].name == "sub/a.mid"
    rows = list(zip(made[0].onset.tolist(), made[0].duration.tolist(), made[0].pitch.tolist(), strict=True))
    assert rows == [(round(24 * on), round(24 * d), p) for on, d, p in notes]
    assert made[0].bar == (72, 0)


def test_tracks_are_parts(tmp_path: Path) -> None:
    write(tmp_path / "a.mid", melody(1), melody(2))
    made, _, _ = one(tmp_path)
    assert len(np.unique(made[0].part)) == 2


def test_a_metre_that_changes_is_not_known(tmp_path: Path) -> None:
    write(tmp_path / "a.mid", melody(), metres=((3, 4), (4, 4)))
    assert one(tmp_path)[0][0].bar is None


def test_what_is_no_midi_is_left_out_and_said(tmp_path: Path) -> None:
    (tmp_path / "a.mid").write_text("not MIDI at all")
    made, said, _ = one(tmp_path)
    assert not made and said.startswith("not a MIDI file")


def test_a_short_file_is_left_out_and_said(tmp_path: Path) -> None:
    write(tmp_path / "a.mid", melody(n=midi_folder.N_LEAST - 1))
    made, said, _ = one(tmp_path)
    assert not made and said.startswith(f"too short: {midi_folder.N_LEAST - 1} notes")


def test_drums_are_left_out_and_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.mid", melody(), channel=midi_folder.DRUMS)
    assert one(tmp_path)[1].startswith("too short: 0 notes")


def test_a_free_recording_is_left_out_and_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write(tmp_path / "a.mid", [(on + float(rng.uniform(-0.25, 0.25)) + 0.25, 0.2, p) for on, _, p in melody()])
    made, said, _ = one(tmp_path)
    assert not made and said.startswith("not in time with its beats")


def test_timing_in_seconds_is_left_out_and_said(tmp_path: Path) -> None:
    write(tmp_path / "a.mid", melody())
    content = bytearray((tmp_path / "a.mid").read_bytes())
    content[12:14] = b"\xe7\x28"  # 25 frames a second, 40 ticks a frame
    (tmp_path / "a.mid").write_bytes(content)
    made, said, _ = one(tmp_path)
    assert not made and said.startswith("timed in seconds")


def test_a_transposed_copy_is_left_out_and_named(tmp_path: Path) -> None:
    write(tmp_path / "a.mid", melody())
    write(tmp_path / "b.mid", [(on, d, p + 3) for on, d, p in melody()])
    made, report = midi_folder.read(tmp_path)
    assert [p.name for p in made] == ["a.mid"]
    assert report.files["b.mid"] == "a copy: of a.mid"


def test_what_is_changed_is_counted(tmp_path: Path) -> None:
    notes = melody()
    end = notes[-1][0] + 4.0
    write(tmp_path / "a.mid", [*notes, (end, 9.0, 60), (end + 12.0, 0.01, 62), (end + 12.0, 1.0, 64)])
    _, _, report = one(tmp_path)
    assert report.notes["cut to four quarters"] == 1
    assert report.notes["lengthened to 1/24 quarter"] == 1
    assert report.notes["kept"] == len(notes) + 3


def test_notes_that_nobody_releases_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "a.mid", melody())
    midi = mido.MidiFile(str(tmp_path / "a.mid"))
    midi.tracks[-1].append(mido.Message("note_on", note=30, velocity=70, time=0))
    midi.save(str(tmp_path / "a.mid"))
    assert one(tmp_path)[2].notes["left out: never released"] == 1


def test_a_folder_without_use_is_named(tmp_path: Path) -> None:
    write(tmp_path / "a.mid", melody(n=10))
    with pytest.raises(SystemExit, match="holds no piece to train on"):
        pieces.load(tmp_path)


def settings(folder: Path, out: Path, *more: str) -> Any:
    tiny = ["--batch", "4", "--window", "32", "--checks", "2", "--rate", "0.01", "--check", "2"]
    return train.parser().parse_args([str(folder), "--out", str(out), *tiny, *more])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("midi")
    for seed in range(14):
        write(folder / ("anna" if seed % 2 else "bela") / f"{seed}.mid", melody(seed))
    (folder / "broken.mid").write_text("not MIDI at all")
    return folder


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    train.train(settings(folder, out, "--hidden", "24", "--steps", "20"))
    return out


def test_training_leaves_the_report(trained: Path) -> None:
    report = json.loads((trained / train.REPORT).read_text())
    assert report["pieces"] == 14
    assert report["files"]["broken.mid"].startswith("not a MIDI file")


def test_tasks_that_no_piece_has_do_not_count(trained: Path) -> None:
    """Every piece here is of one part: nobody can follow another."""
    figures = loop.read(trained / train.FILE)["figures"]
    assert figures["follow"]["n_notes"] == 0
    assert figures[train.WATCHED] == pytest.approx((figures["all"]["note"] + figures["chart"]["note"]) / 2, abs=1e-3)


def test_no_piece_changes_sides_when_a_composer_is_chosen(folder: Path) -> None:
    whole, some = pieces.load(folder), pieces.load(folder, "Bela")
    assert all(p.name.startswith("bela") for part in some for p in part)
    assert not {p.name for p in some[0]} & {p.name for p in whole[2]}


def test_the_licence_of_somebody_s_own_files_is_not_made_up(folder: Path, tmp_path: Path) -> None:
    assert pieces.origin(folder) == "MIDI files (licence not stated)"
    assert pieces.origin(folder_of_scales(tmp_path)).endswith("CC0 1.0")


def test_few_pieces_are_cut_in_three(tmp_path: Path) -> None:
    write(tmp_path / "a.mid", melody(n=200))
    train_pieces, validation, held_out = pieces.load(tmp_path)
    assert [len(p[0].onset) for p in (train_pieces, validation, held_out)] == [170, 14, 16]


def test_fine_tuning_begins_with_the_weights_of_the_run(folder: Path, trained: Path, tmp_path: Path) -> None:
    """Its network has the size of that run, whatever the options say, and is better on the composer's pieces after a few steps."""
    before, _ = train.restore(trained / train.FILE)
    losses = train.train(settings(folder, tmp_path, "--only", "anna", "--start", str(trained), "--steps", "20", "--rate", "0.003"))
    assert losses[0] < loop.read(trained / train.FILE)["figures"]["all"]["note"] + 0.5, "new weights would begin at 14 nats"
    after, checkpoint = train.restore(tmp_path / train.FILE)
    assert checkpoint["settings"]["hidden"] == before.hidden == after.hidden == 24
    validation = pieces.load(folder, "anna")[1]
    scored = [evaluate(n, validation, tasks=("all",))["all"]["note"] for n in (before, after)]
    assert scored[1] < scored[0]
