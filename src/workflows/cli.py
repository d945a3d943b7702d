"""The commands of ``python -m workflows``: arguments in, text out."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, NoReturn

import click

from workflows.settings import ServiceSettings, Settings, SettingsError, log_level

# The workflows, the SDK and rich are imported where they are used, so that --help answers at once.
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from durabletask.client import OrchestrationState, OrchestrationStatus, TaskHubGrpcClient
    from durabletask.task import Orchestrator

    from workflows.connection import Problem

_log = logging.getLogger("workflows.cli")

_REFUSED, _COULD_NOT_RUN, _INTERRUPTED = 1, 2, 130
_PATIENCE_SECONDS = 10.0
_WAIT_SECONDS = 2.0  # how long one request waits for an instance, before the next shows how far it is
_PROBE_SECONDS = 3.0
_MAX_AGE_SECONDS = 30.0
_GATEWAY_PORT = 8090
_PAGE = 100
_STATUSES = ("pending", "running", "suspended", "completed", "failed", "terminated", "continued_as_new")
_ENDED = ("completed", "failed", "terminated")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


# -- what goes wrong


class _Problem(click.ClickException):
    """Ends a command with a sentence on stderr."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.exit_code = status  # type: ignore[misc]  # click itself does so

    def show(self, file: Any = None) -> None:
        click.echo(self.message, err=True)


def _fail(sentence: str, status: int = _REFUSED) -> NoReturn:
    raise _Problem(sentence, status)


class _Shell(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            _fail(str(error), _COULD_NOT_RUN)
        except KeyboardInterrupt:
            _fail("Stopped.", _INTERRUPTED)


@click.group(cls=_Shell, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Run the workflows of this application: on the task hub that ENDPOINT and TASKHUB name.

    \b
    Exit status, of every command:
      0    done
      1    the orchestration failed, there is no such instance, or a request was refused
      2    wrong usage or settings; the task hub cannot be reached, or does not let us in
      130  stopped with Ctrl-C (a worker and a gateway end with 0: that is how they are stopped)

    With --json, standard output holds one JSON document and nothing else. What went wrong is one sentence
    on standard error.
    """
    configure_logging()


def configure_logging(default: str = "WARNING") -> None:
    """Send log records to stderr: those of LOG_LEVEL and above, or of `default` where that is not set."""
    level = log_level(default)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger().setLevel(level)
    # The SDK looks at its logger's own level, and puts together texts for DEBUG where it has none.
    logging.getLogger("durabletask.worker").setLevel(level)
    if level != "DEBUG":
        logging.getLogger("httpx").setLevel(logging.WARNING)
        logging.getLogger("azure").setLevel(logging.ERROR)  # what goes wrong there is raised, and told
    # gRPC's core writes to stderr by itself; it reads this when it is first imported.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR" if level == "DEBUG" else "NONE")


# -- options and their values


class _Json(click.ParamType):  # type: ignore[type-arg]
    """JSON, or @ and the name of a file with it; @- is standard input."""

    name = "JSON|@FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        text, place = value, ""
        if value.startswith("@"):
            place = f"{value[1:]!r}: "
            try:
                if value == "@-":
                    place = "standard input: "
                    text = sys.stdin.buffer.read().decode("utf-8-sig")
                else:
                    text = Path(value[1:]).read_text("utf-8-sig")
            except OSError as error:
                self.fail(f"{place}it cannot be read ({error.strerror}).", param, ctx)
            except UnicodeDecodeError as error:
                self.fail(f"{place}byte {error.start} is not UTF-8.", param, ctx)
            except ValueError:
                self.fail(f"{place}this is no name of a file.", param, ctx)
        try:
            return _Parsed(json.loads(text, parse_constant=_not_json))
        except json.JSONDecodeError as error:
            at = f"line {error.lineno}, column {error.colno}: {error.msg}"
            self.fail(f"{place}this is not JSON, {at}. Text needs double quotes: '\"desk\"'.", param, ctx)
        except ValueError as error:
            self.fail(f"{place}this is not JSON: {error}.", param, ctx)
        except RecursionError:
            self.fail(f"{place}this JSON is nested too deeply.", param, ctx)


class _Parsed:
    """A value that was given; null is one, too."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _not_json(constant: str) -> NoReturn:
    raise ValueError(f"it has no {constant}")


class _Moment(click.ParamType):  # type: ignore[type-arg]
    name = "ISO"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            moment = datetime.fromisoformat(value[:-1] + "+00:00" if value.endswith(("Z", "z")) else value)
            return moment if moment.tzinfo is None else moment.astimezone(timezone.utc).replace(tzinfo=None)
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is no moment such as 2026-01-01T09:30:00 (UTC) or 2026-01-01T09:30:00+02:00.",
                param,
                ctx,
            )


class _Duration(click.ParamType):  # type: ignore[type-arg]
    name = "DURATION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        match = re.fullmatch(r"(\d{1,6})([smhdw])", str(value))
        if match is None:
            self.fail(f"{value!r} is no duration such as 90s, 30m, 12h, 30d or 4w.", param, ctx)
        return timedelta(**{_UNITS[match[2]]: int(match[1])})


_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
_timeout_option = click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True, max=86400),
    default=_PATIENCE_SECONDS,
    show_default=True,
    help="How long to wait for an answer of the task hub.",
)


