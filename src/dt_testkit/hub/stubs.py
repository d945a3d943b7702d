"""Stand-ins for activities and orchestrators, in the words of ``unittest.mock``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import GeneratorType
from typing import TYPE_CHECKING, Any

from durabletask.task import get_name

from dt_testkit.errors import DurableTestError, StubExhausted

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Call:
    """One call of a stub.

    Attributes
    ----------
    input : Any
        The input, decoded with the annotation of the function it stands for where that is known.
    attempt : int
        1, or more where a retry policy led to the call.
    instance_id : str
        The orchestration that called; for a stubbed orchestrator, its own instance.
    task_id : int
        The id of the command, as activities see it in their context; 0 for a stubbed orchestrator.
    time : datetime
        When, in virtual time (naive UTC).
    """

    input: Any
    attempt: int
    instance_id: str
    task_id: int
    time: datetime


class Stub:
    """A stand-in that notes how it is called; made by ``hub.stub`` and ``hub.stub_orchestrator``.

    Attributes
    ----------
    name : str
        The name it is registered under.
    calls : list[Call]
        Every call, in order; one that a fault repeats is there as often as it was made.
    duration : timedelta | Callable
        How long a call takes, in virtual time; or a function of the input that tells.
    duplicate : bool
        Whether every call is made twice.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any] | None,
        *,
        return_value: Any,
        side_effect: Any,
        wraps: Callable[..., Any] | None,
        duration: timedelta | Callable[[Any], timedelta],
        duplicate: bool = False,
    ) -> None:
        if not isinstance(duplicate, bool):
            raise TypeError(f"Stub '{name}': duplicate is True or False, not {duplicate!r}.")
        if not isinstance(duration, timedelta) and not callable(duration):
            raise TypeError(
                f"Stub '{name}': duration is a timedelta, such as timedelta(hours=3), not {duration!r}; or a "
                "function of the input that gives one."
            )
        answers = {"return_value": return_value, "side_effect": side_effect, "wraps": wraps}
        given = [word for word, value in answers.items() if value is not None]
        if len(given) > 1:
            raise TypeError(f"Stub '{name}' takes one answer, and is given {' and '.join(given)}.")
        if isinstance(duration, timedelta) and duration < timedelta(0):
            raise ValueError(f"Stub '{name}': a duration cannot be negative, and this one is {duration}.")
        self.name = name
        self.function = wraps or function
        self.calls: list[Call] = []
        self.duration = duration
        self.duplicate = duplicate
        self._return_value = return_value
        self._wraps = wraps
        self._effect: Any = None
        self._results: Iterator[Any] | None = None
        if isinstance(side_effect, BaseException) or callable(side_effect) or side_effect is None:
            self._effect = side_effect
        elif isinstance(side_effect, Iterable) and not isinstance(side_effect, (str, bytes)):
            self._results = iter(side_effect)
        else:
            raise TypeError(
                f"Stub '{name}': side_effect is an exception, a function or an iterable of results and "
                f"exceptions, not {type(side_effect).__name__!r}; for a fixed result use return_value."
            )

    def __repr__(self) -> str:
        return f"<Stub {self.name!r}, called {len(self.calls)} times>"

    @property
    def called(self) -> bool:
        """Whether it was called."""
        return bool(self.calls)

    @property
    def call_count(self) -> int:
        """How often it was called."""
        return len(self.calls)

    def _takes(self, input: Any) -> timedelta:
        """How long a call with that input takes; a mistake in that is the test's, and leaves the hub."""
        duration = self.duration
        if isinstance(duration, timedelta):
            return duration
        try:
            found: Any = duration(input)
        except Exception as error:
            raise DurableTestError(
                f"Stub '{self.name}': its duration raised {type(error).__name__} for input {input!r}: {error}"
            ) from error
        if not isinstance(found, timedelta) or found < timedelta(0):
            raise DurableTestError(
                f"Stub '{self.name}': its duration gave {found!r} for input {input!r}, and has to give a "
                "timedelta that is not negative."
            )
        return found

    def _call(self, call: Call, context: Any) -> Any:
        """Note the call and answer it, with a result or by raising."""
        self.calls.append(call)
        if self._results is not None:
            try:
                result = next(self._results)
            except StopIteration:
                twice = "; a stub with duplicate=True takes two for each call" if self.duplicate else ""
                raise StubExhausted(
                    f"Stub '{self.name}' was called once more than its side_effect has results "
                    f"({len(self.calls) - 1}): add one for the call by instance '{call.instance_id}' with "
                    f"input {call.input!r}{twice}."
                ) from None
        elif self._effect is not None and not _is_exception(self._effect):
            return self._effect(context, call.input)
        elif self._wraps is not None:
            return self._wraps(context, call.input)
        else:
            result = self._effect if self._effect is not None else self._return_value
        if isinstance(result, BaseException):
            # As if raised for the first time: a trace grows each time that its exception is raised.
            raise result.with_traceback(None)
        if _is_exception(result):
            raise result
        return result


def _is_exception(value: Any) -> bool:
    return isinstance(value, BaseException) or (isinstance(value, type) and issubclass(value, BaseException))


def name_of(function: Callable[..., Any] | str, what: str) -> str:
    """The name that a function is registered under; ``what`` it is is for the message if it is neither."""
    if isinstance(function, str):
        return function
    if isinstance(function, GeneratorType):
        raise TypeError(f"Pass the {what} {function.__name__!r} itself, and do not call it: the hub does.")
    if not callable(function):
        raise TypeError(f"The {what} is a function or its name, not {function!r}.")
    return get_name(function)
