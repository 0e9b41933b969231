"""The connection to a hub. Errors of the driver become the sidecar's, with the place and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sidecar.errors import ConfigError, HubUnavailable, MissingExtra, SchemaMismatch

from .schema import VERSION

if TYPE_CHECKING:
    import psycopg

SCHEMES = ("postgresql://", "postgres://")


def driver() -> Any:
    """The module `psycopg`. Raises MissingExtra, which says what to install."""
    try:
        import psycopg
    except ImportError:
        raise MissingExtra("hub", "psycopg") from None
    return psycopg


def place(url: str) -> str:
    """An address without a password, for messages."""
    try:
        parts = urlsplit(url)
        at = f"{parts.hostname or 'localhost'}{f':{parts.port}' if parts.port else ''}"
    except ValueError:
        return "the hub"
    return f"{parts.scheme}://{at}{parts.path}"


def check_url(url: str) -> None:
    """Raise ConfigError if an address is not one of a PostgreSQL."""
    if not url.startswith(SCHEMES):
        raise ConfigError(f"{url!r} is no address of a hub, expected postgresql://HOST/DATABASE")


@contextmanager
def errors_named(url: str) -> Iterator[None]:
    """Raise the sidecar's errors in place of the driver's."""
    import psycopg

    try:
        yield
    except psycopg.errors.UndefinedTable as error:
        raise HubUnavailable(f"{place(url)} has no hub", hint="make one with `sidecar hub init --hub URL`") from error
    except psycopg.errors.InvalidSchemaName as error:
        raise HubUnavailable(f"{place(url)} has no hub", hint="make one with `sidecar hub init --hub URL`") from error
    except psycopg.errors.InsufficientPrivilege as error:
        hint = "the roles and what they may do are in docs/hub.md"
        raise HubUnavailable(f"{place(url)}: {said(error)}", hint=hint) from error
    except psycopg.Error as error:
        raise HubUnavailable(f"{place(url)}: {said(error)}") from error


def said(error: Exception) -> str:
    """The first line of what the driver says, without what may be a password."""
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__


def connect(url: str, *, read_only: bool = False, check: bool = True) -> psycopg.Connection[Any]:
    """A connection in autocommit mode. Raises HubUnavailable, ConfigError, and SchemaMismatch if the hub is of another
    version."""
    check_url(url)
    open_connection = driver().connect
    # One transaction even where an engine commits a COPY in pieces, and times in UTC.
    options = "-c timezone=UTC -c client_encoding=UTF8" + (" -c default_transaction_read_only=on" if read_only else "")
    with errors_named(url):
        connection: psycopg.Connection[Any] = open_connection(
            url, autocommit=True, options=options, application_name="sidecar", connect_timeout=10
        )
        try:
            if check:
                row = connection.execute("SELECT value FROM hub.meta WHERE key = 'version'").fetchone()
                found = row[0] if row else "none"
                if found != str(VERSION):
                    hint = "give all machines the same version of the sidecar; docs/hub.md tells how to make a hub anew"
                    raise SchemaMismatch(f"the hub {place(url)} has version {found}, this is {VERSION}", hint=hint)
        except BaseException:
            connection.close()
            raise
    return connection
