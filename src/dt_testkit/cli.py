"""The command ``dt-testkit``: arguments in, text out. What it says is found out elsewhere."""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from dt_testkit import __version__

# The SDK and rich are imported where they are used, so that --help answers at once.
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from rich.console import Console

    from dt_testkit.history import History
    from dt_testkit.hub import TaskHub
    from dt_testkit.lint import Report

_SUFFIXES = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
_NEW_TIMER = (
    "A timer is a new step: instances in flight fail on it. Keep the old path for them, behind ctx.version "
    "or under a new name, or let them end first."
)
_MOST = 64 * 1024 * 1024
_FOUND, _COULD_NOT_RUN, _INTERRUPTED, _BROKEN_PIPE = 1, 2, 130, 141


class _CannotRun(click.ClickException):
    exit_code = _COULD_NOT_RUN


class _Jobs(click.IntRange):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            message = f"--jobs is the number of processes to replay in, such as 4, not {value!r}."
            raise _CannotRun(message) from None


class _Shell(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        from dt_testkit.errors import DurableTestError

        try:
            return super().invoke(ctx)
        except DurableTestError as error:
            raise _CannotRun(str(error)) from None
        except KeyboardInterrupt:
            raise SystemExit(_INTERRUPTED) from None


@click.group(cls=_Shell, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dt-testkit")
def main() -> None:
    """Test Durable Task workflows, and learn what a change does to the ones in flight."""


_paths = click.argument("paths", metavar="PATH...", nargs=-1, required=True)


@main.command()
@_paths
@click.option("--app", metavar="MOD:ATTR", required=True, help="The function that registers the application.")
@click.option(
    "--maximum-timer-interval",
    metavar="DAYS",
    type=click.FloatRange(0, min_open=True),
    help="The worker's, where it chunks long timers: 3 for TaskHubGrpcWorker.",
)
@click.option("--jobs", metavar="N", type=_Jobs(1), default=1, help="Replay in N processes.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json", "junit"]),
    default="text",
    show_default=True,
    help="How to print what was found.",
)
@click.pass_context
def replay(
    ctx: click.Context,
    paths: tuple[str, ...],
    app: str,
    maximum_timer_interval: float | None,
    jobs: int,
    style: str,
) -> None:
    """Replay recorded histories with the code of today.

    Each PATH is a history (.json, .jsonl, .json.gz, .jsonl.gz) or a directory to search for them; hidden
    directories in it are left out.

    Exit status: 0 if every history replays clean, 1 if one diverges, 2 if one could not be replayed.
    """
    with redirect_stdout(sys.stderr):  # what the application prints is not ours
        application = partial(_application, app, maximum_timer_interval)
        application()  # what is wrong with it is said before anything else
        results = _replay_all(_find(paths), application, jobs)
    _report_problems(results, paths)
    _print({"text": _as_text, "json": _as_json, "junit": _as_junit}[style](results))
    if any(result.error for result in results):
        ctx.exit(_COULD_NOT_RUN)
    ctx.exit(_FOUND if any(result.diverges for result in results) else 0)


@main.command()
@_paths
@click.option("--width", metavar="N", type=click.IntRange(20), help="Where to cut the lines of the events.")
@click.pass_context
def show(ctx: click.Context, paths: tuple[str, ...], width: int | None) -> None:
    """Print the timelines of recorded histories.

    Each PATH is a history (.json, .jsonl, .json.gz, .jsonl.gz) or a directory to search for them; hidden
    directories in it are left out.
    """
    from dt_testkit.history.timeline import render

    console = _console()
    color = console.color_system is not None and not console.no_color
    width = width or (console.width if console.is_terminal else None)
    results = [
        _try(candidate, lambda path, history: _Result(path, text=render(history, width=width, color=color)))
        for candidate in _find(paths)
    ]
    _report_problems(results, paths)
    if any(result.text for result in results):
        _print("\n\n".join(result.text for result in results if result.text))
    ctx.exit(_COULD_NOT_RUN if any(result.error for result in results) else 0)


