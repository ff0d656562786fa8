"""One test body, two libraries: `lib` is the real FastAPI (the oracle), then this library."""

from __future__ import annotations

import importlib
from typing import Any

import fastapi.routing
import pytest

# The modules from which a FastAPI user imports names; the first module that has a name wins.
MODULES = [
    "fastapi",
    "fastapi.testclient",
    "fastapi.websockets",
    "starlette.websockets",
    "fastapi.security",
    "fastapi.exceptions",
    "fastapi.requests",
    "fastapi.responses",
    "fastapi.routing",
    "starlette.routing",
    "fastapi.datastructures",
    "starlette.datastructures",
    "fastapi.concurrency",
    "fastapi.encoders",
    "starlette.endpoints",
    "starlette.testclient",
    "starlette.middleware",
    "starlette.convertors",
    "starlette.background",
    "fastapi.params",
]


class Library:
    """A library's names as a FastAPI user imports them: `lib.WebSocket`, `lib.module("fastapi.security")`."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def is_oracle(self) -> bool:
        return self.name == "fastapi"

    def module(self, path: str) -> Any:
        """The module that a FastAPI user imports as `path`, e.g. "starlette.routing"."""
        if not self.is_oracle:
            path = path.replace("fastapi", "fastws_compat", 1).replace("starlette", "fastws_compat", 1)
        return importlib.import_module(path)

    def __getattr__(self, name: str) -> Any:
        for path in MODULES:
            try:
                return getattr(self.module(path), name)
            except (AttributeError, ImportError):
                continue
        raise AttributeError(f"{self.name} has no {name}")

    def __repr__(self) -> str:
        return self.name


@pytest.fixture(params=["fastapi", "fastws_compat"])
def lib(request: pytest.FixtureRequest) -> Library:
    # FastAPI stores the location of an endpoint under its id(), which the endpoint of a later test may reuse.
    fastapi.routing._endpoint_context_cache.clear()
    return Library(request.param)