def _client_options(command: Callable[..., Any]) -> Callable[..., Any]:
    return _json_option(_timeout_option(command))


def _status_option(statuses: Iterable[str], help: str) -> Callable[..., Any]:
    return click.option(
        "--status",
        "statuses",
        type=click.Choice(list(statuses), case_sensitive=False),
        multiple=True,
        help=help,
    )


# -- the task hub


class _Hub:
    """The task hub of the settings, whose errors end the command with a sentence."""

    def __init__(self, settings: Settings, client: TaskHubGrpcClient) -> None:
        self.settings = settings
        self.client = client

    def find(self, instance_id: str, *, payloads: bool = False) -> OrchestrationState:
        state = self.client.get_orchestration_state(instance_id, fetch_payloads=payloads)
        if state is None:
            _fail(
                f"There is no instance {instance_id!r} in the task hub {self.settings.taskhub!r} at "
                f"{self.settings.endpoint}: 'list' shows those there are."
            )
        return state

    def find_in(self, allowed: Iterable[str], instance_id: str, otherwise: str) -> OrchestrationState:
        """An instance in one of certain states; the task hub may ignore a request in any other."""
        state = self.find(instance_id)
        if _status(state).lower() not in allowed:
            _fail(f"Instance {instance_id!r} is {_status(state)}: {otherwise}.")
        return state

    def wait(self, instance_id: str, quiet: bool) -> OrchestrationState:
        """Wait for the end of an instance, however long it takes."""
        with _progress(f"{instance_id} ...", quiet) as show:
            while True:
                try:
                    state = self.client.wait_for_orchestration_completion(instance_id, timeout=_WAIT_SECONDS)
                except TimeoutError:
                    state = self.find(instance_id, payloads=True)
                    custom = state.serialized_custom_status
                    if _status(state) == "PENDING":
                        custom = "and no worker has taken it"
                    show(f"{instance_id} is {_status(state)}{f', {custom}' if custom else ''}")
                    continue
                if state is None:
                    _fail(f"Instance {instance_id!r} was purged while we waited for it.")
                return state


@contextmanager
def _connected(timeout: float) -> Iterator[_Hub]:
    from workflows import connection, telemetry

    settings = Settings.from_environment()
    try:
        with telemetry.tracing(), connection.create_client(settings, timeout=timeout) as client:
            yield _Hub(settings, client)
    except (click.ClickException, SettingsError):
        raise
    except Exception as error:
        problem = connection.explain(error, settings)
        if problem is None:
            raise
        _fail(problem.sentence, _COULD_NOT_RUN if problem.with_connection else _REFUSED)


