import activities as acts
import audit
from helpers import *
from helpers import pick as choose_one


def newsletter(ctx, readers):
    yield ctx.call_activity(acts.send, input=choose_one(readers))


def campaign(ctx, readers):
    # Starts tomorrow, by the clock of a module of activities.
    yield ctx.call_activity(acts.send, input=str(acts.tomorrow()))


def digest(ctx, readers):
    for reader in unique(readers):  #! DT108
        yield ctx.call_activity(acts.send, input=reader)


def survey(ctx, readers):
    yield ctx.call_activity("sent", input=readers[0])  #! DT120


def audited(ctx, readers):
    audit.note("survey")
    yield ctx.call_activity(acts.send, input=readers[0])
