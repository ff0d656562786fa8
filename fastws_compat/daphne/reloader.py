"""The parent process of `runserver`: it starts a new child for every reload and stops the last one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any

from django.core.management.commands.runserver import Command
from django.utils import autoreload

from fastws_compat.daphne.console import Console
from fastws_compat.daphne.shutdown import EXIT_TIMEOUT, MAX_DEVELOPMENT_GRACE, SHUTDOWN_MARGIN

# A child that has not exited after this many seconds hangs and is killed.
CHILD_TIMEOUT = MAX_DEVELOPMENT_GRACE + SHUTDOWN_MARGIN + 2 * EXIT_TIMEOUT
# The exit code of a child that wants to be started again.
RELOAD = 3


def run(command: Command, **options: Any) -> None:
    """`run` of daphne's `runserver`: on Ctrl-C and SIGTERM the child has time to close its sockets."""
    if options["use_reloader"] and os.environ.get(autoreload.DJANGO_AUTORELOAD_ENV) != "true":
        supervise()
    else:
        explain_sockets(command)
        Command.run(command, **options)


def explain_sockets(command: Any) -> None:
    """Have the command's lines about sockets say how they ended, unless the project writes its own lines."""
    from daphne.management.commands import runserver

    if type(command).log_action is runserver.Command.log_action:
        console = Console(command.log_action)
        console.follow()
        command.log_action = console.log_action


def supervise() -> None:
    """Do the parent's part of Django's `run_with_reloader`, but stop the child gracefully.

    Django uses `subprocess.run`, which kills the child at once on SIGTERM and 0.25 s after Ctrl-C. There is
    no setting for this; these lines repeat Django's loop instead of patching its module.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    code = RELOAD
    with suppress(KeyboardInterrupt):
        while code == RELOAD:
            code = run_child()
        sys.exit(code)


def run_child() -> int:
    """Run the server in a child process and return its exit code."""
    environment = {**os.environ, autoreload.DJANGO_AUTORELOAD_ENV: "true"}
    arguments = autoreload.get_child_arguments()
    with subprocess.Popen(arguments, env=environment, close_fds=False) as child:
        try:
            return child.wait()
        except BaseException:
            stop(child)
            raise


def stop(child: subprocess.Popen[bytes]) -> None:
    """Terminate the child, which Ctrl-C may have reached too; kill it on a second Ctrl-C or a timeout."""
    child.terminate()
    try:
        child.wait(CHILD_TIMEOUT)
    except BaseException:
        child.kill()
