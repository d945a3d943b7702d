from datetime import timedelta
from time import sleep


def sub_steps(ctx, order):
    yield ctx.create_timer(timedelta(seconds=1))
    yield from last_step(ctx, order)


def last_step(ctx, order):
    sleep(1)  #! DT104
    yield ctx.create_timer(timedelta(seconds=1))