@main.command()
@click.option(
    "--port", metavar="N", type=click.IntRange(0, 65535), default=0, help="Default: any port that is free."
)
@click.option(
    "--host",
    default="localhost",
    show_default=True,
    help="The interface to listen on. There is neither encryption nor authentication.",
)
@click.option(
    "--time",
    type=click.Choice(["skip", "real"]),
    default="skip",
    show_default=True,
    help="Whether time jumps to what is due next when nothing is in flight, or passes as real time does.",
)
@click.option(
    "--start-time", metavar="ISO", help="What the clock shows at first, in UTC. Default: the present."
)
@click.option(
    "--patience",
    metavar="S",
    type=float,
    default=1.0,
    show_default=True,
    help="Seconds without a new call before time jumps though no client waits; 'inf' for never.",
)
@click.option(
    "-v", "--verbose", is_flag=True, help="Tell of workers that come and go, and of work that none takes."
)
def serve(port: int, host: str, time: str, start_time: str | None, patience: float, verbose: bool) -> None:
    """Serve a task hub over gRPC, for workers and clients of any language.

    The first word that is printed is the address that they need. Ctrl-C or SIGTERM end it.

    Exit status: 0 if it was ended so, 2 if it could not be served.
    """
    import logging
    import secrets
    import signal
    from contextlib import suppress
    from datetime import datetime, timezone
    from queue import Empty, SimpleQueue

    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC's core writes to stderr by itself
    from dt_testkit.hub import TaskHub

    start = datetime.now(timezone.utc) if start_time is None else _moment(start_time)
    if not patience >= 0:
        raise _CannotRun(f"--patience is a number of seconds, such as 0.5, or 'inf', not {patience}.")
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    # What else has a lock may be held by whom the signal interrupts.
    signals: SimpleQueue[int] = SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: signals.put(number))
    never = patience == float("inf")
    # A seed of its own, so that no two draw the same ids: what a worker writes to may outlive the hub.
    with TaskHub(start_time=start, seed=secrets.randbits(32)).serve(
        port, host=host, time="real" if time == "real" else "skip", patience=None if never else patience
    ) as server:
        passes = "passes as real time does"
        if time == "skip":
            passes = "jumps to what is due next while a client waits for an instance"
            passes += "" if never else f", or after {patience:g} s without a new call"
            passes += " (--time real: as real time does)"
        begin = server.hub.now.isoformat(timespec="seconds")
        _print(f"{server.address} serves a task hub. Its time starts at {begin} and {passes}.")
        while True:
            with suppress(Empty):
                signals.get(timeout=1.0)  # an endless wait cannot be interrupted everywhere
                return


def _moment(text: str) -> datetime:
    from datetime import datetime

    try:
        return datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)
    except ValueError:
        raise _CannotRun(f"--start-time is a moment such as 2026-01-01T09:30:00, not {text!r}.") from None


