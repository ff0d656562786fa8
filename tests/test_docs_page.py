"""The documentation page of the sockets: who may see it, its headers, its data, and what it costs."""

from __future__ import annotations

import gzip
import html
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.checks import run_checks
from django.http import Http404, HttpRequest
from django.test import Client, RequestFactory
from django.urls import clear_script_prefix, set_script_prefix
from pydantic import BaseModel, Field

from fastws_compat import FastAPI, Query, TypedWebSocket, WebSocket
from fastws_compat.docs import access, content, views
from fastws_compat.docs.outline import Outline
from fastws_compat.schema.description import Site
from tests import zoo
from tests.test_asyncapi import python, serve

ROOT = Path(__file__).resolve().parents[1]
STATIC = ROOT / "fastws_compat" / "static" / "fastws"
PAGE, DOCUMENT = "/ws-docs/", "/ws-docs/asyncapi.json"
BOTH = pytest.mark.parametrize("url", [PAGE, DOCUMENT])
VISITOR, USER, STAFF, FORMER = "visitor", "user", "staff", "former staff"


@pytest.fixture
def clients(db: None) -> dict[str, Client]:
    found = {VISITOR: Client()}
    for name, fields in {USER: {}, STAFF: {"is_staff": True}, FORMER: {"is_staff": True}}.items():
        found[name] = Client()
        user = User.objects.create_user(name, **fields)
        found[name].force_login(user)
    return found


def statuses(clients: dict[str, Client], url: str) -> dict[str, int]:
    return {name: client.get(url).status_code for name, client in clients.items() if name != FORMER}


def data_of(response: Any) -> dict[str, Any]:
    [text] = re.findall(r'<script id="data" type="application/json">(.*?)</script>', response.text, re.DOTALL)
    found: dict[str, Any] = json.loads(text)
    return found


# Who may see it


def nobody(request: HttpRequest) -> bool:
    return False


def those_with_a_header(request: HttpRequest) -> bool:
    return request.headers.get("X-Docs") == "yes"


async def nobody_either(request: HttpRequest) -> bool:
    return False


async def everybody(request: HttpRequest) -> bool:
    return True


ALL = {VISITOR: 200, USER: 200, STAFF: 200}
ONLY_STAFF = {VISITOR: 302, USER: 404, STAFF: 200}
NONE = {VISITOR: 302, USER: 404, STAFF: 404}


@BOTH
@pytest.mark.parametrize(
    ("debug", "setting", "expected"),
    [
        (True, None, ALL),
        (False, None, ONLY_STAFF),
        (True, "staff", ONLY_STAFF),
        (False, "staff", ONLY_STAFF),
        (False, "public", ALL),
        (True, "tests.test_docs_page.nobody", NONE),
        (True, "tests.test_docs_page.nobody_either", NONE),
        (False, "tests.test_docs_page.everybody", ALL),
    ],
)
def test_who_may_see_it(
    clients: dict[str, Client], settings: Any, url: str, debug: bool, setting: str | None, expected: Any
) -> None:
    settings.DEBUG = debug
    settings.FASTWS = {"DOCS_ACCESS": setting}
    assert statuses(clients, url) == expected


@BOTH
def test_it_is_for_staff_by_default(clients: dict[str, Client], url: str) -> None:
    assert statuses(clients, url) == ONLY_STAFF


@BOTH
def test_a_function_sees_the_request(client: Client, settings: Any, url: str) -> None:
    settings.FASTWS = {"DOCS_ACCESS": "tests.test_docs_page.those_with_a_header"}
    assert client.get(url, headers={"X-Docs": "yes"}).status_code == 200
    assert client.get(url, headers={"X-Docs": "no"}).status_code == 302


@BOTH
def test_inactive_staff_are_not_staff(clients: dict[str, Client], url: str) -> None:
    User.objects.filter(username=FORMER).update(is_active=False)
    assert clients[FORMER].get(url).status_code == 302


