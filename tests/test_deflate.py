"""Compression without a server: declaring it, negotiating it, and the codec."""

from __future__ import annotations

import asyncio
import sys
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as run_with
from hypothesis import strategies as st

from fastws_compat import APIRouter, FastAPI, WebSocket
from fastws_compat.connections.states import DEFLATE
from fastws_compat.daphne import frames
from fastws_compat.daphne.deflate import (
    FINAL_BLOCK,
    MAX_FINAL_BLOCKS,
    TAIL,
    CorruptData,
    Inflater,
    InflatesTooFar,
    PartialCompressed,
    consecutive_frames,
    independent_frames,
)
from fastws_compat.daphne.fragments import InvalidText, PartialBinary, PartialText
from fastws_compat.daphne.negotiation import MalformedHeader, negotiate, parse
from fastws_compat.deflate import DEFAULTS
from fastws_compat.endpoints import WebSocketEndpoint
from fastws_compat.exceptions import DeclarationError
from tests.fake_server import CONNECT, FakeServer, disconnect, websocket_scope
from tests.test_daphne import Connection, masked, settle

CONTEXT = {**DEFAULTS, "server_no_context_takeover": False, "client_no_context_takeover": False}
CAPABLE: Any = {DEFLATE: {}}


def accepted(app: Any, path: str = "/ws", extensions: Any = CAPABLE) -> dict[str, Any]:
    """What the server is told about compression; {} if nothing."""

    async def run() -> dict[str, Any]:
        server = FakeServer(CONNECT, disconnect())
        await server.start(app, websocket_scope(path, extensions=extensions))
        assert server.sent[0]["type"] == "websocket.accept"
        return server.sent[0].get(DEFLATE, {})

    return asyncio.run(run())


def app_with(own: Any = "nothing", /, **route: Any) -> FastAPI:
    app = FastAPI(**({} if own == "nothing" else {"deflate": own}))

    @app.websocket("/ws", **route)
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive()

    return app


# Declaring


def test_nothing_is_compressed_unless_somebody_asks():
    assert accepted(app_with()) == {}


@pytest.mark.parametrize(
    ("everywhere", "app", "route", "level"),
    [
        (True, "nothing", {}, 6),
        ({"level": 1}, "nothing", {}, 1),
        ({"level": 1}, {"level": 2}, {}, 2),
        ({"level": 1}, {"level": 2}, {"deflate": {"level": 3}}, 3),
        ({"level": 1}, False, {}, None),
        ({"level": 1}, {"level": 2}, {"deflate": False}, None),
        ({"level": 1}, {"level": 2}, {"deflate": None}, None),
        (False, False, {"deflate": True}, 6),
    ],
)
def test_the_innermost_declaration_wins(settings, everywhere, app, route, level):
    settings.FASTWS = {"DEFLATE": everywhere}
    told = accepted(app_with(app, **route))
    assert told.get("options", {}).get("level") == level


def test_a_router_passes_it_on_to_its_routes():
    app, router = FastAPI(deflate=False), APIRouter(prefix="/in", deflate={"threshold": 7})

    @router.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()

    app.include_router(router)
    assert accepted(app, "/in/ws")["options"] == {**DEFAULTS, "threshold": 7}


def test_a_mounted_application_has_a_value_of_its_own():
    app = FastAPI(deflate=True)
    app.mount("/without", app_with())
    app.mount("/with", app_with({"threshold": 7}))
    assert accepted(app, "/without/ws") == {}
    assert accepted(app, "/with/ws")["options"]["threshold"] == 7


def test_starlette_s_endpoints_have_it_too():
    class Endpoint(WebSocketEndpoint):
        pass

    app = FastAPI(deflate=True)
    app.websocket_route("/ws")(Endpoint)
    assert accepted(app)["options"] == DEFAULTS


def test_a_message_that_the_endpoint_sends_itself_carries_it():
    app = FastAPI(deflate=True)

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.receive()
        await websocket.send({"type": "websocket.accept"})

    assert accepted(app)["options"] == DEFAULTS


