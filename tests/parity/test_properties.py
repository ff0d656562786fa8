"""Random handshakes to the same application on both libraries: the same values, or the same errors."""

import asyncio
import datetime
import decimal
import enum
import uuid
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, Json

from tests.fake_server import CONNECT, FakeServer
from tests.parity.conftest import Library
from tests.sizes import IS_FULL

pytestmark = pytest.mark.sized


def examples(count: int) -> settings:
    """At most `count` examples, in the gate a quarter: the same in every run, without a deadline."""
    return settings(
        max_examples=count if IS_FULL else count // 4,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )


# --- the application ---


class Color(enum.Enum):
    red = "red"
    blue = "blue"


class Number(enum.IntEnum):
    one = 1
    two = 2


class Filter(BaseModel):
    limit: int = Field(10, gt=0, le=100)
    order: Literal["up", "down"] = "up"
    tags: list[str] = []
    x_token: str | None = None


class Forbidding(Filter):
    model_config = ConfigDict(extra="forbid")


class Allowing(Filter):
    model_config = ConfigDict(extra="allow")


class Aliased(BaseModel):
    model_config = ConfigDict(validate_by_name=True)
    first_name: str = Field(alias="firstName")
    numbers: list[int] = Field([], validation_alias=AliasChoices("number", "x-number"))
    x_color: Color | None = None


SCALARS: dict[str, Any] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "bytes": bytes,
    "enum": Color,
    "number": Number,
    "uuid": uuid.UUID,
    "datetime": datetime.datetime,
    "date": datetime.date,
    "time": datetime.time,
    "timedelta": datetime.timedelta,
    "decimal": decimal.Decimal,
    "literal": Literal["red", "3"],
    "optional": int | None,
    "union": int | float | Color | str,
    "positive": Annotated[int, Field(gt=0, lt=100)],
    "even": Annotated[int, Field(multiple_of=2)],
    "finite": Annotated[float, Field(allow_inf_nan=False)],
    "short": Annotated[str, Field(min_length=1, max_length=3)],
    "pattern": Annotated[str, Field(pattern=r"^\d+$")],
    "price": Annotated[decimal.Decimal, Field(max_digits=4, decimal_places=2)],
    "strict": Annotated[int, Field(strict=True)],
}

MANY: dict[str, Any] = {
    "list": list[int],
    "set": frozenset[str],
    "pair": tuple[int, Color],
    "optional-list": list[float] | None,
    "few": Annotated[list[Number], Field(max_length=2)],
    "json": Json[list[int]],
}

MODELS: dict[str, Any] = {
    "plain": Filter,
    "forbidding": Forbidding,
    "allowing": Allowing,
    "aliased": Aliased,
    "optional": Filter | None,
    "optional-forbidding": Forbidding | None,
}

CONVERTORS: dict[str, Any] = {"str": str, "int": int, "float": float, "path": str, "uuid": uuid.UUID}

MULTIPLE = ("Query", "Header")


def build(lib: Any) -> Any:
    """One application with a route per source and type."""
    app = lib.FastAPI()

    @app.exception_handler(lib.WebSocketRequestValidationError)
    async def refuse(websocket, exc):
        await websocket.close(1008, repr(exc.errors()))

    def add(path: str, annotation: Any, default: Any = ...) -> None:
        if default is ...:

            async def required(websocket: lib.WebSocket, value: annotation):
                await websocket.accept()
                await websocket.send_text(repr(value))

            app.websocket(path)(required)
        else:

            async def optional(websocket: lib.WebSocket, value: annotation = default):
                await websocket.accept()
                await websocket.send_text(repr(value))

            app.websocket(path)(optional)

    for name, annotation in SCALARS.items():
        add(f"/Path/{name}/{{value}}", Annotated[annotation, lib.Path()])
    for name, annotation in CONVERTORS.items():
        add(f"/Convertor/{name}/{{value:{name}}}", Annotated[annotation, lib.Path()])
    for source in ("Query", "Header", "Cookie"):
        marker = getattr(lib, source)
        for name, annotation in {**SCALARS, **(MANY if source in MULTIPLE else {})}.items():
            add(f"/{source}/{name}", Annotated[annotation, marker()])
            add(f"/{source}/{name}/default", Annotated[annotation, marker(alias="x-value")], None)
        for name, annotation in MODELS.items():
            default = {"default": None} if name.startswith("optional") else {}
            add(f"/{source}/model/{name}", Annotated[annotation, marker()], **default)
    add_mixed(lib, app)
    return app


def add_mixed(lib: Any, app: Any) -> None:
    """A route that reads everything, some of it in dependencies."""

    def page(limit: int = 10, offset: Annotated[int, lib.Query(ge=0)] = 0):
        return limit, offset

    async def user(
        x_token: Annotated[str, lib.Header(min_length=2)], sid: Annotated[int | None, lib.Cookie()] = None
    ):
        yield x_token, sid

    class Search:
        def __init__(self, q: str, tags: Annotated[list[Color], lib.Query()] = []):
            self.values = q, tags

    @app.websocket("/mixed/{room}/{number}")
    async def mixed(
        websocket: lib.WebSocket,
        room: str,
        number: Annotated[int, lib.Path(gt=0)],
        page: Annotated[Any, lib.Depends(page)],
        user: Annotated[Any, lib.Depends(user)],
        search: Annotated[Search, lib.Depends()],
        flag: bool = False,
    ):
        await websocket.accept()
        await websocket.send_text(repr([room, number, page, user, search.values, flag]))


