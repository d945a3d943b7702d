"""An application named on a command line or in a configuration: ``module:function``."""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dt_testkit.errors import ApplicationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType


def load_application(
    spec: str, *, directory: str | os.PathLike[str] | None = None
) -> Callable[[Any], object]:
    """Find the function that registers an application with a worker.

    Parameters
    ----------
    spec : str
        ``"module:function"``; the function takes a worker, or a :class:`~dt_testkit.TaskHub`, and calls its
        ``add_orchestrator``, ``add_activity`` and ``add_entity``.
    directory : str | os.PathLike[str] | None
        Where modules are looked for first; it is put on ``sys.path``. Default: the working directory.

    Raises
    ------
    ApplicationError
        There is no such function, or its module cannot be imported.

    Examples
    --------
    >>> from dt_testkit.application import load_application
    >>> load_application("workflows:register").__name__
    'register'
    """
    name, colon, attribute = spec.partition(":")
    if not (name and colon and attribute) or name.startswith("."):
        raise ApplicationError(
            f"An application is named 'module:function', as in 'workflows:register', and {spec!r} is not."
        )
    place = os.path.abspath(directory or os.curdir)
    if place not in sys.path:
        sys.path.insert(0, place)
    try:
        module = import_module(name)
    except (Exception, SystemExit) as error:
        missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{name}.".startswith(f"{missing}."):
            raise ApplicationError(
                f"There is no module {missing!r} for the application {spec!r}: correct the name, or run this "
                f"where it can be imported (looked in {place}, and among what is installed)."
            ) from None
        raise ApplicationError(
            f"The module of the application {spec!r} cannot be imported: {_told(error)}."
        ) from error
    try:
        register = getattr(module, attribute)
    except AttributeError:
        near = get_close_matches(attribute, [each for each in dir(module) if not each.startswith("__")], 1)
        hint = f"did you mean '{name}:{near[0]}'?" if near else "name the function that registers it."
        raise ApplicationError(f"The module {name!r} has no {attribute!r}: {hint}") from None
    if not callable(register):
        raise ApplicationError(
            f"The application {spec!r} is of type {type(register).__name__!r}: name a function that takes a "
            "worker and registers orchestrators and activities with it."
        )
    return register  # type: ignore[no-any-return]


def register_application(spec: str, worker: Any, *, directory: str | os.PathLike[str] | None = None) -> None:
    """Register an application with a hub or a worker.

    Parameters
    ----------
    spec, directory
        As for :func:`load_application`.
    worker : TaskHub | TaskHubGrpcWorker
        What to register it with.

    Raises
    ------
    ApplicationError
        It cannot be loaded, its function raised or started the worker, or the hub has no orchestrator after
        the call.

    Examples
    --------
    >>> from dt_testkit import TaskHub
    >>> from dt_testkit.application import register_application
    >>> hub = TaskHub()
    >>> register_application("workflows:register", hub)
    >>> "order_workflow" in hub.orchestrators
    True
    """
    register = load_application(spec, directory=directory)
    if not _takes_a_worker(register):
        raise ApplicationError(
            f"The application {spec!r} does not take a worker alone, or yields, as an orchestrator does: "
            "name a function that takes a worker and registers orchestrators and activities with it."
        )
    try:
        with _refusing_start(spec, worker):
            register(worker)
    except _Started:
        raise
    except (Exception, SystemExit) as error:
        raise ApplicationError(
            f"The application {spec!r} could not be registered, for its function raised {_told(error)}."
        ) from error
    if not getattr(worker, "orchestrators", True):
        raise ApplicationError(
            f"The application {spec!r} registered no orchestrator: name a function that takes a worker and "
            "calls its add_orchestrator."
        )


class _Started(ApplicationError):
    """An application has started the worker that it was to register with."""


@contextmanager
def _refusing_start(spec: str, worker: Any) -> Iterator[None]:
    """Refuse that a worker is started, and a hub taken for one, while an application registers with it."""

    def start(*_: Any, **__: Any) -> None:
        caller = sys._getframe(1)
        raise _Started(
            f"The application {spec!r} starts its worker ({caller.f_code.co_filename}, line "
            f"{caller.f_lineno}): leave start() to what runs it, such as the pytest plugin."
        )

    worker.start = start
    try:
        yield
    finally:
        del worker.start


def _takes_a_worker(function: Callable[[Any], object]) -> bool:
    """Whether a function can be called with a worker alone, and then runs."""
    if inspect.isgeneratorfunction(function):
        return False
    try:
        inspect.signature(function).bind(None)
    except TypeError:
        return False
    except ValueError:  # it does not tell what it takes
        pass
    return True


def _told(error: BaseException) -> str:
    """An exception in a few words, and where it was raised."""
    text = " ".join(str(error).split()).rstrip(".")
    if isinstance(error, SyntaxError) and error.filename:
        text, place = error.msg, (error.filename, error.lineno)
    else:
        frames = list(traceback.walk_tb(error.__traceback__))
        where = [each for each in frames if not each[0].f_code.co_filename.startswith("<frozen")]
        users = [each for each in where if _package(each[0]) not in ("durabletask", __package__)]
        frame, line = (users or where)[-1]
        place = frame.f_code.co_filename, line
    return f"{type(error).__name__}{f': {text}' if text else ''} ({place[0]}, line {place[1]})"


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__")).partition(".")[0]
