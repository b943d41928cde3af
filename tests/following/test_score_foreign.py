"""Formats that partitura reads, in a process of its own."""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path

import pytest

from rtserver.following.score import load_score

KERN = "**kern\n*M3/4\n*k[b-]\n=1\n4c\n8d\n8e\n4f#\n=2\n2.g\n==\n*-\n"
MEI = """<?xml version="1.0" encoding="UTF-8"?>
<mei xmlns="http://www.music-encoding.org/ns/mei" meiversion="4.0.1"><meiHead><fileDesc><titleStmt><title>Study</title></titleStmt>
<pubStmt/></fileDesc></meiHead><music><body><mdiv><score><scoreDef meter.count="4" meter.unit="4" key.sig="0"><staffGrp>
<staffDef n="1" lines="5" clef.shape="G" clef.line="2" xml:id="P1"/></staffGrp></scoreDef><section>
<measure n="1"><staff n="1"><layer n="1"><note dur="4" oct="4" pname="c"/><note dur="4" oct="4" pname="d"/><note dur="2" oct="4" pname="e"/>
</layer></staff></measure><measure n="2"><staff n="1"><layer n="1"><note dur="1" oct="5" pname="c"/></layer></staff></measure>
</section></score></mdiv></body></music></mei>"""


@pytest.mark.parametrize("suffix", [".krn", ".kern"])
def test_kern(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"s{suffix}").write_text(KERN)
    score = load_score(tmp_path / f"s{suffix}")
    assert score.notes.pitch.tolist() == [60, 62, 64, 66, 67]
    assert score.notes.onset_quarter.tolist() == [0, 1, 1.5, 2, 3]
    assert score.metre.tolist() == [[3, 4]]
    assert score.quarter_of_bar(2) == 3


def test_mei(tmp_path: Path) -> None:
    ids = count()
    text = re.sub(r"<(mei|meiHead|mdiv|score|scoreDef|section|measure|staff|layer|note)\b", lambda m: f'{m[0]} xml:id="i{next(ids)}"', MEI)
    (tmp_path / "s.mei").write_text(text)
    score = load_score(tmp_path / "s.mei")
    assert score.notes.pitch.tolist() == [60, 62, 64, 72]
    assert score.notes.onset_quarter.tolist() == [0, 1, 2, 4]
    assert score.place_at(4.0).bar == "2"