@contextmanager
def _progress(text: str, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Show what is going on; on a terminal only, for in a log nobody wants it."""
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(text)) as status:
        yield lambda text: status.update(Text(text))


# -- instances


@cli.command()
@click.argument("name")
@click.option("--input", "input_", type=_Json(), help="Its input. @FILE reads a file, @- standard input.")
@click.option("--id", "instance_id", metavar="ID", help="Default: drawn at random.")
@click.option("--version", metavar="V", help="The version to start it as.")
@click.option("--at", type=_Moment(), help="Start it at that moment; UTC, unless it has an offset.")
@click.option("--wait/--no-wait", default=False, show_default=True, help="Wait until it has ended.")
@_client_options
def start(
    name: str,
    input_: _Parsed | None,
    instance_id: str | None,
    version: str | None,
    at: datetime | None,
    wait: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Start an orchestration of the orchestrator NAME.

    With --wait, the exit status is 1 if it fails or is terminated. Ctrl-C ends the waiting, and not the
    orchestration; --timeout does neither.
    """
    _check_input(_known(name, _Application().orchestrators, "orchestrator"), input_)
    value = None if input_ is None else input_.value
    drawn = instance_id is None
    with _connected(timeout) as hub:
        instance_id = hub.client.schedule_new_orchestration(
            name, input=value, instance_id=instance_id, start_at=at, version=version
        )
        if not wait:
            _print_done(as_json, {"instance_id": instance_id}, f"{name} {instance_id!r} is scheduled.")
            return
        if drawn:  # whoever stops the waiting may want to know
            click.echo(f"{name} {instance_id!r} is scheduled.", err=True)
        state = hub.wait(instance_id, as_json)
    _print_state(state, as_json)
    if _status(state) != "COMPLETED":
        sys.exit(_REFUSED)


@cli.command()
@click.argument("instance_id", metavar="ID")
@_client_options
def status(instance_id: str, timeout: float, as_json: bool) -> None:
    """Show what became of an instance, with its input and output."""
    with _connected(timeout) as hub:
        _print_state(hub.find(instance_id, payloads=True), as_json)


@cli.command("list")
@_status_option(_STATUSES, "Only those; may be given more than once.")
@click.option("--created-after", type=_Moment(), help="UTC, unless it has an offset.")
@_client_options
def list_(statuses: tuple[str, ...], created_after: datetime | None, timeout: float, as_json: bool) -> None:
    """List instances, without their inputs and outputs."""
    from durabletask.client import OrchestrationQuery

    query = OrchestrationQuery(
        created_time_from=created_after,
        runtime_status=_wire_statuses(statuses) or None,
        max_instance_count=_PAGE,
    )
    with _connected(timeout) as hub, _progress("Listing instances ...", as_json):
        states = hub.client.get_all_orchestration_states(query)
    if as_json:
        _print_json({"instances": [_summary(state) for state in states]})
        return
    rows = [(s.instance_id, s.name, _status(s), _iso(s.created_at), _iso(s.last_updated_at)) for s in states]
    _print_table(("instance", "orchestrator", "status", "created", "updated"), rows)
    _print(f"{len(rows):,} instance{'' if len(rows) == 1 else 's'}")


@cli.command("raise-event")
@click.argument("instance_id", metavar="ID")
@click.argument("name")
@click.option("--data", type=_Json(), help="The event's data. @FILE reads a file, @- standard input.")
@_client_options
def raise_event(instance_id: str, name: str, data: _Parsed | None, timeout: float, as_json: bool) -> None:
    """Raise the event NAME for an instance."""
    with _connected(timeout) as hub:
        hub.find_in(_going_on(), instance_id, "it takes no events any more")
        hub.client.raise_orchestration_event(instance_id, name, data=None if data is None else data.value)
    _print_done(
        as_json, {"instance_id": instance_id, "event": name}, f"{name!r} is raised for {instance_id!r}."
    )


@cli.command()
@click.argument("instance_id", metavar="ID")
@_client_options
def suspend(instance_id: str, timeout: float, as_json: bool) -> None:
    """Suspend an instance: it takes no turn until it is resumed."""
    with _connected(timeout) as hub:
        hub.find_in(_going_on(), instance_id, "there is nothing to suspend")
        hub.client.suspend_orchestration(instance_id)
    _print_asked(as_json, instance_id, "suspend")


@cli.command()
@click.argument("instance_id", metavar="ID")
@_client_options
def resume(instance_id: str, timeout: float, as_json: bool) -> None:
    """Resume an instance that is suspended."""
    with _connected(timeout) as hub:
        hub.find_in(_going_on(), instance_id, "there is nothing to resume; 'restart' starts it anew")
        hub.client.resume_orchestration(instance_id)
    _print_asked(as_json, instance_id, "resume")


@cli.command()
@click.argument("instance_id", metavar="ID")
@click.option("--recursive", is_flag=True, help="And its sub-orchestrations.")
@_client_options
def terminate(instance_id: str, recursive: bool, timeout: float, as_json: bool) -> None:
    """Terminate an instance. Nothing that it did is undone."""
    with _connected(timeout) as hub:
        hub.find_in(_going_on(), instance_id, "there is nothing to terminate")
        hub.client.terminate_orchestration(instance_id, recursive=recursive)
    _print_asked(as_json, instance_id, "terminate")


@cli.command()
@click.argument("instance_id", metavar="ID")
@_client_options
def rewind(instance_id: str, timeout: float, as_json: bool) -> None:
    """Let an instance that failed try again what failed, and keep what was done."""
    with _connected(timeout) as hub:
        hub.find_in(("failed",), instance_id, "only what is FAILED can be rewound")
        hub.client.rewind_orchestration(instance_id)
    _print_asked(as_json, instance_id, "rewind")


@cli.command()
@click.argument("instance_id", metavar="ID")
@click.option("--new-id", is_flag=True, help="As another instance; the old one stays.")
@_client_options
def restart(instance_id: str, new_id: bool, timeout: float, as_json: bool) -> None:
    """Start an instance that has ended anew, with its input."""
    with _connected(timeout) as hub:
        hub.find_in(_ENDED, instance_id, "only what has ended can be restarted; 'terminate' ends it")
        restarted = hub.client.restart_orchestration(instance_id, restart_with_new_instance_id=new_id)
    _print_done(
        as_json,
        {"instance_id": restarted, "restarted": instance_id},
        f"{instance_id!r} is started anew as {restarted!r}.",
    )


@cli.command()
@click.argument("instance_id", metavar="[ID]", required=False)
@click.option("--older-than", type=_Duration(), help="Those created longer ago: 90s, 30m, 12h, 30d or 4w.")
@_status_option(_ENDED, "Those that ended so; may be given more than once. Default: all that have ended.")
@_client_options
def purge(
    instance_id: str | None,
    older_than: timedelta | None,
    statuses: tuple[str, ...],
    timeout: float,
    as_json: bool,
) -> None:
    """Delete an instance that has ended, or all that the options name, with their histories."""
    chosen = older_than is not None or bool(statuses)
    if (instance_id is None) != chosen:
        raise click.UsageError("Name an ID, or choose instances with --older-than and --status; not both.")
    with _connected(timeout) as hub, _progress("Purging ...", as_json):
        if instance_id is not None:
            hub.find_in(_ENDED, instance_id, "only what has ended can be purged; 'terminate' ends it")
            purged = hub.client.purge_orchestration(instance_id).deleted_instance_count
        else:
            purged = 0
            until = None
            if older_than is not None:
                until = datetime.now(timezone.utc).replace(tzinfo=None) - older_than
            while True:
                result = hub.client.purge_orchestrations_by(
                    created_time_to=until, runtime_status=_wire_statuses(statuses or _ENDED)
                )
                purged += result.deleted_instance_count
                if result.is_complete is not False or not result.deleted_instance_count:
                    break
    _print_done(as_json, {"purged": purged}, f"{purged:,} purged.")


@cli.command()
@click.argument("instance_id", metavar="ID")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The file to write: .json, or .jsonl.gz for a long one.",
)
@_client_options
def history(instance_id: str, output: Path, timeout: float, as_json: bool) -> None:
    """Write the history of an instance to a file, in the SDK's format for exports.

    'dt-testkit replay FILE --app workflows:register' tells what the code of today makes of it.
    """
    from durabletask.extensions.history_export import ExportFormat, ExportFormatKind
    from durabletask.extensions.history_export.serialization import (
        orchestration_state_to_dict,
        serialize_history,
    )

    if output.name.endswith(".jsonl.gz"):
        kind = ExportFormatKind.JSONL_GZIP
    elif output.suffix == ".json":
        kind = ExportFormatKind.JSON
    else:
        raise click.UsageError(f"{str(output)!r} ends neither in .json nor in .jsonl.gz.")
    with _connected(timeout) as hub, _progress("Reading the history ...", as_json):
        metadata = orchestration_state_to_dict(hub.find(instance_id, payloads=True))
        events = hub.client.get_orchestration_history(instance_id)
    content = serialize_history(events, instance_id=instance_id, fmt=ExportFormat(kind), metadata=metadata)
    try:
        output.write_bytes(content)
    except OSError as error:
        _fail(f"The history cannot be written to '{output}': {error.strerror}.", _COULD_NOT_RUN)
    _print_done(
        as_json,
        {"instance_id": instance_id, "events": len(events), "path": str(output)},
        f"{len(events):,} events of {instance_id!r} are in {output}.",
    )


