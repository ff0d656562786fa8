"""The pages that may open a socket: a table of origins, hosts and credentials, and the settings."""

import asyncio

import pytest
from channels.testing import WebsocketCommunicator
from django.test import override_settings
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from fastws_compat import FastAPI, WebSocket
from fastws_compat.checks.settings import check_setting
from fastws_compat.connections.states import ORIGIN_CHECKED
from fastws_compat.origins import Origin, OriginCheck, has_session_cookie, matches, objection, parse
from fastws_compat.testclient import TestClient
from tests.fake_server import FakeServer
from tests.origins import CREDENTIALS, HOSTS, ORIGINS, SITE


@pytest.fixture
def site(settings):
    for name, value in SITE.items():
        setattr(settings, name, value)
    return settings


def scope_of(*headers, **values):
    return {"type": "websocket", "path": "/ws", "scheme": "ws", "headers": [*headers], **values}


def is_allowed(scope):
    """Whether the connection reaches the application behind the check."""
    reached, server = [], FakeServer()

    async def app(scope, receive, send):
        reached.append(scope[ORIGIN_CHECKED])

    asyncio.run(OriginCheck(app)(scope, None, server.send))
    assert (reached, server.types) in (([True], []), ([], ["websocket.close"]))
    return bool(reached)


@pytest.mark.parametrize("credentials", CREDENTIALS)
@pytest.mark.parametrize("origin", ORIGINS)
def test_table(site, origin, credentials):
    answers = {
        number
        for number, host in enumerate(HOSTS)
        if is_allowed(
            scope_of(
                (b"host", host.encode()), (b"origin", origin.encode("latin1")), *CREDENTIALS[credentials]
            )
        )
    }
    assert answers == ORIGINS[origin]


@pytest.mark.parametrize(
    ("credentials", "allowed"), [("session cookie", set()), ("token", {0, 1, 2}), ("nothing", {0, 1, 2})]
)
def test_table_without_an_origin(site, credentials, allowed):
    hosts = enumerate(HOSTS)
    answers = {n for n, h in hosts if is_allowed(scope_of((b"host", h.encode()), *CREDENTIALS[credentials]))}
    assert answers == allowed


@pytest.mark.parametrize("credentials", CREDENTIALS)
def test_origin_required(site, credentials):
    site.FASTWS = {"ORIGIN_REQUIRED": True}
    headers = [(b"host", b"testserver"), *CREDENTIALS[credentials]]
    assert not is_allowed(scope_of(*headers))
    assert is_allowed(scope_of(*headers, (b"origin", b"http://testserver")))


@pytest.mark.parametrize("second", [b"http://testserver", b"http://evil.example", b"null"])
def test_repeated_origin(site, second):
    origin = (b"origin", b"http://testserver")
    assert not is_allowed(scope_of((b"host", b"testserver"), origin, (b"origin", second)))


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"testserver:port",
        b"testserver, evil.example",
        b"test server",
        b"\xff",
        b"me@testserver",
        b"[::1",
    ],
)
def test_malformed_host(site, host):
    assert not is_allowed(scope_of((b"host", host), (b"origin", b"http://testserver")))
    assert not is_allowed(scope_of((b"host", host)))


def test_repeated_host(site):
    headers = [(b"host", b"testserver"), (b"host", b"testserver")]
    assert not is_allowed(scope_of(*headers, (b"origin", b"http://testserver")))


def test_no_host_at_all(site):
    assert not is_allowed(scope_of((b"origin", b"http://testserver")))
    assert is_allowed(scope_of((b"origin", b"https://trusted.org")))
    assert is_allowed(scope_of())
    assert "unknown without a Host" in objection(scope_of((b"origin", b"http://testserver")))


