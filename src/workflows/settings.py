"""Where the workflows run: read from the environment, checked before anything is connected."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFAULT_ENDPOINT = "http://localhost:8080"
DEFAULT_TASKHUB = "default"
DEFAULT_DATABASE_URL = "sqlite:///workflows.db"
CREDENTIALS = ("default", "managed-identity", "azure-cli")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_EXAMPLES = "'http://localhost:8080' or 'https://my-scheduler.westeurope.durabletask.io'"
_ENDPOINT = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)")
_AUTHORITY = re.compile(r"(?P<host>\[[^\]]*\]|[^:\[\]]*)(?P<port>:[^:]*)?")
_HOST_NAME = re.compile(
    r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?"
)
_GATEWAY = re.compile(
    rf"(?P<scheme>https?)://(?P<host>{_HOST_NAME.pattern}|\[::1\])(:[0-9]{{1,5}})?(/[^\s?#@]*)?"
)
_DEFAULT_PORTS = {"http": 80, "https": 443}


class SettingsError(ValueError):
    """A setting that is of no use; the message says which one, why, and what a right one looks like."""


@dataclass(frozen=True)
class Settings:
    """The task hub to work for.

    A ``Settings`` that exists is valid: whoever makes one learns at once what is wrong with it.

    Parameters
    ----------
    endpoint : str
        ``http://`` for a scheduler on this machine (the emulator, an in-memory backend), without TLS and
        without a credential; ``https://`` for any other, with both.
    taskhub : str
        The name of the task hub at that endpoint.
    credential : str
        How to prove who we are to an ``https`` endpoint: ``"default"`` (``DefaultAzureCredential``, which
        tries what there is), ``"managed-identity"`` or ``"azure-cli"``.
    client_id : str | None
        The user-assigned managed identity to use; None for the system-assigned one.

    Attributes
    ----------
    secure : bool
        Whether to connect with TLS and a credential.
    host_address : str
        The endpoint as the SDK takes it: ``host:port``, the port always spelled out.

    Raises
    ------
    SettingsError
        If the endpoint is malformed, or would send data to another machine unencrypted, the task hub is
        blank, or the credential is not known.
    """

    endpoint: str = DEFAULT_ENDPOINT
    taskhub: str = DEFAULT_TASKHUB
    credential: str = "default"
    client_id: str | None = None
    secure: bool = field(init=False)
    host_address: str = field(init=False)

    def __post_init__(self) -> None:
        scheme, host, port = _parse_endpoint(self.endpoint)
        if scheme == "http" and not _is_this_machine(host):
            raise SettingsError(
                f"ENDPOINT {self.endpoint!r} is refused: what is sent to another machine over http can be "
                f"read on the way, and there is no proof of who sent it. Use https for '{host}', or a "
                f"scheduler on this machine, such as {DEFAULT_ENDPOINT!r}."
            )
        if not self.taskhub.strip():
            raise SettingsError(
                f"TASKHUB {self.taskhub!r} is blank: name the task hub to use, such as {DEFAULT_TASKHUB!r}."
            )
        if self.credential not in CREDENTIALS:
            raise SettingsError(
                f"CREDENTIAL {self.credential!r} is not known: choose one of {', '.join(CREDENTIALS)}."
            )
        object.__setattr__(self, "secure", scheme == "https")
        object.__setattr__(self, "host_address", f"[{host}]:{port}" if ":" in host else f"{host}:{port}")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read ``ENDPOINT``, ``TASKHUB``, ``CREDENTIAL`` and ``AZURE_CLIENT_ID``.

        Where the first two are not set, they are the local emulator and its default hub.

        Parameters
        ----------
        environ : Mapping[str, str]
            The environment to read.

        Returns
        -------
        Settings
            The checked settings.
        """
        return cls(
            endpoint=environ.get("ENDPOINT", DEFAULT_ENDPOINT),
            taskhub=environ.get("TASKHUB", DEFAULT_TASKHUB),
            credential=environ.get("CREDENTIAL", "default"),
            client_id=environ.get("AZURE_CLIENT_ID") or None,
        )