# --- running both ---


class Both:
    """The application on both libraries, called directly in one event loop."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.runner = runner
        self.apps = [build(Library(name)) for name in ("fastapi", "fastws_compat")]

    def agree(self, path: str, query: bytes = b"", headers: list[tuple[bytes, bytes]] | None = None) -> None:
        """Assert that both give the same answer to a handshake."""
        oracle, ours = self.ask(path, query, headers or [])
        assert oracle[0] != "raised"
        assert ours == oracle

    def ask(self, path: str, query: bytes, headers: list[tuple[bytes, bytes]]) -> list[Any]:
        return self.runner.run(self._ask(path, query, headers))

    async def _ask(self, path: str, query: bytes, headers: list[tuple[bytes, bytes]]) -> list[Any]:
        return [await answer(app, handshake(path, query, headers)) for app in self.apps]


def handshake(path: str, query: bytes, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {
        "type": "websocket",
        "path": path,
        "raw_path": quote(path).encode(),
        "root_path": "",
        "scheme": "ws",
        "query_string": query,
        "headers": [(b"host", b"testserver"), *headers],
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
        "fastws_compat.raise_exceptions": True,
    }


async def answer(app: Any, scope: dict[str, Any]) -> tuple[Any, ...]:
    """What the application answers: its values, its close, or the exception that escapes from it."""
    server = FakeServer(CONNECT)
    sent = server.sent
    try:
        await app(scope, server.receive, server.send)
    except Exception as exc:
        return "raised", type(exc).__name__, str(exc)
    if sent[0]["type"] == "websocket.accept":
        return "accepted", sent[1]["text"]
    return "refused", sent[0]["code"], sent[0].get("reason") or ""


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    with asyncio.Runner() as runner:
        yield Both(runner)


# --- what is sent ---

WORDS = [
    "",
    "0",
    "1",
    "3",
    "+3",
    " 3 ",
    "-0",
    "3.0",
    "1_0",
    "1e3",
    "1.50",
    "12.345",
    "٣",
    "½",
    "nan",
    "-Infinity",
    "true",
    "False",
    "on",
    "n",
    "red",
    "RED",
    "blue",
    "null",
    "None",
    "[1,2]",
    "[]",
    '{"a": 1}',
    "a,b",
    "a b",
    "a+b",
    "%33",
    "2026-01-02",
    "2026-01-02T03:04:05Z",
    "2026-01-02 03:04",
    "1700000000",
    "03:04",
    "PT1H",
    "1 day, 02:03:04",
    "12345678123456781234567812345678",
    "12345678-1234-5678-1234-567812345678",
    "ü€",
    "😀",
    "up",
    "down",
]
VALUES = st.one_of(
    st.sampled_from(WORDS),
    st.integers().map(str),
    st.floats().map(repr),
    st.decimals(allow_nan=False, places=2, min_value=-1000, max_value=1000).map(str),
    st.uuids().map(str),
    st.datetimes().map(datetime.datetime.isoformat),
    st.dates().map(str),
    st.timedeltas().map(str),
    st.text(max_size=6),
)
LATIN = st.one_of(
    st.sampled_from([word for word in WORDS if all(ord(letter) < 256 for letter in word)]),
    st.integers().map(str),
    st.text(st.characters(max_codepoint=255), max_size=6),
)
NAMES = st.sampled_from(
    [
        "value",
        "x-value",
        "x_value",
        "limit",
        "order",
        "tags",
        "x_token",
        "x-token",
        "firstName",
        "firstname",
        "first_name",
        "first-name",
        "number",
        "numbers",
        "x-number",
        "x_color",
        "x-color",
        "offset",
        "q",
        "sid",
        "flag",
        "other",
        "",
        "ü",
    ]
)
HEADER_NAMES = NAMES.map(lambda name: name.lower().encode("latin-1"))
PAIRS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
HEADERS = st.lists(st.tuples(HEADER_NAMES, LATIN.map(lambda value: value.encode("latin-1"))), max_size=4)
COOKIES = st.one_of(
    st.lists(st.tuples(NAMES, LATIN), max_size=4).map(
        lambda pairs: "; ".join(f"{name}={value}" for name, value in pairs)
    ),
    st.text(st.characters(max_codepoint=255), max_size=20),
    st.lists(st.sampled_from(["value", "=", ";", " ", '"', "\\", ",", "3", "limit", "%33"]), max_size=12).map(
        "".join
    ),
).map(lambda text: text.encode("latin-1"))
PIECES = [
    "value",
    "limit",
    "tags",
    "=",
    "&",
    ";",
    "+",
    "%",
    "%33",
    "%C3%BC",
    "%ff",
    "%zz",
    "3",
    "red",
    "ü",
    "#",
    "[",
]
QUERIES = st.one_of(
    PAIRS.map(urlencode).map(str.encode),
    st.lists(st.sampled_from(PIECES), max_size=10).map(lambda pieces: "".join(pieces).encode()),
    st.binary(max_size=12),
)


def one_of_each(source: str, kinds: dict[str, Any]) -> st.SearchStrategy[str]:
    return st.sampled_from([f"/{source}/{kind}{end}" for kind in kinds for end in ("", "/default")])


def usually(name: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[list[tuple[str, str]]]:
    """Pairs, most of them with the name of the endpoint's parameter."""
    return st.lists(st.tuples(st.sampled_from([name, name, name, "x-value", "other"]), values), max_size=3)


