"""A history and an orchestrator in, a report out."""

from dt_testkit.replaying.check import assert_replays, replay
from dt_testkit.replaying.report import Divergence, ReplayReport

__all__ = ["Divergence", "ReplayReport", "assert_replays", "replay"]
