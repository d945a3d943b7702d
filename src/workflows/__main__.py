"""``python -m workflows``: run the application from the shell."""

from __future__ import annotations

from workflows.cli import cli, configure_logging

__all__ = ["cli", "configure_logging"]

if __name__ == "__main__":
    cli(prog_name="python -m workflows")
