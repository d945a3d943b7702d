"""What a replay found, and the words in which it is told."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from dt_testkit.execution.commands import Command, Location
    from dt_testkit.replaying.oracle import Outcome
    from dt_testkit.replaying.splitting import Splitting


WAY_OUT = (
    "Way out: if the code was changed on purpose, keep the old path for instances in flight (branch on "
    "ctx.version, or register the new code under a new name and let the old instances end); if it was not, "
    "look for what differs between two runs: a clock, a random number, an environment variable, the order of "
    "a set, state that outlives a run, ctx.is_replaying. check_determinism(history, ...) or "
    "`dt-testkit lint` names the line."
)


_TASK = re.compile(r"<durabletask\.task\.\w+ object at (0x[0-9a-fA-F]+)>")


@dataclass(frozen=True)
class Divergence:
    """One difference between what the code asks for on replay and what the history recorded.

    Attributes
    ----------
    kind : str
        ``"changed"``: a command of the same id that differs in one field. ``"order"``: the commands of one
        turn in another order. ``"missing"``: a recorded command that the code no longer asks for.
        ``"unexpected"``: a command that the history does not have. ``"result"``: another output, failure or
        status at the end.
    event_id : int
        Id of the recorded event, or of the command where nothing was recorded; -1 where events take no id.
    field : str | None
        What differs: ``"kind"``, ``"name"``, ``"id"``, ``"input"``, ``"tags"``, ``"version"``, ``"fire_at"``,
        ``"instance_id"``, ``"data"``, ``"output"``, ``"failure"``, ``"status"``; of entities ``"operation"``,
        ``"entity_id"``, ``"signal_time"``, ``"lock_set"``, ``"critical_section_id"``. None where a command is
        missing, unexpected or out of order.
    expected, actual : Any
        The value in the history and the value now; payloads are decoded as plain JSON.
    location : Location | None
        The place in the user's code that asked for the command, or where the orchestrator stands or ended.
    message : str
        All of this in one sentence.
    """

    kind: str
    event_id: int
    field: str | None
    expected: Any
    actual: Any
    location: Location | None
    message: str

    def __str__(self) -> str:
        where = f"\n    at {self.location}" if self.location is not None else ""
        return f"{self.message}{where}"

    @property
    def _tasks(self) -> list[int]:
        """Ids of the tasks that the value has now, written out where their results were meant."""
        return [int(address, 16) for address in _TASK.findall(str(self.actual))]


@dataclass
class ReplayReport:
    """What a replay found.

    Attributes
    ----------
    instance_id : str
        The instance that the history is of.
    orchestrator_name : str | None
        The orchestrator that the history is of.
    events : int
        How many events the history has.
    compared : int
        How many of them were compared; fewer than ``events`` where the code had left the history's path.
    divergences : list[Divergence]
        What was found, in the order of the history.
    next_commands : list[Command]
        For a history in flight: what the code would do next. That is no divergence.
    uses_retry_timeout : bool
        Whether the code gave a retry policy a ``retry_timeout``, which a worker measures by the wall clock.
    """

    instance_id: str
    orchestrator_name: str | None
    events: int
    compared: int
    divergences: list[Divergence]
    next_commands: list[Command]
    uses_retry_timeout: bool = False
    _oracle: Callable[[], Outcome] = field(repr=False, compare=False, kw_only=True)
    _cause: Callable[[], list[str]] = field(repr=False, compare=False, kw_only=True)
    _split: Callable[[], Splitting | None] = field(repr=False, compare=False, kw_only=True)

    @property
    def ok(self) -> bool:
        """Whether the code replays the history without a divergence."""
        return not self.divergences

    @cached_property
    def _outcome(self) -> Outcome:
        return self._oracle()

    @cached_property
    def _causes(self) -> list[str]:
        return self._cause()

    @cached_property
    def _splitting(self) -> Splitting | None:
        return self._split()

    @property
    def _has_way_out(self) -> bool:
        """Whether :meth:`explain` says all there is to do, so that the general advice would mislead."""
        return all(one.field == "orchestrator" or one._tasks for one in self.divergences) or bool(
            self._splitting is not None and self._splitting.explains_all
        )

    @property
    def worker_outcome(self) -> str:
        """What a production worker would do with this history: ``"accepts"``, ``"fails"`` or ``"hangs"``.

        Found by running the SDK's own executor on the history, when it is first asked for.
        """
        return self._outcome.outcome

    @property
    def worker_explanation(self) -> str:
        """One sentence about :attr:`worker_outcome`."""
        return self._outcome.explanation

    def __str__(self) -> str:
        if self.ok or self._has_way_out:
            return self.explain()
        return f"{self.explain()}\n{WAY_OUT}"

    def explain(self) -> str:
        """What was found and what a worker would do, without the general advice that ``str()`` ends with."""
        title = f"{self.orchestrator_name or 'unknown orchestrator'} {self.instance_id!r}"
        if self.ok:
            return "\n".join([f"{title}: replays clean ({plural(self.events, 'event')})", *self._notes()])
        lines = [f"{title}: {plural(len(self.divergences), 'divergence')} in {plural(self.events, 'event')}"]
        lines += [f"{n}. {divergence.kind}: {divergence}" for n, divergence in enumerate(self.divergences, 1)]
        lines += self._causes
        rest = self.events - self.compared
        if rest:
            which = "last event was" if rest == 1 else f"last {rest:,} events were"
            lines.append(f"The {which} not compared: the code has left the path of the history.")
        lines.append(f"In production ({self.worker_outcome}): {self.worker_explanation}")
        lines += self._notes()
        if self._splitting is not None:
            lines.append(self._splitting.text)
        return "\n".join(lines)

    def _notes(self) -> list[str]:
        if not self.uses_retry_timeout or self.worker_outcome == "accepts":
            return []
        return [
            "Note: the code uses retry_timeout, which the SDK measures by the wall clock. A worker that "
            "replays this history now finds the timeout passed, and does not retry what was retried: the "
            f"instance {self.worker_outcome}."
        ]


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


SHOWN = 200
"""How many characters of a value a message shows."""


def shown(value: Any) -> str:
    """A value for a message, shortened."""
    return _cut(_written(value), 0)


def shown_apart(was: Any, now: Any) -> tuple[str, str]:
    """Two values for a message, shortened to where they differ."""
    texts = _written(was), _written(now)
    same = next((at for at, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), 0)
    start = max(0, same - SHOWN // 4) if same > SHOWN // 2 and max(map(len, texts)) > SHOWN else 0
    return _cut(texts[0], start), _cut(texts[1], start)


def _written(value: Any) -> str:
    if isinstance(value, (dict, list, str, int, float, bool)) or value is None:
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _cut(text: str, start: int) -> str:
    text = text if start == 0 else f"…{text[start:]}"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
