"""FluidSynth as a process that turns a MIDI file into sound: seconds for a movement.

For before the show and after it, never while it plays.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from rtserver.errors import AudioFileError, SynthesisError
from rtserver.node import Array

FONTS = ("/usr/share/sounds/sf2/FluidR3_GM.sf2", "/usr/share/sounds/sf2/default-GM.sf2", "/usr/share/soundfonts/FluidR3_GM.sf2")
REMEDY = "Debian: apt-get install fluidsynth fluid-soundfont-gm"
SAMPLE_RATE = 44100  # Hz: that of most sound fonts' samples
TIME_LIMIT_S = 300.0  # an hour of piano takes a minute


def font_of(path: str = "") -> Path:
    """The sound font at `path`, or if that is empty the first of `FONTS` that is there. Raises `SynthesisError`."""
    if path:
        if not Path(path).is_file():
            raise SynthesisError(f"no such sound font: {path}")
        with Path(path).open("rb") as file:
            head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"sfbk":  # FluidSynth would play with its default font
            raise SynthesisError(f"{path}: not a sound font; expected SF2 or SF3")
        return Path(path)
    found = next((Path(font) for font in FONTS if Path(font).is_file()), None)
    if found is None:
        raise SynthesisError(f"no sound font found; expected one of {', '.join(FONTS)} ({REMEDY}), or following.sound_font to name another")
    return found


def synthesise(midi: bytes, sound_font: str = "", sample_rate: int = SAMPLE_RATE) -> tuple[Array, int]:
    """The sound of a MIDI file, dry: (2, frames) float32, and its sample rate in Hz. Raises `SynthesisError`."""
    from rtserver.audio.file import read

    program, font = shutil.which("fluidsynth"), font_of(sound_font)
    if program is None:
        raise SynthesisError(f"FluidSynth is not installed, which renders the reference ({REMEDY})")
    with tempfile.TemporaryDirectory() as folder:
        source, wav = Path(folder) / "score.mid", Path(folder) / "score.wav"
        source.write_bytes(midi)
        form = ["-R", "0", "-C", "0", "-g", "0.5", "-r", str(sample_rate), "-O", "float", "-T", "wav", "-F", str(wav)]
        try:
            done = subprocess.run(
                [program, "-ni", "-q", *form, str(font), str(source)], capture_output=True, timeout=TIME_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise SynthesisError(
                f"FluidSynth should render the score within {TIME_LIMIT_S:g} s, did not; is {font} a sound font?"
            ) from None
        said = " ".join(done.stderr.decode(errors="replace").split())[-200:] or f"it ended with {done.returncode}"
        if "failed to load" in said.lower():  # it goes on with its default font
            raise SynthesisError(f"{font} cannot be loaded by FluidSynth: {said}")
        try:
            signal, sample_rate = read(wav)
        except AudioFileError:
            raise SynthesisError(f"FluidSynth wrote no sound with {font}: {said}") from None
    if done.returncode or not signal.size or not float(abs(signal).max()) > 0.0:
        raise SynthesisError(f"FluidSynth made no sound with {font}: {said}")
    return signal, sample_rate
