"""What compression saves and costs: bytes and time per message, and a message to a group.

    python -m benchmarks.deflate [--quick]

In process: the functions with which the completed daphne makes frames and inflates messages. "deflate" is
`deflate=True`, "context" the same with context takeover in both directions. The messages are JSON as an
application sends it; each differs from the one before it.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks.report import Ratio, Samples, Table, in_turn, main, rounds
from fastws_compat.daphne import frames
from fastws_compat.daphne.deflate import Inflater, PartialCompressed, frames_for, inflater_for
from fastws_compat.daphne.fragments import PartialText
from fastws_compat.daphne.negotiation import negotiate
from fastws_compat.deflate import DEFAULTS, DeflateOptions
from fastws_compat.groups.delivery import Delivery
from fastws_compat.layers.wire import Payload

SIZES = {"0.3 KB": 300, "1 KB": 1000, "10 KB": 10_000}
MEMBERS = 500
CONTEXT: DeflateOptions = {
    **DEFAULTS,
    "server_no_context_takeover": False,
    "client_no_context_takeover": False,
}
WORDS = [
    "we",
    "are",
    "at",
    "the",
    "station",
    "and",
    "our",
    "train",
    "to",
    "sea",
    "leaves",
    "in",
    "ten",
    "minutes",
]

FrameOf = Callable[[Any], bytes]


def tables(quick: bool) -> Iterator[Table]:
    count, repeats = (20, 1) if quick else (300, 5)
    size = Table("Compression: the size of a message", "bytes on the wire")
    sending = Table("Compression: making the frame of a message", "microseconds")
    reading = Table("Compression: inflating a message", "microseconds")
    for name, length in SIZES.items():
        texts = messages(length, count)
        makers: dict[str, Callable[[], FrameOf]] = {
            "plain": lambda: frames.of,
            "deflate": partial(frame_of, DEFAULTS),
            "context": partial(frame_of, CONTEXT),
        }
        sizes: Samples = {peer: [mean_size(make(), texts)] for peer, make in makers.items()}
        size.add(name, sizes, Ratio("deflate", "plain"), Ratio("context", "plain"))
        sending.add(
            name,
            in_turn(
                rounds(repeats, quick), {peer: partial(sent, make, texts) for peer, make in makers.items()}
            ),
        )
        inflaters = {"deflate": DEFAULTS, "context": CONTEXT}
        reading.add(
            name,
            in_turn(
                rounds(repeats, quick),
                {peer: partial(read, options, texts) for peer, options in inflaters.items()},
            ),
        )
    yield from (size, sending, reading, group(5 if quick else 50, rounds(repeats, quick)))


def messages(length: int, count: int) -> list[str]:
    """JSON texts of about this length."""
    rng = random.Random(length)
    return [text(rng, length) for _ in range(count)]


def text(rng: random.Random, length: int) -> str:
    entries: list[dict[str, Any]] = []
    while True:
        entries.append(
            {
                "id": rng.randrange(10**6),
                "author": rng.choice(["ann", "bob", "carl", "dora"]),
                "at": f"2026-03-04T10:{rng.randrange(60):02}:{rng.randrange(60):02}Z",
                "text": " ".join(rng.choices(WORDS, k=12)),
            }
        )
        whole = json.dumps({"type": "messages", "entries": entries}, separators=(",", ":"))
        if len(whole) >= length:
            return whole


def agreement(options: DeflateOptions) -> Any:
    return negotiate("permessage-deflate; client_max_window_bits", options)


def frame_of(options: DeflateOptions) -> FrameOf:
    return frames_for(agreement(options), options)


def mean_size(make: FrameOf, texts: list[str]) -> float:
    return sum(len(make({"text": text})) for text in texts) / len(texts)


def sent(maker: Callable[[], FrameOf], texts: list[str]) -> float:
    make = maker()
    start = time.process_time()
    for text in texts:
        make({"text": text})
    return (time.process_time() - start) / len(texts) * 1e6


def read(options: DeflateOptions, texts: list[str]) -> float:
    """Read the messages as the server does, each in one frame."""
    make = frame_of({**options, "threshold": 0})
    payloads = [frame[frames.header_size(frame) :] for frame in (make({"text": text}) for text in texts)]
    inflater: Inflater = inflater_for(agreement(options), 2**20)
    start = time.process_time()
    for payload in payloads:
        partial_text = PartialCompressed(PartialText(), inflater)
        partial_text.add(payload)
        partial_text.message()
    return (time.process_time() - start) / len(texts) * 1e6


class Socket:
    """A member of the group, with only what a delivery needs."""

    def __init__(self, make: FrameOf) -> None:
        self.frame_of = make

    def write_at_once(self, frame: bytes, size: int) -> bool:
        return True


def group(count: int, repeats: int) -> Table:
    """The frames of one message for all members."""
    table = Table(f"Compression: the frames of a message to {MEMBERS} members", "microseconds in all")
    for name, length in SIZES.items():
        texts = messages(length, count)
        shared = [Socket(frame_of(DEFAULTS)) for _ in range(MEMBERS)]
        own = [Socket(frame_of(CONTEXT)) for _ in range(MEMBERS)]
        table.add(
            name,
            in_turn(
                repeats,
                {
                    "plain": partial(delivered, [Socket(frames.of) for _ in range(MEMBERS)], texts),
                    "deflate (once for all)": partial(delivered, shared, texts),
                    "context (for each)": partial(delivered, own, texts),
                },
            ),
            Ratio("context (for each)", "deflate (once for all)"),
        )
    return table


def delivered(sockets: list[Socket], texts: list[str]) -> float:
    start = time.process_time()
    for text in texts:
        delivery = Delivery(Payload("text", text), "g")
        for socket in sockets:
            delivery.frame(socket.frame_of)
    return (time.process_time() - start) / len(texts) * 1e6


if __name__ == "__main__":
    main(__doc__, tables)
