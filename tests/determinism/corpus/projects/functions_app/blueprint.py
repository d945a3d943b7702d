import time

import azure.durable_functions as df

bp = df.Blueprint()


@bp.orchestration_trigger(context_name="ctx")
def monitor(ctx):
    started = time.time()  #! DT101
    yield ctx.create_timer(ctx.current_utc_datetime)
    return started
