"""The AsyncAPI documents, read by the official parser."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import jsonschema
import pytest

from fastws_compat import FastAPI
from fastws_compat.schema import asyncapi
from fastws_compat.schema.description import Site
from tests.described import sites

from .conftest import executable, installed


def diagnostics(modules: Path, folder: Path, documents: dict[str, str]) -> str:
    for name, text in documents.items():
        (folder / name).write_text(text)
    command = [executable("node"), str(Path(__file__).with_name("parse.mjs")), *documents]
    environment = {**os.environ, "MODULES": str(modules)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.node
@pytest.mark.parametrize("version", ["3.1.0", pytest.param("3.0.0", marks=pytest.mark.slow)])
def test_the_official_parser_has_nothing_to_say(asyncapi_parser: Path, tmp_path: Path, version: str) -> None:
    documents = {
        f"{name}.json": asyncapi.text(asyncapi.document(site, server="wss://example.com/x", version=version))
        for name, site in sites().items()
    }
    said = diagnostics(asyncapi_parser, tmp_path, documents).splitlines()
    # The parser recommends the newest version.
    expected = [] if version == "3.1.0" else ["asyncapi-latest-version"] * len(documents)
    assert [line.split()[1] for line in said[:-1]] == expected, said
    assert said[-1] == f"parsed {len(documents)}"


@pytest.mark.node
@pytest.mark.parametrize("version", ["3.1.0", "3.0.0"])
def test_the_official_schema_accepts_them(version: str) -> None:
    """In Python, with the JSON schema that the specification publishes."""
    specs = installed("@asyncapi/specs@6.11.1") / "@asyncapi" / "specs" / "schemas"
    schema = json.loads((specs / f"{version}-without-$id.json").read_text())
    validator = jsonschema.Draft7Validator(schema)
    for name, site in sites().items():
        found = asyncapi.document(site, server="wss://example.com/x", version=version)
        assert [error.message for error in validator.iter_errors(found)] == [], name
    assert not validator.is_valid({**found, "channels": {"x": {"nothing": 1}}})


@pytest.mark.node
def test_the_parser_would_complain(asyncapi_parser: Path, tmp_path: Path) -> None:
    channel = {"address": "/{slug}", "parameters": {"slug": {"schema": {"type": "string"}}}}
    broken = asyncapi.document(Site(FastAPI())) | {"channels": {"x": channel}}
    [first, *_] = diagnostics(asyncapi_parser, tmp_path, {"x.json": asyncapi.text(broken)}).splitlines()
    assert "channels.x.parameters.slug" in first
