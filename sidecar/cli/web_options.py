"""Options of the commands that answer over HTTP: who may ask, and what the metrics name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])


def token_file_option(command: _F) -> _F:
    """Add `--token-file`. The command receives it as `token_file`."""
    text = "Ask for the token in this file. Required for an address that other machines reach."
    return click.option("--token-file", type=click.Path(path_type=Path), metavar="FILE", help=text)(command)


def allow_host_option(command: _F) -> _F:
    """Add `--allow-host`. The command receives all of them as `allow_host`."""
    text = "Another name under which this is reached, such as that of a proxy. May be given more than once."
    return click.option("--allow-host", multiple=True, metavar="NAME", help=text)(command)


def metrics_agents_option(command: _F) -> _F:
    """Add `--metrics-agents`. The command receives it as `metrics_agents`."""
    text = "Metrics of the N busiest agents by name, of the rest as `other`. Default: of no agent."
    kind = click.IntRange(0, 1000)
    return click.option("--metrics-agents", type=kind, default=0, metavar="N", help=text)(command)


class Address(click.ParamType[tuple[str, int]]):
    """HOST:PORT, as a pair; the host of an IPv6 address is in brackets."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """The host and the port."""
        host, colon, port = str(value).rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            host = ""
        if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
            self.fail(f"{value!r} is not HOST:PORT, such as 127.0.0.1:9321", param, ctx)
        return host, int(port)