@cli.command()
@click.argument("action", type=click.Choice(["create", "show", "pause", "resume", "delete"]))
@_client_options
def schedule(action: str, timeout: float, as_json: bool) -> None:
    """Manage the daily settlement's schedule: five past midnight, in UTC. All but 'show' need a worker."""
    from durabletask.scheduled import ScheduledTaskClient

    from workflows.settlement import SCHEDULE_ID, create_schedule

    with _connected(timeout) as hub:
        schedules = ScheduledTaskClient(hub.client, operation_timeout=timeout)
        handle = schedules.get_schedule_client(SCHEDULE_ID)
        try:
            if action == "create":
                handle = create_schedule(schedules)
            elif schedules.get_schedule(SCHEDULE_ID) is None:
                _fail(f"There is no schedule {SCHEDULE_ID!r}: 'schedule create' makes it.")
            elif action != "show":
                {"pause": handle.pause, "resume": handle.resume, "delete": handle.delete}[action]()
        except TimeoutError:
            _fail(f"No worker has done '{action}' in time: start one, with 'worker'.")
        except RuntimeError as error:
            _fail(f"{str(error).rstrip('.')}.")
        found = schedules.get_schedule(SCHEDULE_ID)
    document: dict[str, Any] = {"schedule": SCHEDULE_ID, "status": "DELETED", "next_run_at": None}
    if found is not None:
        next_run = found.next_run_at
        document["status"] = found.status.name
        document["next_run_at"] = None if next_run is None else _iso(next_run)
    if as_json:
        _print_json(document)
    else:
        _print_fields([(name.replace("_", " "), str(value)) for name, value in document.items()])


