"""Where what is in a feature vector, for those who read one and make none."""

from __future__ import annotations

N_CHROMA = 12  # out[0:12], C first
N_DIFFERENCE = 88  # out[12:100], MIDI pitches 21..108
LEVEL = N_CHROMA + N_DIFFERENCE  # out[100], dB
SEMITONES = LEVEL + 1  # where they begin: out[101:208], log magnitudes of MIDI pitches 21..127
N_SEMITONES = 107
N_FEATURES = SEMITONES + N_SEMITONES

# What the feature ring holds of a hop: the features of the input, and after them chroma and level of its harmonic track, which lag by as
# much as the track does. They are 0 where the performer does not ask for them.
HARMONIC_CHROMA = N_FEATURES
HARMONIC_LEVEL = HARMONIC_CHROMA + N_CHROMA
N_HEARD = HARMONIC_LEVEL + 1
