"""The settings of a hub: `hub` in config.yaml."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from .yaml_nodes import YamlValue

_KEYS = ("url", "node", "read_from")
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Where this machine's index is pushed to, and under which name."""

    url: str | None = None
    """`postgresql://HOST/DATABASE`, without a password."""
    node: str | None = None
    """The name of this machine at the hub."""
    read_from: str | None = None
    """Where others can read its records: a folder that they have mounted, or the address of its `sidecar serve`."""


def hub_settings(value: YamlValue) -> HubSettings:
    """The settings in a mapping. Raises ConfigError."""
    given = value.fields(_KEYS)
    url = given["url"].text("postgresql://HOST/DATABASE") if "url" in given else None
    if url is not None and (wrong := what_is_wrong(url)):
        raise given["url"].error(wrong)
    node = given["node"].text("a name") if "node" in given else None
    if node is not None and not is_node(node):
        raise given["node"].error(NODE_EXPECTED)
    return HubSettings(url, node, given["read_from"].text("a folder or an address") if "read_from" in given else None)


NODE_EXPECTED = "expected a name of letters, digits, `.`, `_` and `-`, at most 63"


def is_node(name: str) -> bool:
    """Whether a text can be the name of a node."""
    return _NODE.fullmatch(name) is not None


def what_is_wrong(url: str) -> str | None:
    """What is wrong with the address of a hub; None if nothing is. It is never repeated: it may hold a password."""
    if not url.startswith(("postgresql://", "postgres://")):
        return "expected postgresql://HOST/DATABASE"
    try:
        parts = urlsplit(url)
        has_password = parts.password is not None or "password" in parse_qs(parts.query)
    except ValueError:
        return "expected postgresql://HOST/DATABASE"
    if has_password:
        return "it contains a password, which belongs in ~/.pgpass, a service file or a client certificate"
    return None
