"""The Authorization header, taken apart."""

from __future__ import annotations

from fastws_compat.requests import HTTPConnection


def get_authorization_scheme_param(authorization_header_value: str | None) -> tuple[str, str]:
    """Scheme and credentials of the header's value; empty strings for what is not there."""
    scheme, _, credentials = (authorization_header_value or "").partition(" ")
    return scheme, credentials.strip()


def read_authorization(connection: HTTPConnection, scheme: str | None = None) -> tuple[str, str] | None:
    """Scheme and credentials of the connection; None without the header or if it is of another `scheme`."""
    found, credentials = get_authorization_scheme_param(connection.headers.get("Authorization"))
    if not found or (scheme is not None and found.lower() != scheme):
        return None
    return found, credentials