def test_a_user_object_that_is_inactive() -> None:
    request = RequestFactory().get(PAGE)
    request.user = User(is_staff=True, is_active=False)
    assert not access.is_staff(request)
    request.user = AnonymousUser()
    assert not access.is_staff(request)


@BOTH
def test_visitors_come_back_after_the_login(client: Client, settings: Any, url: str) -> None:
    settings.LOGIN_URL = "/enter/?theme=dark"
    found = urlsplit(client.get(url + "?a=1&b=2").headers["Location"])
    assert (found.path, parse_qs(found.query)) == (
        "/enter/",
        {"theme": ["dark"], "next": [f"{url}?a=1&b=2"]},
    )


def test_without_users_there_is_no_login() -> None:
    with pytest.raises(Http404):
        views.page(RequestFactory().get(PAGE))


@BOTH
def test_it_is_only_read(clients: dict[str, Client], url: str) -> None:
    assert clients[STAFF].post(url).status_code == 405
    assert clients[STAFF].head(url).status_code == 200


# Headers

POLICY = (
    "default-src 'none'; script-src 'self'{static}; style-src 'self'{static}; "
    "connect-src 'self' {socket}; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


@pytest.mark.parametrize(
    ("static_url", "origin"),
    [
        ("static/", ""),
        ("/assets/", ""),
        ("https://cdn.example.com/x/", " https://cdn.example.com"),
        ("//cdn.example.com/", " cdn.example.com"),
    ],
)
def test_the_policy(settings: Any, static_url: str, origin: str) -> None:
    settings.STATIC_URL = static_url
    request = RequestFactory().get(PAGE)
    assert views.policy(request) == POLICY.format(static=origin, socket="ws://testserver")
    request = RequestFactory().get(PAGE, secure=True)
    assert views.policy(request) == POLICY.format(static=origin, socket="wss://testserver")


def test_headers(clients: dict[str, Client]) -> None:
    page, document = (clients[STAFF].get(url) for url in (PAGE, DOCUMENT))
    assert page["Content-Security-Policy"] == POLICY.format(static="", socket="ws://testserver")
    assert page["Cache-Control"] == document["Cache-Control"] == "no-store"
    assert page["X-Frame-Options"] == "DENY"
    assert page["Content-Type"] == "text/html; charset=utf-8"
    assert document["Content-Type"] == "application/json"


# What is in it


def test_nothing_inline_and_nothing_foreign(clients: dict[str, Client]) -> None:
    text = clients[STAFF].get(PAGE).text
    assert re.findall(r"<script(?![^>]*(?: src=| type=\"application/json\"))", text) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=|javascript:", text) == []
    addresses = [html.unescape(found) for found in re.findall(r'(?:src|href)="([^"]*)"', text)]
    assert {urlsplit(found).scheme for found in addresses} == {"", "data"}
    assert {urlsplit(found).netloc for found in addresses} == {""}
    for name in ("docs.js", "docs.css"):
        assert not re.findall(r"https?://|eval\(|new Function|innerHTML", (STATIC / name).read_text())
        assert f"/static/fastws/{name}" in addresses


def test_sizes() -> None:
    script, style = ((STATIC / name).read_bytes() for name in ("docs.js", "docs.css"))
    assert len(script) <= 40 * 1024
    assert len(gzip.compress(script)) <= 12 * 1024
    assert len(style) <= 10 * 1024


def test_the_document_is_that_of_the_command(clients: dict[str, Client], settings: Any) -> None:
    found = clients[STAFF].get(DOCUMENT).json()
    assert found["servers"]["site"] == {"host": "testserver", "protocol": "ws"}
    assert "/ws/chat/{slug}" in [channel["address"] for channel in found["channels"].values()]
    secure = clients[STAFF].get(DOCUMENT, secure=True).json()
    assert secure["servers"]["site"]["protocol"] == "wss"


def test_the_page_says_whose_session_it_has(clients: dict[str, Client], settings: Any) -> None:
    settings.DEBUG = True
    assert data_of(clients[USER].get(PAGE))["user"] == USER
    assert data_of(clients[VISITOR].get(PAGE))["user"] is None
    assert "Logged in as <strong>user</strong>" in clients[USER].get(PAGE).text


@pytest.fixture
def script_prefix() -> Iterator[str]:
    set_script_prefix("/app/")
    yield "/app"
    clear_script_prefix()


def test_below_a_prefix(script_prefix: str, settings: Any) -> None:
    request = RequestFactory().get(PAGE)
    assert content.page(request)["prefix"] == script_prefix
    assert json.loads(content.document(request))["servers"]["site"]["pathname"] == script_prefix


class Shown(BaseModel):
    """<script>alert(1)</script>"""

    type: Literal["shown"] = "shown"
    text: Annotated[str, Field(description="</script><!--")]


def hostile() -> FastAPI:
    app = FastAPI(title="<b>Title</b>", version='"><img>')

    @app.websocket("/ws/hostile", summary="</script><script>alert(1)</script>", tags=["<i>"])
    async def hostile(websocket: TypedWebSocket[Shown, Shown]) -> None: ...

    @app.websocket("/ws/hidden", include_in_schema=False)
    async def hidden(websocket: WebSocket) -> None: ...

    return app


def test_texts_stay_texts(clients: dict[str, Client], settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, settings, hostile())
    response = clients[STAFF].get(PAGE)
    assert "<title>&lt;b&gt;Title&lt;/b&gt; · WebSockets</title>" in response.text
    assert response.text.count("<script") == response.text.count("</script>") == 2
    assert "<!--" not in response.text
    route = data_of(response)["routes"]["hostile"]
    assert (route["summary"], route["tags"]) == ("</script><script>alert(1)</script>", ["<i>"])
    assert list(data_of(response)["routes"]) == ["hostile"]
    assert "/ws/hidden" not in response.text
    assert "/ws/hidden" not in clients[STAFF].get(DOCUMENT).text


def test_new_routes_appear(
    clients: dict[str, Client], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = FastAPI()
    serve(monkeypatch, settings, app)
    assert data_of(clients[STAFF].get(PAGE))["routes"] == {}

    @app.websocket("/ws/new")
    async def new(websocket: WebSocket) -> None: ...

    assert list(data_of(clients[STAFF].get(PAGE))["routes"]) == ["new"]
    first = content._description()
    assert content._description() is first


@BOTH
def test_a_project_that_cannot_be_described(
    clients: dict[str, Client], settings: Any, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings.ASGI_APPLICATION = "no_such_module.application"
    with caplog.at_level(logging.ERROR, "fastws_compat"):
        response = clients[STAFF].get(url)
    assert (response.status_code, response["Cache-Control"]) == (500, "no-store")
    assert "no_such_module" not in response.text
    [record] = [one for one in caplog.records if one.name == "fastws_compat"]
    assert "No module named 'no_such_module'" in record.getMessage()
    assert record.exc_info is None


# The data of the page


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return content.Description(Site(zoo.app)).data


def test_a_route(described: dict[str, Any]) -> None:
    route = described["routes"]["room"]
    assert (route["title"], route["address"], route["heartbeat"]) == ("room", "/ws/rooms/{slug}", True)
    assert route["requirements"] == ("a login", "the permission `auth.view_user`")
    assert (route["headers"], route["cookies"], route["limits"]) == (
        ["x-trace"],
        ["lang"],
        ["rate limit 20/s"],
    )
    assert route["receives"] == ["Post-Input", "Typing", "Search", "HeartbeatPing"]
    assert route["replies"] == {"Search": ["Found", "ErrorFrame"]}
    assert route["closeCodes"][4401] == described["closeCodes"][4401]
    [slug, after] = route["fields"]
    assert (slug["place"], slug["name"], slug["example"], slug["required"]) == ("path", "slug", "lobby", True)
    assert after["about"] == "query · integer · ≥ 0 · default 0 · The last message that the client has."
    assert after["default"] == "0"
    json.dumps(described)


def test_examples_are_texts_which_no_browser_rounds(described: dict[str, Any]) -> None:
    assert described["messages"]["WithExamples"]["examples"] == [
        '{\n  "kind": "examples",\n  "n": 7\n}',
        '{\n  "kind": "examples"\n}',
    ]


def test_routes_of_all_kinds(described: dict[str, Any]) -> None:
    routes = described["routes"]
    assert routes["plain"]["isTyped"] is False
    assert routes["plain"]["paths"] == ["rest"]
    assert routes["documented"]["deprecated"] is True
    assert routes["raw_text"]["text"] is True
    assert routes["actions"]["tag"] == "action"
    assert [field["name"] for field in routes["sub:echo"]["fields"]] == ["sub", "tenant"]
    assert [field["place"] for field in routes["sub:echo"]["fields"]] == ["host", "query"]
    assert [field["name"] for field in routes["v1:echo"]["fields"]] == ["version", "tenant"]
    assert routes["routed"]["messageRequirements"] == {"ban": ["the permission `auth.delete_user`"]}
    assert [described["messages"][key]["kind"] for key in routes["upload"]["receives"]] == ["json", "bytes"]


def test_secrets(described: dict[str, Any]) -> None:
    schemes = {one["name"]: one for one in described["routes"]["upload"]["schemes"]}
    bearer = schemes["WebSocketBearer"]
    assert (bearer["place"], bearer["sent"]) == ("protocol", "bearer")
    assert (schemes["session"]["place"], schemes["session"]["sent"]) == ("cookie", "sessionid")
    places = {one["name"]: (one["place"], one["sent"]) for one in described["routes"]["secure"]["schemes"]}
    assert places["APIKeyQuery"] == ("query", "key")
    assert places["APIKeyHeader"] == ("header", "X-Key")
    assert places["APIKeyCookie"] == ("cookie", "key")
    assert places["HTTPBasic"] == places["OpenIdConnect"] == ("header", "Authorization")


def test_fields_of_schemas(described: dict[str, Any]) -> None:
    fields = {field["name"]: field for field in described["schemas"]["Everything-Input"]}
    assert fields["day"] == {
        "name": "day", "required": True, "about": "date", "type": "string", "inside": []
    }  # fmt: skip
    assert fields["even"]["type"] == "integer"
    assert set(fields["even"]["about"].split(" · ")) == {"≥ 3", "multiple of 2", "default 4"}
    assert (fields["first"]["type"], fields["first"]["inside"]) == ("Post | Typing", ["Post-Input", "Typing"])
    assert fields["title"]["about"] == 'default "a field that is called title"'
    tree = {field["name"]: field for field in described["schemas"]["Tree-Input"]}
    assert (tree["children"]["type"], tree["children"]["inside"]) == ("Array<Tree>", ["Tree-Input"])
    post = {field["name"]: field for field in described["schemas"]["Post-Input"]}
    assert (post["color"]["type"], post["color"]["inside"]) == ('"red" | "blue"', [])


def test_a_named_number() -> None:
    """Such as `RootModel[float]`: a reference has no type of its own."""
    outline = Outline({"Amount": {"type": "number"}, "Count": {"type": "integer"}})
    schemas = [{"$ref": "#/components/schemas/Amount"}, {"$ref": "#/components/schemas/Count"}]
    assert [outline.type_of(schema) for schema in schemas] == ["number", "integer"]
    assert outline.type_of({"allOf": schemas[:1]}) == "number"


def test_a_schema_that_only_refers_to_itself() -> None:
    loop = {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"$ref": "#/components/schemas/Loop-Input"}}]
    }
    outline = Outline({"Loop-Input": loop})
    assert outline.entry({"$ref": "#/components/schemas/Loop-Input"}) == {
        "type": "string | Array<Loop>",
        "inside": [],
    }
    assert outline.fields() == {}


