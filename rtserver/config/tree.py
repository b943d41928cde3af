"""The whole tree, with what a server needs to ask of more than one section."""

from __future__ import annotations

import msgspec

from rtserver.config.audio import Audio, Input, Output
from rtserver.config.click import Click
from rtserver.config.cues import Cues
from rtserver.config.midi import Midi
from rtserver.config.music import Following, Generation, Score, Setlist
from rtserver.config.operations import Log, Metrics, Recording
from rtserver.config.separation import Separation
from rtserver.config.wire import Wire


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a server needs to know."""

    name: str = "rtserver"
    audio: Audio = Audio()
    setlist: Setlist = Setlist()
    inputs: dict[str, Input] = msgspec.field(default_factory=lambda: {"main": Input()})
    outputs: dict[str, Output] = msgspec.field(
        default_factory=lambda: {
            "harmonic": Output(source="harmonic", channels=[1], on_late="dry"),
            "percussive": Output(source="percussive", channels=[2], on_late="dry"),
        }
    )
    separation: Separation = Separation()
    score: Score = Score()
    following: Following = Following()
    cues: Cues = Cues()
    generation: Generation = Generation()
    click: Click = Click()
    midi: Midi = Midi()
    wire: Wire = Wire()
    recording: Recording = Recording()
    metrics: Metrics = Metrics()
    log: Log = Log()

    def input_of(self, output: Output) -> str:
        """Name of the input that an output is made of."""
        return output.input or next(iter(self.inputs))

    @property
    def followed_input(self) -> str:
        """Name of the input that follower and performer listen to."""
        return self.following.input or next(iter(self.inputs))

    @property
    def keeps_time(self) -> bool:
        """Whether there is a performer's role: for the network that plays along, or for a click alone."""
        clicks = self.click.enabled or self.click.count_in_bars > 0 or any(output.source == "click" for output in self.outputs.values())
        return self.generation.enabled or clicks

    @property
    def heard_inputs(self) -> list[str]:
        """The inputs of which an output has a track."""
        heard = {self.input_of(output) for output in self.outputs.values() if output.source not in ("dry", "click")}
        return [name for name in self.inputs if name in heard]

    @property
    def harmony_input(self) -> str:
        """Name of the input of whose harmonic part the performer hears the harmony; empty: of none."""
        return self.followed_input if self.generation.enabled and self.generation.harmony == "harmonic" else ""

    @property
    def deferred_inputs(self) -> list[str]:
        """The inputs whose networks run in the worker, in the order of its rings."""
        return [name for name in self.heard_inputs if self.separation_of(name).deferred_hops]

    @property
    def separation_models(self) -> tuple[str, ...]:
        """The networks that separate its inputs, by name or path, each once."""
        return tuple(dict.fromkeys(model for name in self.inputs for model in self.separation_of(name).models))

    def separation_of(self, name: str) -> Separation:
        """How an input is separated."""
        return self.inputs[name].separation or self.separation
