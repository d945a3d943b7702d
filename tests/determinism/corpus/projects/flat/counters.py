_last = 0


def next_number() -> int:
    global _last  #? DT109
    _last += 1  #! DT109
    return _last  #? DT109
