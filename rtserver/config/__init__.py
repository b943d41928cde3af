"""One frozen tree of settings, read from TOML. Every default lives here, with its unit and its reason: one file for the sections of a kind.

`Config` is the whole (`tree`); `load` makes one of a file and `parse` of a plain map (`reading`), checked (`checks`).
"""

from rtserver.config.audio import Audio, Input, Output
from rtserver.config.click import Click
from rtserver.config.cues import Cue, Cues
from rtserver.config.midi import Midi, MidiMap, MidiPort
from rtserver.config.music import Following, Generation, Score, Setlist
from rtserver.config.operations import Log, Metrics, Recording
from rtserver.config.reading import load, parse, read, resolve
from rtserver.config.separation import MASK_LIMITS, Separation, check_separation
from rtserver.config.tree import Config
from rtserver.config.wire import Wire

__all__ = [
    "MASK_LIMITS",
    "Audio",
    "Click",
    "Config",
    "Cue",
    "Cues",
    "Following",
    "Generation",
    "Input",
    "Log",
    "Metrics",
    "Midi",
    "MidiMap",
    "MidiPort",
    "Output",
    "Recording",
    "Score",
    "Separation",
    "Setlist",
    "Wire",
    "check_separation",
    "load",
    "parse",
    "read",
    "resolve",
]
