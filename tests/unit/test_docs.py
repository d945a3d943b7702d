"""Every code block of the README and the docs is executed, in order, page by page.

- ``python``: run in one namespace a page, under the page's own name and line numbers. One that defines tests
  is run by pytest, with the ``ini`` block of the page as its configuration.
- ``text``: what the blocks before it have printed.
- ``sh``: run in an empty directory, with the application of this project at hand. ``make`` targets have to
  exist; a comment ``# exit status N`` says how a command ends where that is not 0.
- ``console``: on the page about deploying alone; not run, as it needs Docker or an account in Azure, and read
  by ``test_deploy.py``.
- ``toml`` and ``ini``: parsed.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    language: str
    text: str
    line: int


def blocks_of(page: Path) -> Iterator[Block]:
    source = page.read_text()
    for match in FENCE.finditer(source):
        yield Block(match[1], match[2], source[: match.start()].count("\n") + 2)


class Page:
    """Runs the blocks of a page."""

    def __init__(self, page: Path, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.name = str(page.relative_to(ROOT))
        self.folder = folder
        self.capfd = capfd
        self.printed = ""
        self.module = types.ModuleType(re.sub(r"\W", "_", self.name))
        sys.modules[self.module.__name__] = self.module

    def run(self, block: Block) -> None:
        {
            "python": self.python,
            "text": self.text,
            "sh": self.sh,
            "ini": self.ini,
            "console": self.console,
            "": self.refuse,
        }.get(block.language, self.refuse)(block)
        self.printed += self.capfd.readouterr().out

    def python(self, block: Block) -> None:
        if re.search(r"^(async )?def test_", block.text, re.MULTILINE):
            (self.folder / "test_page.py").write_text(block.text)
            done = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_page.py"],
                cwd=self.folder,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return
        # Empty lines before it, so that line numbers are those of the page.
        source = "\n" * (block.line - 1) + block.text
        # compile() would pass this module's own __future__ imports on to the block.
        code = compile(source, str(self.folder / self.name), "exec", dont_inherit=True)
        exec(code, self.module.__dict__)

    def text(self, block: Block) -> None:
        assert block.text.strip() in self.printed, f"{self.name}:{block.line} is not what was printed"

    def sh(self, block: Block) -> None:
        for line in block.text.replace("\\\n", " ").splitlines():
            command, _, comment = line.partition("#")
            expected = re.search(r"exit status (\d)", comment)
            if command.startswith("make "):
                command, where = command.replace("make ", "make -n ", 1), ROOT
            else:
                where = self.folder
            done = subprocess.run(
                command,
                shell=True,
                cwd=where,
                env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
                capture_output=True,
                text=True,
                check=False,
            )
            wanted = int(expected[1]) if expected else 0
            assert done.returncode == wanted, f"{self.name}: {line}\n{done.stdout}\n{done.stderr}"
            self.printed += done.stdout

    def ini(self, block: Block) -> None:
        configparser.ConfigParser().read_string(block.text)
        (self.folder / "pytest.ini").write_text(block.text)

    def console(self, block: Block) -> None:
        assert self.name == "docs/deploy.md", f"{self.name}:{block.line}: nobody looks at what is in there."

    def refuse(self, block: Block) -> None:
        raise AssertionError(f"{self.name}:{block.line}: nobody runs blocks of language {block.language!r}.")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_code_block_does_what_the_page_says(page, tmp_path, monkeypatch, capfd):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    runner = Page(page, tmp_path, capfd)
    for block in blocks_of(page):
        runner.run(block)


def test_a_wrong_block_is_caught(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    runner = Page(ROOT / "README.md", tmp_path, capfd)
    runner.run(Block("python", "print('one')", 1))
    runner.run(Block("text", "one\n", 2))
    for wrong in (
        Block("text", "two\n", 3),
        Block("python", "assert False", 3),
        Block("python", "def test_x():\n    assert False\n", 3),
        Block("sh", "false", 3),
        Block("sh", "make nonsense", 3),
        Block("yaml", "a: b", 3),
        Block("console", "rm -rf /", 3),
    ):
        with pytest.raises(AssertionError):
            runner.run(wrong)


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"
