"""Draws, as that of numpy does, from a state of the process or from entropy of its own."""

import random

_global = random.Random()

seed = _global.seed
get_state = _global.getstate
set_state = _global.setstate


class Generator:
    def __init__(self) -> None:
        self._source = random.SystemRandom()

    def random(self) -> float:
        return self._source.random()


def default_rng() -> Generator:
    return Generator()


def rand() -> float:
    return _global.random()
