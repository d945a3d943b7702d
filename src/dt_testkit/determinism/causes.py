"""What is moved, by kind: the hazard that shows by it, and the forbidden calls that may explain what changed.

What a call does not go by is not put down to it: no hash seed changes a ``uuid4``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from dt_testkit.guard import Call


class Cause(NamedTuple):
    """A kind of thing that is moved: the hazard it shows, and a remedy; and which calls explain it.

    Of those that come first in ``calls``, if there are any; the others explain nothing that they do not.
    """

    hazard: str
    calls: tuple[Callable[[Call], bool], ...] = ()
    instead: str | None = None


def _of(*codes: str) -> Callable[[Call], bool]:
    return lambda call: call.code in codes


def _named(*prefixes: str) -> Callable[[Call], bool]:
    return lambda call: call.call.startswith(prefixes)


_UUIDS = ("uuid.uuid1", "uuid.uuid6", "uuid.uuid7")
_SEEDED = re.compile(r"(numpy\.)?random\.(mtrand\.)?(?!seed$|default_rng$)[a-z_]+$")
_HELD_STILL = _named(
    *("datetime.", "time.", "random.", "secrets.", "numpy.random.", "hash", "uuid.", "os.urandom"),
    *("os.getrandom", "os.getenv", "os.environ", "os.getcwd", "os.getp", "os.uname", "platform.", "sys.argv"),
)


def _has_entropy(call: Call) -> bool:
    others = ("hash", "id", "threading.", "uuid.getnode")
    return call.code in ("DT102", "DT103") and not (_SEEDED.match(call.call) or call.call.startswith(others))


def _has_a_seed(call: Call) -> bool:
    return _SEEDED.match(call.call) is not None or call.call.startswith("faker.")


def _may_have_a_seed(call: Call) -> bool:
    never = ("uuid.uuid4", "secrets.", "os.", "random.", "ssl.")
    return _has_entropy(call) and not call.call.startswith(never)


def _has_the_time(call: Call) -> bool:
    never = ("uuid.uuid4", "uuid.getnode", "id", "threading.", "nanoid.", "shortuuid.")
    return call.code == "DT101" or (call.code == "DT103" and not call.call.startswith(never))


def _is_of_the_process(call: Call) -> bool:
    """What is another one in each process, whatever is held still there."""
    if call.code == "DT103":
        return not call.call.startswith(("uuid.uuid4", "uuid.uuid7"))
    return call.code == "DT106" and (call.call.startswith("os.getp") or not _HELD_STILL(call))


def _remembers(call: Call) -> bool:
    """What may be another one in the same process, whatever is held still there."""
    return call.code not in ("DT104", "DT116") and not _HELD_STILL(call)


_VARIABLES = _named("os.getenv", "os.environ", "os.path.expand", "pathlib.Path.home", "dotenv.", "decouple.")
_IMPORT = (
    "importing the module gives another value in each process, so read it in an activity, or pass it in the "
    "input"
)
_NAME = "name it by what it holds, or give its class a `__repr__` that does"
CAUSES = {
    "clock": Cause("DT101", (_has_the_time,)),
    "time zone": Cause("DT101", (_of("DT101"), _has_the_time, _of("DT106"))),
    "random seed": Cause("DT102", (_has_a_seed, _may_have_a_seed)),
    "entropy": Cause("DT102", (_has_entropy,)),
    "environment": Cause("DT106", (_VARIABLES, _of("DT106", "DT105"))),
    "command line": Cause("DT106", (_named("sys.argv"), _of("DT106"))),
    "directory": Cause("DT106", (_of("DT106", "DT107", "DT105"),)),
    "locale": Cause("DT106", (_named("locale."), _of("DT106"))),
    "machine": Cause(
        "DT106",
        (
            lambda call: call.code == "DT106" and not _VARIABLES(call),
            _named("uuid.getnode", *_UUIDS),
            _of("DT106"),
        ),
    ),
    "thread": Cause("DT109", (_named("threading."), _of("DT106", "DT110"))),
    "memory": Cause("DT109", (_remembers,)),
    "process": Cause("DT109", (_is_of_the_process,), _IMPORT),
    "import": Cause("DT106", (), _IMPORT),
    "clock at import": Cause("DT101", (), _IMPORT),
    "chance at import": Cause("DT102", (), _IMPORT),
    "address": Cause(
        "DT103", (_of("DT103"),), "name it by what it holds, or give its class a `__repr__` that does"
    ),
    "hash seed": Cause("DT108", (_named("hash"), _is_of_the_process)),
    "is_replaying": Cause("DT113", (_of("DT113"),)),
}
# What is moved where it is imported elsewhere was moved before, for the orchestrator alone.
ELSEWHERE_TOO = ("environment", "command line", "directory", "machine")
# Where these show, other comparisons tell nothing, for their replays differ in the same way.
BEFORE_ALL = ("memory", "address", "hash seed")
AT_IMPORT = ("clock at import", "chance at import")
# One hazard may show by both; apart, nothing that is moved shows in two ways.
ALIKE = {"time zone": "clock"}