@dataclass(frozen=True)
class ServiceSettings:
    """What the activities work with.

    Parameters
    ----------
    database_url : str
        The store, as SQLAlchemy names a database.
    gateway_url : str | None
        Payments, jobs and sales figures: ``http://`` or ``https://``; None for the local gateway, in this
        process, which takes no money and forgets everything when the process ends.
    model : str | None
        What the agent thinks with: ``"module:function"``, called without arguments for a
        `workflows.model.Model`; None for the one that needs no network.

    Raises
    ------
    SettingsError
        If the gateway's address is no URL, or would send the numbers of cards to another machine unencrypted.
    """

    database_url: str = DEFAULT_DATABASE_URL
    gateway_url: str | None = None
    model: str | None = None

    def __post_init__(self) -> None:
        if self.gateway_url is None:
            return
        match = _GATEWAY.fullmatch(self.gateway_url)
        if match is None:
            shown, query, _ = self.gateway_url.partition("?")
            if "@" in shown:  # what stands before it may be a password, and so may a query
                shown = "***@" + shown.rpartition("@")[2]
            shown += "?***" if query else ""
            raise SettingsError(
                f"GATEWAY_URL {shown!r} is not usable: a right one is 'http://localhost:8090', "
                "where 'python -m workflows gateway' serves a local gateway."
            )
        if match["scheme"] == "http" and not _is_this_machine(match["host"].strip("[]")):
            raise SettingsError(
                f"GATEWAY_URL {self.gateway_url!r} is refused: the numbers of cards can be read on the way "
                f"to another machine over http. Use https for '{match['host']}'."
            )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> ServiceSettings:
        """Read ``DATABASE_URL``, ``GATEWAY_URL`` and ``MODEL``; one that is empty counts as not set."""
        return cls(
            database_url=environ.get("DATABASE_URL") or DEFAULT_DATABASE_URL,
            gateway_url=environ.get("GATEWAY_URL") or None,
            model=environ.get("MODEL") or None,
        )


def log_level(default: str, environ: Mapping[str, str] = os.environ) -> str:
    """Read ``LOG_LEVEL``; one that is empty counts as not set.

    Raises
    ------
    SettingsError
        If there is no such level.
    """
    level = (environ.get("LOG_LEVEL") or default).upper()
    if level not in LOG_LEVELS:
        raise SettingsError(f"LOG_LEVEL {level!r} is not known: choose one of {', '.join(LOG_LEVELS)}.")
    return level


def _parse_endpoint(endpoint: str) -> tuple[str, str, int]:
    """Split an endpoint into scheme, host (an IPv6 literal without its brackets) and port."""

    def malformed(why: str, shown: str = endpoint) -> SettingsError:
        return SettingsError(f"ENDPOINT {shown!r} is not usable: {why}. A right one is {_EXAMPLES}.")

    if not endpoint:
        raise malformed("it is empty")
    if "@" in endpoint:
        # What stands before the @ may be a password, and messages end up in logs.
        raise malformed("it holds a user name or password", shown="***@" + endpoint.rpartition("@")[2])
    if re.search(r"\s", endpoint):
        raise malformed("it holds white space")
    match = _ENDPOINT.fullmatch(endpoint)
    if match is None:
        raise malformed("it does not start with http:// or https://")
    scheme = match["scheme"].lower()
    if scheme not in _DEFAULT_PORTS:
        raise malformed(f"its scheme '{scheme}' is neither http nor https")

    authority = match["rest"].removesuffix("/")
    if re.search(r"[/?#\\]", authority):
        raise malformed("it goes on after the host and port, with a path, a query or a fragment")
    match = _AUTHORITY.fullmatch(authority)
    if match is None:
        raise malformed("its host cannot be told from its port (an IPv6 address goes in brackets)")
    host, port = match["host"], match["port"]
    if not host:
        raise malformed("it names no host")
    if host.startswith("["):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise malformed(f"'[{host}]' is not an IPv6 address") from None
    elif not _HOST_NAME.fullmatch(host):
        raise malformed(f"'{host}' is not a host name")
    return scheme, host, _DEFAULT_PORTS[scheme] if port is None else _parse_port(port[1:], malformed)


def _parse_port(text: str, malformed: Callable[[str], SettingsError]) -> int:
    if not re.fullmatch("[0-9]{1,5}", text) or not 1 <= int(text) <= 65535:
        raise malformed(f"its port '{text}' is not a number from 1 to 65535")
    return int(text)


def _is_this_machine(host: str) -> bool:
    if host.lower().removesuffix(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # Whether ::ffff:127.0.0.1 counts as loopback depends on the version of Python.
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
