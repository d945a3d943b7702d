"""What :func:`~dt_testkit.determinism.check_determinism` found, and the words in which it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dt_testkit.replaying.report import plural

if TYPE_CHECKING:
    from dt_testkit.execution import Location
    from dt_testkit.replaying import Divergence


@dataclass(frozen=True)
class Finding:
    """One hazard, or a change of the code.

    Attributes
    ----------
    perturbations : tuple[str, ...]
        What was moved when it showed, such as ``"clock forward"``. Empty where nothing had to be moved: the
        code itself asks for something else than the history, or reads, writes or waits itself.
    location : Location | None
        The line of the hazardous call where that is known, else the line that asked for what changed.
    hazard : str | None
        The code of the hazard, as in ``docs/hazards.md``: ``"DT101"``. None for a change of the code.
    call : str | None
        The hazardous call where it is known: ``"datetime.datetime.now"``.
    divergences : tuple[Divergence, ...]
        What changed: ``expected`` is the value before and ``actual`` the value after the thing was moved;
        for a change of the code, the value in the history and the value now.
    message : str
        All of this in a few lines.
    """

    perturbations: tuple[str, ...]
    location: Location | None
    hazard: str | None
    call: str | None
    divergences: tuple[Divergence, ...]
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True)
class Allowed:
    """A hazard that an ``allow_nondeterminism`` block lets through.

    Attributes
    ----------
    reason : str
        What the block says.
    call, location, hazard, perturbations
        As in :class:`Finding`. Of a block that importing a module enters, ``call`` is ``"the import"`` and
        ``location`` the block; there are no perturbations if the module cannot be imported again.
    """

    reason: str
    call: str
    location: Location | None
    hazard: str
    perturbations: tuple[str, ...]

    def __str__(self) -> str:
        where = f" at {self.location}" if self.location is not None else ""
        return f"{self.call}{where} ({self.hazard}): {self.reason}"


@dataclass(frozen=True)
class Skipped:
    """A perturbation that could not be made.

    Attributes
    ----------
    perturbation : str
        Its name.
    reason : str
        Why.
    """

    perturbation: str
    reason: str

    def __str__(self) -> str:
        return f"{self.perturbation}: {self.reason}"


@dataclass(frozen=True)
class DeterminismReport:
    """What came of replaying a history with one thing moved at a time.

    Attributes
    ----------
    instance_id : str
        The instance that the history is of.
    orchestrator_name : str | None
        The orchestrator that the history is of.
    replays : int
        How often it was replayed.
    findings : tuple[Finding, ...]
        The hazards, in the order of the history, and a change of the code if there is one.
    allowed : tuple[Allowed, ...]
        Hazards that ``allow_nondeterminism`` lets through.
    skipped : tuple[Skipped, ...]
        What could not be moved, and why. That no other locale is installed is told here, and not in the text.
    not_compared : tuple[str, ...]
        What may differ besides, and is hidden by what was found.
    """

    instance_id: str
    orchestrator_name: str | None
    replays: int
    findings: tuple[Finding, ...]
    allowed: tuple[Allowed, ...]
    skipped: tuple[Skipped, ...]
    not_compared: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there are no findings."""
        return not self.findings

    def __str__(self) -> str:
        title = f"{self.orchestrator_name or 'unknown orchestrator'} {self.instance_id!r}"
        found = plural(len(self.findings), "finding") if self.findings else "deterministic"
        lines = [f"{title}: {found} in {plural(self.replays, 'replay')}"]
        lines += [f"{number}. {finding}" for number, finding in enumerate(self.findings, 1)]
        lines += [f"allowed: {each}" for each in self.allowed]
        if self.not_compared:
            more = f"; and {len(self.not_compared) - 3} more" if len(self.not_compared) > 3 else ""
            mend = ". Mend what was found first, and check again" if self.findings else ""
            lines.append(f"not compared: {'; '.join(self.not_compared[:3])}{more}{mend}.")
        lines += [f"not tried: {each}" for each in self.skipped if each.perturbation != "locale"]
        return "\n".join(lines)
