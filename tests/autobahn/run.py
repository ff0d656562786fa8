"""The Autobahn test suite against daphne: `python -m tests.autobahn.run --python python2.7 [case ...]`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.servers.conftest import Running, launch

APP = "tests.autobahn.echo:app"
PATHS = ("plain", "deflate", "context")
# The largest message of the suite has 16 MiB; daphne's own default is 1 MiB.
OPTIONS = ("--websocket-max-message-size", "0", "--websocket-max-frame-size", "0")
# What the suite calls a success. "UNIMPLEMENTED" is an offer of compression that the server declined.
GOOD = ("OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED")
TESTSUITE = "from autobahntestsuite.wstest import run; run()"


def main() -> int:
    arguments = parsed()
    running = launch("daphne", APP, OPTIONS, None, {}, ready=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            results = judged(running, arguments, Path(arguments.reports or folder).resolve())
    finally:
        running.stop()
    return report(results)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=["*"], help='such as "12.*"; all without any')
    parser.add_argument("--python", default="python2.7", help="a CPython 2.7 that has autobahntestsuite")
    parser.add_argument("--paths", nargs="+", default=PATHS, choices=PATHS, help="routes of the application")
    parser.add_argument("--reports", help="a folder that keeps what the suite reports on each case")
    return parser.parse_args()


def judged(running: Running, arguments: argparse.Namespace, folder: Path) -> dict[str, dict[str, str]]:
    """The behaviour in each case, by path and case."""
    servers = [{"agent": path, "url": running.url(f"/{path}")} for path in arguments.paths]
    specification = {"outdir": str(folder), "servers": servers, "cases": arguments.cases}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "specification.json").write_text(
        json.dumps({**specification, "exclude-cases": [], "exclude-agent-cases": {}})
    )
    command = [arguments.python, "-c", TESTSUITE, "-m", "fuzzingclient", "-s", "specification.json"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    index = json.loads((folder / "index.json").read_text())
    return {
        path: {
            case: worst(result["behavior"], result["behaviorClose"]) for case, result in index[path].items()
        }
        for path in arguments.paths
    }


def worst(behaviour: str, at_close: str) -> str:
    return behaviour if at_close in GOOD else f"{at_close} at the close"


def report(results: dict[str, dict[str, str]]) -> int:
    """Print a line per path and one per failure; the exit code is 1 if there are failures or no cases."""
    failures = 0
    for path, cases in results.items():
        counts = ", ".join(f"{count} {name}" for name, count in Counter(cases.values()).most_common())
        print(f"{path}: {len(cases)} cases: {counts}")
        for case, behaviour in cases.items():
            if behaviour not in GOOD:
                failures += 1
                print(f"  {case}: {behaviour}")
    return int(failures > 0 or not all(results.values()))


if __name__ == "__main__":
    sys.exit(main())