@main.command()
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option("--select", metavar="CODES", help="Look for these alone: DT101,DT102 or DT10.")
@click.option("--ignore", metavar="CODES", help="Do not look for these.")
@click.option("--fix", is_flag=True, help="Mend what can be mended mechanically.")
@click.option("--diff", is_flag=True, help="Show what --fix would change, and change nothing.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["text", "json", "sarif", "github"]),
    default="text",
    show_default=True,
    help="How to print what was found.",
)
@click.pass_context
def lint(
    ctx: click.Context,
    paths: tuple[str, ...],
    select: str | None,
    ignore: str | None,
    fix: bool,
    diff: bool,
    style: str,
) -> None:
    """Look for what makes orchestrators take another way when they are replayed.

    Each PATH is a Python file or a directory of them; nothing of it is imported. Without one, it is what
    [tool.dt-testkit.lint] in pyproject.toml names, or else the directory of pyproject.toml, or else the
    current directory.

    Exit status: 0 if there is no error and no warning, 1 if there is one, 2 if it could not be run.
    """
    from dt_testkit.lint import fix_paths, lint_paths

    def look() -> Report:
        return lint_paths(paths, select=_codes("--select", select), ignore=_codes("--ignore", ignore))

    report = look()
    if diff:
        for file in (files := fix_paths(report, write=False)):
            _print(file.diff())
        number = sum(len(file.done) for file in files)
        click.echo(f"--fix would mend {_count(number, 'finding')}; nothing was changed.", err=True)
        _tell_who_wants_a_context(report)
        ctx.exit(0 if report.ok else _FOUND)
    if fix and (files := fix_paths(report)):
        for file in files:
            for line in file.told():
                click.echo(line, err=True)
        number = sum(len(file.done) for file in files)
        click.echo(f"Fixed {_count(number, 'finding')}.", err=True)
        if any(one.code == "DT104" for file in files for one in file.done):
            click.echo(_NEW_TIMER, err=True)
        report = look()
    if fix:
        _tell_who_wants_a_context(report)
    _print(report.render(style))
    ctx.exit(0 if report.ok else _FOUND)


def _tell_who_wants_a_context(report: Report) -> None:
    """Name the helpers in which --fix would mend more, if they had a context."""
    for helper in dict.fromkeys(found.route[-1] for found in report.findings if found.wants_context):
        click.echo(f"{helper}: give the helper a ctx parameter, then --fix can mend it.", err=True)


def _codes(option: str, text: str | None) -> list[str]:
    codes = [code.strip().upper() for code in (text or "").split(",") if code.strip()]
    if text is not None and not codes:
        raise _CannotRun(
            f"{option} names codes of rules, such as DT101,DT102, and is empty: name some, or leave it out."
        )
    return codes


# -- finding and reading histories


class _Candidate(NamedTuple):
    path: str
    is_history: bool
    """Whether the user says so; otherwise it is a file that was found, and may be anything."""


@dataclass(frozen=True)
class _Result:
    """What became of a file, in values that travel between processes."""

    path: str
    history: dict[str, Any] | None = None
    """Its entry in the JSON."""
    text: str = ""
    needs_advice: bool = False
    error: str = ""
    skipped: str = ""

    @property
    def diverges(self) -> bool:
        return self.history is not None and not self.history["ok"]


def _find(paths: Sequence[str]) -> list[_Candidate]:
    """The files that the paths lead to, each once: in the order of the paths, sorted within a directory."""
    found: dict[str, _Candidate] = {}
    for path in paths:
        if not os.path.isdir(path):
            found[os.path.abspath(path)] = _Candidate(_shown(path), True)
            continue
        for directory, subdirectories, names in os.walk(path, onerror=_refuse):
            subdirectories[:] = sorted(name for name in subdirectories if not name.startswith("."))
            for name in sorted(names):
                file = os.path.join(directory, name)
                if name.endswith(_SUFFIXES) and (os.path.isfile(file) or not os.path.exists(file)):
                    found.setdefault(os.path.abspath(file), _Candidate(_shown(file), _is_named_history(name)))
    return list(found.values())


def _refuse(error: OSError) -> None:
    raise _CannotRun(f"{error.filename} cannot be searched ({error.strerror}): check its permissions.")


def _is_named_history(name: str) -> bool:
    return name.endswith(tuple(f".history{suffix}" for suffix in _SUFFIXES))


def _shown(path: str) -> str:
    absolute, here = Path(os.path.abspath(path)), Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else path


