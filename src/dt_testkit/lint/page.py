"""The rules on the page about lint, rendered from the table: ``python -m dt_testkit.lint.page``."""

from __future__ import annotations

from pathlib import Path

from dt_testkit.hazards import HAZARDS

PAGE = Path("docs/lint.md")
_BEGIN, _END = "<!-- rules: rendered from dt_testkit.hazards -->\n", "<!-- end of the rules -->"


def render(page: str) -> str:
    """The page, with the rules of the table in it."""
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{_rules()}\n{_END}{after}"


def _rules() -> str:
    lines = ["| code | severity | what |", "| --- | --- | --- |"]
    lines += [f"| [{h.code}](#{h.code.lower()}) | {h.severity} | {h.title} |" for h in HAZARDS]
    for hazard in HAZARDS:
        lines += ["", f"### {hazard.code}", "", f"`{hazard.name}`: {hazard.title}."]
        lines += ["", f"In production: {hazard.why}.", "", f"Instead: {hazard.instead}.", ""]
        lines += [f"{hazard.more}.", ""] if hazard.more else []
        lines += [f"    {line}" for line in hazard.wrong.splitlines()]
        lines += ["", "becomes", ""]
        lines += [f"    {line}" for line in hazard.right.splitlines()]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text()))
