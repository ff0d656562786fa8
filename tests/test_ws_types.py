"""`manage.py ws_types`: what the files say, and what is refused."""

from __future__ import annotations

import io
import re
from enum import IntFlag
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
from django.core.management import CommandError, call_command
from pydantic import BaseModel, create_model
from typing_extensions import TypeAliasType

from fastws_compat import FastAPI, TypedWebSocket
from fastws_compat.exceptions import DeclarationError
from fastws_compat.schema import runtime, typescript
from fastws_compat.schema.description import Site
from fastws_compat.schema.typescript import STATIC, Client, Types
from tests import zoo
from tests.test_asyncapi import serve


def written(application: Any, only: str | None = None) -> str:
    return Client(Site(application), only).declarations()


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("ws_types", *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "format": "date-time"}, "string"),
        ({"type": "integer"}, "number"),
        ({"type": "null"}, "null"),
        ({}, "unknown"),
        (True, "unknown"),
        ({"const": 'a"b'}, r'"a\"b"'),
        ({"const": 2**53 + 1}, "number"),
        ({"enum": [1, True, -(2**53) - 1]}, "1 | true | number"),
        ({"enum": [1, "a", None]}, '1 | "a" | null'),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string | null"),
        ({"anyOf": [{"type": "string"}, {}]}, "unknown"),
        ({"allOf": [{"$ref": "#/components/schemas/A"}], "default": 1}, "A"),
        ({"allOf": [{"$ref": "#/components/schemas/A"}, {"enum": [1, 2]}]}, "A & (1 | 2)"),
        ({"type": "array", "items": {"enum": [1, 2]}}, "Array<1 | 2>"),
        ({"type": "array"}, "Array<unknown>"),
        ({"type": "array", "items": [{"type": "string"}], "additionalItems": False}, "[string]"),
        (
            {"type": "array", "items": [{"type": "string"}], "additionalItems": {"type": "number"}},
            "[string, ...Array<number>]",
        ),
        (
            {"type": "array", "items": [{"type": "string"}, {"enum": [1, 2]}], "minItems": 1, "maxItems": 2},
            "[string, (1 | 2)?]",
        ),
        ({"type": "array", "items": [{"type": "string"}], "maxItems": 1}, "[string?]"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "Record<string, number>"),
        ({"type": "object"}, "Record<string, unknown>"),
        ({"type": "object", "patternProperties": {"^x": {"type": "number"}}}, "Record<string, number>"),
        (
            {"type": "object", "properties": {"a": {}, "b-c": {"type": "null"}}, "required": ["a"]},
            '{ a: unknown; "b-c"?: null }',
        ),
    ],
)
def test_types(schema: Any, expected: str) -> None:
    assert Types({"A": "A"}).type_of(schema) == expected


def test_interfaces() -> None:
    found = written(zoo.app)
    assert 'export interface Search {\n  id: Id;\n  type: "search";\n  q: string;\n}' in found
    assert 'export type Color = "red" | "blue";' in found
    assert "  /** Not an *\\/ identifier. */\n" in found
    [post] = re.findall(r"interface PostInput \{\n(.*?)\}", found, re.DOTALL)
    assert post == '  type: "post";\n  text: string;\n  color?: Color;\n  silent?: boolean;\n'
    assert "secret" not in found.partition("interface EverythingOutput")[2].partition("}")[0]


def test_an_interface_with_more_keys() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": True}
    assert "  [key: string]: unknown;" in Types({"Open": schema}).declaration("Open", schema)


def test_routes() -> None:
    [room] = re.findall(r'  "/ws/rooms/\{slug\}": \{\n(.*?)\n  \};', written(zoo.app), re.DOTALL)
    assert room.splitlines() == [
        "    params: { slug: string };",
        "    query: { after?: number };",
        "    up: PostInput | Typing | Search;",
        "    down: Said | Found | ErrorFrame;",
        "    replies: { search: Found };",
        '    tag: "type";',
    ]


