"""Headers, multi-dicts and uploads, beyond parity with Starlette."""

from __future__ import annotations

import asyncio
import io
import tempfile
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from fastws_compat.datastructures import (
    URL,
    Address,
    FormData,
    Headers,
    ImmutableMultiDict,
    MultiDict,
    MutableHeaders,
    QueryParams,
    UploadFile,
    parse_host_header,
)


def test_address_is_a_pair() -> None:
    host, port = Address("h", 1)
    assert (host, port) == ("h", 1)


def test_url_that_cannot_be_split_fails_when_it_is_read() -> None:
    url = URL("http://[::1")
    assert str(url) == "http://[::1"
    with pytest.raises(ValueError):
        url.netloc


def test_url_compares_with_text() -> None:
    assert URL("/a") == "/a"
    assert {URL("/a").path: 1} == {"/a": 1}


def test_url_is_split_once() -> None:
    url = URL("/a")
    assert url.components is url.components


def test_copied_list_is_not_shared() -> None:
    pairs = [("a", 1)]
    multi = MultiDict(pairs)
    multi.append("b", 2)
    assert pairs == [("a", 1)]
    copy = MultiDict(multi)
    copy.clear()
    assert multi.multi_items() == [("a", 1), ("b", 2)]


def test_multi_dict_of_an_iterator() -> None:
    assert ImmutableMultiDict((key, 1) for key in "ab").multi_items() == [("a", 1), ("b", 1)]


def test_multi_dict_of_something_else() -> None:
    with pytest.raises((TypeError, ValueError)):
        ImmutableMultiDict([1])  # type: ignore[list-item]


def test_query_params_of_several_strings() -> None:
    with pytest.raises(AssertionError):
        QueryParams("", "")


def test_empty_header_value_is_a_value() -> None:
    headers = Headers({"a": ""})
    assert headers["a"] == ""
    assert headers.get("a", "default") == ""
    assert "a" in headers


def test_header_get_has_the_type_of_its_default() -> None:
    found: str = Headers({"a": "1"}).get("b", "none")
    assert found == "none"


def test_mutable_headers_copy_on_or() -> None:
    first = MutableHeaders({"a": "1"})
    second = first | {"a": "2"}
    assert (first["a"], second["a"]) == ("1", "2")


def test_rolled_file_is_read_without_a_thread_pool() -> None:
    async def use() -> bytes:
        with tempfile.SpooledTemporaryFile(max_size=1) as file:
            upload = UploadFile(file, filename="f")  # type: ignore[arg-type]
            await upload.write(b"abc")
            await upload.seek(1)
            return await upload.read()

    assert asyncio.run(use()) == b"bc"


def test_upload_without_a_size_counts_nothing() -> None:
    upload = UploadFile(io.BytesIO())
    asyncio.run(upload.write(b"abc"))
    assert upload.size is None
    assert upload.content_type is None


def test_upload_file_as_a_field() -> None:
    adapter: TypeAdapter[UploadFile] = TypeAdapter(UploadFile)
    upload = UploadFile(io.BytesIO())
    assert adapter.validate_python(upload) is upload
    assert adapter.json_schema() == {"type": "string", "contentMediaType": "application/octet-stream"}
    with pytest.raises(ValidationError, match="Expected UploadFile, received: <class 'str'>"):
        adapter.validate_python("text")


def test_form_closes_its_files_and_keeps_its_texts() -> None:
    first, second = io.BytesIO(), io.BytesIO()
    form = FormData([("a", "1"), ("b", UploadFile(first)), ("b", UploadFile(second))])
    asyncio.run(form.close())
    assert (first.closed, second.closed) == (True, True)
    assert form["a"] == "1"


@pytest.mark.parametrize("header", ["a/b", "a?b", "a#b", "a@b", "a\\b", "a b", "a\r\nb", "[::1]]", "a:b:c"])
def test_host_header_cannot_smuggle_a_path(header: str) -> None:
    assert parse_host_header(header) is None


def test_host_header_of_a_name() -> None:
    parsed: Any = parse_host_header("Example.org:8000")
    assert (parsed.host, parsed.port, parsed.authority) == ("Example.org", "8000", "Example.org:8000")
