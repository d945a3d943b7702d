"""Findings, and how they are printed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from dt_testkit.hazards import BY_CODE, HAZARDS, Severity

if TYPE_CHECKING:
    from dt_testkit.lint.fixes import Fix


@dataclass(frozen=True)
class Finding:
    """One place, and what is wrong there.

    Attributes
    ----------
    path, line, column
        Where; lines and columns count from 1.
    code, severity, message : str
        What.
    route : tuple[str, ...]
        How an orchestrator gets there, ``"path:line function"`` for each call, the place itself at the end.
    """

    path: str
    line: int
    column: int
    code: str
    severity: Severity
    message: str
    route: tuple[str, ...] = ()
    fix: Fix | None = field(default=None, compare=False, repr=False)
    wants_context: bool = field(default=False, compare=False, repr=False)
    """Whether there would be a fix if the helper that it is in had the context."""

    def as_dict(self) -> dict[str, Any]:
        names = ("path", "line", "column", "code", "severity", "message")
        return {**{name: getattr(self, name) for name in names}, "route": list(self.route)}


@dataclass
class Report:
    """What lint found.

    Attributes
    ----------
    findings : list[Finding]
        By path and line.
    files, orchestrators : int
        How much was read, and how many orchestrators were found.
    """

    findings: list[Finding] = field(default_factory=list)
    files: int = 0
    orchestrators: int = 0

    @property
    def ok(self) -> bool:
        """Whether there is nothing but notes."""
        return all(finding.severity == "note" for finding in self.findings)

    def render(self, style: str = "text") -> str:
        """The report as ``"text"``, ``"json"``, ``"sarif"`` or ``"github"``."""
        return {"text": _text, "json": _json, "sarif": _sarif, "github": _github}[style](self)


def _text(report: Report) -> str:
    lines = []
    for found in report.findings:
        lines.append(
            f"{found.path}:{found.line}:{found.column}: {found.code} {found.severity}: {found.message}"
        )
        if len(found.route) > 1:
            lines.append(f"    reached by {' -> '.join(found.route)}")
    count = {name: sum(f.severity == name for f in report.findings) for name in ("error", "warning", "note")}
    what = ", ".join(f"{n} {name}{'s' * (n != 1)}" for name, n in count.items() if n) or "clean"
    orchestrators = f"{report.orchestrators} orchestrator{'s' * (report.orchestrators != 1)}"
    lines.append(f"{orchestrators} in {report.files} file{'s' * (report.files != 1)}: {what}")
    return "\n".join(lines)


def _json(report: Report) -> str:
    return json.dumps([found.as_dict() for found in report.findings], indent=2)


def _github(report: Report) -> str:
    lines = []
    for found in report.findings:
        kind = "notice" if found.severity == "note" else found.severity
        place = f"file={_property(found.path)},line={found.line},col={found.column},title={found.code}"
        text = found.message
        if len(found.route) > 1:
            text += f"\nreached by {' -> '.join(found.route)}"
        lines.append(f"::{kind} {place}::{_data(text)}")
    return "\n".join(lines)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _sarif(report: Report) -> str:
    from dt_testkit import __version__

    def location(path: str, line: int, column: int | None = None, text: str = "") -> dict[str, Any]:
        region: dict[str, Any] = {"startLine": line}
        if column is not None:
            region["startColumn"] = column
        uri = Path(path).as_uri() if Path(path).is_absolute() else quote(path.replace("\\", "/"))
        found: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}
        if text:
            found["message"] = {"text": text}
        return found

    def step(text: str) -> dict[str, Any]:
        place, _, name = text.rpartition(" ")
        path, _, line = place.rpartition(":")
        return {"location": location(path, int(line), text=name)}

    results = []
    for found in report.findings:
        result: dict[str, Any] = {
            "ruleId": found.code,
            "ruleIndex": [hazard.code for hazard in HAZARDS].index(found.code),
            "level": found.severity,
            "message": {"text": found.message},
            "locations": [location(found.path, found.line, found.column)],
        }
        if len(found.route) > 1:
            flow = {"threadFlows": [{"locations": [step(text) for text in found.route]}]}
            result["codeFlows"] = [flow]
        results.append(result)
    rules = [
        {
            "id": hazard.code,
            "name": hazard.name,
            "shortDescription": {"text": hazard.title},
            "fullDescription": {"text": f"{hazard.why}; {hazard.instead}".replace("`", "")},
            "defaultConfiguration": {"level": hazard.severity},
        }
        for hazard in HAZARDS
    ]
    document = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "dt-testkit lint", "version": __version__, "rules": rules}},
                "columnKind": "unicodeCodePoints",
                "results": results,
            }
        ],
    }
    return json.dumps(document, indent=2)


def message_for(code: str, what: str) -> str:
    """A message: what it is, what happens in production, and the durable way out."""
    hazard = BY_CODE[code]
    return f"{what}: {hazard.why}; {hazard.instead}."
