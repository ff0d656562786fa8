"""Parsing of the Authorization header."""

from __future__ import annotations

from fastws_compat.requests import HTTPConnection


def get_authorization_scheme_param(authorization_header_value: str | None) -> tuple[str, str]:
    """The scheme and credentials of the header's value; empty strings for missing parts."""
    scheme, _, credentials = (authorization_header_value or "").partition(" ")
    return scheme, credentials.strip()


def read_authorization(connection: HTTPConnection, scheme: str | None = None) -> tuple[str, str] | None:
    """The scheme and credentials; None if the header is missing or has a scheme other than `scheme`."""
    found, credentials = get_authorization_scheme_param(connection.headers.get("Authorization"))
    if not found or (scheme is not None and found.lower() != scheme):
        return None
    return found, credentials
