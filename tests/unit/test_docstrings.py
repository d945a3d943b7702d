"""The examples in the docstrings run."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import pytest

import dt_testkit

MODULES = ["dt_testkit", *(m.name for m in pkgutil.walk_packages(dt_testkit.__path__, "dt_testkit."))]
WITH_EXAMPLES = {
    "dt_testkit.hub.hub",
    "dt_testkit.hub.step",
    "dt_testkit.replaying.check",
    "dt_testkit.backends",
}


@pytest.mark.parametrize("name", sorted(set(MODULES) - {"dt_testkit.__main__"}))
def test_the_examples_of_a_module_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(import_module(name))
    assert result.failed == 0
    assert result.attempted > 0 or name not in WITH_EXAMPLES