# -- entities


@cli.command("signal-entity")
@click.argument("entity")
@click.argument("key")
@click.argument("operation")
@click.option("--input", "input_", type=_Json(), help="Its input. @FILE reads a file, @- standard input.")
@_client_options
def signal_entity(
    entity: str, key: str, operation: str, input_: _Parsed | None, timeout: float, as_json: bool
) -> None:
    """Ask an entity for an operation, without waiting for what comes of it."""
    entity_id = _entity_id(entity, key)
    with _connected(timeout) as hub:
        hub.client.signal_entity(entity_id, operation, None if input_ is None else input_.value)
    _print_done(
        as_json,
        {"entity": entity_id.entity, "key": key, "operation": operation},
        f"{operation!r} is on its way to {entity_id}.",
    )


@cli.command()
@click.argument("entity")
@click.argument("key")
@_client_options
def entity(entity: str, key: str, timeout: float, as_json: bool) -> None:
    """Show the state of an entity."""
    entity_id = _entity_id(entity, key)
    with _connected(timeout) as hub:
        found = hub.client.get_entity(entity_id)
        if found is None:
            _fail(
                f"There is no entity {entity_id} in the task hub {hub.settings.taskhub!r} at "
                f"{hub.settings.endpoint}: the first operation makes one."
            )
    state = _decoded(found.get_state() or None)
    if as_json:
        document = {"entity": entity_id.entity, "key": key, "state": state}
        _print_json({**document, "last_modified": _iso(found.last_modified)})
        return
    _print_fields(
        [
            ("entity", str(entity_id)),
            ("modified", _iso(found.last_modified)),
            ("state", json.dumps(state, ensure_ascii=False)),
        ]
    )


# -- what runs until it is stopped


@cli.command()
@click.option(
    "--health-file",
    metavar="PATH",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Touched every few seconds, as long as the task hub answers; see 'health'.",
)
@_client_options
def worker(health_file: Path | None, timeout: float, as_json: bool) -> None:
    """Do the work of the task hub, until Ctrl-C or SIGTERM.

    Then it takes no more work, finishes what it has begun, and ends with 0. The second Ctrl-C or SIGTERM ends
    it at once; the task hub gives its work to another worker.

    While the task hub cannot be reached, it goes on trying.
    """
    configure_logging("INFO")
    signals = _signals()
    from workflows import connection, register, telemetry
    from workflows.services import Services, use
    from workflows.store import StoreError

    settings, service_settings = Settings.from_environment(), ServiceSettings.from_environment()
    try:
        services = Services.open(service_settings)
    except StoreError as error:
        _fail(str(error), _COULD_NOT_RUN)
    with use(services), telemetry.tracing():
        place = {
            "endpoint": settings.endpoint,
            "taskhub": settings.taskhub,
            "database": services.store.url,
            "gateway": service_settings.gateway_url or "local",
            "model": service_settings.model or "offline",
        }
        credential = connection.create_credential(settings)
        with connection.create_client(settings, credential, timeout=timeout) as client:
            probe = _Probe(client, settings, health_file)
            if (problem := probe.look()) is not None and problem.is_refusal:
                _fail(problem.sentence, _COULD_NOT_RUN)
            if not signals.empty():
                _log.info("Stopped before the worker was started.")
                return
            worker = connection.create_worker(settings, credential)
            register(worker)
            with worker, probe:
                worker.start()  # type: ignore[no-untyped-call]
                running = "is running" if problem is None else "has started, and goes on trying"
                _log.info("The worker %s: %s", running, ", ".join(f"{k} {v}" for k, v in place.items()))
                if as_json:
                    _print_json(place)
                number = _wait_for_signal(signals)
                _log.info(
                    "%s: the worker finishes what it has begun; a second signal ends it at once.",
                    signal.Signals(number).name,
                )
    _log.info("The worker has stopped.")


