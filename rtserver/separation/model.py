"""A separation network's file and manifest, checked: what it hears, what it gives, at which rates and hops. Nothing is loaded here.

The contract (docs/separation.md), by names of the graph's inputs and outputs, all float32:

==============  ============  ==============================================================================================
``features``    ``[1,440]``   input: bands of the newest spectrum (`rtserver.separation.features`)
``prior``       ``[1,1025]``  input: logit of the harmonic gain of causal medians, within ±8
``score``       ``[1,177]``   input: pitches expected now, expected onsets, and 1 where there is a score; else all 0
``NAME``        any           input: a state, zero at the start, whose value after the hop is the output ``NAME_out``
``masks``       ``[S-1,1025]`` output: the share of each bin that belongs to each stem but the last, 0..1
==============  ============  ==============================================================================================

At least one of the first three is there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from rtserver import zoo
from rtserver.config.separation import Separation, is_path, model_name
from rtserver.config.tree import Config
from rtserver.errors import ModelError

KIND = "separation"
WINDOW_SIZE, NETWORK_HOP = 2048, 256  # frames: what every model of the contract hears
N_FEATURES, N_BINS, N_SCORE = 440, WINDOW_SIZE // 2 + 1, 177
HEARD = {"features": N_FEATURES, "prior": N_BINS, "score": N_SCORE}
MASKS, OUT = "masks", "_out"
MAX_STEMS = 8
MAX_PAST = 2048  # hops of the network that the medians look back, 12 s at 44.1 kHz: they hold that many spectra
MAX_AROUND = 63  # of the medians, as in `rtserver.dsp.hpss`
PERCUSSIVE, BASS = ("percussive", "drums"), "bass"  # stems that the medians' own masks can stand in for
RESERVED = ("dry", "click", "residual")  # sources of outputs that are no stems
_TENSOR = re.compile(r"float32\[(\d+(?:,\d+)*)\]")


@dataclass(frozen=True)
class SeparationModel:
    """What a manifest promises, checked against the contract.

    Attributes
    ----------
    name : str
        What it is called while it plays.
    entry, folder : str, Path
        Where it is: its name in the manifest of a folder.
    stems : tuple of str
        In the order of the masks; the last one is what the others leave of the input.
    hops, sample_rates : tuple of int
        Frames and Hz for which the network was made.
    n_past, past_step, n_around : int
        Of the medians behind ``prior`` and ``features``: spectra along time, every which network hop one enters, and bins along frequency.
    blend : float
        How far the medians should have a say where nobody says otherwise, 0 to 1.
    heard : tuple of str
        Which of `HEARD` it takes.
    states : dict
        Name and shape of each state.
    """

    name: str
    entry: str
    folder: Path
    path: Path
    stems: tuple[str, ...]
    hops: tuple[int, ...]
    sample_rates: tuple[int, ...]
    n_past: int
    past_step: int
    n_around: int
    blend: float
    heard: tuple[str, ...]
    states: Mapping[str, tuple[int, ...]]

    @property
    def percussive(self) -> int:
        """Index of the stem that is percussive; −1: none is."""
        return next((self.stems.index(name) for name in PERCUSSIVE if name in self.stems), -1)

    @property
    def medians(self) -> tuple[int, int, int]:
        """Sizes of the medians: two models that take turns share them."""
        return self.n_past, self.past_step, self.n_around

    def n_phases(self, hop_size: int) -> int:
        """How many copies of the states take turns when hops come every `hop_size` frames."""
        return NETWORK_HOP // hop_size


def place_of(model: str) -> tuple[str, Path]:
    """Name and folder of a model of the zoo, or of a file ``….onnx`` with a ``manifest.toml`` beside it. Raises `ModelError`."""
    if not is_path(model):
        return model, zoo.FOLDER
    path = Path(model)
    if not path.is_file():
        raise ModelError(
            f"{path}: no such file; expected a network, FILE.onnx with its {zoo.MANIFEST} beside it, or the name of one of the zoo"
        )
    named = [name for name, entry in zoo.manifest(path.parent).items() if entry.get("file") == path.name]
    if not named:
        raise ModelError(
            f"{path.parent / zoo.MANIFEST} has no entry with file = {path.name!r} — `rtserver models describe {path}` writes one"
        )
    return named[0], path.parent


def read_model(model: str) -> SeparationModel:
    """The model of this name or path, if its file is the one that its manifest speaks of and the manifest keeps the contract.

    Raises
    ------
    ModelError
        Naming the file, what the contract expects, what was found and what helps.
    """
    name, folder = place_of(model)
    path, entry = zoo.verified_file(name, folder)
    where = f"{path} ({name!r})"
    if entry.get("kind") != KIND:
        raise ModelError(f"{where} is a model of kind {entry.get('kind')!r}, expected {KIND!r} — is {model!r} the right name?")
    facts, heard, states = check_entry(where, entry)
    hops, rates = tuple(facts.hops), tuple(facts.sample_rates)
    medians = facts.hpss
    return SeparationModel(
        model_name(model),
        name,
        folder,
        path,
        tuple(facts.stems),
        hops,
        rates,
        medians.n_past,
        medians.past_step,
        medians.n_around,
        facts.blend,
        heard,
        states,
    )


def check_entry(where: str, entry: dict[str, Any]) -> tuple[_Facts, tuple[str, ...], dict[str, tuple[int, ...]]]:
    """The facts of a manifest entry, what its network hears and its states, if it keeps the contract. Raises `ModelError` for `where`."""
    facts = _facts(where, entry)
    return facts, *_ends(where, entry, len(facts.stems))


def blend_of(options: Separation) -> float:
    """How far the medians have a say beside ``options.model``: as `options` say, else as its manifest does. Raises `ModelError`."""
    return read_model(options.model).blend if options.blend is None else options.blend


class _Medians(msgspec.Struct):
    n_past: int
    n_around: int
    past_step: int = 1


class _Facts(msgspec.Struct):
    """What a manifest says beside the files and their ends."""

    stems: list[str]
    window_size: int
    network_hop: int
    hops: list[int]
    sample_rates: list[int]
    hpss: _Medians
    blend: float = 0.0


def prompted(config: Config, name: str) -> bool | None:
    """Whether the network of the input `name` is told of the score at the start. None: it cannot be, for want of a score or of ears."""
    options = config.separation_of(name)
    if not config.score.file or not any("score" in read_model(model).heard for model in options.models):
        return None
    return name == config.followed_input if options.score is None else options.score


def _facts(where: str, entry: dict[str, Any]) -> _Facts:
    try:
        facts = msgspec.convert(entry, _Facts)
    except msgspec.ValidationError as error:
        raise ModelError(f"{where}: its manifest: {error} — see docs/separation.md, or let `rtserver models describe` print one") from None
    if not 2 <= len(facts.stems) <= MAX_STEMS:
        raise ModelError(f"{where}: expected 2 to {MAX_STEMS} stems, got {len(facts.stems)}")
    for stem in facts.stems:
        if not re.fullmatch(r"[\w-]+", stem, re.ASCII) or stem in RESERVED or facts.stems.count(stem) > 1:
            expected = f"different names of letters, digits, '_' and '-', none of {', '.join(RESERVED)}"
            raise ModelError(f"{where}: no stem can be called {stem!r}: expected {expected}")
    if (facts.window_size, facts.network_hop) != (WINDOW_SIZE, NETWORK_HOP):
        found = f"{facts.window_size} and {facts.network_hop}"
        raise ModelError(f"{where}: expected window_size = {WINDOW_SIZE} and network_hop = {NETWORK_HOP}, got {found} — no other run here")
    if not facts.hops or any(hop < 1 or NETWORK_HOP % hop for hop in facts.hops):
        raise ModelError(f"{where}: expected hops that divide {NETWORK_HOP}, at least one, got {facts.hops}")
    if not facts.sample_rates or min(facts.sample_rates) < 1:
        raise ModelError(f"{where}: expected sample_rates in Hz, at least one, got {facts.sample_rates}")
    if not 0.0 <= facts.blend <= 1.0:
        raise ModelError(f"{where}: expected blend in 0..1, got {facts.blend}")
    n_past, n_around = facts.hpss.n_past, facts.hpss.n_around
    if facts.hpss.past_step < 1:
        raise ModelError(f"{where}: expected hpss with past_step >= 1 (hops of the network), got {facts.hpss.past_step}")
    if n_past < 1 or n_past % 2 == 0 or not 1 <= n_around <= MAX_AROUND or n_around % 2 == 0:
        raise ModelError(f"{where}: expected hpss with odd n_past and n_around, this at most {MAX_AROUND}, got {n_past} and {n_around}")
    if n_past * facts.hpss.past_step > MAX_PAST:
        found = f"{n_past} times {facts.hpss.past_step}"
        raise ModelError(f"{where}: expected hpss with n_past times past_step at most {MAX_PAST} (hops of the network), got {found}")
    return facts


def _ends(where: str, entry: dict[str, Any], n_stems: int) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]]]:
    """The inputs that are heard, and the states, of a manifest entry whose inputs and outputs keep the contract."""
    inputs, outputs = entry["inputs"], dict[str, str](entry["outputs"])
    heard = tuple(name for name in HEARD if name in inputs)
    if not heard:
        raise ModelError(f"{where}: expected at least one input of {', '.join(HEARD)}, got {', '.join(inputs)}")
    for name in heard:
        _expect(where, f"input {name}", f"float32[1,{HEARD[name]}]", inputs[name])
    if MASKS not in outputs:
        raise ModelError(f"{where}: expected an output {MASKS!r}, got {', '.join(outputs)}")
    _expect(where, f"output {MASKS} of {n_stems} stems", f"float32[{n_stems - 1},{N_BINS}]", outputs.pop(MASKS))
    states: dict[str, tuple[int, ...]] = {}
    for name in inputs:
        if name in heard:
            continue
        found = _TENSOR.fullmatch(inputs[name])
        if found is None:
            raise ModelError(f"{where}: state {name}: expected float32 of a fixed shape, got {inputs[name]} — export it for a batch of 1")
        if name + OUT not in outputs:
            raise ModelError(
                f"{where}: input {name} is none of {', '.join(HEARD)}; as a state it expects an output {name + OUT!r}, got none"
            )
        _expect(where, f"output {name + OUT}", inputs[name], outputs.pop(name + OUT))
        states[name] = tuple(int(n) for n in found.group(1).split(","))
    if outputs:
        raise ModelError(f"{where}: outputs {', '.join(outputs)} belong to no input — expected {MASKS} and NAME{OUT} for each state NAME")
    return heard, states


def _expect(where: str, what: str, expected: str, found: str) -> None:
    if found != expected:
        raise ModelError(f"{where}: {what}: expected {expected}, got {found} — export the model anew")