@pytest.mark.parametrize("extensions", [None, {}, {"websocket.http.response": {}}])
def test_other_servers_are_told_nothing(extensions):
    assert accepted(app_with(True), extensions=extensions) == {}


@pytest.mark.parametrize(("limit", "size"), [({}, 1024 * 1024), ({"max_message_size": 9}, 9)])
def test_the_server_learns_how_far_a_message_may_inflate(limit, size):
    assert accepted(app_with(True, **limit))["max_size"] == size


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("on", "deflate='on' says nothing: give True, False or a dict of options."),
        ({"bits": 9}, "deflate has no option 'bits', only server_no_context_takeover, "),
        (
            {"server_max_window_bits": 8},
            "server_max_window_bits=8 is not possible: give an integer from 9 to 15.",
        ),
        ({"client_max_window_bits": 16}, "client_max_window_bits=16 is not possible"),
        ({"level": 0}, "level=0 is not possible: give an integer from 1 to 9."),
        ({"threshold": True}, "threshold=True is not possible"),
        ({"client_no_context_takeover": 1}, "client_no_context_takeover=1 is neither True nor False."),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused_at_import(value, sentence):
    with pytest.raises(DeclarationError) as found:
        app_with("nothing", deflate=value)
    assert sentence in str(found.value)


# Negotiating


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        ("permessage-deflate", "permessage-deflate"),
        (
            "permessage-deflate; client_max_window_bits",
            "permessage-deflate; client_max_window_bits=12",
        ),
        (
            'permessage-deflate;client_max_window_bits="10" ; server_max_window_bits=11',
            "permessage-deflate; server_max_window_bits=11; client_max_window_bits=10",
        ),
        ("permessage-deflate; client_max_window_bits=8", "permessage-deflate; client_max_window_bits=8"),
        ("permessage-deflate; server_max_window_bits=15", "permessage-deflate; server_max_window_bits=12"),
        (
            "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        ),
        (
            ", ,x-webkit-deflate-frame, permessage-deflate;server_max_window_bits=8 ,permessage-deflate",
            "permessage-deflate",
        ),
        (
            "permessage-deflate; server_max_window_bits=9, permessage-deflate",
            "permessage-deflate; server_max_window_bits=9",
        ),
        ("", None),
        ("permessage-bzip2", None),
        ("permessage-deflate; server_max_window_bits=8", None),
        ("permessage-deflate; server_max_window_bits=16", None),
        ("permessage-deflate; server_max_window_bits=09", None),
        ("permessage-deflate; server_max_window_bits", None),
        ("permessage-deflate; client_max_window_bits=7", None),
        ("permessage-deflate; client_max_window_bits=+9", None),
        ("permessage-deflate; server_no_context_takeover=1", None),
        ('permessage-deflate; client_no_context_takeover="true"', None),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
        ("permessage-deflate; unknown", None),
    ],
)
def test_an_offer_is_answered_or_declined(offer, answer):
    agreement = negotiate(offer, CONTEXT)
    assert (agreement and agreement.response) == answer


def test_the_server_may_refuse_context_takeover_for_both_sides():
    agreement = negotiate("permessage-deflate", DEFAULTS)
    assert agreement is not None
    assert agreement.response == "permessage-deflate; server_no_context_takeover; client_no_context_takeover"


def test_a_client_that_offers_no_window_size_may_use_the_largest():
    agreement = negotiate("permessage-deflate", DEFAULTS)
    assert agreement is not None
    assert (agreement.server_max_window_bits, agreement.client_max_window_bits) == (12, 15)


@pytest.mark.parametrize(
    "header",
    [
        "permessage-deflate;",
        "permessage-deflate; ,x",
        "permessage-deflate; =9",
        "permessage-deflate; a=",
        "permessage-deflate=9",
        'permessage-deflate; a="9',
        'permessage-deflate; a=""',
        'permessage-deflate; a="9 9"',
        "permessage deflate",
        ";permessage-deflate",
        "permessage-deflate; sérver",
    ],
)
def test_a_header_that_breaks_the_grammar_is_malformed(header):
    with pytest.raises(MalformedHeader):
        negotiate(header, DEFAULTS)


