"""Forms and uploaded files, for annotations and signatures: a socket never receives either."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

from fastws_compat.datastructures.headers import Headers
from fastws_compat.datastructures.multidicts import ImmutableMultiDict

if TYPE_CHECKING:
    from pydantic_core import CoreSchema


class UploadFile:
    """An uploaded file, for annotations and signatures: a socket never receives one."""

    def __init__(
        self,
        file: BinaryIO,
        *,
        size: int | None = None,
        filename: str | None = None,
        headers: Headers | None = None,
    ) -> None:
        #: The file object with the content.
        self.file = file
        #: The number of bytes; None if it is unknown.
        self.size = size
        #: The name that the client gave to the file.
        self.filename = filename
        #: The headers of this part of the form.
        self.headers = headers or Headers()

    @property
    def content_type(self) -> str | None:
        """The media type that the client declared; None if it did not."""
        return self.headers.get("content-type")

    async def write(self, data: bytes) -> None:
        """Append bytes to the file, and to its `size`."""
        if self.size is not None:
            self.size += len(data)
        self.file.write(data)

    async def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, or all the rest."""
        return self.file.read(size)

    async def seek(self, offset: int) -> None:
        """Continue reading or writing at this position, counted from the start."""
        self.file.seek(offset)

    async def close(self) -> None:
        """Close the file."""
        self.file.close()

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(filename={self.filename!r}, size={self.size!r}, headers={self.headers!r})"
        )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Callable[[Any], CoreSchema]) -> CoreSchema:
        from pydantic_core import core_schema  # slow to import, and only pydantic needs it

        return core_schema.no_info_plain_validator_function(_check_upload)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        return {"type": "string", "contentMediaType": "application/octet-stream"}


def _check_upload(value: Any) -> UploadFile:
    if not isinstance(value, UploadFile):
        raise ValueError(f"Expected UploadFile, received: {type(value)}")
    return value


class FormData(ImmutableMultiDict[str, UploadFile | str]):
    """The fields of a form; `close` closes its files."""

    async def close(self) -> None:
        """Close the files among the fields."""
        for _, value in self.multi_items():
            if isinstance(value, UploadFile):
                await value.close()
