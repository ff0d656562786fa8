"""The versions of daphne that can be completed, and the names that the completed server relies on."""

from __future__ import annotations

# The tested versions: from the first, below the second.
SINCE, BEFORE = (4, 2, 2), (4, 3)

# Names that daphne, autobahn and Twisted do not document, by their owner.
NEEDED = {
    "daphne.server:Server": (
        "run create_application kill_all_applications listen_success protocol_connected"
        " protocol_disconnected application_checker timeout_checker log_action stop"
    ),
    "daphne.http_protocol:WebRequest": "process",
    "daphne.http_protocol:HTTPFactory": "buildProtocol",
    "twisted.web.http:HTTPChannel": "setTimeout timeoutConnection",
    "daphne.ws_protocol:WebSocketFactory": "protocol buildProtocol setProtocolOptions",
    "daphne.ws_protocol:WebSocketProtocol": (
        "_connectionMade duration processData consumeData _dataReceived onMessageBegin onMessageFrameBegin"
        " onMessageFrameData onMessageFrameEnd onMessageEnd _invalid_payload"
        " sendData sendCloseFrame sendPing sendPong"
        " onCloseFrame onOpenHandshakeTimeout failHandshake dropConnection _fail_connection"
        " _sendAutoPing _cancelAutoPingTimeoutCall STATE_OPEN STATE_CONNECTING STATE_CLOSED"
    ),
}


def leading_numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "4.2.3rc1" is (4, 2)."""
    numbers: list[int] = []
    for part in version.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def obstacle() -> str:
    """Why the completed server cannot run on the installed daphne; empty if it can."""
    import daphne

    if not SINCE <= leading_numbers(daphne.__version__) < BEFORE:
        return f"version {daphne.__version__}"
    for place, names in NEEDED.items():
        module, _, owner = place.partition(":")
        found = getattr(__import__(module, fromlist=[owner]), owner, None)
        for name in names.split():
            if not hasattr(found, name):
                return f"no {owner}.{name}"
    return ""