TOKENS = st.text("abc-_19!", min_size=1, max_size=5)
OFFERS = st.lists(st.tuples(TOKENS, st.lists(st.tuples(TOKENS, TOKENS | st.just("")))))


@run_with(deadline=None)
@given(OFFERS, st.sampled_from([("; ", ", ", "="), (" ;\t", " , ,,", " = "), (";", ",", "=")]), st.booleans())
def test_what_was_written_is_parsed(offers, separators, quoted):
    semicolon, comma, equals = separators
    value = '"{}"' if quoted else "{}"
    header = comma.join(
        semicolon.join(
            [name, *(key + (equals + value.format(text) if text else "") for key, text in parameters)]
        )
        for name, parameters in offers
    )
    assert parse(header) == offers


@run_with(deadline=None)
@given(st.text(max_size=200))
def test_no_header_breaks_the_parser(header):
    with suppress(MalformedHeader):
        parse(header)


# What it costs where nobody asks for it


def called(app: Any, offer: bytes) -> set[str]:
    """The functions of the library that a handshake and a message call on daphne."""
    found: set[str] = set()

    def note(frame: Any, event: str, _: Any) -> None:
        if event == "call" and "/fastws_compat/" in frame.f_code.co_filename:
            found.add(f"{Path(frame.f_code.co_filename).name} {frame.f_code.co_name}")

    async def main() -> None:
        connection = Connection(app)
        connection.server.ws_factory.request.requestHeaders.addRawHeader(b"Sec-WebSocket-Extensions", offer)
        connection.protocol.upgrade.headers.append((b"sec-websocket-extensions", offer))
        tracer = sys.getprofile()
        sys.setprofile(note)
        try:
            await connection.open()
            connection.receive(masked(frames.TEXT, b"a" * 300))
            await settle()
        finally:
            sys.setprofile(tracer)
        assert connection.transport.take().endswith(b"a" * 300) == ("deflate.py frame_of" not in found)
        connection.lose()
        await settle()

    asyncio.run(main())
    return found


OWN_FILES = ("deflate.py ", "negotiation.py ")
OWN_FUNCTIONS = {
    "limits.py _compress",
    "protocol.py _compress",
    "protocol.py _negotiate",
    "handshake.py extensions",
}


def test_a_route_without_it_calls_nothing_of_it():
    def echoing(**options: Any) -> FastAPI:
        app = FastAPI(**options)

        @app.websocket("/a")
        async def endpoint(websocket: WebSocket) -> None:
            await websocket.accept()
            async for text in websocket.iter_text():
                await websocket.send_text(text)

        return app

    off, on = (called(echoing(**options), b"permessage-deflate") for options in ({}, {"deflate": True}))
    assert not {name for name in off if name.startswith(OWN_FILES)}
    assert not off & OWN_FUNCTIONS
    assert on >= OWN_FUNCTIONS | {"deflate.py frame_of", "negotiation.py agree"}


# The codec


def inflated(plain: Any, inflater: Inflater, *pieces: bytes) -> Any:
    partial = PartialCompressed(plain, inflater)
    for piece in pieces:
        partial.add(piece)
    message = partial.message()
    return message.get("text", message.get("bytes"))