class _Probe:
    """Asks the task hub for something small, again and again, and says so when it stops or begins to answer.

    Parameters
    ----------
    client : TaskHubGrpcClient
        What to ask with.
    health_file : Path | None
        What to touch after each answer.
    """

    def __init__(self, client: TaskHubGrpcClient, settings: Settings, health_file: Path | None) -> None:
        self._client = client
        self._settings = settings
        self._health_file = health_file
        self._told = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="workflows-probe", daemon=True)

    def __enter__(self) -> _Probe:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping.set()
        self._thread.join()
        if self._health_file is not None:
            with suppress(OSError):
                self._health_file.unlink(missing_ok=True)  # a worker that has stopped is not well

    def look(self) -> Problem | None:
        """Ask once; what is wrong, if anything is."""
        from workflows.connection import Problem, explain

        try:
            self._client.get_orchestration_state("workflows-health", fetch_payloads=False)
        except Exception as error:
            problem = explain(error, self._settings) or Problem(
                f"The task hub cannot be asked: {error!r}.", True
            )
            if problem.with_connection:
                return problem  # else it has answered, if only that it knows no such instance
        try:
            if self._health_file is not None:
                self._health_file.touch()
        except OSError as error:
            return Problem(
                f"The health file '{self._health_file}' cannot be touched: {error.strerror}.", is_refusal=True
            )
        return None

    def _run(self) -> None:
        while True:
            problem = self.look()
            told = "" if problem is None else problem.sentence
            if problem is None and self._told:
                _log.info("The task hub answers again.")
            elif problem is not None and told != self._told and not self._stopping.is_set():
                _log.error("%s", told)
            self._told = told
            if self._stopping.wait(_PROBE_SECONDS):
                return


@cli.command()
@click.option(
    "--health-file",
    metavar="PATH",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="What 'worker --health-file' touches.",
)
@click.option(
    "--max-age",
    metavar="SECONDS",
    type=click.FloatRange(0, min_open=True),
    default=_MAX_AGE_SECONDS,
    show_default=True,
    help="How long ago it may have been touched.",
)
@_json_option
def health(health_file: Path, max_age: float, as_json: bool) -> None:
    """Tell whether a worker is well: the health check of a container. Exit status 0 if it is, 1 if not."""
    try:
        age = max(0.0, time.time() - health_file.stat().st_mtime)
    except OSError as error:
        age, why = None, f"'{health_file}' cannot be looked at: {error.strerror}"
    else:
        why = f"'{health_file}' was touched {age:.1f} s ago"
    healthy = age is not None and age <= max_age
    if as_json:
        _print_json({"healthy": healthy, "age_seconds": None if age is None else round(age, 3)})
    elif healthy:
        _print(f"Healthy: {why}.")
    if not healthy:
        _fail(f"Not healthy: {why}; the limit is {max_age:g} s.")


@cli.command()
@click.option(
    "--port",
    metavar="N",
    type=click.IntRange(0, 65535),
    default=_GATEWAY_PORT,
    show_default=True,
    help="The port to listen on; 0 for any that is free.",
)
@_json_option
def gateway(port: int, as_json: bool) -> None:
    """Serve a gateway for development, which takes no money, until Ctrl-C or SIGTERM."""
    signals = _signals()
    from workflows.local_gateway import LocalGateway, serve

    try:
        with serve(LocalGateway(), port=port) as url:
            text = f"{url} serves a local gateway: set GATEWAY_URL to that for the worker."
            _print_done(as_json, {"url": url}, text)
            sys.stdout.flush()
            _wait_for_signal(signals)
    except OSError as error:
        _fail(f"The gateway cannot be served on port {port}: {error.strerror}.", _COULD_NOT_RUN)