Size = Literal["small", "large"]


def controls() -> dict[str, dict[str, Any]]:
    app = FastAPI()

    @app.websocket("/ws/{kind}")
    async def route(
        websocket: WebSocket,
        kind: zoo.Color,
        size: Size | None = None,
        flag: bool = False,
        names: Annotated[list[str] | None, Query(examples=[["a", "b"]])] = None,
        mixed: int | str = 5,
        only: Literal["one"] = "one",
    ) -> None: ...

    fields = content.Description(Site(app)).data["routes"]["route"]["fields"]
    return {field["name"]: field for field in fields}


def test_how_a_form_asks_for_parameters() -> None:
    found = controls()
    assert found["kind"]["choices"] == ["red", "blue"]
    assert found["size"]["choices"] == ["small", "large"]
    assert (found["flag"]["choices"], found["flag"]["default"]) == (["true", "false"], "false")
    assert (found["names"]["isMany"], found["names"]["example"]) == (True, '["a", "b"]')
    assert (found["mixed"]["choices"], found["mixed"]["default"]) == ([], "5")
    assert found["only"]["choices"] == ["one"]


# Settings and checks


def problems() -> list[str | None]:
    return [found.id for found in run_checks(tags=["fastws"])]


@pytest.mark.parametrize("value", [None, "staff", "public", "tests.test_docs_page.nobody"])
def test_settings_that_are_right(settings: Any, value: Any) -> None:
    settings.DEBUG, settings.FASTWS = True, {"DOCS_ACCESS": value}
    assert problems() == []


