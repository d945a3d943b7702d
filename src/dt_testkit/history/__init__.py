"""The record: a history as a container, its file formats, and a text people can read."""

from dt_testkit.history.history import History

__all__ = ["History"]
