"""Settings read from the environment, and the connection that follows from them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import grpc
import pytest
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError
from hypothesis import given
from hypothesis import strategies as st

from workflows import connection
from workflows.settings import CREDENTIALS, ServiceSettings, Settings, SettingsError, log_level

SECURE = "https://my-scheduler.westeurope.durabletask.io"


@pytest.mark.parametrize(
    ("endpoint", "host_address"),
    [
        ("http://localhost:8080", "localhost:8080"),
        ("http://localhost:8080/", "localhost:8080"),
        ("http://localhost", "localhost:80"),
        ("HTTP://LocalHost:65535", "LocalHost:65535"),
        ("http://127.0.0.1:1", "127.0.0.1:1"),
        ("http://127.200.3.4:8080", "127.200.3.4:8080"),
        ("http://[::1]:8080", "[::1]:8080"),
        ("http://[::1]", "[::1]:80"),
        ("http://[::ffff:127.0.0.1]:8080", "[::ffff:127.0.0.1]:8080"),
    ],
)
def test_http_to_this_machine_is_not_secure(endpoint: str, host_address: str) -> None:
    settings = Settings(endpoint)
    assert (settings.secure, settings.host_address) == (False, host_address)


@pytest.mark.parametrize(
    ("endpoint", "host_address"),
    [
        (SECURE, "my-scheduler.westeurope.durabletask.io:443"),
        (SECURE + "/", "my-scheduler.westeurope.durabletask.io:443"),
        (SECURE + ":8443", "my-scheduler.westeurope.durabletask.io:8443"),
        ("https://localhost:8080", "localhost:8080"),
        ("https://host.docker.internal:8080", "host.docker.internal:8080"),
        ("https://10.0.0.7", "10.0.0.7:443"),
        ("https://[2001:db8::1]:8080", "[2001:db8::1]:8080"),
    ],
)
def test_https_is_secure_wherever_it_goes(endpoint: str, host_address: str) -> None:
    settings = Settings(endpoint)
    assert (settings.secure, settings.host_address) == (True, host_address)


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://my-scheduler.westeurope.durabletask.io",
        "http://host.docker.internal:8080",
        "http://localhost.example.com:8080",
        "http://10.0.0.7:8080",
        "http://0.0.0.0:8080",
        "http://128.0.0.1:8080",
        "http://[2001:db8::1]:8080",
    ],
)
def test_http_to_another_machine_is_refused_with_the_reason_and_the_way_out(endpoint: str) -> None:
    with pytest.raises(
        SettingsError, match=r"ENDPOINT .* is refused: .* can be read .* Use https for"
    ) as caught:
        Settings(endpoint)
    assert repr(endpoint) in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("", "is empty"),
        (" ", "white space"),
        (" http://localhost:8080", "white space"),
        ("http://localhost:8080\n", "white space"),
        ("http://local host:8080", "white space"),
        ("localhost:8080", "does not start with"),
        ("//localhost:8080", "does not start with"),
        ("Endpoint=http://localhost:8080;Authentication=None", "does not start with"),
        ("grpc://localhost:8080", "scheme 'grpc'"),
        ("ftp://localhost", "scheme 'ftp'"),
        ("http://", "no host"),
        ("http://:8080", "no host"),
        ("http://localhost:", "port ''"),
        ("http://localhost:0", "port '0'"),
        ("http://localhost:65536", "port '65536'"),
        ("http://localhost:http", "port 'http'"),
        ("http://localhost:-1", "port '-1'"),
        ("http://localhost:+80", "port '+80'"),
        ("http://localhost:8080/hub", "a path, a query or a fragment"),
        ("http://localhost:8080//", "a path, a query or a fragment"),
        ("http:///hub", "a path, a query or a fragment"),
        ("https://example.com?hub=1", "a path, a query or a fragment"),
        ("https://example.com#hub", "a path, a query or a fragment"),
        (r"https://example.com\hub", "a path, a query or a fragment"),
        ("http://::1:8080", "brackets"),
        ("http://[::1", "brackets"),
        ("http://[::1]8080", "brackets"),
        ("http://[localhost]:8080", "not an IPv6 address"),
        ("https://exa_mple..com", "not a host name"),
        ("https://-example.com", "not a host name"),
        ("https://my*scheduler", "not a host name"),
    ],
)
def test_a_malformed_endpoint_is_named_explained_and_shown_right(endpoint: str, why: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(endpoint)
    message = str(caught.value)
    assert message.startswith(f"ENDPOINT {endpoint!r} is not usable: ")
    assert why in message
    assert "http://localhost:8080" in message
    assert SECURE in message


def test_a_password_in_an_endpoint_does_not_reach_the_message() -> None:
    with pytest.raises(SettingsError, match="user name or password") as caught:
        Settings("https://ana:s3cret@example.com")
    assert "s3cret" not in str(caught.value)


@given(endpoint=st.text() | st.text(alphabet="htps:/.[]@?#0189a-% ").map(lambda rest: "http" + rest))
def test_any_text_is_an_address_or_a_settings_error(endpoint: str) -> None:
    try:
        settings = Settings(endpoint)
    except SettingsError:
        return
    host, _, port = settings.host_address.rpartition(":")
    assert host
    assert 1 <= int(port) <= 65535


@given(port=st.integers(1, 65535))
def test_every_port_there_is_survives(port: int) -> None:
    assert Settings(f"http://localhost:{port}").host_address == f"localhost:{port}"


@pytest.mark.parametrize("taskhub", ["", " ", "\t"])
def test_a_blank_task_hub_is_an_error_that_says_so(taskhub: str) -> None:
    with pytest.raises(SettingsError, match=r"TASKHUB .* is blank: .* 'default'"):
        Settings(taskhub=taskhub)


def test_an_empty_environment_means_the_local_emulator() -> None:
    settings = Settings.from_environment({})
    assert settings == Settings("http://localhost:8080", "default")


def test_endpoint_and_task_hub_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENDPOINT", SECURE)
    monkeypatch.setenv("TASKHUB", "orders")
    assert Settings.from_environment() == Settings(SECURE, "orders")


def test_an_endpoint_set_to_nothing_is_an_error_and_not_the_default() -> None:
    with pytest.raises(SettingsError, match="ENDPOINT '' is not usable: it is empty"):
        Settings.from_environment({"ENDPOINT": ""})


def test_credential_and_client_id_come_from_the_environment() -> None:
    settings = Settings.from_environment({"CREDENTIAL": "managed-identity", "AZURE_CLIENT_ID": "1234"})
    assert (settings.credential, settings.client_id) == ("managed-identity", "1234")
    assert Settings.from_environment({"AZURE_CLIENT_ID": ""}).client_id is None


def test_an_unknown_credential_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"CREDENTIAL 'cli' .* default, managed-identity, azure-cli"):
        Settings(credential="cli")


def test_an_empty_environment_means_local_services() -> None:
    services = ServiceSettings.from_environment({"DATABASE_URL": "", "GATEWAY_URL": "", "MODEL": ""})
    assert services == ServiceSettings("sqlite:///workflows.db", None, None)


def test_services_come_from_the_environment() -> None:
    environ = {"DATABASE_URL": "sqlite://", "GATEWAY_URL": "https://pay:8090", "MODEL": "mine:model"}
    assert ServiceSettings.from_environment(environ) == ServiceSettings(*environ.values())


@pytest.mark.parametrize("url", ["localhost:8090", "ftp://pay", "http://", "http:// pay"])
def test_a_gateway_that_is_no_url_is_an_error_that_shows_one(url: str) -> None:
    with pytest.raises(SettingsError, match=r"GATEWAY_URL .* 'http://localhost:8090'"):
        ServiceSettings(gateway_url=url)


@pytest.mark.parametrize(
    "url",
    [
        "http://ana:s3cret@pay:8090",
        "ana:s3cret@pay:8090",
        "http:/ana:s3cret@pay:8090",
        "https://ana@s3cret@pay:8090",
        "https://pay:8090/?key=s3cret",
        "https://pay:8090/?key=ana@s3cret",
    ],
)
def test_a_secret_in_a_gateway_url_does_not_reach_the_message(url: str) -> None:
    with pytest.raises(SettingsError, match=r"GATEWAY_URL .*pay:8090.* is not usable") as caught:
        ServiceSettings(gateway_url=url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://pay.example.com", "http://10.0.0.7:8090/v1"])
def test_card_numbers_do_not_go_to_another_machine_over_http(url: str) -> None:
    with pytest.raises(SettingsError, match="is refused: the numbers of cards can be read"):
        ServiceSettings(gateway_url=url)
    assert ServiceSettings(gateway_url=url.replace("http:", "https:")).gateway_url is not None


def test_the_log_level_is_the_default_until_it_is_set() -> None:
    assert log_level("INFO", {}) == log_level("INFO", {"LOG_LEVEL": ""}) == "INFO"
    assert log_level("INFO", {"LOG_LEVEL": "debug"}) == "DEBUG"


def test_an_unknown_log_level_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(SettingsError, match=r"LOG_LEVEL 'LOUD' .* DEBUG, INFO, WARNING, ERROR, CRITICAL"):
        log_level("INFO", {"LOG_LEVEL": "loud"})


class Recorder:
    """Stands in for the SDK's classes and for the credential: keeps what it was made with."""

    def __init__(self, **kwargs: Any) -> None:
        self.kwargs = kwargs


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    """The SDK's worker and client and the default credential, replaced: nothing can reach the network."""
    monkeypatch.setattr(connection, "DurableTaskSchedulerWorker", Recorder)
    monkeypatch.setattr(connection, "DurableTaskSchedulerClient", Recorder)
    monkeypatch.setattr(connection, "AsyncDurableTaskSchedulerClient", Recorder)
    monkeypatch.setattr("azure.identity.DefaultAzureCredential", Recorder)
    return Recorder


