"""The simulated task hub: instances, activities and a virtual clock."""

from dt_testkit.hub.entities import Entity
from dt_testkit.hub.hub import TaskHub
from dt_testkit.hub.instance import Instance
from dt_testkit.hub.step import Step, drive
from dt_testkit.hub.stubs import Call, Stub

__all__ = ["Call", "Entity", "Instance", "Step", "Stub", "TaskHub", "drive"]
