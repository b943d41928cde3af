"""A client of rtserver: joins without losing anything, asks again without doing twice, knows the server's clock, lets no note hang.

It needs pyzmq and msgspec (and python-rtmidi where a `Port` is opened), and nothing of rtserver: import it from here or copy the folder.
The protocol is in docs/protocol.md.

    with Client(topics=["position"]) as client:
        client.ask("set", name="outputs.harmonic.mute", value=True)
        for message in client.messages():
            print(message.topic, message.payload)

A thread reads the sockets all the time, so that the server never finds this client slow; whoever calls `messages` may be.
"""

from .client import DEFAULT, Client
from .clock import Clock
from .finding import find, reached
from .lease import LEASE_S, NoteLease
from .player import Player
from .port import Port, PortError
from .requests import NoReply, ServerError
from .sequencer import LATE_S, Sequencer
from .stream import Message, Stream

__all__ = [
    "DEFAULT",
    "LATE_S",
    "LEASE_S",
    "Client",
    "Clock",
    "Message",
    "NoReply",
    "NoteLease",
    "Player",
    "Port",
    "PortError",
    "Sequencer",
    "ServerError",
    "Stream",
    "find",
    "reached",
]
