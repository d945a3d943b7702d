from __future__ import annotations

import sys

import pytest
from durabletask.worker import TaskHubGrpcWorker

from dt_testkit import ApplicationError, TaskHub
from dt_testkit.application import load_application, register_application


@pytest.fixture
def application(tmp_path, monkeypatch):
    """Writes a module and names it; each test's module has a name of its own, so none is imported already."""
    name = f"application_{tmp_path.name}"
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)

    def write(source):
        (tmp_path / f"{name}.py").write_text(source)
        return name

    yield write
    for module in [module for module in sys.modules if module.partition(".")[0] == name]:
        del sys.modules[module]


GOOD = """
def hello(ctx, input):
    return "hello"

def register(worker):
    worker.add_orchestrator(hello)
"""


def message_of(spec, worker=None):
    with pytest.raises(ApplicationError) as caught:
        load_application(spec) if worker is None else register_application(spec, worker)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith((".", "?"))
    return text


def test_an_application_is_found_in_the_working_directory_and_registered(application):
    hub = TaskHub()
    register_application(f"{application(GOOD)}:register", hub)
    assert hub.run("hello").output == "hello"


def test_an_application_is_found_in_the_directory_that_is_given(application, tmp_path, monkeypatch):
    name = application(GOOD)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert callable(load_application(f"{name}:register", directory=tmp_path))


@pytest.mark.parametrize("spec", ["workflows", "workflows:", ":register", "", ".workflows:register"])
def test_a_name_without_module_colon_and_function_is_refused(spec):
    assert "'module:function', as in 'workflows:register', and" in message_of(spec)


def test_a_module_that_is_not_there_is_told_with_the_place_that_was_searched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = message_of("no_such_module:register")
    assert "no module 'no_such_module'" in text
    assert str(tmp_path) in text


def test_a_submodule_that_is_not_there_is_not_taken_for_an_error_in_the_package(application):
    name = application(GOOD)
    assert f"no module '{name}.sub'" in message_of(f"{name}.sub:register")


def test_a_missing_import_inside_the_module_names_its_file_and_line(application):
    name = application("import os\nimport no_such_dependency\n")
    text = message_of(f"{name}:register")
    assert "ModuleNotFoundError: No module named 'no_such_dependency'" in text
    assert f"{name}.py, line 2)" in text


def test_whatever_the_module_raises_names_its_file_and_line(application):
    name = application("import sys\n\nsys.exit(3)\n")
    assert f"{name}.py, line 3)" in message_of(f"{name}:register")


def test_a_syntax_error_names_the_line_of_the_error(application):
    name = application("x = 1\ndef register(:\n")
    text = message_of(f"{name}:register")
    assert "SyntaxError" in text
    assert f"{name}.py, line 2)" in text


def test_a_misspelt_function_is_answered_with_the_nearest_name(application):
    name = application(GOOD)
    assert f"did you mean '{name}:register'?" in message_of(f"{name}:regster")


def test_a_function_like_no_other_is_answered_with_what_to_name(application):
    assert "name the function that registers it" in message_of(f"{application(GOOD)}:zzz")


def test_what_cannot_be_called_is_refused(application):
    name = application("register = ['hello']")
    assert "is of type 'list': name a function" in message_of(f"{name}:register")


def test_a_function_that_raises_is_told_with_its_line(application):
    name = application("def register(worker):\n    worker.add_orchestrator(None)\n")
    text = message_of(f"{name}:register", TaskHub())
    assert "its function raised ValueError: An orchestrator function argument is required (" in text


def test_a_function_that_registers_no_orchestrator_is_refused(application):
    name = application("def register(worker): pass")
    assert "registered no orchestrator" in message_of(f"{name}:register", TaskHub())


@pytest.mark.parametrize(
    "source",
    [
        "def flow(ctx, order):\n    return order\n",
        "def flow(ctx, order):\n    yield ctx.create_timer(1)\n",
        "def flow(ctx):\n    yield ctx.create_timer(1)\n",
    ],
)
def test_an_orchestrator_in_the_place_of_a_function_that_registers_is_told_apart(source, application):
    name = application(source)
    message = message_of(f"{name}:flow", TaskHub())
    assert message.startswith(
        f"The application '{name}:flow' does not take a worker alone, or yields, as an "
    )
    assert "name a function that takes a worker and registers" in message


def test_a_function_that_takes_more_than_a_worker_by_default_registers(application):
    name = application(GOOD.replace("(worker):", "(worker, *, prefix=''):"))
    register_application(f"{name}:register", hub := TaskHub())
    assert "hello" in hub.orchestrators


def test_a_mistake_in_the_call_of_the_sdk_is_told_with_the_line_of_the_application(application):
    name = application(f"{GOOD}\n    worker.add_orchestrator(hello)\n")
    text = message_of(f"{name}:register", TaskHub())
    assert "its function raised ValueError: A 'hello' orchestrator already exists (" in text
    assert text.endswith(f"{name}.py, line 8).")


@pytest.mark.parametrize("worker", [TaskHub, TaskHubGrpcWorker])
def test_an_application_that_starts_its_worker_is_told_to_leave_that(application, worker):
    name = application(f"{GOOD}\n    worker.start()\n")
    text = message_of(f"{name}:register", made := worker())
    assert text.startswith(f"The application '{name}:register' starts its worker (")
    assert f"{name}.py, line 8): leave start() to what runs it" in text
    assert made.start.__func__ is worker.start  # as before
