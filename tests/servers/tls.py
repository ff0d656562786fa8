"""TLS between a test's client and its server."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


def certificate(folder: Path) -> Path:
    """A file with a new key and its certificate, which is its own authority."""
    key, both = folder / "key.pem", folder / "server.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, *names, "-keyout", key, "-out", both], check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + both.read_bytes())
    return both


def client_context(authority: Path | None = None) -> ssl.SSLContext:
    """For a client that trusts only this certificate, or any certificate if none is given."""
    context = ssl.create_default_context(cafile=authority)
    if authority is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    # A client with threads reads in one and writes in another. With TLS 1.3 the server sends its session
    # tickets after the handshake, and OpenSSL may hang if a thread writes while the other reads them.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context