def deflated(data: bytes, bits: int = 15, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    deflater = zlib.compressobj(wbits=-bits)
    whole = deflater.compress(data) + deflater.flush(flush)
    return whole + b"\x00" if flush == zlib.Z_FINISH else whole[:-4]


def payload_of(frame: bytes) -> bytes:
    return frame[frames.header_size(frame) :]


@run_with(deadline=None)
@given(
    st.lists(st.binary(max_size=3000) | st.text("ab", max_size=3000).map(str.encode), max_size=6),
    st.integers(9, 15),
    st.booleans(),
    st.integers(1, 400),
)
def test_a_client_reads_what_the_server_compressed(messages, bits, keeps_context, step):
    """With the reader of this library as the client, in fragments of any size."""
    make = consecutive_frames if keeps_context else independent_frames
    frame_of, client = make(bits, 6, 0), Inflater(bits, keeps_context, 10_000)
    for message in messages:
        frame = frame_of({"bytes": message})
        assert frame[0] in (0x82, 0xC2)
        data = payload_of(frame)
        if frame[0] == 0xC2:
            fragments = [data[start : start + step] for start in range(0, len(data), step)]
            data = inflated(PartialBinary(), client, *fragments)
        assert data == message


def test_a_context_makes_what_was_said_before_short():
    frame_of = consecutive_frames(12, 6, 0)
    text = {"text": "the quick brown fox jumps over the lazy dog"}
    first, second = frame_of(text), frame_of(text)
    assert len(second) < len(first) / 3


def test_short_messages_and_those_that_would_grow_are_sent_as_they_are():
    frame_of = independent_frames(12, 6, 4)
    assert frame_of({"text": "aaa"}) == b"\x81\x03aaa"
    assert frame_of({"text": "abcd"}) == b"\x81\x04abcd"
    assert frame_of({"text": "a" * 50})[0] == 0xC1
    assert (
        independent_frames(12, 6, 0)({"bytes": b""})
        == consecutive_frames(12, 6, 0)({"bytes": b""})
        == b"\x82\x00"
    )


def test_sockets_with_the_same_parameters_share_their_frames():
    assert independent_frames(12, 6, 4) is independent_frames(12, 6, 4)
    assert independent_frames(12, 6, 4) is not independent_frames(11, 6, 4)
    assert consecutive_frames(12, 6, 4) is not consecutive_frames(12, 6, 4)


@pytest.mark.parametrize("keeps_context", [False, True])
@pytest.mark.parametrize("pieces", [[b""], [b"\x00"], [b"", b"\x00", b""]])
def test_an_empty_message(keeps_context, pieces):
    """Two octets are RFC 7692's example in 7.2.3.6; nothing at all is what a flush of nothing leaves."""
    inflater = Inflater(15, keeps_context, 10)
    assert inflated(PartialText(), inflater, *pieces) == ""


RFC_HELLO = bytes.fromhex("f248cdc9c90700")
RFC_AGAIN = bytes.fromhex("f200110000")
RFC_UNCOMPRESSED = bytes.fromhex("000500faff48656c6c6f00")
RFC_FINAL = bytes.fromhex("f348cdc9c9070000")
RFC_TWO_BLOCKS = bytes.fromhex("f248050000 00ffffcac9c90700")


@pytest.mark.parametrize("keeps_context", [False, True])
@pytest.mark.parametrize("data", [RFC_HELLO, RFC_UNCOMPRESSED, RFC_FINAL, RFC_TWO_BLOCKS])
def test_the_examples_of_the_rfc(keeps_context, data):
    inflater = Inflater(15, keeps_context, 5)
    assert inflated(PartialText(), inflater, data) == "Hello"
    assert inflated(PartialText(), inflater, *(data[i : i + 1] for i in range(len(data)))) == "Hello"


def test_a_context_is_kept_or_not():
    inflater = Inflater(15, True, 5)
    assert [inflated(PartialText(), inflater, data) for data in (RFC_HELLO, RFC_AGAIN)] == ["Hello", "Hello"]
    inflater = Inflater(15, False, 5)
    assert inflated(PartialText(), inflater, RFC_HELLO) == "Hello"
    with pytest.raises(CorruptData):
        inflated(PartialText(), inflater, RFC_AGAIN)


@pytest.mark.parametrize("limit", [1, 1000, 65535, 65536, 65537, 200_000])
@pytest.mark.parametrize("keeps_context", [False, True])
def test_a_message_may_be_as_large_as_the_limit(limit, keeps_context):
    inflater = Inflater(15, keeps_context, limit)
    assert inflated(PartialBinary(), inflater, deflated(bytes(limit))) == bytes(limit)
    with pytest.raises(InflatesTooFar):
        inflated(PartialBinary(), inflater, deflated(bytes(limit + 1)))


def test_nothing_is_inflated_beyond_the_limit():
    bomb = deflated(bytes(20 * 1024 * 1024))
    limit = 300_000
    tracemalloc.start()
    try:
        with pytest.raises(InflatesTooFar):
            inflated(PartialBinary(), Inflater(15, False, limit), bomb)
        assert tracemalloc.get_traced_memory()[1] < 4 * limit
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff",
        b"\x00\x01\x00\x00\x00",
        b"hello",
        deflated(b"x" * 99)[:4],
        b"\x00\x0a\x00\xf5\xff" + b"abc",  # a block of ten bytes, of which seven never come
    ],
)
def test_corrupt_data(data):
    with pytest.raises(CorruptData):
        inflated(PartialBinary(), Inflater(15, False, 1000), data)


