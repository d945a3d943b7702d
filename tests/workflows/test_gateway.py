"""The gateway, and the local one that stands in for it: over a socket and without one, the same answers."""

from __future__ import annotations

import gc
import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows.gateway import Gateway, GatewayError, Refused
from workflows.local_gateway import LocalGateway, Payment, serve

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def in_process(local: LocalGateway) -> Iterator[Gateway]:
    client = httpx.Client(transport=local.transport(), base_url="http://local-gateway")
    with closing(Gateway(client)) as gateway:
        yield gateway


@contextmanager
def served(local: LocalGateway) -> Iterator[Gateway]:
    with serve(local) as url, closing(Gateway.at(url)) as gateway:
        yield gateway


@pytest.fixture
def local() -> LocalGateway:
    return LocalGateway()


@pytest.fixture(params=[in_process, served])
def remote(request: pytest.FixtureRequest, local: LocalGateway) -> Iterator[Gateway]:
    with request.param(local) as opened:
        yield opened


def answering(status: int, content: bytes) -> Gateway:
    """A gateway that answers everything alike."""
    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=content))
    return Gateway(httpx.Client(transport=transport, base_url="http://odd"))


class TestPayments:
    def test_a_payment_is_taken(self, remote: Gateway, local: LocalGateway) -> None:
        payment_id = remote.charge("k", "4242", 300_00)
        assert local.payments == {payment_id: Payment("4242", 300_00)}

    def test_the_same_key_is_charged_once(self, remote: Gateway, local: LocalGateway) -> None:
        first = remote.charge("k", "4242", 300_00)
        assert remote.charge("k", "4242", 300_00) == first
        assert len(local.payments) == 1
        assert local.requests == {"POST /payments": 2}

    def test_the_same_key_is_charged_once_by_many_at_the_same_time(
        self, remote: Gateway, local: LocalGateway
    ) -> None:
        with ThreadPoolExecutor(8) as threads:
            ids = set(threads.map(lambda _: remote.charge("k", "4242", 5), range(16)))
        assert ids == set(local.payments)
        assert len(ids) == 1

    def test_another_key_is_another_payment(self, remote: Gateway, local: LocalGateway) -> None:
        assert remote.charge("k/1", "4242", 5) != remote.charge("k/2", "4242", 5)
        assert len(local.payments) == 2

    @pytest.mark.parametrize("key", ["k", "1f/charge", "a key/with ?=#&%2F"])
    def test_a_payment_is_given_back_by_its_key_and_each_answer_tells_the_amount(
        self, remote: Gateway, local: LocalGateway, key: str
    ) -> None:
        payment_id = remote.charge(key, "4242", 300_00)
        assert [remote.refund(key) for _ in range(2)] == [300_00, 300_00]
        assert local.payments == {payment_id: Payment("4242", 300_00, refunded=True)}

    def test_a_payment_that_has_been_given_back_is_not_taken_again(
        self, remote: Gateway, local: LocalGateway
    ) -> None:
        payment_id = remote.charge("k", "4242", 300_00)
        remote.refund("k")
        assert remote.charge("k", "4242", 300_00) == payment_id
        assert local.payments == {payment_id: Payment("4242", 300_00, refunded=True)}

    def test_a_payment_that_never_came_gives_nothing_back_and_is_refused_when_it_comes(
        self, remote: Gateway, local: LocalGateway
    ) -> None:
        assert [remote.refund("k") for _ in range(2)] == [0, 0]
        for _ in range(2):
            with pytest.raises(Refused, match=r"^the payment was given back before it came$"):
                remote.charge("k", "4242", 300_00)
        assert remote.refund("k") == 0
        assert local.payments == {}

    def test_the_payment_of_another_key_is_kept(self, remote: Gateway, local: LocalGateway) -> None:
        payment_id = remote.charge("k/1", "4242", 300_00)
        assert remote.refund("k/2") == 0
        assert local.payments == {payment_id: Payment("4242", 300_00)}

    def test_a_declined_payment_gives_nothing_back_and_stays_declined(self, remote: Gateway) -> None:
        with pytest.raises(Refused):
            remote.charge("k", "declined", 5)
        assert remote.refund("k") == 0
        with pytest.raises(Refused, match=r"^the card was declined$"):
            remote.charge("k", "declined", 5)

    def test_a_declined_card_is_refused_each_time(self, remote: Gateway, local: LocalGateway) -> None:
        for _ in range(2):
            with pytest.raises(Refused, match=r"^the card was declined$"):
                remote.charge("k", "declined", 5)
        assert local.payments == {}

    def test_a_flaky_card_is_served_at_the_third_time_for_each_key(
        self, remote: Gateway, local: LocalGateway
    ) -> None:
        for key in ("k/1", "k/2"):
            for _ in range(2):
                with pytest.raises(GatewayError, match=r"^the gateway at http://.* status 503$"):
                    remote.charge(key, "flaky", 5)
            assert remote.charge(key, "flaky", 5) in local.payments
        assert len(local.payments) == 2

    def test_an_irrefundable_card_keeps_the_money(self, remote: Gateway, local: LocalGateway) -> None:
        payment_id = remote.charge("k", "irrefundable", 5)
        with pytest.raises(Refused, match=r"^the card takes no refunds$"):
            remote.refund("k")
        assert not local.payments[payment_id].refunded


