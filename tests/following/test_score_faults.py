"""Whatever lies in a score file: a score, or a `ScoreError` that names the file. Never a crash, a hang, or all the memory there is."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import mido
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtserver.errors import ScoreError
from rtserver.following import container, foreign, midiscore, musicxml
from rtserver.following.score import load_score

from .conftest import FORWARD, REPEAT, attributes, document, note, rest

MANY = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def some_musicxml() -> bytes:
    tie = '<tie type="{}"/><notations><ornaments><trill-mark/></ornaments><fermata/></notations>'
    sound = '<direction><direction-type><words>D.C. al Fine</words></direction-type><sound tempo="90" dacapo="yes"/></direction>'
    ending = '<barline location="left"><ending number="1" type="start"/></barline>'
    chord = note(64, 8, before="<chord/>")
    return document(
        attributes(4)
        + note(60, 8, tie.format("start"))
        + chord
        + note(60, 8, tie.format("stop"))
        + "<backup><duration>4</duration></backup>",
        FORWARD + attributes(3, 6, 8) + rest(3) + note(62, 6) + "<forward><duration>1</duration></forward>",
        ending + note(64, 9) + REPEAT.replace("<repeat", '<ending number="1" type="stop"/><repeat times="3"'),
        note(65, 9) + sound,
        first=0,
    ).encode()


def zipped(**files: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return out.getvalue()


def rooted(name: str, content: bytes) -> bytes:
    root = f'<container><rootfiles><rootfile full-path="{name}"/></rootfiles></container>'.encode()
    return zipped(**{"META-INF__container_xml": root, name.replace(".", "_"): content})


def some_midi() -> bytes:
    file = mido.MidiFile(ticks_per_beat=96)
    track = file.add_track("Flute")
    track += [mido.MetaMessage("time_signature", numerator=3, denominator=4), mido.MetaMessage("set_tempo", tempo=400_000)]
    track += [mido.MetaMessage("key_signature", key="Bbm"), mido.MetaMessage("marker", text="A")]
    for i in range(20):
        track += [mido.Message("note_on", note=60 + i % 12, time=10), mido.Message("note_off", note=60 + i % 12, time=40)]
    out = io.BytesIO()
    file.save(file=out)
    return out.getvalue()


SEEDS = {".musicxml": some_musicxml(), ".mxl": rooted("a.xml", some_musicxml()), ".mid": some_midi()}


def loads_or_says_why(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        score = load_score(path)
    except ScoreError as error:
        assert str(path) in str(error)
    else:
        assert len(score.events()) > 1
        assert score.place_at(1.0).time >= 1


@pytest.mark.parametrize("suffix", SEEDS)
def test_the_seeds_are_scores(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"score{suffix}").write_bytes(SEEDS[suffix])
    assert len(load_score(tmp_path / f"score{suffix}").notes) > 4


@pytest.mark.parametrize("suffix", SEEDS)
@MANY
@given(data=st.data())
def test_a_damaged_score_is_refused_or_read(tmp_path: Path, suffix: str, data: st.DataObject) -> None:
    content = bytearray(SEEDS[suffix])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(len(content) - 1, 0)))
        match data.draw(st.sampled_from(["change", "cut", "insert", "drop", "double"])):
            case "change":
                content[at : at + 1] = data.draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del content[at:]
            case "insert":
                content[at:at] = data.draw(st.binary(max_size=4))
            case "drop":
                del content[at : at + data.draw(st.integers(1, 40))]
            case _:
                content[at:at] = content[at : at + data.draw(st.integers(1, 40))] * data.draw(st.integers(1, 40))
    loads_or_says_why(tmp_path / f"score{suffix}", bytes(content))


ODD = ["999999999999", "-5", "0", "1e9", "0.333", "nan", "inf", "1/7", "", "٣", "9" * 5000, "up"]


@MANY
@given(data=st.data())
def test_numbers_that_are_none(tmp_path: Path, data: st.DataObject) -> None:
    """Well-formed, and nonsense: every number of the file in turn is something else."""
    text = some_musicxml().decode()
    head = text.index("<part id")
    places = [i for i in range(head, len(text)) if text[i].isdigit() and not text[i - 1].isdigit()]
    at = data.draw(st.sampled_from(places))
    stop = next(i for i in range(at, len(text)) if not text[i].isdigit())
    loads_or_says_why(tmp_path / "score.musicxml", (text[:at] + data.draw(st.sampled_from(ODD)) + text[stop:]).encode())


@MANY
@given(content=st.binary(max_size=300))
def test_noise_behind_the_head_of_a_midi_file(tmp_path: Path, content: bytes) -> None:
    loads_or_says_why(tmp_path / "score.mid", some_midi()[:22] + content)


def test_an_entity_bomb_is_refused(tmp_path: Path) -> None:
    lines = "".join(f'<!ENTITY e{i + 1} "{f"&e{i};" * 10}">' for i in range(12))
    bomb = f'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY e0 "ha">{lines}]><score-partwise><work>&e12;</work></score-partwise>'
    for encoding in ("utf-8", "utf-16"):
        (tmp_path / "bomb.musicxml").write_bytes(bomb.encode(encoding))
        with pytest.raises(ScoreError, match="entity"):
            load_score(tmp_path / "bomb.musicxml")


def test_a_document_type_without_entities_is_fine(tmp_path: Path) -> None:
    kind = b'<!DOCTYPE score-partwise PUBLIC "-//Recordare//DTD MusicXML 3.1 Partwise//EN" "http://www.musicxml.org/dtds/partwise.dtd">'
    text = some_musicxml()
    at = text.index(b"<score-partwise")
    (tmp_path / "score.musicxml").write_bytes(text[:at] + kind + text[at:])
    assert len(load_score(tmp_path / "score.musicxml").notes) > 4


def test_an_outside_entity_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    text = f'<!DOCTYPE s [<!ENTITY e SYSTEM "file://{tmp_path}/secret">]><score-partwise><work><work-title>&e;</work-title></work></score-partwise>'
    (tmp_path / "score.xml").write_text(text)
    with pytest.raises(ScoreError, match="entity"):
        load_score(tmp_path / "score.xml")


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "MAX_BYTES", 1_000_000)
    (tmp_path / "bomb.mxl").write_bytes(rooted("a.xml", b" " * 50_000_000))
    with pytest.raises(ScoreError, match="1000000 bytes"):
        load_score(tmp_path / "bomb.mxl")


def test_a_container_bomb_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "bomb.mxl").write_bytes(zipped(**{"META-INF__container_xml": b" " * 20_000_000, "a_xml": b"<a/>"}))
    with pytest.raises(ScoreError, match="bytes"):
        load_score(tmp_path / "bomb.mxl")


def test_an_archive_without_a_score_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "score.mxl").write_bytes(zipped(readme_txt=b"hello"))
    with pytest.raises(ScoreError, match=r"readme\.txt"):
        load_score(tmp_path / "score.mxl")


def test_an_archive_without_a_container_is_searched(tmp_path: Path) -> None:
    (tmp_path / "score.mxl").write_bytes(zipped(readme_txt=b"hello", a_musicxml=some_musicxml()))
    assert len(load_score(tmp_path / "score.mxl").notes) > 4


def test_a_bar_of_a_million_elements_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(musicxml, "MAX_ELEMENTS", 10_000)
    (tmp_path / "score.musicxml").write_text(document(attributes(1) + "<a/>" * 50_000))
    with pytest.raises(ScoreError, match="10000 elements"):
        load_score(tmp_path / "score.musicxml")


@pytest.mark.parametrize("where", ["<part id", "</score-partwise>", "<measure", "</part>"])
def test_what_stands_beside_the_bars_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Elements that nobody reads may be as many as they like: they are gone when the next comes."""
    monkeypatch.setattr(musicxml, "MAX_ELEMENTS", 1000)
    text = document(attributes(1) + note(60, 4), note(62, 4)).replace(where, "<junk/>" * 20_000 + where, 1)
    (tmp_path / "score.musicxml").write_text(text)
    assert load_score(tmp_path / "score.musicxml").notes.pitch.tolist() == [60, 62]


