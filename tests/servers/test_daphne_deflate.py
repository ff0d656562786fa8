"""permessage-deflate on the completed daphne, with a real client and with bytes on the wire."""

from __future__ import annotations

import json
import re
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import websockets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory as Offer
from websockets.sync.client import ClientConnection, connect

from tests.servers.client import Raw, frame, open_socket, unique
from tests.servers.conftest import Running, Server

pytestmark = pytest.mark.servers

APP = "tests.servers.deflated:app"
SETTINGS = "tests.servers.django_settings"
TEXT = "the quick brown fox jumps over the lazy dog " * 20
OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate"}
# The first bytes of a compressed text, of its first fragment, and of a compressed continuation.
WHOLE, FIRST = 0xC1, 0x41


def client_of(running: Running, path: str, *offers: Offer) -> ClientConnection:
    options: dict[str, Any] = {"extensions": offers, "compression": None} if offers else {}
    return connect(running.url(path), proxy=None, max_size=None, **options)


def negotiated(client: ClientConnection) -> str | None:
    assert client.response is not None
    return client.response.headers.get("Sec-WebSocket-Extensions")


def deflated(data: bytes, bits: int = 15) -> bytes:
    deflater = zlib.compressobj(wbits=-bits)
    return (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


def raw(running: Running, path: str, offer: str = "permessage-deflate") -> Raw:
    return Raw(running, path, {"Sec-WebSocket-Extensions": offer}).accepted()


def answer(client: Raw) -> tuple[int, bytes]:
    """The first byte and the payload of the next frame, which is shorter than 64 KiB."""
    first, length = client.exactly(2)
    size = int.from_bytes(client.exactly(2), "big") if length == 126 else length
    return first, client.exactly(size)


def ending(running: Running, name: str) -> str:
    with open_socket(running, f"/ended?as={name}") as client:
        return str(client.recv(timeout=15))


# The handshake


@pytest.mark.parametrize(
    ("path", "offer", "response"),
    [
        ("/echo", "permessage-deflate", "server_no_context_takeover; client_no_context_takeover"),
        (
            "/echo",
            "permessage-deflate; client_max_window_bits; server_max_window_bits=10",
            "server_no_context_takeover; client_no_context_takeover; server_max_window_bits=10; "
            "client_max_window_bits=12",
        ),
        ("/context", "permessage-deflate", ""),
        ("/context", "permessage-deflate; server_no_context_takeover", "server_no_context_takeover"),
        ("/context", "permessage-deflate; server_max_window_bits=8, permessage-deflate", ""),
        ("/context", "permessage-deflate; server_max_window_bits=8", None),
        ("/echo", "permessage-deflate; window=9", None),
        ("/echo", "x-webkit-deflate-frame", None),
        ("/off", "permessage-deflate", None),
        ("/off", "permessage-deflate; =", None),
    ],
)
def test_the_answer_to_an_offer(daphne: Server, path: str, offer: str, response: str | None) -> None:
    with Raw(daphne.shared(APP), path, {"Sec-WebSocket-Extensions": offer}) as client:
        head = client.answer().decode()
    assert head.startswith("HTTP/1.1 101 ")
    found = re.findall(r"\r\nSec-WebSocket-Extensions: permessage-deflate(?:; )?(.*)", head)
    assert [line.strip() for line in found] == ([] if response is None else [response])


def test_a_malformed_offer_fails_the_handshake(daphne: Server) -> None:
    """RFC 6455, 9.1; the endpoint sees a client that has left."""
    running = daphne.start(APP)
    with Raw(running, "/accept", {"Sec-WebSocket-Extensions": "permessage-deflate; ="}) as client:
        head = client.answer()
        assert head.startswith(b"HTTP/1.1 400 ")
        assert b"'sec-websocket-extensions' is malformed" in client.rest()
    assert ending(running, "accept") == "1006"
    assert "Traceback" not in running.logs()


def test_a_client_without_an_offer_gets_plain_frames(daphne: Server) -> None:
    with open_socket(daphne.shared(APP), "/echo") as client:
        client.send(TEXT)
        assert client.recv(timeout=10) == TEXT
        assert negotiated(client) is None


def test_uvicorn_negotiates_by_itself(uvicorn: Server) -> None:
    with client_of(uvicorn.shared(APP), "/echo", Offer()) as client:
        client.send(TEXT)
        assert client.recv(timeout=10) == TEXT


# Messages


@pytest.mark.parametrize("path", ["/echo", "/whole", "/context"])
@pytest.mark.parametrize(
    "offer",
    [
        Offer(),
        Offer(server_no_context_takeover=True, client_no_context_takeover=True),
        Offer(server_max_window_bits=9, client_max_window_bits=9),
        Offer(server_max_window_bits=15, client_max_window_bits=True, compress_settings={"level": 9}),
    ],
)
def test_messages_come_back(daphne: Server, path: str, offer: Offer) -> None:
    messages = ["", "a", TEXT, "é" * 70_000, b"", bytes(100_000), TEXT, "x" * 1_000_000, TEXT, "", ""]
    with client_of(daphne.shared(APP), path, offer) as client:
        assert negotiated(client) is not None
        for message in messages:
            client.send(message)
            assert client.recv(timeout=30) == message


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from(["/echo", "/whole", "/context"]),
    messages=st.lists(
        st.tuples(
            st.text(max_size=300) | st.binary(max_size=300).map(lambda data: data * 50),
            st.lists(st.integers(0, 5000), max_size=4),
        ),
        max_size=8,
    ),
)
def test_fragments_of_any_size_come_back(daphne: Server, path: str, messages: Any) -> None:
    with client_of(daphne.shared(APP), path, Offer(client_max_window_bits=12)) as client:
        for message, cuts in messages:
            places = sorted({0, *(cut for cut in cuts if cut < len(message)), len(message)})
            client.send(message[start:end] for start, end in zip(places, places[1:] or [0], strict=False))
            assert client.recv(timeout=30) == message