create = pytest.mark.parametrize(
    "create", [connection.create_worker, connection.create_client, connection.create_async_client]
)
create_sync = pytest.mark.parametrize("create", [connection.create_worker, connection.create_client])


@create
@pytest.mark.usefixtures("made")
def test_a_local_endpoint_gets_neither_tls_nor_credential(create: Any) -> None:
    kwargs = create(Settings("http://localhost:8080", "orders")).kwargs
    assert kwargs["host_address"] == "localhost:8080"
    assert kwargs["taskhub"] == "orders"
    assert kwargs["secure_channel"] is False
    assert kwargs["token_credential"] is None


@create_sync
def test_another_endpoint_gets_tls_and_the_default_credential(create: Any, made: type[Recorder]) -> None:
    kwargs = create(Settings(SECURE)).kwargs
    assert kwargs["host_address"] == "my-scheduler.westeurope.durabletask.io:443"
    assert kwargs["secure_channel"] is True
    assert isinstance(kwargs["token_credential"], made)


@create
@pytest.mark.usefixtures("made")
def test_a_given_credential_is_used_where_there_is_tls_only(create: Any) -> None:
    credential: Any = object()
    assert create(Settings(SECURE), credential).kwargs["token_credential"] is credential
    assert create(Settings(), credential).kwargs["token_credential"] is None


