import time
from datetime import datetime, timedelta


def stamp_now() -> str:
    return f"{datetime.now()} {time.time()}"


def add_days(moment: datetime, days: int) -> datetime:
    return moment + timedelta(days=days)


def now(ctx) -> datetime:
    return ctx.current_utc_datetime