def test_what_is_short_is_not_compressed(daphne: Server) -> None:
    with raw(daphne.shared(APP), "/echo") as client:
        client.send(1, b"a" * 255)
        assert answer(client) == (0x81, b"a" * 255)
        client.send(1, b"a" * 256)
        first, payload = answer(client)
    assert (first, len(payload) < 20) == (WHOLE, True)
    assert zlib.decompress(payload + b"\0\0\xff\xff\3\0", -12) == b"a" * 256


def test_control_frames_pass_between_compressed_fragments(daphne: Server) -> None:
    data = deflated(TEXT.encode())
    with raw(daphne.shared(APP), "/echo") as client:
        client.send(1, data[:5], first=FIRST)
        client.send(9, b"between")
        assert client.frame() == (10, b"between")
        client.send(0, b"", first=0x00)
        client.send(0, data[5:], first=0x80)
        first, payload = answer(client)
    assert (first, zlib.decompressobj(-15).decompress(payload)) == (WHOLE, TEXT.encode())


def test_tasks_that_send_at_once_do_not_disturb_a_context(daphne: Server) -> None:
    with client_of(daphne.shared(APP), "/crowd", Offer()) as client:
        client.send("go")
        received = list(client)
    parts = [tuple(map(int, str(text).split()[:2])) for text in received]
    assert sorted(parts) == [(number, part) for number in range(20) for part in range(20)]
    assert all(str(text).endswith("the same words again ") for text in received)


# Faults


HELLO = deflated(b"Hello")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(0, HELLO, first=0xC0), 1002),
        (frame(1, HELLO[:3], first=FIRST) + frame(0, HELLO[3:], first=0xC0), 1002),
        (frame(9, HELLO, first=0xC9), 1002),
        (frame(10, HELLO, first=0xCA), 1002),
        (frame(8, b"\x03\xe8", first=0xC8), 1002),
        (frame(1, HELLO, first=0xA1), 1002),
        (frame(1, HELLO, first=0x91), 1002),
        (frame(1, HELLO, first=0xE1), 1002),
        (frame(3, HELLO, first=0xC3), 1002),
        (frame(1, HELLO, first=WHOLE, masked=False), 1002),
        (frame(1, b"\xff\xff\xff", first=WHOLE), 1007),
        (frame(1, b"\xff\xff\xff", first=FIRST), 1007),
        (frame(1, b"Hello", first=WHOLE), 1007),
        (frame(1, deflated(b"\xff\xfe"), first=WHOLE), 1007),
        (frame(1, deflated(b"a\xc3"), first=WHOLE), 1007),
        (frame(1, deflated(b"a\xed\xa0\x80" + bytes(9)), first=FIRST), 1007),
        (frame(2, deflated(bytes(1024 * 1024 + 1)), first=0xC2), 1009),
        (frame(2, deflated(bytes(99_999_999)), first=0x42), 1009),
    ],
)
@pytest.mark.parametrize("path", ["/echo", "/context"])
def test_a_fault_is_answered_with_its_code(daphne: Server, path: str, data: bytes, code: int) -> None:
    running, name = daphne.shared(APP), unique()
    with raw(running, f"{path}?as={name}") as client:
        client.socket.sendall(data)
        found, reason = client.close_frame()
        assert found == code
        client.send(8, code.to_bytes(2, "big"))
        client.ended()
    assert ending(running, name) == f"{code} {reason}"
    assert "Traceback" not in running.logs()


def test_a_message_that_was_cut_is_a_fault(daphne: Server) -> None:
    with raw(daphne.shared(APP), "/echo") as client:
        client.send(1, deflated(TEXT.encode())[:-5], first=WHOLE)
        assert client.close_frame()[0] == 1007


@pytest.mark.parametrize("path", ["/off", "/echo"])
def test_without_negotiation_a_compressed_frame_is_a_fault(daphne: Server, path: str) -> None:
    running, name = daphne.shared(APP), unique()
    headers = OFFER if path == "/off" else {}
    with Raw(running, f"{path}?as={name}", headers).accepted() as client:
        client.send(1, HELLO, first=WHOLE)
        assert client.close_frame()[0] == 1002
    assert ending(running, name).startswith("1002 ")