def _signals() -> SimpleQueue[int]:
    """Gather SIGINT and SIGTERM from now on; the second of them ends the process at once."""
    signals: SimpleQueue[int] = (
        SimpleQueue()
    )  # what else has a lock may be held by whom the signal interrupts
    seen: list[int] = []

    def gather(number: int, frame: object) -> None:
        if seen:
            os._exit(128 + number)
        seen.append(number)
        signals.put(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, gather)
    return signals


def _wait_for_signal(signals: SimpleQueue[int]) -> int:
    while True:
        with suppress(Empty):
            return signals.get(timeout=1.0)  # an endless wait cannot be interrupted everywhere


@cli.command()
@click.option(
    "--history-dir",
    type=click.Path(path_type=Path),
    default=Path("build/histories"),
    show_default=True,
    help="Where the histories go; earlier ones in there are replaced.",
)
@_json_option
def demo(history_dir: Path, as_json: bool) -> None:
    """Run every workflow several ways on an in-memory backend, and export the histories."""
    from workflows.demo import SCENARIOS, DemoError, prepare_directory, record

    configure_logging("ERROR")  # some scenarios go wrong on purpose
    started = time.monotonic()
    done = []
    try:
        prepare_directory(history_dir)
    except OSError as error:
        _fail(f"Cannot write histories to '{history_dir}': {error.strerror}.", _COULD_NOT_RUN)
    width = max(len(scenario.instance_id) for scenario in SCENARIOS)
    try:
        # Closed at once when something goes wrong: it holds a worker, whose threads keep the process alive.
        with closing(record(history_dir, SCENARIOS)) as recordings:
            for recording in recordings:
                name = recording.scenario.instance_id
                done.append({"instance_id": name, "events": recording.events, "path": str(recording.path)})
                if not as_json:
                    click.echo(f"{name:{width}}  {recording.events:3} events  {recording.scenario.story}")
    except DemoError as error:
        _fail(f"The demo went wrong: {error}.")
    except BrokenPipeError:
        raise  # whoever read our output has gone; click ends quietly
    except OSError as error:
        _fail(f"Cannot write histories to '{history_dir}': {error.strerror}.", _COULD_NOT_RUN)
    seconds = time.monotonic() - started
    _print_done(
        as_json, {"histories": done}, f"{len(SCENARIOS)} histories in {history_dir}, in {seconds:.1f} s"
    )


# -- the application, and what fits it


class _Application:
    """What `workflows.register` registers, by name."""

    def __init__(self) -> None:
        from workflows import register

        self.orchestrators: dict[str, Orchestrator[Any, Any]] = {}
        self.entities: dict[str, Any] = {}
        register(self)

    def add_orchestrator(self, fn: Orchestrator[Any, Any], /) -> None:
        from durabletask.task import get_name

        self.orchestrators[get_name(fn)] = fn

    def add_activity(self, fn: Any, /) -> None:
        pass  # nothing is started by the name of an activity

    def add_entity(self, fn: Any, /) -> None:
        self.entities[fn.__name__] = fn

    def use_versioning(self, version: Any, /) -> None:
        pass  # a task hub takes any version; the workers choose

    def configure_scheduled_tasks(self) -> None:
        pass  # what the SDK registers for itself is nothing to start by hand


def _known(name: str, names: dict[str, Any], what: str) -> Any:
    """Look a name up; if it is not there, say which one might be meant."""
    if name in names:
        return names[name]
    from difflib import get_close_matches

    close = get_close_matches(name.lower(), [each.lower() for each in names], n=1, cutoff=0.5)
    hint = next((f"did you mean {each!r}? " for each in names if [each.lower()] == close), "")
    all_names = ", ".join(sorted(names)) or "none"
    raise click.UsageError(f"There is no {what} {name!r}: {hint}There are {all_names}.")


def _entity_id(name: str, key: str) -> Any:
    from durabletask.entities import EntityInstanceId

    # The SDK keeps the names of entities in lower case.
    _known(name.lower(), {each.lower(): each for each in _Application().entities}, "entity")
    try:
        return EntityInstanceId(name, key)
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _check_input(orchestrator: Orchestrator[Any, Any], given: _Parsed | None) -> None:
    """Refuse an input that does not fit the type that the orchestrator wants: the SDK lets it through."""
    from dataclasses import MISSING, fields, is_dataclass
    from inspect import signature
    from typing import get_type_hints

    from durabletask.serialization import JsonDataConverter

    parameters = list(signature(orchestrator).parameters)
    wanted = get_type_hints(orchestrator).get(parameters[1]) if len(parameters) > 1 else None
    if not (isinstance(wanted, type) and is_dataclass(wanted)):
        return
    if given is not None:
        value = JsonDataConverter().deserialize(json.dumps(given.value), wanted)
        if isinstance(value, wanted):
            return
    required: list[str] = []
    optional: list[str] = []
    for each in fields(wanted):
        needed = each.default is MISSING and each.default_factory is MISSING
        (required if needed else optional).append(each.name)
    parts = [f"has {', '.join(required)}"] * bool(required)
    parts += [f"may have {', '.join(optional)}"] * bool(optional)
    raise click.UsageError(
        f"--input {'is missing' if given is None else 'does not fit'}: {wanted.__name__} is an object that "
        f"{' and '.join(parts)}{_reason(wanted, given)}."
    )


