"""Places in the user's source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from dt_testkit.sdk import relative_path

if TYPE_CHECKING:
    from types import CodeType, FrameType

CallSite: TypeAlias = "tuple[CodeType, int]"
"""Where a command was asked for, as cheaply as it can be noted: a code object and an instruction offset."""


@dataclass(frozen=True)
class Location:
    """A place in the user's source.

    Attributes
    ----------
    file : str
        Path of the file, relative to the working directory where it lies below it.
    line : int
        Line number, from 1.
    function : str
        Name of the function, with the names it is nested in.
    """

    file: str
    line: int
    function: str

    @classmethod
    def of(cls, site: CallSite | None) -> Location | None:
        if site is None:
            return None
        code, offset = site
        line = next(
            (line for start, end, line in code.co_lines() if line is not None and start <= offset < end),
            code.co_firstlineno,
        )
        return cls(relative_path(code.co_filename), line, _name(code))

    def __str__(self) -> str:
        return f"{self.file}:{self.line} in {self.function}"


def _name(code: CodeType) -> str:
    qualified: str = getattr(code, "co_qualname", code.co_name)  # 3.11+
    return qualified.rpartition("<locals>.")[2]


def call_site(frame: FrameType) -> CallSite:
    """Note where a frame stands; from inside a comprehension or lambda, where the function around it does."""
    while frame.f_code.co_name[0] == "<" and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code, frame.f_lasti
