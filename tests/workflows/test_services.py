"""What activities work with: read from the environment, opened once a process, replaced for a while."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Barrier
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workflows import services as process
from workflows.local_gateway import LocalGateway, serve
from workflows.model import OfflineModel
from workflows.services import Services, use
from workflows.settings import ServiceSettings, SettingsError
from workflows.store import StoreError

if TYPE_CHECKING:
    from pathlib import Path


def at(path: Path) -> ServiceSettings:
    return ServiceSettings(f"sqlite:///{path}")


class TestSettings:
    @pytest.mark.parametrize("environ", [{}, {"DATABASE_URL": "", "GATEWAY_URL": "", "MODEL": ""}])
    def test_without_an_environment_it_is_a_file_a_local_gateway_and_a_model_without_a_network(
        self, environ: dict[str, str]
    ) -> None:
        settings = ServiceSettings.from_environment(environ)
        assert settings == ServiceSettings("sqlite:///workflows.db", None, None)

    def test_each_comes_from_its_variable(self) -> None:
        environ = {"DATABASE_URL": "sqlite:///a.db", "GATEWAY_URL": "https://pay/v1", "MODEL": "m:f"}
        settings = ServiceSettings.from_environment(environ)
        assert settings == ServiceSettings("sqlite:///a.db", "https://pay/v1", "m:f")

    @pytest.mark.parametrize(
        "url",
        [
            "http://localhost:8090",
            "https://pay.example",
            "http://127.0.0.1:1/v1/x",
            "http://[::1]:8090",
            "https://g/",
        ],
    )
    def test_an_address_of_a_gateway_is_taken(self, url: str) -> None:
        assert ServiceSettings(gateway_url=url).gateway_url == url

    @pytest.mark.parametrize(
        "url",
        [
            " ",
            "localhost:8090",
            "ftp://localhost",
            "http://",
            "http:///v1",
            "http://local host",
            "http://localhost:port",
            "http://localhost:8090?a=b",
            "http://a..b",
            "http://[::g]",
            "http://localhost\n",
        ],
    )
    def test_what_is_no_address_is_named_and_shown_right(self, url: str) -> None:
        with pytest.raises(SettingsError) as caught:
            ServiceSettings(gateway_url=url)
        shown = url.replace("a=b", "***")  # it may be a password
        assert str(caught.value).startswith(f"GATEWAY_URL {shown!r} is not usable: a right one is 'http://")

    @pytest.mark.parametrize("url", ["http://ana:s3cret@pay", "http://s3cret@pay", "s3cret://s3cret@pay"])
    def test_a_password_in_the_address_does_not_reach_the_message(self, url: str) -> None:
        with pytest.raises(SettingsError, match=r"\*\*\*@pay") as caught:
            ServiceSettings(gateway_url=url)
        assert "ana" not in str(caught.value)

    @settings(max_examples=30, deadline=None)
    @given(url=st.from_regex(r"https?://[a-z0-9.:/@\[\]-]{1,20}", fullmatch=True))
    def test_an_address_that_is_taken_can_be_used(self, url: str) -> None:
        from workflows.gateway import Gateway

        try:
            ServiceSettings(gateway_url=url)
        except SettingsError:
            return
        with closing(Gateway.at(url)) as gateway:
            assert gateway.url.startswith("http")


class TestOpening:
    def test_the_default_gateway_is_in_this_process(self, tmp_path: Path) -> None:
        with closing(Services.open(at(tmp_path / "s.db"))) as opened:
            assert opened.gateway.charge("k", "4242", 5).startswith("PAY-")
            assert isinstance(opened.model, OfflineModel)
            opened.store.notify("k", "ana", "hello")
        assert (tmp_path / "s.db").exists()

    def test_a_gateway_that_is_named_is_asked_over_the_network(self, tmp_path: Path) -> None:
        local = LocalGateway()
        with serve(local) as url:
            settings = ServiceSettings(f"sqlite:///{tmp_path / 's.db'}", gateway_url=url)
            with closing(Services.open(settings)) as opened:
                assert opened.gateway.charge("k", "4242", 5) in local.payments

    def test_a_database_that_cannot_be_opened_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="cannot be opened"):
            Services.open(at(tmp_path))

    def test_a_model_that_is_not_there_is_an_error_before_a_database_is_made(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="MODEL 'nowhere:model'"):
            Services.open(ServiceSettings(f"sqlite:///{tmp_path / 's.db'}", model="nowhere:model"))
        assert not (tmp_path / "s.db").exists()


class TestTheOnesOfTheProcess:
    @pytest.fixture(autouse=True)
    def none_yet(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """As in a process where nobody has asked yet; `use` puts the ones of the fixture back."""
        monkeypatch.setattr(process, "_services", None)
        monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'environment.db'}")
        monkeypatch.delenv("GATEWAY_URL", raising=False)
        monkeypatch.delenv("MODEL", raising=False)

    def test_they_are_opened_as_the_environment_says_by_the_first_who_asks(self, tmp_path: Path) -> None:
        assert not (tmp_path / "environment.db").exists()
        with closing(process.services()) as opened:
            assert (tmp_path / "environment.db").exists()
            assert process.services() is opened

    def test_many_threads_that_ask_at_once_get_the_same(self, monkeypatch: pytest.MonkeyPatch) -> None:
        opened = []
        open_them = Services.open

        def open_and_note(settings: ServiceSettings) -> Services:
            opened.append(open_them(settings))
            return opened[-1]

        monkeypatch.setattr(Services, "open", open_and_note)
        together = Barrier(8)

        def ask(_: int) -> Services:
            together.wait()
            return process.services()

        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(ask, range(8)))
        with closing(opened[0]):
            assert len(opened) == 1
            assert all(one is opened[0] for one in found)

    def test_after_a_failure_the_next_who_asks_opens_them(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("DATABASE_URL", "nonsense")
        with pytest.raises(SettingsError, match="DATABASE_URL"):
            process.services()
        monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'right.db'}")
        with closing(process.services()):
            assert (tmp_path / "right.db").exists()

    def test_others_can_be_used_for_a_while(self, tmp_path: Path) -> None:
        with closing(process.services()) as ours, closing(Services.open(at(tmp_path / "2.db"))) as others:
            with use(others) as chosen:
                assert chosen is others
                assert process.services() is others
                with closing(Services.open(at(tmp_path / "3.db"))) as third, use(third):
                    assert process.services() is third
                assert process.services() is others
            assert process.services() is ours

    def test_those_before_come_back_when_the_block_raises(self, tmp_path: Path) -> None:
        with closing(process.services()) as ours:
            with pytest.raises(RuntimeError, match="no"), use(Services.open(at(tmp_path / "2.db"))):
                raise RuntimeError("no")
            assert process.services() is ours

    def test_what_was_used_is_closed_at_the_end(self, tmp_path: Path) -> None:
        others = Services.open(at(tmp_path / "2.db"))
        with use(others):
            others.gateway.charge("k", "4242", 5)
        with pytest.raises(RuntimeError, match="closed"):
            others.gateway.charge("k", "4242", 5)


def test_whoever_only_looks_at_the_workflows_loads_no_database_and_no_http() -> None:
    program = """
import sys, unittest.mock, workflows
workflows.register(unittest.mock.Mock())
print({"sqlalchemy", "httpx", "workflows.store", "workflows.gateway"} & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