def test_encrypted_connection(site):
    secure = {"scheme": "wss"}
    host = (b"host", b"testserver")
    assert is_allowed(scope_of(host, (b"origin", b"https://testserver"), **secure))
    assert is_allowed(scope_of(host, (b"origin", b"https://testserver:443"), **secure))
    assert is_allowed(scope_of((b"host", b"testserver:443"), (b"origin", b"https://testserver"), **secure))
    assert not is_allowed(scope_of(host, (b"origin", b"http://testserver"), **secure))


def test_proxy_that_ends_the_encryption(site):
    headers = [(b"host", b"testserver"), (b"x-forwarded-proto", b"https"), (b"origin", b"https://testserver")]
    assert not is_allowed(scope_of(*headers))
    site.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert is_allowed(scope_of(*headers))
    assert not is_allowed(scope_of(*headers[:2], (b"origin", b"http://testserver")))
    disguised = [(b"x_forwarded_proto", b"https"), headers[0], headers[2]]
    assert not is_allowed(scope_of(*disguised))


def test_proxy_that_forwards_the_host(site):
    headers = [(b"host", b"10.0.0.1:8000"), (b"x-forwarded-host", b"testserver")]
    origin = (b"origin", b"http://testserver")
    assert not is_allowed(scope_of(*headers, origin))
    site.USE_X_FORWARDED_HOST = True
    assert is_allowed(scope_of(*headers, origin))
    assert not is_allowed(scope_of(headers[0], (b"x-forwarded-host", b"evil.example"), origin))


def test_debug_without_allowed_hosts(site):
    site.DEBUG, site.ALLOWED_HOSTS = True, []
    for host in (b"localhost:8000", b"127.0.0.1:8000", b"[::1]:8000", b"app.localhost"):
        assert is_allowed(scope_of((b"host", host), (b"origin", b"http://" + host)))
    assert not is_allowed(scope_of((b"host", b"evil.example"), (b"origin", b"http://evil.example")))


# The origins of pages that do not come from a web server.
APPS = [
    "null",
    "file://",
    "app://.",
    "app://electron",
    "capacitor://localhost",
    "ionic://localhost",
    "tauri://localhost",
    "chrome-extension://knldjmfmopnpolahpmmgbagdohdnhkik",
    "moz-extension://2c127fa4-62c7-7e4f-90e5-472b45eecfdc",
    "safari-web-extension://8B4D9A1C-54F1-4C52-8C42-6F0A9B1E2D3C",
    "vscode-webview://1k2h3jv4q5",
    "vscode-file://vscode-app",
    "content://",
]


@pytest.mark.parametrize("origin", [*APPS, "http://evil.example", "https://a.b:1", "http://me@a.b", ""])
def test_check_switched_off(site, origin):
    site.FASTWS = {"ALLOWED_ORIGINS": ["*"]}
    header = (b"origin", origin.encode())
    assert is_allowed(scope_of((b"host", b"testserver"), header))
    assert not is_allowed(scope_of((b"host", b"evil.example"), header))
    assert not is_allowed(scope_of((b"host", b"testserver"), header, header))


@pytest.mark.parametrize("origin", APPS)
def test_origin_that_is_no_web_server(site, origin):
    """Each is allowed by its own name and by no other."""
    headers = [(b"host", b"testserver"), (b"origin", origin.encode())]
    assert not is_allowed(scope_of(*headers))
    for name in ("FASTWS", "CSRF_TRUSTED_ORIGINS"):
        site.FASTWS, site.CSRF_TRUSTED_ORIGINS = {}, []
        setattr(site, name, {"ALLOWED_ORIGINS": [origin]} if name == "FASTWS" else [origin])
        assert is_allowed(scope_of(*headers))
        for other in set(APPS) - {origin}:
            assert not is_allowed(scope_of((b"host", b"testserver"), (b"origin", other.encode())))


def test_star_is_every_origin_in_the_setting_of_that_name_only(site):
    site.CSRF_TRUSTED_ORIGINS = ["*"]
    assert not is_allowed(scope_of((b"host", b"testserver"), (b"origin", b"http://evil.example")))


