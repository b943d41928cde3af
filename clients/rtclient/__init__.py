"""A client of rtserver: joins without losing anything, asks again without doing twice, knows the server's clock, lets no note hang.

It needs pyzmq and msgspec and nothing of rtserver: import it from here or copy the folder. The protocol is in docs/protocol.md.

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
from .requests import NoReply, ServerError
from .stream import Message, Stream

__all__ = ["DEFAULT", "LEASE_S", "Client", "Clock", "Message", "NoReply", "NoteLease", "ServerError", "Stream", "find", "reached"]