@pytest.mark.parametrize("value", ["nobody", "tests.test_docs_page.missing", True, 1, ["staff"]])
def test_settings_that_are_wrong(settings: Any, value: Any) -> None:
    settings.DEBUG, settings.FASTWS = True, {"DOCS_ACCESS": value}
    assert problems() == ["fastws.E008"]


def test_a_public_page_is_reported(settings: Any) -> None:
    settings.FASTWS = {"DOCS_ACCESS": "public"}
    assert "fastws.W015" in problems()
    settings.FASTWS = {"DOCS_ACCESS": "staff"}
    assert "fastws.W015" not in problems()


# What it costs

SERVING = """
import json, sys, django
django.setup()
import wsproject.asgi, wsproject.urls
from django.test import Client
def imported():
    names = ("fastws_compat.schema.", "fastws_compat.docs.content", "fastws_compat.docs.outline")
    return sorted(name for name in sys.modules if name.startswith(names))
before = imported()
Client().get("/ws-docs/")  # a visitor, who is sent to the login
refused = imported()
from django.test import override_settings
with override_settings(DEBUG=True):
    status = Client().get("/ws-docs/").status_code
print(json.dumps([before, refused, status, imported()]))
"""


def test_a_serving_process_imports_nothing_before_the_page_is_opened() -> None:
    before, refused, status, after = json.loads(python(SERVING, DEBUG="0"))
    assert before == refused
    assert set(before) <= {"fastws_compat.schema.catalogue"}
    assert status == 200
    assert {"fastws_compat.docs.content", "fastws_compat.schema.asyncapi"} <= set(after)


def test_a_project_without_the_page_does_not_import_it() -> None:
    code = (
        "import sys, django; django.setup(); import wsproject.asgi;"
        "print([name for name in sys.modules if name.startswith('fastws_compat.docs')])"
    )
    assert python(code).strip() == "[]"


MANY = """
import json, sys
import django; django.setup()
from tests.many_routes import application
from fastws_compat.docs.content import Description
from fastws_compat.schema import asyncapi
from fastws_compat.schema.description import Site

def cost(app):
    calls = 0
    def count(frame, event, argument):
        nonlocal calls
        calls += 1
    sys.setprofile(count)
    description = Description(Site(app))
    text = asyncapi.text(asyncapi.document(description.site))
    sys.setprofile(None)
    return calls, len(description.data["routes"]), len(text)

cost(application(1))
print(json.dumps([cost(application(50)), cost(application(200))]))
"""


def test_a_route_costs_the_same_however_many_there_are() -> None:
    (few, *_), (many, routes, length) = json.loads(python(MANY))
    assert routes == 200
    assert length > 200_000
    assert many < 4.4 * few, (few, many)
