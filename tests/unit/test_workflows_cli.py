"""``python -m workflows``, as far as it goes without a task hub: what it refuses before it connects."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given
from hypothesis import strategies as st

from workflows import MODULES
from workflows.cli import cli

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = sorted(cli.commands)


@pytest.fixture(autouse=True)
def _log_levels() -> Iterator[None]:
    """The commands set levels for their process, which is ours here."""
    loggers = [logging.getLogger(name) for name in (None, "durabletask.worker", "httpx", "azure")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def run(*args: str, input: bytes | None = None, **env: str) -> Result:
    """Run a command where no task hub is, so that one that connects shows it by its error."""
    return CliRunner().invoke(cli, args, input=input, env={"ENDPOINT": "http://localhost:1", **env})


def refused(result: Result) -> str:
    """What a command says that was used wrongly; it says nothing else, and nothing on stdout."""
    assert (result.exit_code, result.stdout) == (2, "")
    message: str = result.stderr
    assert "localhost:1" not in message, "it has tried to connect"
    return message.rpartition("Error: ")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_takes_json(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout


def test_help_tells_the_exit_statuses() -> None:
    lines = [line.split(maxsplit=1) for line in run("--help").stdout.splitlines() if line.strip()]
    assert {line[0] for line in lines} >= {"0", "1", "2", "130"}


def test_help_imports_neither_the_sdk_nor_rich() -> None:
    program = (
        "import sys; from workflows.cli import cli; cli(['worker', '--help'], standalone_mode=False);"
        "print({'grpc', 'rich', 'azure', 'sqlalchemy', 'httpx', 'opentelemetry'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    ("name", "meant"),
    [("order_workflo", "order_workflow"), ("OrderWorkflow", "order_workflow"), ("agnt", "agent")],
)
def test_an_orchestrator_that_is_not_registered_is_refused_with_the_one_that_may_be_meant(
    name: str, meant: str
) -> None:
    message = refused(run("start", name))
    assert message.startswith(f"There is no orchestrator '{name}': did you mean '{meant}'? There are agent, ")


def test_a_name_like_no_other_gets_the_list_alone() -> None:
    message = refused(run("start", "zzz"))
    assert "did you mean" not in message
    assert "batch_import, " in message


@pytest.mark.parametrize(
    "command", [("entity", "acount", "ana"), ("signal-entity", "acount", "ana", "deposit")]
)
def test_an_entity_that_is_not_registered_is_refused_with_the_one_that_may_be_meant(
    command: tuple[str, ...],
) -> None:
    assert "There is no entity 'acount': did you mean 'account'?" in refused(run(*command))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("{", "this is not JSON, line 1, column 2: Expecting property name"),
        ('{"item": desk}', "this is not JSON, line 1, column 10: Expecting value"),
        ('{"item":\n "desk",}', "this is not JSON, line 2, column "),
        ("", "this is not JSON, line 1, column 1: Expecting value"),
        ("desk", "Text needs double quotes: '\"desk\"'"),
        ("[NaN]", "this is not JSON: it has no NaN"),
        ("[" * 100_000, "this JSON is nested too deeply"),
    ],
)
def test_an_input_that_is_not_json_is_refused_with_the_place(text: str, place: str) -> None:
    message = refused(run("start", "order_workflow", "--input", text))
    assert message.startswith("Invalid value for '--input': ")
    assert place in message


def test_a_file_that_is_not_json_is_refused_with_its_name_and_the_place(tmp_path: Path) -> None:
    path = tmp_path / "order.json"
    path.write_text('{"item": "desk",\n "quantity": two}')
    message = refused(run("start", "order_workflow", "--input", f"@{path}"))
    assert f"'{path}': this is not JSON, line 2, column 14" in message


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "order.json"
    assert f"'{path}': it cannot be read (No such file or directory)." in refused(
        run("start", "order_workflow", "--input", f"@{path}")
    )
    path.write_bytes(b'"d\xe9sk"')
    assert f"'{path}': byte 2 is not UTF-8." in refused(run("start", "order_workflow", "--input", f"@{path}"))


def test_json_is_read_from_a_file_and_from_standard_input(tmp_path: Path) -> None:
    path = tmp_path / "order.json"
    path.write_bytes(b"\xef\xbb\xbf[1]")
    fits = "--input does not fit: Order is an object that has item, quantity, unit_price and may have card"
    assert fits in refused(run("start", "order_workflow", "--input", f"@{path}"))
    assert fits in refused(run("start", "order_workflow", "--input", "@-", input=b"[1]"))
    assert "standard input: this is not JSON, line 1, column 2" in refused(
        run("start", "order_workflow", "--input", "@-", input=b"[")
    )


def test_an_input_that_lacks_a_field_is_refused_with_the_fields() -> None:
    message = refused(run("start", "order_workflow", "--input", '{"item": "desk"}'))
    assert message.startswith("--input does not fit: Order is an object that has item, quantity, unit_price")
    assert message.endswith("missing 2 required positional arguments: 'quantity' and 'unit_price').\n")
    assert refused(run("start", "order_workflow")).startswith("--input is missing: Order is an object")
    assert refused(run("start", "agent")).startswith("--input is missing: Chat is an object that may have ")


def test_an_input_that_its_type_refuses_is_refused_in_the_words_of_the_type() -> None:
    price = '{"customer": "a", "card": "4242", "price": 0}'
    message = refused(run("start", "subscription", "--input", price))
    assert message.endswith("(the price of a subscription is more than 0, not 0).\n")


@given(text=st.text() | st.text().map("@".__add__))
@example(text="@\0")
def test_any_text_is_an_input_or_refused_in_a_sentence(text: str) -> None:
    result = run("raise-event", "order-1", "approval", "--data", text)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    if not text.startswith("@"):
        try:
            json.loads(text)
        except ValueError:
            assert "this is not JSON" in result.stderr


@pytest.mark.parametrize("moment", ["tomorrow", "2026-13-01", "2026-01-01T25:00", "", "12:00"])
def test_a_moment_that_is_none_is_refused_with_one_that_is(moment: str) -> None:
    message = refused(run("list", "--created-after", moment))
    assert f"{moment!r} is no moment such as 2026-01-01T09:30:00 (UTC)" in message


@pytest.mark.parametrize("duration", ["30", "d", "-1d", "1.5h", "1y", "", "9999999d"])
def test_a_duration_that_is_none_is_refused_with_those_that_are(duration: str) -> None:
    message = refused(run("purge", f"--older-than={duration}"))
    assert f"{duration!r} is no duration such as 90s, 30m, 12h, 30d or 4w" in message


@pytest.mark.parametrize(
    "args", [(), ("order-1", "--older-than", "1d"), ("order-1", "--status", "failed")], ids=str
)
def test_purge_wants_an_instance_or_a_choice_of_them(args: tuple[str, ...]) -> None:
    assert "Name an ID, or choose instances" in refused(run("purge", *args))


def test_purge_takes_no_status_of_what_goes_on() -> None:
    assert "'running' is not one of 'completed', 'failed', 'terminated'" in refused(
        run("purge", "--status", "running")
    )


def test_a_history_is_written_in_the_formats_of_the_sdk_only() -> None:
    assert "'order.txt' ends neither in .json nor in .jsonl.gz." in refused(
        run("history", "order-1", "-o", "order.txt")
    )


@pytest.mark.parametrize("command", ["list", "worker"])
@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("ENDPOINT", "localhost:8080", "ENDPOINT 'localhost:8080' is not usable: "),
        ("TASKHUB", " ", "TASKHUB ' ' is blank: "),
        ("CREDENTIAL", "password", "CREDENTIAL 'password' is not known: "),
        ("LOG_LEVEL", "loud", "LOG_LEVEL 'LOUD' is not known: "),
    ],
)
def test_a_wrong_setting_is_told_in_a_sentence(
    command: str, variable: str, value: str, sentence: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workflows", command],
        env={**os.environ, variable: value},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1


def test_health_looks_at_the_age_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "health"
    path.touch()
    well = run("health", "--health-file", str(path))
    assert well.exit_code == 0
    assert well.stdout.startswith(f"Healthy: '{path}' was touched ")

    long_ago = time.time() - 45
    os.utime(path, (long_ago, long_ago))
    assert run("health", "--health-file", str(path), "--max-age", "60").exit_code == 0
    ill = run("health", "--health-file", str(path))
    assert (ill.exit_code, ill.stdout) == (1, "")
    assert ill.stderr.startswith(f"Not healthy: '{path}' was touched 4")
    assert ill.stderr.endswith("; the limit is 30 s.\n")


def test_health_of_a_worker_that_never_was_well(tmp_path: Path) -> None:
    path = tmp_path / "health"
    result = run("health", "--health-file", str(path), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"healthy": False, "age_seconds": None}
    assert f"'{path}' cannot be looked at: No such file or directory" in result.stderr


def documented_inputs() -> list[tuple[str, str]]:
    """The rows of the table in docs/workflows.md: a name and the input that it is said to take."""
    page = (Path(__file__).parents[2] / "docs" / "workflows.md").read_text()
    return re.findall(r"^\| `(\w+)` \| `(\{.*?\})`[,;]? ?", page, re.MULTILINE)


@pytest.mark.parametrize(("name", "given"), documented_inputs())
def test_the_inputs_that_the_docs_name_are_accepted(name: str, given: str) -> None:
    done = run("start", name, "--input", given, "--timeout", "0.2")
    assert "localhost:1 cannot be reached" in done.stderr  # it has come so far


def test_the_docs_name_an_input_of_each_workflow() -> None:
    names = {name for name, _ in documented_inputs()}
    started = {each.__name__ for module in MODULES for each in module.ORCHESTRATORS}
    assert started - names == {"regional_report", "supplier_offer"}  # which others start