class TestJobsAndSales:
    @pytest.mark.parametrize(
        ("job", "states"),
        [
            ("ready-after-1", ["succeeded", "succeeded"]),
            ("ready-after-3", ["running", "running", "succeeded", "succeeded"]),
            ("broken-after-2", ["running", "failed", "failed"]),
            ("backup", ["running"] * 5),
            ("ready-after-three", ["running"] * 5),
        ],
    )
    def test_a_job_runs_as_its_name_says(self, remote: Gateway, job: str, states: list[str]) -> None:
        assert [remote.job_state(job) for _ in states] == states

    def test_a_region_has_the_same_sales_each_time(self, remote: Gateway) -> None:
        assert remote.sales("north") == remote.sales("north") != remote.sales("south")

    def test_a_region_that_is_not_known_is_refused(self, remote: Gateway) -> None:
        with pytest.raises(Refused, match=r"^there is no region 'nowhere'$"):
            remote.sales("nowhere")

    def test_a_shaky_region_is_served_at_the_third_time(self, remote: Gateway) -> None:
        for _ in range(2):
            with pytest.raises(GatewayError, match="503"):
                remote.sales("shaky")
        assert remote.sales("shaky") > 0

    @settings(max_examples=50, deadline=None)
    @given(
        region=st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
            lambda name: name not in (".", "..")  # which stand for other places
        )
    )
    def test_a_region_of_any_name_is_asked_for_by_that_name(self, region: str) -> None:
        asked = []

        class Asked(LocalGateway):
            def _sales(self, region: str) -> tuple[int, Any]:
                asked.append(region)
                return 200, {"amount": 1}

        with in_process(Asked()) as gateway:
            assert gateway.sales(region) == 1
        assert asked == [region]


class TestWire:
    """What a program of another language is answered."""

    @pytest.fixture
    def address(self, local: LocalGateway) -> Iterator[str]:
        with serve(local) as url:
            yield url

    @pytest.mark.parametrize(
        ("method", "path", "key", "body", "status"),
        [
            ("POST", "/payments", "k", b'{"card": "4242", "amount": 5}', 201),
            ("POST", "/payments", "k", b'{"card": "declined", "amount": 5}', 402),
            ("POST", "/payments", "k", b'{"card": "flaky", "amount": 5}', 503),
            ("POST", "/payments", None, b'{"card": "4242", "amount": 5}', 400),
            ("POST", "/payments", "", b'{"card": "4242", "amount": 5}', 400),
            ("POST", "/payments", "k", b"{", 400),
            ("POST", "/payments", "k", b"\xff", 400),
            ("POST", "/payments", "k", b"[]", 400),
            ("POST", "/payments", "k", b'{"card": "4242"}', 400),
            ("POST", "/payments", "k", b'{"card": "4242", "amount": "much"}', 400),
            ("POST", "/payments/1f%2Fcharge/refunds", None, b"", 200),
            ("GET", "/payments", None, b"", 404),
            ("GET", "/", None, b"", 404),
            ("GET", "/jobs/backup", None, b"", 200),
            ("GET", "/sales/nowhere", None, b"", 404),
            ("PUT", "/payments", "k", b"", 501),
        ],
    )
    def test_the_status_is_the_same_with_and_without_a_socket(
        self, address: str, method: str, path: str, key: str | None, body: bytes, status: int
    ) -> None:
        headers = {} if key is None else {"Idempotency-Key": key}
        answer = httpx.request(method, address + path, content=body, headers=headers)
        assert answer.status_code == status
        if status != 501:
            assert answer.headers["Content-Type"] == "application/json"
            assert LocalGateway().answer(method, path, key, body) == (status, answer.json())
            assert status < 400 or set(answer.json()) == {"reason"}

    def test_a_request_that_was_not_understood_may_come_again_with_its_key(self, local: LocalGateway) -> None:
        assert local.answer("POST", "/payments", "k", b"{")[0] == 400
        assert local.answer("POST", "/payments", "k", b'{"card": "4242", "amount": 5}')[0] == 201

    def test_it_is_not_served_any_more_when_its_time_is_over(self, local: LocalGateway) -> None:
        with serve(local) as url:
            httpx.get(f"{url}/jobs/backup")
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/jobs/backup")

    def test_a_port_that_is_taken_is_an_error(self, local: LocalGateway) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            with pytest.raises(OSError, match="in use"), serve(local, port=taken.getsockname()[1]):
                pytest.fail("served on a port that is taken")

    def test_a_request_without_a_proper_length_is_refused_and_the_next_one_served(self, address: str) -> None:
        where = urlsplit(address)
        with closing(http.client.HTTPConnection(where.hostname, where.port, timeout=20)) as connection:
            connection.putrequest("POST", "/payments")
            connection.putheader("Content-Length", "many")
            connection.endheaders()
            assert connection.getresponse().status == 400
        assert httpx.get(f"{address}/jobs/backup").status_code == 200