@pytest.mark.parametrize("value", ["*", "https://*.wild.org", "https://trusted.org", None, [443, None], 443])
def test_setting_of_a_wrong_kind_allows_nothing(site, value):
    site.CSRF_TRUSTED_ORIGINS = []
    site.FASTWS = {"ALLOWED_ORIGINS": value}
    assert check_setting("ALLOWED_ORIGINS", value) != []
    for origin in (b"https://a.wild.org", b"https://trusted.org", b"http://evil.example"):
        assert not is_allowed(scope_of((b"host", b"testserver"), (b"origin", origin)))


schemes = st.sampled_from(["http", "https", "HTTPS", "file", "app", "null", "capacitor", "1x", "", "a b"])
HOST_TEXTS = """
a.org A.org *.a.org *a.org * *. . .a.org a.*.org *.*.org [::1] [::1 [*] a.org.
me@a.org m\xfcnchen.example a_b.org
"""
hosts = st.sampled_from(["", "a org", *HOST_TEXTS.split()])
ports = st.sampled_from(["", ":", ":80", ":443", ":8443", ":99999", ":*", ":-1"])
ends = st.sampled_from(["", "", "", "/", "/path", "?", " ", "\n"])
patterns = st.one_of(
    st.builds(lambda s, h, p, e: f"{s}://{h}{p}{e}", schemes, hosts, ports, ends),
    st.sampled_from(["null", "NULL", "*", "**", "file:///", "a.org", "//a.org", "://", "http:a.org", ""]),
    st.text(max_size=12),
)


def witnesses(pattern):
    """Origins that a reader of the pattern would expect it to allow."""
    bare = pattern.strip().rstrip("/?")
    for text in (pattern, bare, bare.lower(), bare.replace("*.", "x.", 1), bare.replace("*", "x")):
        yield text
        yield text.replace("://.", "://x.", 1)


@hypothesis_settings(max_examples=600, deadline=None)
@given(patterns)
def test_system_check_accepts_what_allows_something(pattern):
    accepted = check_setting("ALLOWED_ORIGINS", [pattern]) == []
    with override_settings(FASTWS={"ALLOWED_ORIGINS": [pattern]}, CSRF_TRUSTED_ORIGINS=[]):
        allowed = [
            text
            for text in witnesses(pattern)
            if objection(scope_of((b"origin", text.encode("latin1", "replace")))) is None
        ]
    assert accepted == bool(allowed)


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("https://a.org", ["https://a.org"], ["https://b.a.org", "http://a.org", "https://a.org:8443"]),
        ("https://a.org:8443", ["https://a.org:8443"], ["https://a.org"]),
        ("https://*.a.org", ["https://b.a.org", "https://a.org"], ["https://ba.org", "http://b.a.org"]),
        ("https://*.a.org:8443", ["https://b.a.org:8443"], ["https://b.a.org"]),
        ("a.org", [], ["https://a.org"]),
        ("https://a.org/", [], ["https://a.org"]),
        ("http://[::1]:8000", ["http://[::1]:8000"], ["http://[::1]", "http://[::2]:8000"]),
        ("null", ["null"], ["null://", "file://", "https://null"]),
        ("file://", ["file://"], ["null", "file://host", "app://"]),
        ("app://.", ["app://."], ["app://x.", "app://x", "app://"]),
        ("https://*", [], ["https://a.org"]),
        ("https://*.", [], ["https://a.org", "https://a.org.", "https://."]),
        ("https://*a.org", [], ["https://a.org", "https://ba.org"]),
        ("https://b.*.org", [], ["https://b.a.org"]),
    ],
)
def test_patterns(pattern, fitting, others):
    assert [origin for origin in [*fitting, *others] if matches(parse(origin), pattern)] == fitting