@pytest.mark.parametrize("client_id", [None, "1234"])
def test_the_managed_identity_is_the_one_that_the_settings_name(
    monkeypatch: pytest.MonkeyPatch, client_id: str | None
) -> None:
    monkeypatch.setattr("azure.identity.ManagedIdentityCredential", Recorder)
    credential = connection.create_credential(Settings(SECURE, "hub", "managed-identity", client_id))
    assert isinstance(credential, Recorder)
    assert credential.kwargs == {"client_id": client_id}


def test_the_azure_cli_is_asked_where_the_settings_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azure.identity.AzureCliCredential", Recorder)
    assert isinstance(connection.create_credential(Settings(SECURE, "hub", "azure-cli")), Recorder)


def test_no_credential_is_made_for_a_local_endpoint() -> None:
    assert connection.create_credential(Settings(credential="azure-cli")) is None


class Failure(grpc.RpcError):  # type: ignore[misc]
    """How grpc tells of a call that failed."""

    def __init__(self, code: grpc.StatusCode) -> None:
        super().__init__()
        self._code = code

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return "because.\nAnd more."


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_of_grpc_has_a_sentence_with_the_place_and_the_reason(code: grpc.StatusCode) -> None:
    problem = connection.explain(Failure(code), Settings(SECURE))
    assert problem is not None
    assert SECURE in problem.sentence
    assert f"({code.name}: because)" in problem.sentence
    assert problem.sentence.endswith(".")
    assert "\n" not in problem.sentence
    assert problem.with_connection or not problem.is_refusal


@pytest.mark.parametrize(
    ("code", "with_connection", "next_step"),
    [
        (grpc.StatusCode.UNAVAILABLE, True, "check ENDPOINT"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, True, "--timeout"),
        (grpc.StatusCode.UNAUTHENTICATED, True, "check CREDENTIAL ('azure-cli')"),
        (grpc.StatusCode.PERMISSION_DENIED, True, "check TASKHUB"),
        (grpc.StatusCode.UNIMPLEMENTED, True, "check that ENDPOINT is a task hub"),
        (grpc.StatusCode.ALREADY_EXISTS, False, "choose another with --id"),
        (grpc.StatusCode.FAILED_PRECONDITION, False, "'status'"),
        (grpc.StatusCode.NOT_FOUND, False, "refuses"),
    ],
)
def test_the_sentence_of_a_status_names_the_next_step(
    code: grpc.StatusCode, with_connection: bool, next_step: str
) -> None:
    problem = connection.explain(Failure(code), Settings(SECURE, credential="azure-cli"))
    assert problem is not None
    assert problem.with_connection is with_connection
    assert next_step in problem.sentence


def test_a_local_task_hub_that_wants_a_token_is_explained() -> None:
    problem = connection.explain(Failure(grpc.StatusCode.UNAUTHENTICATED), Settings())
    assert problem is not None
    assert "over http no token is sent, so use https" in problem.sentence


@pytest.mark.parametrize(
    ("error", "is_refusal"),
    [
        (ClientAuthenticationError("no identity\nat all"), True),
        (ServiceRequestError("no identity\nat all"), False),
    ],
)
@pytest.mark.parametrize("credential", CREDENTIALS)
def test_a_credential_without_a_token_is_explained(
    credential: str, error: Exception, is_refusal: bool
) -> None:
    problem = connection.explain(error, Settings(SECURE, credential=credential))
    assert problem is not None
    assert f"with CREDENTIAL '{credential}' (no identity): " in problem.sentence
    assert (problem.with_connection, problem.is_refusal) == (True, is_refusal)


def test_an_error_of_another_kind_is_not_explained() -> None:
    assert connection.explain(ValueError("ours"), Settings()) is None


def test_importing_the_workflows_is_light() -> None:
    program = "import sys, workflows; print({'grpc', 'azure.identity', 'dt_testkit'} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