@pytest.mark.parametrize("path", ["/small", "/context/small"])
@pytest.mark.parametrize("size", [1000, 1001])
def test_the_limit_of_the_route_is_what_a_message_inflates_to(daphne: Server, path: str, size: int) -> None:
    running, name = daphne.shared(APP), unique()
    with client_of(running, f"{path}?as={name}", Offer()) as client:
        client.send("x" * size)
        if size == 1000:
            assert client.recv(timeout=10) == "x" * size
            return
        with pytest.raises(websockets.ConnectionClosedError):
            client.recv(timeout=10)
        assert client.close_code == 1009
    assert ending(running, name) == "1009 message too big"


def peak(running: Running) -> int:
    """The most memory that the process has had, in KiB."""
    status = Path(f"/proc/{running.pid}/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
@pytest.mark.parametrize("fragment", [pytest.param(50_000, marks=pytest.mark.slow), 1_000_000])
def test_a_bomb_takes_no_memory(daphne: Server, fragment: int) -> None:
    """Half a gigabyte in half a megabyte, of which 1,000 bytes are welcome, twenty times."""
    running = daphne.start(APP)
    bomb = deflated(bytes(500_000_000))
    with client_of(running, "/small", Offer()) as client:
        client.send(TEXT)
        client.recv(timeout=10)
    before = peak(running)
    for _ in range(20):
        with raw(running, "/small") as client:
            client.send(2, bomb[:fragment], first=0x42)
            assert client.close_frame() == (1009, "message too big")
    assert peak(running) - before < 16 * 1024


# Groups


def test_a_broadcast_is_compressed_once_for_all_members(daphne: Server) -> None:
    running = daphne.start(APP, settings=SETTINGS, env={"SETTINGS": json.dumps({"CHANNEL_LAYERS": {}})})
    with ExitStack() as stack:

        def joined(path: str, *offers: Offer) -> ClientConnection:
            connecting = client_of(running, path, *offers) if offers else open_socket(running, path)
            client = stack.enter_context(connecting)
            assert client.recv(timeout=30) == "joined"
            return client

        clients = [joined("/member/g", Offer()) for _ in range(4)]
        clients += [joined("/member/g", Offer(server_max_window_bits=10)) for _ in range(2)]
        clients += [joined("/member/context/g", Offer()) for _ in range(2)]
        clients += [joined("/member/g"), joined("/member/off/g", Offer())]
        made(running)
        for number in range(3):
            clients[0].send(f"{number} {TEXT}")
            assert {client.recv(timeout=30) for client in clients} == {f"{number} {TEXT}"}
        # For each message one per size of window; those with a context have theirs since the handshake.
        assert made(running) == 3 * 2


def test_a_broadcast_is_compressed_once_for_members_that_read_slowly(daphne: Server) -> None:
    running = daphne.start(APP, settings=SETTINGS, env={"SETTINGS": json.dumps({"CHANNEL_LAYERS": {}})})
    with ExitStack() as stack:
        members = [stack.enter_context(raw(running, "/member/g")) for _ in range(5)]
        assert [member.frame() for member in members] == [(1, b"joined")] * 5
        made(running)
        with open_socket(running, "/flood/g") as sender:
            sender.send("300")
            assert list(sender) == []  # sent before anybody reads
        for member in members:
            texts = [zlib.decompress(answer(member)[1] + b"\0\0\xff\xff\3\0", -12) for _ in range(300)]
            assert [int(text.split()[0]) for text in texts] == list(range(300))
        assert made(running) == 300
    assert "reads too slowly" not in running.logs()


@pytest.mark.parametrize("query", ["", "?fastws="])
def test_a_history_is_compressed_once_for_all_that_catch_up(daphne: Server, query: str) -> None:
    changed = {"CHANNEL_LAYERS": {}, "FASTWS": {"GROUPS": {"kept": {"history": True}}}}
    running = daphne.start(APP, settings=SETTINGS, env={"SETTINGS": json.dumps(changed)})
    with ExitStack() as stack:
        sender = stack.enter_context(open_socket(running, "/member/kept"))
        for number in range(50):
            sender.send(f"{number} {TEXT}")
        received = [sender.recv(timeout=30) for _ in range(51)][1:]
        made(running)
        for _ in range(5):
            client = stack.enter_context(client_of(running, f"/late/kept{query}", Offer()))
            told = [str(client.recv(timeout=30)) for _ in range(52 if query else 50)]
            assert ([json.loads(text)["text"] for text in told[2:]] if query else told) == received
        assert made(running) == 50


def made(running: Running) -> int:
    with open_socket(running, "/made") as client:
        return int(json.loads(client.recv(timeout=15)))


# Without a declaration


@pytest.mark.parametrize("name", ["app", "inside_channels"])
def test_the_setting_is_for_all_routes(daphne: Server, name: str) -> None:
    env = {"SETTINGS": json.dumps({"FASTWS": {"DEFLATE": {"threshold": 1}}})}
    running = daphne.start(f"tests.servers.deflated_by_setting:{name}", settings=SETTINGS, env=env)
    with client_of(running, "/ws", Offer()) as client:
        assert negotiated(client) is not None
        client.send(TEXT)
        assert client.recv(timeout=10) == TEXT