class TestBadDays:
    def test_a_gateway_that_is_down_is_an_error_that_names_its_address(self, local: LocalGateway) -> None:
        with serve(local) as url:
            pass
        with (
            closing(Gateway.at(url)) as gateway,
            pytest.raises(GatewayError, match=f"^the gateway at {url} cannot be reached: "),
        ):
            gateway.charge("k", "4242", 5)

    def test_a_gateway_that_goes_down_between_two_requests_is_an_error(self, local: LocalGateway) -> None:
        with serve(local) as url:
            gateway = Gateway.at(url)
            gateway.charge("k", "4242", 5)
        with closing(gateway), pytest.raises(GatewayError, match=url):
            gateway.charge("k", "4242", 5)

    def test_a_gateway_that_hangs_is_an_error(self) -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            with (
                closing(Gateway(httpx.Client(base_url=url, timeout=0.05))) as gateway,
                pytest.raises(GatewayError, match=f"the gateway at {url} cannot be reached"),
            ):
                gateway.sales("north")

    @pytest.mark.parametrize(
        "content",
        [b"", b"<html>", b"null", b"[]", b"{}", b'{"amount": null}', b'{"amount": "5"}', b"\xff"],
    )
    def test_an_answer_that_is_not_understood_is_an_error(self, content: bytes) -> None:
        with (
            closing(answering(200, content)) as gateway,
            pytest.raises(GatewayError, match=r"^the gateway at http://odd .* without a proper 'amount'$"),
        ):
            gateway.sales("north")

    @pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"{}", b'{"reason": ""}'])
    def test_a_refusal_without_a_reason_names_the_status(self, content: bytes) -> None:
        with (
            closing(answering(418, content)) as gateway,
            pytest.raises(Refused, match=r"^the gateway at http://odd refused: 418$"),
        ):
            gateway.sales("north")

    @pytest.mark.parametrize("status", [302, 500, 502, 503])
    def test_any_other_status_is_an_error_that_may_pass(self, status: int) -> None:
        content = json.dumps({"amount": 5}).encode()
        with (
            closing(answering(status, content)) as gateway,
            pytest.raises(GatewayError, match=f"answered with status {status}$"),
        ):
            gateway.sales("north")


@pytest.mark.filterwarnings("error")
def test_no_socket_is_left_open(local: LocalGateway) -> None:
    gc.collect()
    with served(local) as gateway:
        gateway.charge("k", "4242", 5)
        with pytest.raises(Refused):
            gateway.charge("l", "declined", 5)
    gc.collect()  # what is left open warns here, and pytest makes a failure of it


def test_a_gateway_says_where_it_is() -> None:
    with closing(Gateway.at("http://localhost:8090")) as gateway:
        assert gateway.url == "http://localhost:8090"
