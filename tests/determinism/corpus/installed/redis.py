"""As far as the corpus needs it: a client that connects when it is first used."""


class Redis:
    pass
