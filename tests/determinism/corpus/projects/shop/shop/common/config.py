import os
from functools import lru_cache


class Config:
    def __init__(self) -> None:
        self.region = os.environ.get("REGION", "eu")  #! DT106

    @property
    def debug(self) -> bool:
        return os.path.exists("debug.flag")  #! DT107


@lru_cache(maxsize=1)
def config() -> Config:
    return Config()
