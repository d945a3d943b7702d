import random
from abc import ABC, abstractmethod


class Flow(ABC):
    @abstractmethod
    def steps(self, ctx, order): ...

    def lot(self) -> int:
        return random.randrange(10)  #! DT102

    @classmethod
    def name(cls) -> str:
        return cls.__name__.lower()
