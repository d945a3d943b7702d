"""As far as the corpus needs it: a client that connects when it is first used."""


class BlobServiceClient:
    account_name = "devstoreaccount1"

    @classmethod
    def from_connection_string(cls, connection: str) -> "BlobServiceClient":
        return cls()
