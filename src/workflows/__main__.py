"""``python -m workflows``: run the application from the shell."""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """The workflows of this application."""
    configure_logging()


def configure_logging() -> None:
    """Say where log records go: warnings and worse to stderr, the application's and the SDK's alike."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("durabletask").setLevel(logging.WARNING)
    # gRPC's core writes to stderr by itself; it reads this when it is first imported.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")


@cli.command()
@click.option(
    "--history-dir",
    type=click.Path(path_type=Path),
    default=Path("build/histories"),
    show_default=True,
    help="Where the histories go; earlier ones in there are replaced.",
)
def demo(history_dir: Path) -> None:
    """Run every workflow several ways on an in-memory backend, and export the histories."""
    from workflows.demo import SCENARIOS, DemoError, prepare_directory, record

    started = time.monotonic()
    try:
        prepare_directory(history_dir)
    except OSError as error:
        fail(f"Cannot write histories to '{history_dir}': {error.strerror}.", 2)
    width = max(len(scenario.instance_id) for scenario in SCENARIOS)
    try:
        # Closed at once when something goes wrong: it holds a worker, whose threads keep the process alive.
        with closing(record(history_dir, SCENARIOS)) as recordings:
            for recording in recordings:
                scenario = recording.scenario
                click.echo(f"{scenario.instance_id:{width}}  {recording.events:3} events  {scenario.story}")
    except DemoError as error:
        fail(f"The demo went wrong: {error}.", 1)
    except BrokenPipeError:
        raise  # whoever read our output has gone; click ends quietly
    except OSError as error:
        fail(f"Cannot write histories to '{history_dir}': {error.strerror}.", 2)
    except KeyboardInterrupt:
        fail("Stopped.", 130)
    click.echo(f"{len(SCENARIOS)} histories in {history_dir}, in {time.monotonic() - started:.1f} s")


def fail(sentence: str, status: int) -> NoReturn:
    """Say what is wrong, and end."""
    click.echo(sentence, err=True)
    sys.exit(status)


if __name__ == "__main__":
    cli(prog_name="python -m workflows")
