"""What a frame is about to call, as its bytecode says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

UNKNOWN: Any = object()


def arguments_given(frame: FrameType, offset: int) -> int | None:
    """With how many arguments the call at that instruction is made; None where that cannot be told."""
    import dis

    code = frame.f_code.co_code
    name = dis.opname[code[offset]]
    if "CALL" not in name or name == "CALL_FUNCTION_EX":
        return None
    count = code[offset + 1]
    return count if offset < 2 or dis.opname[code[offset - 2]] != "EXTENDED_ARG" else None


def last_argument(frame: FrameType) -> Any:
    """The last argument of the call that a frame is about to make, where it is a local name or a constant."""
    import dis

    before = [one for one in dis.get_instructions(frame.f_code) if one.offset < frame.f_lasti]
    while before and before[-1].opname in ("PRECALL", "CACHE", "EXTENDED_ARG"):
        before.pop()
    if before and before[-1].opname == "LOAD_FAST":
        return frame.f_locals.get(before[-1].argval, UNKNOWN)
    return before[-1].argval if before and before[-1].opname == "LOAD_CONST" else UNKNOWN