def test_bars_of_a_timewise_score_may_be_empty(tmp_path: Path) -> None:
    parts = '<part-list><score-part id="A"><part-name>Oboe</part-name></score-part></part-list>'
    bar = f'<measure number="3"><part id="A">{attributes(1) + note(60, 1) + note(62, 3)}</part></measure>'
    (tmp_path / "s.xml").write_text(f'<score-timewise>{parts}<measure number="1"/><measure number="2"/>{bar}</score-timewise>')
    assert load_score(tmp_path / "s.xml").place_at(0.0).bar == "3"


def test_repeats_that_multiply_are_followed_as_written(tmp_path: Path) -> None:
    back = REPEAT.replace("backward", 'backward" times="1000')
    bars = [attributes(1) + note(60, 4), *(FORWARD + note(60, 4) for _ in range(6)), *(note(62, 4) + back for _ in range(6))]
    (tmp_path / "score.musicxml").write_text(document(*bars))
    score = load_score(tmp_path / "score.musicxml")
    assert len(score.notes) == 13
    assert any("as written" in warning for warning in score.warnings)


def test_thousands_of_signs_are_followed_as_written(tmp_path: Path) -> None:
    sign = '<direction><direction-type><words>x</words></direction-type><sound {}="a"/></direction>'
    bars = [attributes(1) + note(60, 4), *(sign.format(kind) + note(62, 4) for kind in ("segno", "dalsegno", "tocoda") * 1000)]
    (tmp_path / "score.musicxml").write_text(document(*bars))
    score = load_score(tmp_path / "score.musicxml")
    assert len(score.notes) == 3001
    assert any("2000 repeat signs" in warning for warning in score.warnings)


