"""What is installed, what imports what, and what an import costs."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import dt_testkit

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "dt_testkit"
# Each layer imports only from those before it.
LAYERS = ["errors", "hazards", "sdk", "locations", "guard", "history", "execution", "replaying", "hub"]
LAYERS += ["application", "backends", "lint", "cli"]


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found


def test_every_public_name_can_be_imported():
    missing = [name for name in dt_testkit.__all__ if not hasattr(dt_testkit, name)]
    assert missing == []
    assert set(dt_testkit.__all__) <= set(dir(dt_testkit))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = dt_testkit.nonsense


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_layer_imports_only_from_the_layers_above_it(path):
    layer = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if layer not in LAYERS:
        return
    allowed = LAYERS[: LAYERS.index(layer) + 1]
    # errors.py names the report of a divergence and a place, for type checkers alone.
    used = {name.split(".")[1] for name in imports_of(path) if name.startswith("dt_testkit.")}
    if layer == "errors":
        used -= {"replaying", "locations"}
    assert used <= set(allowed)


def test_private_names_of_the_sdk_are_imported_in_one_module():
    offenders = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if any(name.startswith("durabletask.internal") for name in imports_of(path))
    }
    assert offenders == {"sdk.py"}


def test_the_application_and_the_harness_do_not_know_each_other():
    for package, other in (("dt_testkit", "workflows"), ("workflows", "dt_testkit")):
        for path in (ROOT / "src" / package).rglob("*.py"):
            assert not {name for name in imports_of(path) if name.split(".")[0] == other}, path


def test_the_wheel_holds_the_harness_alone(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"dt_testkit"}
    assert "dt_testkit/py.typed" in names


def test_importing_the_package_loads_nothing_heavy():
    code = "import dt_testkit, sys; print([m for m in ('grpc', 'durabletask', 'rich') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("installed", ["1.11.0", "1.13.0", "2.0.0"])
def test_another_version_of_the_sdk_is_refused_in_one_sentence(installed, monkeypatch):
    code = (
        "import importlib.metadata as m; real = m.version;"
        f"m.version = lambda name: '{installed}' if name == 'durabletask' else real(name)\n"
        "try:\n    from dt_testkit import TaskHub\n"
        "except ImportError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert f"durabletask 1.12.x, and {installed} is installed" in run.stdout