def test_parts():
    assert parse("HTTPS://Example.COM") == Origin("https", "example.com", 443)
    assert parse("app://x") == Origin("app", "x", None)
    assert parse("file://") == Origin("file", "", None)
    assert parse("null") == Origin("", "", None)
    assert [parse(text) for text in ("http://", "https://:443", "wss://", "file:///", "://")] == [None] * 5
    assert parse("http://x:0") == Origin("http", "x", 0)


@pytest.mark.parametrize(
    ("cookie", "expected"),
    [
        (b"sessionid=abc", True),
        (b"a=1; sessionid=abc", True),
        (b'sessionid="abc"', True),
        (b"sessionid=", False),
        (b"sessionid2=abc", False),
        (b"SESSIONID=abc", False),
        (b"", False),
    ],
)
def test_session_cookie(cookie, expected):
    assert has_session_cookie(scope_of((b"cookie", cookie))) is expected


def test_session_cookie_of_another_name(settings):
    settings.SESSION_COOKIE_NAME = "own"
    assert has_session_cookie(scope_of((b"cookie", b"a=1"), (b"cookie", b"own=abc")))
    assert not has_session_cookie(scope_of((b"cookie", b"sessionid=abc")))


def test_refusal_is_one_line_that_says_what_to_do(site, caplog):
    is_allowed(scope_of((b"host", b"testserver"), (b"origin", b"http://testserver:3000\n")))
    is_allowed(scope_of((b"host", b"testserver"), (b"origin", b"http://testserver:3000")))
    is_allowed(scope_of((b"host", b"evil.example")))
    is_allowed(scope_of((b"host", b"testserver"), *CREDENTIALS["session cookie"]))
    assert caplog.messages == [
        "WebSocket refused: its Origin 'http://testserver:3000\\n' is invalid.",
        "WebSocket refused: its Origin 'http://testserver:3000' is not the site's own (http://testserver). "
        "If it should be allowed, add it to CSRF_TRUSTED_ORIGINS or FASTWS['ALLOWED_ORIGINS']; behind a "
        "proxy, see SECURE_PROXY_SSL_HEADER.",
        "WebSocket refused: Invalid HTTP_HOST header: 'evil.example'. You may need to add 'evil.example' to "
        "ALLOWED_HOSTS.",
        "WebSocket refused: it has a session cookie but no Origin header; clients that are not browsers use "
        "tokens.",
    ]


def test_refused_communicator_with_a_cookie_logs_the_missing_headers(site, caplog):
    async def connect(*headers):
        communicator = WebsocketCommunicator(OriginCheck(FastAPI()), "/ws", headers=headers)
        accepted, _ = await communicator.connect()
        await communicator.wait()
        return accepted

    assert not asyncio.run(connect(*CREDENTIALS["session cookie"]))
    [message] = caplog.messages
    assert message.endswith('(b"origin", b"http://testserver"), (b"cookie", ...)].')
    assert "WebsocketCommunicator" in message


def test_other_kinds_of_connections_pass():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    asyncio.run(OriginCheck(app)({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]


def test_wrapped_by_hand(site):
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()

    async def connect(*headers):
        communicator = WebsocketCommunicator(OriginCheck(app), "/ws", headers=headers)
        accepted, _ = await communicator.connect()
        await communicator.wait()
        return accepted

    host = (b"host", b"testserver")
    assert asyncio.run(connect(host, (b"origin", b"http://testserver")))
    assert not asyncio.run(connect(host, (b"origin", b"http://evil.example")))


def test_test_client_needs_no_origin(site):
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_text("let in")

    client = TestClient(OriginCheck(app), cookies={"sessionid": "abcdefghijklmnop"})
    with client.websocket_connect("/ws") as socket:
        assert socket.receive_text() == "let in"

    async def connect():
        cookie = (b"cookie", b"sessionid=abcdefghijklmnop")
        communicator = WebsocketCommunicator(OriginCheck(app), "/ws", headers=[cookie])
        accepted, _ = await communicator.connect()
        await communicator.wait()
        return accepted

    assert not asyncio.run(connect())