def test_final_blocks_are_taken_but_not_thousands():
    inflater = Inflater(15, False, 1000)
    assert inflated(PartialBinary(), inflater, deflated(b"a", flush=zlib.Z_FINISH)) == b"a"
    final = deflated(b"a", flush=zlib.Z_FINISH)[:-1]
    assert inflated(PartialBinary(), inflater, final * MAX_FINAL_BLOCKS + b"\x00") == b"a" * MAX_FINAL_BLOCKS
    with pytest.raises(CorruptData, match="too many"):
        inflated(PartialBinary(), Inflater(15, False, 1000), final * (MAX_FINAL_BLOCKS + 1))


def test_text_is_checked_as_it_is_inflated():
    partial = PartialCompressed(PartialText(), Inflater(15, False, 10_000_000))
    flushed = zlib.compressobj(wbits=-15)
    partial.add(flushed.compress("é".encode()) + flushed.flush(zlib.Z_SYNC_FLUSH))
    with pytest.raises(InvalidText):
        partial.add(flushed.compress(b"\xff") + flushed.flush(zlib.Z_SYNC_FLUSH))


def test_without_context_nothing_is_held_between_messages():
    inflater = Inflater(15, False, 100)
    inflated(PartialText(), inflater, RFC_HELLO)
    assert inflater._stream is None


def test_the_tail_completes_what_was_sent():
    assert zlib.decompress(RFC_HELLO + TAIL + FINAL_BLOCK, -15) == b"Hello"


# The connection

CHUNKS = st.sampled_from(
    [b"", b"\x00", RFC_HELLO, RFC_HELLO[:4], RFC_HELLO[4:], RFC_AGAIN, RFC_FINAL, RFC_TWO_BLOCKS]
)
FRAMES = st.builds(
    masked,
    st.sampled_from([0, 1, 1, 2, 9]),
    CHUNKS | st.binary(max_size=20) | st.binary(max_size=200).map(deflated) | st.just(deflated(bytes(5000))),
    fin=st.booleans(),
    rsv=st.sampled_from([0, 4, 4, 4, 6]),
)


@run_with(deadline=None)
@given(st.lists(FRAMES, max_size=8), st.booleans(), st.integers(1, 60))
def test_whatever_comes_is_a_message_or_closes_with_a_code(sent, keeps_context, step):
    """And is the same message or code, however the network cuts it."""

    async def run(pieces: list[bytes]) -> list[Any]:
        received: list[Any] = []

        async def application(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            options = {**DEFAULTS, "client_no_context_takeover": not keeps_context}
            await send({"type": "websocket.accept", DEFLATE: {"options": options, "max_size": 1000}})
            while not received or received[-1]["type"] != "websocket.disconnect":
                received.append(await receive())

        connection = Connection(application)
        connection.protocol.upgrade.headers.append((b"sec-websocket-extensions", b"permessage-deflate"))
        await connection.open()
        for piece in pieces:
            connection.receive(piece)
        await settle()
        connection.lose()
        await settle()
        return received

    data = b"".join(sent)
    whole = asyncio.run(run([data]))
    cut = asyncio.run(run([data[start : start + step] for start in range(0, len(data), step)]))
    codes = {whole.pop()["code"], cut.pop()["code"]}
    assert whole == cut
    # Data can be too large and be invalid after that. How it was cut decides which of the two is found first.
    assert codes in ({1002}, {1006}, {1007}, {1009}, {1007, 1009})
    assert all(len(message.get("text") or message.get("bytes") or b"") <= 1000 for message in whole)
