"""Conditional imports: whichever branch is taken, it waits in the thread of the worker."""

import sys

import activities

if sys.version_info >= (3, 12):
    from time import sleep as pause
else:
    from time import sleep as pause


def sleepy(ctx, seconds):
    pause(seconds)  #! DT104
    yield ctx.call_activity(activities.send, input="awake")