def _try(candidate: _Candidate, use: Callable[[str, History], _Result]) -> _Result:
    """Read a history and do something with it; what goes wrong is noted, so that the others go on."""
    from dt_testkit.errors import DurableTestError, HistoryFormatError
    from dt_testkit.history import History

    path = candidate.path
    try:
        history = History.load(path)
    except HistoryFormatError as error:
        if candidate.is_history or not _is_other_json(path):
            return _Result(path, error=str(error))
        return _Result(path, skipped=str(error))
    try:
        return use(path, history)
    except DurableTestError as error:
        return _Result(path, error=f"{path}: {error}")
    except (Exception, SystemExit) as error:  # raised by the application
        return _Result(path, error=f"{path}: replaying it raised {type(error).__name__}: {error}")


def _is_other_json(path: str) -> bool:
    """Whether a file that was found is whole and about something else; a damaged one may be a history."""
    import gzip
    import zlib

    try:
        with open(path, "rb") as stream:
            unzip = stream.read(2) == b"\x1f\x8b"
        with gzip.open(path) if unzip else open(path, "rb") as stream:
            text = stream.read(_MOST).decode("utf-8-sig")
        try:
            document = json.loads(text)
        except ValueError:
            document = [json.loads(line) for line in text.splitlines() if line]
    except (OSError, EOFError, zlib.error, ValueError, RecursionError):
        return False
    documents = document if isinstance(document, list) else [document]
    return bool(documents) and not any(
        isinstance(each, dict) and each.keys() & {"instance_id", "event_type"} for each in documents
    )


# -- replaying


@cache
def _application(spec: str, maximum_timer_interval: float | None) -> TaskHub:
    from datetime import timedelta

    from dt_testkit.application import register_application
    from dt_testkit.hub import TaskHub

    try:
        interval = timedelta(days=maximum_timer_interval) if maximum_timer_interval is not None else None
    except (ValueError, OverflowError):
        raise _CannotRun(
            f"--maximum-timer-interval is a number of days, such as 3, not {maximum_timer_interval}."
        ) from None
    hub = TaskHub(maximum_timer_interval=interval)
    register_application(spec, hub)
    return hub


def _replay_all(
    candidates: Sequence[_Candidate], application: Callable[[], TaskHub], jobs: int
) -> list[_Result]:
    jobs = min(jobs, len(candidates))
    if jobs < 2:
        return [_replay_one(application, candidate) for candidate in candidates]

    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(jobs, context, initializer=_begin_process) as pool:
            try:
                return list(pool.map(partial(_replay_one, application), candidates))
            except KeyboardInterrupt:
                for child in multiprocessing.active_children():
                    child.terminate()
                raise
    except BrokenProcessPool:
        raise _CannotRun(
            "A process that replayed histories ended abruptly: run without --jobs to see at which of them."
        ) from None


def _begin_process() -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interrupt ends it without a traceback
    sys.stdout = sys.stderr


def _replay_one(application: Callable[[], TaskHub], candidate: _Candidate) -> _Result:
    def use(path: str, history: History) -> _Result:
        from dt_testkit import replaying

        report = replaying.replay(history, application())
        entry = {
            "path": path,
            "instance_id": report.instance_id,
            "orchestrator": report.orchestrator_name,
            "events": report.events,
            "compared": report.compared,
            "ok": report.ok,
            "worker_outcome": report.worker_outcome,
            "worker_explanation": report.worker_explanation,
            "divergences": [asdict(divergence) for divergence in report.divergences],
        }
        # Values of any type may be in it, and it is going to be JSON, perhaps from another process.
        needs_advice = not report.ok and not report._has_way_out
        return _Result(path, json.loads(json.dumps(entry, default=str)), report.explain(), needs_advice)

    return _try(candidate, use)


# -- printing


def _report_problems(results: Sequence[_Result], paths: Sequence[str]) -> None:
    for result in results:
        if result.skipped:
            click.echo(f"Note: skipped, for it is no history: {result.skipped}", err=True)
        if result.error:
            click.echo(f"Error: {result.error}", err=True)
    if all(result.skipped for result in results):
        raise _CannotRun(
            f"There are no histories under {', '.join(paths)}: name files or directories with histories, "
            "which end in .json, .jsonl, .json.gz or .jsonl.gz."
        )


