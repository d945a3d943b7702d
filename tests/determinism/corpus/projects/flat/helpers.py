import random


def pick(names):
    return random.choice(names)  #! DT102


def unique(names):
    return {name.lower() for name in names}
