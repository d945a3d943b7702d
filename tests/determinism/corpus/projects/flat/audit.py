import logging

log = logging.getLogger("audit")


def note(text: str) -> None:
    log.info(text)  #! DT116