def _print(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    try:
        click.echo(text.encode(encoding, "replace").decode(encoding))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(_BROKEN_PIPE) from None
    except OSError as error:  # a full disk, for one
        raise _CannotRun(f"The output could not be written: {error.strerror}.") from None


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 10_000  # whoever reads a pipe wants whole lines
    return console


def _as_text(results: Sequence[_Result]) -> str:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("history", overflow="fold")
    table.add_column("orchestrator", overflow="fold")
    table.add_column("events", justify="right", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("a worker", no_wrap=True)
    details = []
    entries = [(result, result.history) for result in results if result.history is not None]
    for result, entry in entries:
        found, outcome = len(entry["divergences"]), entry["worker_outcome"]
        table.add_row(
            Text(result.path),
            Text(entry["orchestrator"] or "?"),
            f"{entry['events']:,}",
            Text(_count(found, "divergence"), "red") if found else Text("clean", "green"),
            Text(outcome, "" if outcome == "accepts" else "red"),
        )
        if found:
            details.append(f"{result.path}: {result.text}")
        elif outcome != "accepts":
            details.append(f"{result.path}: {result.text}, but {entry['worker_explanation']}")
    console = _console()
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines()] if entries else []
    if any(result.needs_advice for result in results):
        from dt_testkit.replaying.report import WAY_OUT

        details.append(WAY_OUT)
    numbers = _summary(results)
    total = f"{_count(numbers['histories'], 'history')}: {numbers['clean']} clean"
    if numbers["diverging"]:
        total += f", {numbers['diverging']} with {_count(numbers['divergences'], 'divergence')}"
    if numbers["errors"]:
        total += f"; {_count(numbers['errors'], 'file')} could not be replayed"
    return "\n\n".join(["\n".join(lines)] * bool(lines) + details + [total])


def _as_json(results: Sequence[_Result]) -> str:
    document = {
        "histories": [result.history for result in results if result.history is not None],
        "errors": [{"path": result.path, "message": result.error} for result in results if result.error],
        "summary": _summary(results),
    }
    return json.dumps(document, indent=2)


def _as_junit(results: Sequence[_Result]) -> str:
    from xml.etree import ElementTree as ET

    numbers = _summary(results)
    suites = ET.Element("testsuites")
    suite = ET.SubElement(
        suites,
        "testsuite",
        name="dt-testkit replay",
        tests=str(numbers["histories"] + numbers["errors"]),
        failures=str(numbers["diverging"]),
        errors=str(numbers["errors"]),
        skipped="0",
    )
    for result in results:
        if result.skipped:
            continue
        entry = result.history or {}
        case = ET.SubElement(
            suite,
            "testcase",
            classname=_for_xml(entry.get("orchestrator") or "unreadable"),
            name=_for_xml(result.path),
        )
        if result.error:
            ET.SubElement(case, "error", message=_for_xml(result.error))
        elif result.diverges:
            failure = ET.SubElement(case, "failure", message=_for_xml(entry["divergences"][0]["message"]))
            failure.text = _for_xml(result.text)
    ET.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suites, encoding="unicode")


def _for_xml(text: str) -> str:
    """Spell out the characters that XML 1.0 cannot hold, not even escaped."""
    import re

    return re.sub("[^\t\n -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", lambda m: ascii(m[0])[1:-1], text)


def _summary(results: Sequence[_Result]) -> dict[str, int]:
    entries = [result.history for result in results if result.history is not None]
    return {
        "histories": len(entries),
        "clean": sum(entry["ok"] for entry in entries),
        "diverging": sum(not entry["ok"] for entry in entries),
        "divergences": sum(len(entry["divergences"]) for entry in entries),
        "errors": sum(bool(result.error) for result in results),
        "skipped": sum(bool(result.skipped) for result in results),
    }


def _count(number: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"
