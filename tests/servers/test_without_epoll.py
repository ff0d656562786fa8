"""Everything works on systems without epoll, which only Linux has: macOS, the BSDs and Windows."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import pytest

from tests.servers.client import open_socket
from tests.servers.conftest import ROOT, Running, free_port, wait_until_ready

WITHOUT_EPOLL = """
import importlib, select, selectors

for name in [name for name in dir(select) if name.lower().startswith("epoll") or name == "POLLRDHUP"]:
    delattr(select, name)
importlib.reload(selectors)  # coverage may have imported it before
"""
IMPORTS = """
import importlib, pkgutil

import django
import fastws_compat

django.setup()
for module in pkgutil.walk_packages(fastws_compat.__path__, "fastws_compat."):
    importlib.import_module(module.name)
"""
DAPHNE = """
from daphne.cli import CommandLineInterface

CommandLineInterface.entrypoint()
"""


def test_all_modules_can_be_imported() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_EPOLL + IMPORTS], cwd=ROOT, check=True)


@pytest.mark.servers
def test_daphne_serves_sockets() -> None:
    port = free_port()
    options = ["--bind", "127.0.0.1", "--port", str(port), "tests.servers.loops:app"]
    with tempfile.NamedTemporaryFile() as log:
        command = [sys.executable, "-c", WITHOUT_EPOLL + DAPHNE, *options]
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        running = Running(process, port, log)
        try:
            wait_until_ready(running)
            with open_socket(running, "/loop") as client:
                assert '"asyncio"' in client.recv()
        finally:
            running.stop()
    assert "Traceback" not in running.logs()
