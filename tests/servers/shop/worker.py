"""A worker like those of task queues: one process that runs jobs in turn, some of them in forked children.

Each line of standard input is a job; its end is reported on standard output.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import django

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
django.setup()

from fastws_compat.groups import Group  # noqa: E402


def work(job: str) -> None:
    kind, _, number = job.partition(" ")
    if kind == "fork":
        child = os.fork()
        if not child:
            Group("shop").send({"child": int(number)})
            os._exit(0)
        os.waitpid(child, 0)
    else:
        Group("shop").send({kind: int(number)})


for line in sys.stdin:
    work(line.strip())
    print("done", flush=True)
