"""The part of a connection that metrics, logs and operators read."""

from __future__ import annotations

from time import monotonic, time
from typing import Any

from fastws_compat import conf
from fastws_compat.connections import hooks, sizes
from fastws_compat.connections.census import Ended, Sizes, new_sizes
from fastws_compat.connections.outcomes import (
    LOST,
    NO_ROUTE,
    By,
    Closed,
    Reason,
    closed_on,
    reported,
    template_of,
)
from fastws_compat.connections.peers import has_left, silence_of
from fastws_compat.connections.tally import Counts, Tally
from fastws_compat.types import Receive, Scope, Send

Refusal = tuple[int, Reason]


class Counted:
    """How a connection was answered and closed, and what it has received and sent.

    Most connections change few of these attributes, so the others stay in the class.
    """

    scope: Scope
    begun: float
    server: Any
    server_send: Send
    websocket: Any = None
    # The spans of the connection, as `contrib.spans` keeps them.
    traced: Any = None
    # The code that the connection was closed with here, after the endpoint.
    close_code: int | None = None
    # The reason for a refusal, noted before it is known whether the handshake will be refused.
    reason: Reason | None = None
    _tally: Tally | None = None
    _accepted = False
    _waited: float | None = None
    _refusal: Refusal | None = None
    _closed: Closed | None = None
    # Kept when the connection lets go of its scope and its socket.
    _template: str | None = None
    _heard: int | None = None

    def note_accepted(self) -> None:
        if not self._accepted:
            self._accepted, self._waited = True, monotonic() - self.begun
            if hooks.answered:
                hooks.run(hooks.answered, self)

    def note_refusal(self, status: int, reason: Reason = "endpoint") -> None:
        """Note the answer that refuses the handshake; a reason that was noted earlier takes precedence."""
        if self.refusal is None and not self.is_accepted:
            self._refusal, self._waited = (status, self.reason or reason), monotonic() - self.begun
            hooks.run(hooks.answered, self)

    def note_close(self, code: int, by: By) -> None:
        """Note a close on the endpoint's behalf; the first one counts."""
        self._closed = self._closed or (code, by)

    def note_cancelled(self) -> None:
        """Note how the server ends a connection whose application was cancelled, which happens later."""
        if self.is_accepted:
            if hasattr(self.server, "close_from_server"):  # daphne, completed; uvicorn sends no close frame
                self.close_code = 1011
        elif not has_left(self.server):
            self.note_refusal(500, "error")

    @property
    def template(self) -> str:
        """The full path of the route as declared; `(none)` if no route matches."""
        if self._template is not None:
            return self._template
        if self.reason == "not_found":
            return NO_ROUTE
        scope = self.scope if self.websocket is None else self.websocket.scope
        found = template_of(scope)
        if "route" in scope:  # nothing can be added any more
            self._template = found
        return found

    @property
    def is_accepted(self) -> bool:
        return self._accepted or (self.websocket is not None and self.websocket._accepted_at is not None)

    @property
    def waited(self) -> float | None:
        """Seconds until the handshake was answered; None if it was not, or by the server itself."""
        at = None if self.websocket is None else self.websocket._accepted_at
        return self._waited if at is None else at - self.begun

    @property
    def refusal(self) -> Refusal | None:
        """The status and the reason with which the handshake was refused."""
        if self._refusal is None and not self.is_accepted:
            own: Refusal | None = getattr(self.server, "refusal", None)  # daphne's own, completed
            return own
        return self._refusal

    @property
    def noted(self) -> Closed | None:
        """The first close by this side, apart from the one that follows the endpoint."""
        if self._closed is None and self.websocket is not None:
            own: Closed | None = self.websocket._closed
            return own
        return self._closed

    @property
    def closed(self) -> Closed:
        """The code of the first close of an accepted connection, and who closed it."""
        noted = self.noted
        shown = None if self.server is None else closed_on(self.server)
        if shown is None:
            return noted or self._closed_at_end or LOST
        # The server does not know on whose behalf it has closed the connection.
        by_operator = noted is not None and noted[1] == "operator" and shown[1] == "server"
        return noted if noted is not None and by_operator else shown

    @property
    def _closed_at_end(self) -> Closed | None:
        """The close that the server has reported, or else the one that followed the endpoint."""
        disconnect = None if self.websocket is None else self.websocket._disconnect
        if disconnect is not None:
            return reported(disconnect)
        return None if self.close_code is None else (self.close_code, "server")

    @property
    def counts(self) -> Counts:
        """The messages in and out, and the bytes of their payloads in and out; None where unknown."""
        server, own = self.server, self._tally
        if server is not None and hasattr(server, "messages_in"):  # daphne, completed
            counted: Counts = server.counts
            return counted
        heard = self._heard if self.websocket is None else _heard_by(self.websocket)
        if own is None:
            return heard, None, None, None
        received = heard if own.messages_in is None else own.messages_in
        return received, own.messages_out, own.bytes_in, own.bytes_out

    @property
    def messages_in(self) -> int | None:
        return self.counts[0]

    @property
    def messages_out(self) -> int | None:
        return self.counts[1]

    @property
    def bytes_in(self) -> int | None:
        return self.counts[2]

    @property
    def bytes_out(self) -> int | None:
        return self.counts[3]

    @property
    def last_in(self) -> float | None:
        """When the last message arrived, in seconds since the epoch; None if unknown."""
        found: float | None = getattr(self.server if self._tally is None else self._tally, "last_in", None)
        return found

    @property
    def sizes(self) -> Sizes | None:
        """The sizes of the messages in and out; None if they are not measured."""
        found: Sizes | None = getattr(self.server if self._tally is None else self._tally, "sizes", None)
        return found

    @property
    def last_out(self) -> float | None:
        """When anything was last sent, in seconds since the epoch, as the kernel knows it."""
        silence = silence_of(self.server)
        return None if silence is None else time() - silence

    @property
    def age(self) -> float:
        """Seconds since the connection began."""
        return max(0.0, monotonic() - self.begun)

    @property
    def since(self) -> float:
        """When the connection began, in seconds since the epoch."""
        return time() - self.age

    def count_thoroughly(self, own: Tally, receive: Receive) -> Receive:
        """Have the messages and their sizes counted on uvicorn, whose `send` is counted anyway."""
        self.server_send = own.sizing(self.server_send)
        if conf.get("METRICS_SIZES"):
            inward, outward = own.sizes = new_sizes()
            receive = sizes.receiving(receive, inward)
            self.server_send = sizes.sending(self.server_send, outward)
        return own.receiving(receive)

    def settle(self) -> Ended | None:
        """Keep what readers need after the scope and the socket are gone.

        Returns what is added to the sums; None if the connection was not accepted.
        """
        websocket, closed = self.websocket, getattr(self.server, "closed", None)
        if type(closed) is tuple and websocket is not None and websocket._accepted_at is not None:
            noted = self._closed or websocket._closed
            if noted is None or noted[1] != "operator":
                return self._settle_on_daphne(websocket, closed)
        counts = self.counts
        self._heard = counts[0]
        self._template = template = self._template or self.template
        self._accepted, waited = self.is_accepted, self.waited
        if not self._accepted or waited is None:
            return None
        self._waited = waited
        return template, waited, monotonic() - self.begun, self.closed, self.sizes, *counts

    def _settle_on_daphne(self, websocket: Any, closed: Closed) -> Ended:
        """Settle nearly every connection of a completed daphne, at a third of the cost."""
        server, begun = self.server, self.begun
        waited: float = websocket._accepted_at - begun
        self._accepted, self._waited = True, waited
        self._template = template = template_of(websocket.scope)
        return template, waited, monotonic() - begun, closed, server.sizes, *server.counts


def _heard_by(websocket: Any) -> int:
    """How many messages a socket has received."""
    returned: int = websocket._receive_returns - websocket._receive_failures
    return returned - (websocket._disconnect is not None)
