"""The process above `runserver`, which starts another child for every reload and ends the last one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

from django.core.management.commands.runserver import Command
from django.utils import autoreload

from fastws_compat import daphne
from fastws_compat.daphne.shutdown import DEVELOPMENT_GRACE, LAST_SECOND, MOMENT

# The child has left by then, or hangs.
PATIENCE = DEVELOPMENT_GRACE + LAST_SECOND + 2 * MOMENT


def run(command: Command, **options: Any) -> None:
    """`run` of daphne's `runserver`: on Ctrl-C and SIGTERM the child has time to close its sockets."""
    with patient() if daphne.mode() == "complete" else nullcontext():
        Command.run(command, **options)


@contextmanager
def patient() -> Iterator[None]:
    """Have Django's reloader start its child with `run_child`; `subprocess.run` kills after 0.25 seconds."""
    module: Any = autoreload
    if getattr(module, "subprocess", None) is not subprocess:
        yield
        return
    module.subprocess = SimpleNamespace(run=run_child)
    try:
        yield
    finally:
        module.subprocess = subprocess


def run_child(
    args: list[str], *, env: Mapping[str, str] | None = None, close_fds: bool = True
) -> subprocess.CompletedProcess[bytes]:
    with subprocess.Popen(args, env=env, close_fds=close_fds) as child:
        try:
            code = child.wait()
        except BaseException:
            end(child)
            raise
    return subprocess.CompletedProcess(args, code)


def end(child: subprocess.Popen[bytes]) -> None:
    """Ask the child to leave, which a terminal may have done already; asked again, kill it."""
    child.terminate()
    try:
        child.wait(PATIENCE)
    except BaseException:
        child.kill()