def test_files_embed_the_runtime_with_types() -> None:
    client = Client(Site(zoo.app))
    script, [typed] = typescript.files(client, ".js"), typescript.files(client, ".ts").values()
    live = (STATIC / "live.js").read_text()
    assert re.sub(r"/\*\* @type \{any(\[\])?\} \*/ ", "", script[""]).count(live) == 1
    assert "  function guarded(call: any, ...values: any[]) {" in typed
    assert {text.splitlines()[0] for text in (*script.values(), typed)} == {typed.splitlines()[0]}
    assert {text.splitlines()[1] for text in (*script.values(), typed)} == {"/* eslint-disable */"}
    assert '"heartbeat": true' in script[""]
    assert not re.search("@ts-(nocheck|ignore)", "".join([*script.values(), typed]))


@pytest.mark.parametrize(
    ("script", "typed"),
    [
        ("function f(a, { b }, ...c) {}", "function f(a: any, { b }: any, ...c: any[]) {}"),
        ("const f = (a = [1, 2], [b] = []) => a;", "const f: any = (a: any = [1, 2], [b]: any = []) => a;"),
        ("if (a) { for (const b of c) {} }", "if (a) { for (const b of c) {} }"),
        (
            "class A extends B { #a; b = {}; c(d) { e = 1; } get f() {} }",
            "class A extends B { #a: any; b: any = {}; c(d: any) { e = 1; } get f() {} }",
        ),
        ("const a = [], b = 1;", "const a: any = [], b = 1;"),
        ("let { a } = (b); let c = d;", "let { a }: any = (b); let c = d;"),
        ("f(/[(]/, `${a}(`, '(' /* ( */);", "f(/[(]/, `${a}(`, '(' /* ( */);"),
    ],
)
def test_types_of_the_runtime(script: str, typed: str) -> None:
    assert runtime.in_typescript(script) == typed


def test_types_of_the_runtime_as_comments() -> None:
    assert runtime.in_javascript("(a, ...b) => a") == "(/** @type {any} */ a, /** @type {any[]} */ ...b) => a"


def test_only_one_route() -> None:
    found = written(zoo.app, "trees")
    assert '"/ws/trees"' in found
    assert "Everything" not in found
    with pytest.raises(DeclarationError, match="There is no route 'nothing': the names are actions"):
        written(zoo.app, "nothing")


def app_with(*models: Any) -> FastAPI:
    app = FastAPI()
    for number, model in enumerate(models):

        async def endpoint(websocket: Any) -> None: ...

        endpoint.__annotations__["websocket"] = TypedWebSocket[model, None]
        app.add_api_websocket_route(f"/{number}", endpoint, name=f"route{number}")
    return app


def model(name: str, module: str = "shop") -> type[BaseModel]:
    fields: Any = {"type": (Literal[name], name), module: (str, ...)}
    return create_model(name, __module__=module, **fields)


def test_two_classes_of_one_name_are_refused() -> None:
    with pytest.raises(DeclarationError, match=r"chat\.Message and shop\.Message have one name"):
        written(app_with(model("Message", "chat"), model("Message", "shop")))


def test_two_classes_of_one_name_are_refused_if_their_fields_agree() -> None:
    one, two = model("Message", "chat"), create_model("Message", __base__=model("Message", "chat"))
    two.__module__ = "shop"
    with pytest.raises(DeclarationError, match=r"chat\.Message and shop\.Message have one name: rename one"):
        written(app_with(one, two))
    with pytest.raises(DeclarationError, match="have one name"):
        written(app_with(one, two), "route0")
    assert written(app_with(one, one)).count("interface Message") == 1


class Box(BaseModel):
    type: Literal["box"] = "box"
    text: str = ""


def test_brackets_in_the_name_of_a_generic_class_are_no_modules() -> None:
    """pydantic calls `Box[list[int]]` `Box_list_int__`; two underscores also end the name of a module."""
    found = written(app_with(zoo.Box[list[int]], zoo.Box[list[str]]))
    assert "interface Box_list_int__ {" in found
    assert "interface Box_list_str__ {" in found
    one, two = (
        create_model("Box", __module__=name, __base__=zoo.Box[list[int]]) for name in ("shop", "chat")
    )
    with pytest.raises(DeclarationError, match=r"shop\.Box and chat\.Box have one name"):
        written(app_with(one, two))


