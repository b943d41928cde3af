"""A whole server whose sockets are flooded plays on: no role dies, hops go by, the good client is answered."""

from __future__ import annotations

import threading
import time
import uuid

import msgspec
import numpy as np
import zmq

from rtserver.wire import protocol as p
from rtserver.wire import requests as r

SETTINGS = {
    "name": "rtflood",
    "audio": {"block_size": 1024, "spare_blocks": 2, "device": "system"},
    "generation": {"enabled": False},
}


def test_a_server_plays_on_while_its_sockets_are_flooded(jack_server, live_server):
    server = live_server(SETTINGS)
    context = zmq.Context()
    context.setsockopt(zmq.LINGER, 0)
    stopped = False
    sent = 0

    def flood():
        nonlocal sent
        random = np.random.default_rng(3)
        dealers = [context.socket(zmq.DEALER) for _ in range(2)]
        for dealer in dealers:
            dealer.connect(server.config.wire.control)
        while not stopped:
            begun_s = time.monotonic()
            for i in range(1000):  # ten thousand a second, some of it garbage
                request = {"id": f"{sent}", "op": "set", "name": "outputs.harmonic.gain_db", "value": 0.0}
                body = random.bytes(60) if i % 5 == 0 else msgspec.msgpack.encode(request)
                try:
                    dealers[i % 2].send_multipart([p.MARK, body], zmq.DONTWAIT)
                except zmq.Again:
                    continue
                sent += 1
            time.sleep(max(begun_s + 0.1 - time.monotonic(), 0))

    idle = [context.socket(zmq.SUB) for _ in range(20)]
    for subscriber in idle:
        subscriber.setsockopt(zmq.RCVHWM, 1)
        subscriber.connect(server.config.wire.events)
        subscriber.subscribe("")
    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        good = context.socket(zmq.DEALER)
        good.connect(server.config.wire.control)
        frames, hops = [], []
        for _ in range(20):
            good.send_multipart(p.encode_request(r.StatusRequest(str(uuid.uuid4()))))
            assert good.poll(30_000), "the good client is not answered"
            result = p.decode_reply(good.recv_multipart()).result
            frames.append(result["frame"])
            hops.append(result["roles"]["engine"]["counters"]["hops"])
            time.sleep(0.1)
        assert frames == sorted(frames)
        assert frames[-1] > frames[0]
        assert hops[-1] > hops[0]
        counters = server.session.counters("gateway")
        assert sent > 1000
        assert counters["rate_limited"] > 0
        assert counters["bad_messages"] > 0
        assert [server.supervisor.children[name].restarts for name in ("gateway", "engine", "audio")] == [0, 0, 0]
    finally:
        stopped = True
        flooding.join()
        context.destroy(linger=0)
