import datetime as dt

__all__ = ["now_text"]


def now_text() -> str:
    return dt.datetime.now().isoformat()  #! DT101


def today_text() -> str:
    return str(dt.date.today())  #! DT101


def of(moment: dt.datetime) -> str:
    return moment.isoformat()


def never_called_by_an_orchestrator() -> float:
    return dt.datetime.now().timestamp()