def _reason(wanted: type[Any], given: _Parsed | None) -> str:
    """What the type itself has against a value, if it says so; the SDK keeps it to itself."""
    if given is None or not isinstance(given.value, dict):
        return ""
    try:
        read = getattr(wanted, "from_json", None)
        if read is not None:
            read(given.value)
        else:
            wanted(**given.value)
    except Exception as error:
        return f" ({str(error).rstrip('.')})"
    return ""


# -- statuses and times


def _status(state: OrchestrationState) -> str:
    return state.runtime_status.name


def _going_on() -> tuple[str, ...]:
    return tuple(status for status in _STATUSES if status not in _ENDED)


def _wire_statuses(names: Iterable[str]) -> list[OrchestrationStatus]:
    from durabletask.client import OrchestrationStatus

    return [OrchestrationStatus[name.upper()] for name in names]


def _iso(moment: datetime) -> str:
    """A moment of the SDK, which is UTC though it may not say so."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(timezone.utc).replace(tzinfo=None)
    return moment.isoformat(timespec="milliseconds") + "Z"


def _decoded(text: str | None) -> Any:
    """A payload; as it is, if it is not JSON."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return text


def _summary(state: OrchestrationState) -> dict[str, Any]:
    return {
        "instance_id": state.instance_id,
        "name": state.name,
        "status": _status(state),
        "created_at": _iso(state.created_at),
        "last_updated_at": _iso(state.last_updated_at),
    }


# -- printing


def _print_state(state: OrchestrationState, as_json: bool) -> None:
    failure = state.failure_details
    if as_json:
        _print_json(
            {
                **_summary(state),
                "input": _decoded(state.serialized_input),
                "output": _decoded(state.serialized_output),
                "custom_status": _decoded(state.serialized_custom_status),
                "failure": None
                if failure is None
                else {
                    "type": failure.error_type,
                    "message": failure.message,
                    "stack_trace": failure.stack_trace,
                },
            }
        )
        return
    lines = [
        ("instance", state.instance_id),
        ("orchestrator", state.name),
        ("status", _status(state)),
        ("created", _iso(state.created_at)),
        ("updated", _iso(state.last_updated_at)),
    ]
    payloads = [
        ("input", state.serialized_input),
        ("custom status", state.serialized_custom_status),
        # Where one failed, the backend may put the message in place of the output.
        ("output", None if failure is not None else state.serialized_output),
    ]
    lines += [
        (name, json.dumps(_decoded(text), ensure_ascii=False)) for name, text in payloads if text is not None
    ]
    if failure is not None:
        lines.append(("failure", f"{failure.error_type}: {failure.message}"))
    _print_fields(lines)


def _print_fields(fields: Iterable[tuple[str, str]]) -> None:
    for name, value in fields:
        _print(f"{name:13}  {_shown(value)}")


def _print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    if not rows:
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 10_000  # whoever reads a pipe wants whole lines
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_shown(cell)) for cell in row))
    with console.capture() as capture:
        console.print(table)
    _print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def _shown(text: str) -> str:
    """Spell out what would move a terminal's cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _print_asked(as_json: bool, instance_id: str, request: str) -> None:
    document = {"instance_id": instance_id, "request": request}
    _print_done(as_json, document, f"{instance_id!r} is asked to {request}: 'status' shows when it has.")


def _print_done(as_json: bool, document: dict[str, Any], sentence: str) -> None:
    if as_json:
        _print_json(document)
    else:
        _print(sentence)


def _print_json(document: Any) -> None:
    click.echo(json.dumps(document, indent=2))
    sys.stdout.flush()


def _print(text: str) -> None:
    encoding = sys.stdout.encoding or "utf-8"
    click.echo(text.encode(encoding, "replace").decode(encoding))
