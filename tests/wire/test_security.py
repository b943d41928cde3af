"""Keys: their files, the allow-list, and who gets in through a real socket of a real gateway."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.auth
from gateway_process import PATIENCE_S, Gateway, configuration, position, until
from hypothesis import given
from hypothesis import strategies as st

from rtserver import cli
from rtserver.config import Wire
from rtserver.errors import ConfigError, RtserverError
from rtserver.wire import protocol as p
from rtserver.wire import requests as r
from rtserver.wire import security

SHUT_S = 1500  # milliseconds in which nobody answers who did not come in


@pytest.fixture
def keys(folder: Path) -> Path:
    """A folder with the keys of a server, a client that is allowed, and a stranger."""
    for name in ("server", "friend", "stranger"):
        security.new_keys(folder, name)
    security.allow(folder / "allow", folder / "friend.key")
    return folder


def wire_of(keys: Path) -> Wire:
    tcp = "tcp://127.0.0.1:*"
    return Wire(control=tcp, events=tcp, bulk=f"ipc://{keys}/bulk", server_key=str(keys / "server.key_secret"), allow=str(keys / "allow"))


# -- files ----------------------------------------------------------------------------------------------------------------------------


def test_a_secret_file_is_its_owners_alone(tmp_path: Path) -> None:
    public, secret = security.new_keys(tmp_path / "keys", "server")
    assert secret.stat().st_mode & 0o777 == 0o600
    assert security.read_pair(secret).secret.decode() not in public.read_text()


def test_other_programs_read_our_key_files(tmp_path: Path) -> None:
    public, secret = security.new_keys(tmp_path, "server")
    pair = security.read_pair(secret)
    assert zmq.auth.load_certificate(secret) == pair
    assert zmq.auth.load_certificate(public) == (pair.public, None)
    assert zmq.curve_public(pair.secret) == pair.public


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    _, secret = security.new_keys(tmp_path, "server")
    before = secret.read_bytes()
    with pytest.raises(RtserverError, match=r"server\.key_secret exists already"):
        security.new_keys(tmp_path, "server")
    assert secret.read_bytes() == before


@pytest.mark.parametrize("name", ["", "../server", "a/b", ".hidden", "x" * 65, "a b"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RtserverError, match="letters, digits"):
        security.new_keys(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    _, secret = security.new_keys(tmp_path, "server")
    secret.chmod(0o640)
    with pytest.raises(RtserverError, match="chmod 600"):
        security.read_pair(secret)


def test_a_public_file_is_no_secret_one(tmp_path: Path) -> None:
    public, _ = security.new_keys(tmp_path, "server")
    with pytest.raises(RtserverError, match=r"holds no secret key; name the file that ends in \.key_secret"):
        security.read_pair(public)


@given(st.binary(max_size=400) | st.text(max_size=80).map(lambda t: f'curve\n    public-key = "{t}"\n'.encode()))
def test_any_bytes_are_a_key_file_or_a_named_mistake(tmp_path_factory: pytest.TempPathFactory, body: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.key"
    path.write_bytes(body)
    try:
        key = security.read_public(path)
    except RtserverError as error:
        assert "any.key" in str(error)
    else:
        assert len(zmq.utils.z85.decode(key)) == 32


def test_an_allow_list_is_read_again_when_it_has_changed(keys: Path) -> None:
    allowed = security.AllowList(keys / "allow")
    friend, stranger = (security.read_public(keys / f"{name}.key") for name in ("friend", "stranger"))
    assert allowed.refresh() == set()
    assert allowed.names == {friend: "friend"}
    security.allow(keys / "allow", keys / "stranger.key")
    assert allowed.refresh() == set()
    assert allowed.names == {friend: "friend", stranger: "stranger"}
    (keys / "allow" / "friend.key").unlink()
    assert allowed.refresh() == {friend}
    assert allowed.names == {stranger: "stranger"}


def test_an_allow_list_that_is_gone_allows_nobody(tmp_path: Path) -> None:
    allowed = security.AllowList(tmp_path / "none")
    allowed.refresh()
    assert allowed.names == {}


def test_the_command_makes_lists_and_allows_keys_and_prints_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ["--folder", str(tmp_path)]
    assert cli.main(["keys", "new", "server", *folder]) == 0
    assert cli.main(["keys", "new", "page-turner", "--allow", *folder]) == 0
    assert cli.main(["keys", "show", *folder]) == 0
    said = capsys.readouterr().out
    for name in ("server", "page-turner"):
        pair = security.read_pair(tmp_path / f"{name}.key_secret")
        assert pair.public.decode() in said
        assert pair.secret.decode() not in said
    assert security.read_public(tmp_path / "allow" / "page-turner.key") == security.read_public(tmp_path / "page-turner.key")


# -- configuration --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        (lambda k: (k / "server.key_secret").chmod(0o644), "wire.server_key", "chmod 600"),
        (lambda k: (k / "server.key_secret").unlink(), "wire.server_key", "rtserver keys new"),
        (lambda k: (k / "allow" / "friend.key").write_text("no key"), "wire.allow", "not a key file"),
        (lambda k: os.rename(k / "allow", k / "elsewhere"), "wire.allow", "rtserver keys allow"),
    ],
)
def test_keys_that_cannot_be_used_are_refused_before_anything_is_bound(
    keys: Path, change: Callable[[Path], None], field: str, words: str
) -> None:
    change(keys)
    with pytest.raises(ConfigError, match=words) as caught:
        security.Security(wire_of(keys))
    assert caught.value.field == field


# -- sockets --------------------------------------------------------------------------------------------------------------------------


def send(dealer: zmq.Socket[bytes], request: Any) -> None:
    """Refused at once, a socket has nobody to send to, and would wait for ever."""
    with contextlib.suppress(zmq.Again):
        dealer.send_multipart(p.encode_request(request), zmq.DONTWAIT)


class Guarded(Gateway):
    """A gateway with keys, on ports that nobody else has."""

    def __init__(self, keys: Path) -> None:
        self.keys = keys
        super().__init__(keys, configuration(keys, wire=wire_of(keys), name=f"guarded {keys}"))

    def curve(self, kind: int, client: str = "", server: str = "server") -> zmq.Socket[bytes]:
        made = self.context.socket(kind)
        made.setsockopt(zmq.RECONNECT_IVL, 60_000)  # one knock each, so that knocks can be counted
        if client:
            made.curve_serverkey = security.read_public(self.keys / f"{server}.key")
            made.curve_publickey, made.curve_secretkey = security.read_pair(self.keys / f"{client}.key_secret")
        return made

    def knock(self, client: str = "", server: str = "server") -> bool:
        """Whether a ping is answered."""
        with contextlib.closing(self.curve(zmq.DEALER, client, server)) as dealer:
            dealer.connect(self.endpoint("control"))
            send(dealer, r.PingRequest("knock"))
            patience = PATIENCE_S * 1000 if client == "friend" and server == "server" else SHUT_S
            return bool(dealer.poll(int(patience)))


@pytest.fixture
def guarded(keys: Path) -> Iterator[Guarded]:
    gateway = Guarded(keys)
    try:
        yield gateway.started()
    finally:
        gateway.close()


def test_who_has_the_right_keys_comes_in_and_nobody_else(guarded: Guarded) -> None:
    assert guarded.knock("friend")
    assert not guarded.knock("stranger")
    assert not guarded.knock()
    assert not guarded.knock("friend", server="stranger")
    with socket.create_connection(("127.0.0.1", int(guarded.endpoint("control").rpartition(":")[2]))) as plain:
        plain.sendall(os.urandom(4000))
        assert guarded.knock("friend")
    until(lambda: guarded.counters()["denied"] == 4, "the four to be counted")
    assert guarded.counters()["bad_messages"] == 0
    assert guarded.counters()["commands"] == 2


@pytest.mark.parametrize("name", ["events", "bulk"])
def test_events_and_samples_go_to_the_right_keys_only(guarded: Guarded, name: str) -> None:
    shut = guarded.curve(zmq.SUB, "stranger")
    opened = guarded.curve(zmq.SUB, "friend")
    for subscriber in (shut, opened):
        subscriber.connect(guarded.endpoint(name))
        subscriber.subscribe("")
    written = 0

    def arrived() -> bool:
        nonlocal written
        written += 480
        guarded.session.features.write(guarded.session.features.vectors[0] * 0, written)
        guarded.session.emit("follower", position(written), "gateway")
        return bool(opened.poll(50))

    until(arrived, "a message")
    assert not shut.poll(200)


def test_a_key_on_the_list_comes_in_without_a_restart(guarded: Guarded) -> None:
    assert not guarded.knock("stranger")
    security.allow(guarded.keys / "allow", guarded.keys / "stranger.key")
    assert guarded.knock("stranger")
    assert guarded.process.poll() is None


def test_a_key_that_is_taken_off_the_list_loses_its_connection(guarded: Guarded) -> None:
    assert guarded.knock("friend")
    (guarded.keys / "allow" / "friend.key").unlink()
    assert guarded.process.wait(PATIENCE_S) == 0  # the supervisor starts it again, without them
    guarded.start()
    guarded.started()
    with contextlib.closing(guarded.curve(zmq.DEALER, "friend")) as dealer:
        dealer.connect(guarded.endpoint("control"))
        send(dealer, r.PingRequest("again"))
        assert not dealer.poll(SHUT_S)


def test_status_names_clients_by_their_keys(guarded: Guarded) -> None:
    with contextlib.closing(guarded.curve(zmq.DEALER, "friend")) as dealer:
        dealer.connect(guarded.endpoint("control"))
        send(dealer, r.StatusRequest("s"))
        assert dealer.poll(int(PATIENCE_S * 1000))
        reply = p.decode_reply(dealer.recv_multipart())
    assert reply.result is not None
    assert reply.result["accounts"]["friend"]["requests"] == 1
