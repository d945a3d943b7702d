"""Other companies' systems, over HTTP: payments, jobs and sales figures.

The gateway is asked with `httpx`, at ``GATEWAY_URL``. What must happen once carries an
``Idempotency-Key``, as payment gateways want it: asked again with the same key,
the gateway answers as before and does nothing. A refund names the key of its payment.
"""

from __future__ import annotations

from typing import Any, TypeVar
from urllib.parse import quote

import httpx

T = TypeVar("T", str, int)

TIMEOUT_SECONDS = 10.0


class GatewayError(Exception):
    """The gateway could not be asked, or did not know what to say. It may go better the next time."""


class Refused(Exception):
    """The gateway understood, and said no."""


class Gateway:
    """The systems behind one address.

    Parameters
    ----------
    client : httpx.Client
        A client whose base URL is the gateway's.
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    @classmethod
    def at(cls, url: str) -> Gateway:
        """The gateway at an address."""
        return cls(httpx.Client(base_url=url, timeout=TIMEOUT_SECONDS))

    @property
    def url(self) -> str:
        """Where it is."""
        return str(self._client.base_url)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def charge(self, key: str, card: str, amount: int) -> str:
        """Take `amount` cents from a card, once for each key; returns the id of the payment."""
        body = {"card": card, "amount": amount}
        return self._ask(str, "payment_id", "POST", "payments", key=key, body=body)

    def refund(self, key: str) -> int:
        """Give back what was taken with a key, once; returns the cents that were given back.

        If nothing was taken, it gives back 0, and refuses a payment that comes later with the key.
        """
        return self._ask(int, "amount", "POST", "payments", key, "refunds")

    def job_state(self, job: str) -> str:
        """How far a job is: ``"running"``, ``"succeeded"`` or ``"failed"``."""
        return self._ask(str, "state", "GET", "jobs", job)

    def sales(self, region: str) -> int:
        """What was sold in a region, in cents."""
        return self._ask(int, "amount", "GET", "sales", region)

    def _ask(
        self, kind: type[T], field: str, method: str, *path: str, key: str | None = None, body: Any = None
    ) -> T:
        """Send a request, and return a field of the answer."""
        headers = {} if key is None else {"Idempotency-Key": key}
        where = "/".join(quote(part, safe="") for part in path)
        try:
            response = self._client.request(method, where, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise GatewayError(f"the gateway at {self.url} cannot be reached: {error}") from error
        try:
            answer = response.json()
        except ValueError:
            answer = None
        fields = answer if isinstance(answer, dict) else {}
        if response.is_client_error:
            reason = fields.get("reason") or f"the gateway at {self.url} refused: {response.status_code}"
            raise Refused(str(reason))
        if not response.is_success:
            raise GatewayError(f"the gateway at {self.url} answered with status {response.status_code}")
        found = fields.get(field)
        if not isinstance(found, kind):
            raise GatewayError(f"the gateway at {self.url} answered without a proper {field!r}")
        return found
