"""Runs the benchmarks and writes `results.json` and the tables of README.md.

    python -m benchmarks.run_all [--quick] [--tables] [name ...]

Names select benchmarks (handshake, echo, ...); the results of the others are kept. `--quick` only checks that
everything runs and writes nothing; `--tables` writes the tables from the results that are there.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.report import end_in_order, markdown

HERE = Path(__file__).resolve().parent
RESULTS, README = HERE / "results.json", HERE / "README.md"
BENCHMARKS = (
    "handshake",
    "echo",
    "typed",
    "broadcast",
    "latency",
    "connects",
    "storm",
    "idle",
    "growth",
    "imports",
    "deflate",
)
PACKAGES = (
    *("django", "channels", "daphne", "twisted", "autobahn", "fastapi", "starlette", "uvicorn"),
    *("websockets", "uvloop", "httptools", "granian", "pydantic", "chanx"),
)
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="only these")
    parser.add_argument("--quick", action="store_true", help="only check that everything runs")
    parser.add_argument("--tables", action="store_true", help="write the tables from results.json")
    options = parser.parse_args()
    end_in_order()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"benchmarks": {}}
    for name in [] if options.tables else options.names or BENCHMARKS:
        tables = run(name, options.quick)
        if not options.quick:
            results["benchmarks"][name] = tables
            results["machine"] = machine()
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    if not options.quick:
        README.write_text(with_tables(README.read_text(), results))


def run(name: str, quick: bool) -> list[dict[str, Any]]:
    """The tables of one benchmark, printed as soon as they are ready."""
    tables = []
    for table in importlib.import_module(f"benchmarks.{name}").tables(quick):
        tables.append(table.data())
        print(markdown(tables[-1]), flush=True)
    return tables


def machine() -> dict[str, Any]:
    """The machine and the versions of the measurement."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    if (node := shutil.which("node")) is not None:
        version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
        found["node"] = version.strip().removeprefix("v")
    return {
        "cores": os.cpu_count(),
        "processor": processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load": os.getloadavg()[1],
        "packages": found,
    }


def processor() -> str:
    try:
        names = re.findall(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    return names[0] if names else platform.processor() or "unknown"


def with_tables(readme: str, results: dict[str, Any]) -> str:
    """The README with the tables between its two markers."""
    about = results["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    parts = [
        f"{about['cores']} cores ({about['processor']}), {about['system']}, Python {about['python']}, "
        f"load average {about['load']:.1f}; {packages}.\n"
    ]
    parts += [markdown(table) for name in BENCHMARKS for table in results["benchmarks"].get(name, [])]
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n\n" + "\n".join(parts) + f"\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    main()