def test_bars_that_repeats_multiply_are_refused(tmp_path: Path) -> None:
    """Few notes, but bars without end."""
    back = REPEAT.replace("backward", 'backward" times="999')
    (tmp_path / "score.musicxml").write_text(document(attributes(1) + note(60, 1), *[""] * 2000, note(62, 4) + back))
    with pytest.raises(ScoreError, match="1000000 bars with all repeats"):
        load_score(tmp_path / "score.musicxml")


def test_long_names_are_cut(tmp_path: Path) -> None:
    long = "x" * 100_000
    mark = f"<direction><direction-type><rehearsal>{long}</rehearsal></direction-type></direction>"
    text = document(*(attributes(1) + mark + note(60 + 2 * (i % 2), 4) for i in range(200)))
    text = text.replace('number="7"', f'number="{long}"').replace("<work-title>Study", f"<work-title>{long}").replace("Flute", long)
    (tmp_path / "score.musicxml").write_text(text)
    score = load_score(tmp_path / "score.musicxml")
    assert max(len(t) for t in (*score.bar_text, *score.mark_text, *score.parts, score.title)) == 200


def test_a_thousand_parts_are_enough(tmp_path: Path) -> None:
    many = "".join(f'<score-part id="Q{i}"><part-name>Q</part-name></score-part>' for i in range(1000))
    (tmp_path / "score.musicxml").write_text(document(attributes(1) + note(60, 4)).replace("</part-list>", f"{many}</part-list>"))
    with pytest.raises(ScoreError, match="1000 parts"):
        load_score(tmp_path / "score.musicxml")


