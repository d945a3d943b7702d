import activities
import counters


def counting(ctx, name):
    yield ctx.call_activity(activities.send, input=f"{name} {counters.next_number()}")
