"""How many handshakes a process works on at a time; the others wait in the order of their arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from math import inf
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary, ref

from asgiref.sync import markcoroutinefunction

from fastws_compat import conf
from fastws_compat.connections.peers import has_left
from fastws_compat.connections.refusal import refuse
from fastws_compat.connections.states import TURN
from fastws_compat.types import Message, Scope, Send

# Seconds between two searches for handshakes that nothing has ended in time.
INTERVAL = 0.5
# Seconds that HANDSHAKE_TIMEOUT has to end a handshake before its place is given to another one.
MARGIN = 1.0
# Seconds after which a handshake that has waited for its turn is asked whether its client has left. The look
# is a system call, and after a shorter time hardly any has.
BRIEF = 0.1
# Seconds after which those whom the kernel kept while there were no places have arrived.
LATELY = 1.0
# How many handshakes a process works on if MAX_HANDSHAKES is "auto": at first the smaller number, and more
# while each is answered within this part of HANDSHAKE_TIMEOUT, because users are looked up in larger batches.
AUTO = "auto"
MIN_PLACES, MAX_PLACES = 100, 400
FAST = 0.1

Begin = Callable[["Turn"], None]


class Turn:
    """One handshake that the process works on, until it is answered."""

    __slots__ = ("_admission", "_requested", "begun", "is_watched", "server")

    def __init__(self, admission: Admission, server: Any, requested: float, begun: float) -> None:
        self._admission: Admission | None = admission
        # The server's own object for the connection, if it is known.
        self.server = server
        self._requested = requested
        self.begun = begun
        # Whether the server itself ends the turn with its answer.
        self.is_watched = False

    @property
    def is_abandoned(self) -> bool:
        """Whether the client has left while the handshake waited for its turn, if that took long."""
        return self.begun - self._requested > BRIEF and has_left(self.server)

    def watch(self, send: Send) -> Send:
        """`send` for an application that does not end the turn itself: its first message does."""
        if self.is_watched:
            return send

        def watched(message: Message) -> Any:
            self.end()
            return send(message)

        return markcoroutinefunction(watched)  # Channels warns of a `send` that does not look async

    def end(self) -> None:
        """The handshake is answered, or over; another one may begin."""
        if self._admission is not None:
            admission, self._admission = self._admission, None
            admission.end(self)


class Admission:
    """The handshakes of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        # By age, because each is added when it begins.
        self._turns: dict[Turn, None] = {}
        # Each with the time and the context of its request: the one that makes room has a context of its own.
        self._waiting: deque[tuple[Any, Begin, Context, float]] = deque()
        # Weakly, because a closed loop takes its admission with it.
        self._loop = ref(loop)
        self._is_armed = self._is_beginning = False
        # Called when the process begins to work on as many handshakes as it may, and when that is over.
        self.on_full: list[Callable[[bool], None]] = []
        self._was_full = False
        # When that changed.
        self._full_changed = -inf
        self._places = MIN_PLACES

    @property
    def free(self) -> float:
        """How many more handshakes may begin now; negative while some wait."""
        return self._most() - len(self._turns) - len(self._waiting)

    @property
    def lately_full(self) -> bool:
        """Whether a handshake that arrives now may have waited in the kernel."""
        return self._was_full or self._now() - self._full_changed < LATELY

    def _most(self) -> float:
        """How many handshakes the process works on at the same time."""
        most = conf.get("MAX_HANDSHAKES")
        if most is None:
            return inf
        return float(self._places if most == AUTO else most)

    def request(self, server: Any, begin: Begin) -> bool:
        """Call `begin` with a turn, at once or when those before it have begun; whether it was at once."""
        if self.free > 0:
            begin(self._first_turn(server))
            return True
        self._waiting.append((server, begin, copy_context(), self._now()))
        if not self._was_full:
            self._tell()
        return False

    async def turn(self, send: Send) -> Turn:
        """The turn of a handshake that the caller will work on."""
        server = send.__self__ if type(send) is MethodType else None
        if self.free > 0:
            return self._first_turn(server)
        future: asyncio.Future[Turn] = asyncio.get_running_loop().create_future()
        self.request(server, lambda turn: turn.end() if future.done() else future.set_result(turn))
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                future.result().end()
            raise

    def _first_turn(self, server: Any) -> Turn:
        """The turn of a handshake that does not wait."""
        turn = self._turn(server, None)
        if self.free <= 0:
            self._tell()
        return turn

    def _turn(self, server: Any, requested: float | None) -> Turn:
        now = self._now()
        turn = Turn(self, server, now if requested is None else requested, now)
        self._turns[turn] = None
        return turn

    def _now(self) -> float:
        loop = self._loop()
        return 0.0 if loop is None else loop.time()

    def end(self, turn: Turn) -> None:
        self._turns.pop(turn, None)
        if self._was_full:
            self._adapt(self._now() - turn.begun)
        if self._waiting:
            self._begin_waiting()
        if self._was_full:
            self._tell()

    def _adapt(self, seconds: float) -> None:
        """Have one place more after a fast answer, and only the first ones after a slow one."""
        timeout = conf.get("HANDSHAKE_TIMEOUT")
        if timeout is not None and seconds > timeout * FAST:
            self._places = MIN_PLACES
        elif self._places < MAX_PLACES:
            self._places += 1

    def _begin_waiting(self) -> None:
        """Begin those that wait, as far as there are places; a turn that ends at once comes back here."""
        if self._is_beginning:
            return
        self._is_beginning = True
        try:
            while self._waiting and len(self._turns) < self._most():
                server, begin, context, requested = self._waiting.popleft()
                context.run(begin, self._turn(server, requested))
        finally:
            self._is_beginning = False

    def _tell(self) -> None:
        """Report whether there are free places, if that has changed."""
        is_full = self.free <= 0
        if is_full and not self._is_armed:
            self._arm()
        if is_full is not self._was_full:
            self._was_full, self._full_changed = is_full, self._now()
            for tell in self.on_full:
                tell(is_full)

    def _arm(self) -> None:
        loop = self._loop()
        if loop is not None and not loop.is_closed():
            self._is_armed = True
            # In an empty context, because one timer serves all connections.
            loop.call_later(INTERVAL, self._free_places, context=Context())

    def _free_places(self) -> None:
        """Give the places of handshakes that were not ended in time to others; nothing else frees them."""
        self._is_armed = False
        timeout = conf.get("HANDSHAKE_TIMEOUT")
        if timeout is not None:
            late = self._now() - timeout - MARGIN
            for turn in [each for each in self._turns if each.begun < late]:
                turn.end()
        if self.free <= 0:
            self._arm()


async def admit(scope: Scope, send: Send) -> bool:
    """Wait until the handshake's turn comes; False if the client left while it waited, and is refused."""
    turn: Turn = await admission().turn(send)
    scope[TURN] = turn
    if not turn.is_abandoned:
        return True
    turn.end()
    with suppress(Exception):  # the server would log an error for a handshake without an answer
        await refuse(scope, send, 503, reason=None)
    return False


_admissions: WeakKeyDictionary[asyncio.AbstractEventLoop, Admission] = WeakKeyDictionary()


def admission() -> Admission:
    """The handshakes of the running loop."""
    return admission_of(asyncio.get_running_loop())


def admission_of(loop: asyncio.AbstractEventLoop) -> Admission:
    found = _admissions.get(loop)
    if found is None:
        found = _admissions[loop] = Admission(loop)
    return found
