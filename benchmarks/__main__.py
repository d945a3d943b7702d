"""Run all measurements, print them as a table, and keep the table in docs/performance.md."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks import measurements

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def main() -> int:
    rows: list[measurements.Row] = []
    for measure in measurements.ALL:
        print(f"… {(measure.__doc__ or '').splitlines()[0]}", file=sys.stderr, flush=True)
        rows += measure()
    table = [
        f"Python {platform.python_version()}, durabletask {version('durabletask')}, "
        f"{platform.machine()}, {os.cpu_count()} cores.",
        "",
        "| what | dt_testkit | compared with | ratio | wanted | |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {row.what} | {row.ours} | {row.other} | {row.ratio} | {row.wanted} | "
            f"{'ok' if row.ok else 'MISSED'} |"
            for row in rows
        ),
    ]
    text = "\n".join(table)
    print(text)
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
    return 0 if all(row.ok for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
