import random
import uuid


def random_key() -> str:
    return f"{uuid.uuid4()}-{random.random()}"


def key_for(*parts: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "/".join(parts)))


class Keys:
    def draw(self) -> str:
        return random_key()

    def label(self, text: str) -> str:
        return f"{self.draw()} {text}"


class FixedKeys(Keys):
    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.count = 0

    def draw(self) -> str:
        self.count += 1
        return key_for(self.seed, str(self.count))