# --- the properties ---


@examples(500)
@given(kind=st.sampled_from(sorted(SCALARS)), value=VALUES)
def test_path(both, kind, value):
    both.agree(f"/Path/{kind}/{value}")


@examples(300)
@given(kind=st.sampled_from(sorted(CONVERTORS)), value=VALUES)
def test_convertors_of_the_path(both, kind, value):
    both.agree(f"/Convertor/{kind}/{value}")


@examples(200)
@given(path=st.text(st.sampled_from("/Pathint3.{}%\n é"), max_size=14))
def test_any_path(both, path):
    both.agree(f"/{path}")


@examples(600)
@given(path=one_of_each("Query", {**SCALARS, **MANY}), pairs=usually("value", VALUES))
def test_query(both, path, pairs):
    both.agree(path, urlencode(pairs).encode())


@examples(300)
@given(path=one_of_each("Query", {**SCALARS, **MANY}), query=QUERIES)
def test_any_query_string(both, path, query):
    both.agree(path, query)


@examples(400)
@given(path=one_of_each("Header", {**SCALARS, **MANY}), pairs=usually("value", LATIN))
def test_header(both, path, pairs):
    both.agree(path, b"", [(name.encode(), value.encode("latin-1")) for name, value in pairs])


@examples(400)
@given(path=one_of_each("Cookie", SCALARS), pairs=usually("value", LATIN), quoted=st.booleans())
def test_cookie(both, path, pairs, quoted):
    text = "; ".join(f'{name}="{value}"' if quoted else f"{name}={value}" for name, value in pairs)
    both.agree(path, b"", [(b"cookie", text.encode("latin-1"))])


@examples(200)
@given(path=one_of_each("Cookie", SCALARS), cookies=st.lists(COOKIES, max_size=2))
def test_any_cookie_header(both, path, cookies):
    both.agree(path, b"", [(b"cookie", cookie) for cookie in cookies])


@examples(500)
@given(model=st.sampled_from(sorted(MODELS)), query=st.one_of(PAIRS.map(urlencode).map(str.encode), QUERIES))
def test_query_model(both, model, query):
    both.agree(f"/Query/model/{model}", query)


@examples(400)
@given(model=st.sampled_from(sorted(MODELS)), headers=HEADERS)
def test_header_model(both, model, headers):
    both.agree(f"/Header/model/{model}", b"", headers)


@examples(300)
@given(model=st.sampled_from(sorted(MODELS)), cookie=COOKIES)
def test_cookie_model(both, model, cookie):
    both.agree(f"/Cookie/model/{model}", b"", [(b"cookie", cookie)])


@examples(300)
@given(
    room=VALUES,
    number=st.integers(-2, 5).map(str) | VALUES,
    query=st.one_of(PAIRS.map(lambda pairs: urlencode([("q", "x"), *pairs]).encode()), QUERIES),
    headers=HEADERS.map(lambda headers: [*headers, (b"x-token", b"abc")]) | HEADERS,
    cookie=COOKIES,
)
def test_whole_handshake(both, room, number, query, headers, cookie):
    both.agree(f"/mixed/{room}/{number}", query, [*headers, (b"cookie", cookie)])


@pytest.mark.parametrize("source", ["Path", "Query", "Header", "Cookie"])
@pytest.mark.parametrize("kind", sorted(SCALARS))
def test_each_word_for_each_type(both, source, kind):
    """Every word in every source, so that every type sees values that it accepts."""
    for word in WORDS:
        if source == "Path":
            both.agree(f"/Path/{kind}/{word}")
        elif source == "Query":
            both.agree(f"/Query/{kind}", urlencode({"value": word}).encode())
        elif all(ord(letter) < 256 for letter in word):
            name, value = ("value", word) if source == "Header" else ("cookie", f"value={word}")
            both.agree(f"/{source}/{kind}", b"", [(name.encode(), value.encode("latin-1"))])


def test_answers_that_are_compared(both):
    assert both.ask("/Query/int", b"value=3", []) == [("accepted", "3")] * 2
    for outcome, code, reason in both.ask("/Query/int", b"value=x", []):
        assert (outcome, code) == ("refused", 1008)
        assert "'loc': ('query', 'value')" in reason
    assert both.ask("/nowhere", b"", []) == [("refused", 1000, "")] * 2