class Pair(NamedTuple):
    one: int
    two: str = ""


class Rights(IntFlag):
    read = 1
    write = 2


class Recursive(BaseModel):
    json_: JsonText
    pair: Pair = Pair(1)
    rights: Rights = Rights.read
    names: dict[str, Pair] = {}


JsonText = TypeAliasType("JsonText", "dict[str, JsonText] | list[JsonText] | str | None")


def test_types_that_contain_themselves() -> None:
    """TypeScript refuses `type A = Record<string, A>`."""
    found = written(app_with(zoo.Folder, Recursive))
    assert "export type Folder = { [key: string]: Folder | number };" in found
    assert "JsonText = { [key: string]: JsonText } | Array<JsonText> | string | null;" in found
    assert "names?: Record<string, Pair>;" in found


def test_a_named_tuple_is_sent_whole_and_flags_may_be_combined() -> None:
    app = FastAPI()

    @app.websocket("/")
    async def endpoint(websocket: TypedWebSocket[None, Recursive]) -> None: ...

    assert "export type Pair = [number, string];" in written(app)
    assert "export type Rights = number;" in written(app)
    assert "export type Pair = [number, string?];" in written(app_with(Recursive))


def test_two_names_that_meet_are_refused() -> None:
    app = app_with(model("BoxInput"))

    @app.websocket("/both")
    async def both(websocket: TypedWebSocket[Box, Box]) -> None: ...

    with pytest.raises(DeclarationError, match="Box-Input and BoxInput are both BoxInput"):
        written(app)


def test_a_name_of_the_client_is_refused() -> None:
    with pytest.raises(DeclarationError, match="the Live of the generated file and Live are both Live"):
        written(app_with(model("Live")))


def test_a_word_of_typescript_is_refused() -> None:
    with pytest.raises(DeclarationError, match="the word string and string are both string in TypeScript"):
        written(app_with(model("string")))


# The command


@pytest.mark.parametrize(("name", "checked"), [("x.js", "x.d.ts"), ("x.js", "x.js"), ("x.ts", "x.ts")])
def test_write_and_check(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, checked: str
) -> None:
    app = app_with(model("Message"))
    serve(monkeypatch, settings, app)
    file, changed = tmp_path / name, tmp_path / checked
    with pytest.raises(CommandError, match="cannot be read"):
        run("--out", str(file), "--check")
    assert not file.exists()
    run("--out", str(file))
    run("--out", str(file), "--check")
    changed.write_text(changed.read_text() + "\n")
    with pytest.raises(CommandError, match=rf"{checked} is not up to date"):
        run("--out", str(file), "--check")
    run("--out", str(file))
    app.add_api_websocket_route("/more", zoo.trees)
    with pytest.raises(CommandError, match="not up to date"):
        run("--out", str(file), "--check")


def test_the_command_that_a_failed_check_prints_writes_the_file(
    settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app = app_with(model("Message"))
    app.add_api_websocket_route("/more", zoo.trees)
    serve(monkeypatch, settings, app)
    file = tmp_path / "x.js"
    with pytest.raises(CommandError, match=r"ws_types --out \S+/x\.js --only trees$"):
        run("--check", str(file), "--only", "trees")
    run("--out", str(file), "--only", "trees")
    (tmp_path / "x.d.ts").write_text("")
    with pytest.raises(CommandError, match=r"x\.d\.ts is not .* ws_types --out \S+/x\.js --only trees\n"):
        run("--check", str(file), "--only", "trees")


def test_refusals(settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="--out needs a file"):
        run()
    for name in ("sockets", "sockets.py", "sockets.d.ts"):
        with pytest.raises(
            CommandError, match=r"ends in \.ts, or in \.js, whose types are written beside it"
        ):
            run("--out", str(tmp_path / name))
    serve(monkeypatch, settings, app_with(model("Live")))
    with pytest.raises(CommandError, match="the Live of the generated file"):
        run("--out", str(tmp_path / "x.js"))