def test_divisions_without_a_common_multiple_stay_computable(tmp_path: Path) -> None:
    primes = [n for n in range(10_000, 20_000) if all(n % k for k in range(2, 142))]
    (tmp_path / "score.musicxml").write_text(document(*(attributes(p) + note(60, 3 * p + 1) + note(62, p) for p in primes)))
    score = load_score(tmp_path / "score.musicxml")
    true = sum(4 + 1 / p for p in primes)
    assert score.length_quarter == pytest.approx(true, abs=1e-9)


def test_a_file_that_breaks_off_while_it_is_read(tmp_path: Path) -> None:
    memory = Path("/proc/self/mem")
    if not memory.exists():
        pytest.skip("this system has no such file")
    (tmp_path / "score.mid").symlink_to(memory)
    with pytest.raises(ScoreError, match="cannot be opened"):
        load_score(tmp_path / "score.mid")


def test_a_folder_is_no_score(tmp_path: Path) -> None:
    (tmp_path / "score.mid").mkdir()
    with pytest.raises(ScoreError, match="folder"):
        load_score(tmp_path / "score.mid")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "score.mid").write_bytes(some_midi())
    (tmp_path / "score.mid").chmod(0)
    with pytest.raises(ScoreError, match="cannot be opened"):
        load_score(tmp_path / "score.mid")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "score.mid")
    with pytest.raises(ScoreError, match="no file"):
        load_score(tmp_path / "score.mid")


def test_a_file_larger_than_any_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "MAX_BYTES", 100)
    (tmp_path / "score.mid").write_bytes(some_midi())
    with pytest.raises(ScoreError, match="limit 100"):
        load_score(tmp_path / "score.mid")


def test_a_suffix_that_is_not_known_names_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "score.mscz").write_bytes(b"PK")
    with pytest.raises(ScoreError, match=r"\.musicxml .*\.mid .*\.mei .*\.krn"):
        load_score(tmp_path / "score.mscz")


@pytest.mark.parametrize(("division", "says"), [(0xE728, "SMPTE"), (0, "SMPTE")])
def test_a_midi_file_in_seconds_is_no_score(tmp_path: Path, division: int, says: str) -> None:
    content = bytearray(some_midi())
    content[12:14] = division.to_bytes(2, "big")
    (tmp_path / "score.mid").write_bytes(bytes(content))
    with pytest.raises(ScoreError, match=says):
        load_score(tmp_path / "score.mid")


def test_a_midi_file_of_many_sequences_is_no_score(tmp_path: Path) -> None:
    content = bytearray(some_midi())
    content[9] = 2
    (tmp_path / "score.mid").write_bytes(bytes(content))
    with pytest.raises(ScoreError, match="type 2"):
        load_score(tmp_path / "score.mid")


def test_a_midi_file_that_never_ends(tmp_path: Path) -> None:
    file = mido.MidiFile(ticks_per_beat=1)
    track = file.add_track()
    track += [mido.Message("note_on", note=60, time=0), mido.Message("note_off", note=60, time=2**27), mido.Message("note_on", note=62)]
    file.save(tmp_path / "score.mid")
    with pytest.raises(ScoreError, match="quarters"):
        load_score(tmp_path / "score.mid")


def test_a_midi_file_larger_than_any_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(midiscore, "MAX_BYTES", 100)
    (tmp_path / "score.mid").write_bytes(some_midi())
    with pytest.raises(ScoreError, match="100 bytes"):
        load_score(tmp_path / "score.mid")


@pytest.mark.parametrize("suffix", foreign.SUFFIXES)
def test_noise_in_a_file_of_another_format(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"score{suffix}").write_bytes(b"\x00noise" * 20)
    with pytest.raises(ScoreError, match="cannot be read"):
        load_score(tmp_path / f"score{suffix}")


def test_a_parser_that_takes_for_ever_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "TIME_LIMIT_S", 0.01)
    (tmp_path / "score.krn").write_text("**kern\n4c\n4d\n*-\n")
    with pytest.raises(ScoreError, match=r"within 0\.01 s"):
        load_score(tmp_path / "score.krn")
