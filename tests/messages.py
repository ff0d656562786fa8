"""The messages of a chat, for tests that need some."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from fastws_compat import Call, Reply


class Post(BaseModel):
    type: Literal["post"] = "post"
    text: Annotated[str, Field(min_length=1, max_length=2000)]


class Said(BaseModel):
    type: Literal["said"] = "said"
    text: str


class Found(Reply):
    type: Literal["found"] = "found"
    hits: list[str] = []


class Search(Call[Found]):
    type: Literal["search"] = "search"
    q: str
