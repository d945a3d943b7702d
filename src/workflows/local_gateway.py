"""A gateway for development and tests, which takes no money. It forgets everything when it ends.

Some inputs make it behave as gateways do on bad days:

============================  ================================================================
a card ``"declined"``          is refused
a card ``"flaky"``             is answered with 503 twice, for each key, and then served
a card ``"irrefundable"``      takes no refunds
a job ``"ready-after-3"``      is running the first two times it is asked for, and then done
a job ``"broken-after-2"``     is running once, and then has failed
any other job                  runs for ever
a region ``"nowhere"``         is not known
a region ``"shaky"``           is answered with 503 twice, and then served
============================  ================================================================
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import zlib
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

_READY = re.compile(r"(ready|broken)-after-(\d+)")
_BAD_ANSWERS = 2


@dataclass
class Payment:
    """Money that was taken from a card, in cents."""

    card: str
    amount: int
    refunded: bool = False


class LocalGateway:
    """The gateway itself, with no network in front of it: `transport` puts `httpx` there, `serve` a socket.

    Attributes
    ----------
    payments : dict[str, Payment]
        What was taken, by the id of the payment.
    requests : Counter[str]
        How often each ``"METHOD /path"`` was asked for.
    """

    def __init__(self) -> None:
        self.payments: dict[str, Payment] = {}
        self.requests: Counter[str] = Counter()
        self._answers: dict[str, tuple[int, Any]] = {}
        self._tries: Counter[str] = Counter()
        self._lock = threading.Lock()

    def transport(self) -> httpx.BaseTransport:
        """A transport for ``httpx.Client(transport=..., base_url=...)`` that asks this gateway."""

        def handle(request: httpx.Request) -> httpx.Response:
            key = request.headers.get("Idempotency-Key")
            path = request.url.raw_path.decode()
            status, answer = self.answer(request.method, path, key, request.content)
            return httpx.Response(status, json=answer)

        return httpx.MockTransport(handle)

    def answer(self, method: str, path: str, key: str | None, body: bytes) -> tuple[int, Any]:
        """Answer a request.

        Returns
        -------
        tuple[int, Any]
            The status and the JSON of the answer.
        """
        with self._lock:
            self.requests[f"{method} {path}"] += 1
            match method, [unquote(part) for part in path.strip("/").split("/")]:
                case "POST", ["payments"]:
                    return self._charge_once(key, body)
                case "POST", ["payments", charged, "refunds"]:
                    return self._refund(charged)
                case "GET", ["jobs", job]:
                    return self._job(job)
                case "GET", ["sales", region]:
                    return self._sales(region)
                case _:
                    return 404, {"reason": f"there is no {method} {path} here"}

    def _charge_once(self, key: str | None, body: bytes) -> tuple[int, Any]:
        if not key:
            return 400, {"reason": "the request has no Idempotency-Key"}
        if key not in self._answers:
            status, answer = self._charge(key, body)
            if status == 400 or status >= 500:  # nothing was decided: with the same key it may go better
                return status, answer
            self._answers[key] = status, answer
        return self._answers[key]

    def _charge(self, key: str, body: bytes) -> tuple[int, Any]:
        try:
            wanted = json.loads(body)
            card, amount = str(wanted["card"]), int(wanted["amount"])
        except (ValueError, KeyError, TypeError):
            return 400, {"reason": "a payment is a JSON object with a 'card' and an 'amount' in cents"}
        if card == "declined":
            return 402, {"reason": "the card was declined"}
        if card == "flaky" and self._is_away(key):
            return 503, {"reason": "come back later"}
        payment_id = _payment_id(key)
        self.payments[payment_id] = Payment(card, amount)
        return 201, {"payment_id": payment_id}

    def _refund(self, charged: str) -> tuple[int, Any]:
        payment = self.payments.get(_payment_id(charged))
        if payment is None:
            self._answers.setdefault(charged, (409, {"reason": "the payment was given back before it came"}))
            return 200, {"amount": 0}
        if payment.card == "irrefundable":
            return 409, {"reason": "the card takes no refunds"}
        payment.refunded = True
        return 200, {"amount": payment.amount}

    def _job(self, job: str) -> tuple[int, Any]:
        self._tries[job] += 1
        match = _READY.fullmatch(job)
        if match is None or self._tries[job] < int(match[2]):
            return 200, {"state": "running"}
        return 200, {"state": "succeeded" if match[1] == "ready" else "failed"}

    def _sales(self, region: str) -> tuple[int, Any]:
        if region == "nowhere":
            return 404, {"reason": f"there is no region {region!r}"}
        if region == "shaky" and self._is_away(region):
            return 503, {"reason": "come back later"}
        return 200, {"amount": zlib.crc32(region.encode()) % 1_000_000}

    def _is_away(self, what: str) -> bool:
        self._tries[what] += 1
        return self._tries[what] <= _BAD_ANSWERS


def _payment_id(key: str) -> str:
    return f"PAY-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


@contextmanager
def serve(gateway: LocalGateway, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve a gateway over HTTP, from a thread.

    Parameters
    ----------
    host : str
        The address to listen on.
    port : int
        The port; 0 takes one that is free.

    Yields
    ------
    str
        The URL for ``GATEWAY_URL``, as long as the context lasts.

    Raises
    ------
    OSError
        If the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            length = self.headers.get("Content-Length", "0")
            if not length.isdecimal():
                self.send_error(400, "Content-Length is a number")
                return
            body = self.rfile.read(int(length))
            key = self.headers.get("Idempotency-Key")
            status, answer = gateway.answer(self.command, self.path, key, body)
            content = json.dumps(answer).encode()
            with suppress(ConnectionError):  # whoever asked has gone
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        do_GET = do_POST = respond

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: the activities that ask tell what went wrong."""

    with ThreadingHTTPServer((host, port), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
