"""YAML values that know their position, so that an error can name the file, the line and the key.

    value = parse_yaml("root: [logs]", "config.yaml")
    value.fields({"root"})["root"].text()  # ConfigError: config.yaml:1: root: expected a string, found a list

This is stricter than YAML itself: unknown and repeated keys are refused, and nothing is converted silently.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import yaml

from sidecar.errors import ConfigError
from sidecar.times import seconds_of


@dataclass(frozen=True, slots=True)
class YamlValue:
    """One value of a YAML file. Methods that return its content raise ConfigError if it is of another type."""

    file: str
    key: str
    """The keys that lead to it, for example `formats.mine.shapes[1].when`; empty for the whole file."""
    node: yaml.Node

    def refuse(self, expected: str) -> ConfigError:
        """The error that says what was expected here, and what was found."""
        return self.error(f"expected {expected}, found {_found(self.node)}")

    def error(self, message: str) -> ConfigError:
        """An error about this value, with its file, line and key."""
        key = f"{self.key}: " if self.key else ""
        return ConfigError(f"{self.file}:{self.node.start_mark.line + 1}: {key}{message}")

    @property
    def is_list(self) -> bool:
        return isinstance(self.node, yaml.SequenceNode)

    def text(self, expected: str = "a string") -> str:
        scalar = self._scalar(expected)
        if not isinstance(scalar, str) or not scalar:
            raise self.refuse(expected)
        return scalar

    def flag(self) -> bool:
        scalar = self._scalar("true or false")
        if not isinstance(scalar, bool):
            raise self.refuse("true or false")
        return scalar

    @property
    def is_null(self) -> bool:
        return isinstance(self.node, yaml.ScalarNode) and self.node.tag == "tag:yaml.org,2002:null"

    def constant(self, expected: str = "a string, a whole number, true or false") -> str | int | bool:
        scalar = self._scalar(expected)
        if not isinstance(scalar, str | int):
            raise self.refuse(expected)
        return scalar

    def size(self) -> int:
        expected = "a whole number above 0"
        scalar = self._scalar(expected)
        if not isinstance(scalar, int) or isinstance(scalar, bool) or scalar < 1:
            raise self.refuse(expected)
        return scalar

    def seconds(self) -> float:
        """A duration above 0: a number of seconds, or an age."""
        expected = "a duration above 0: seconds, or an age such as `5s`, `2m`, `1h`"
        scalar = self._scalar(expected)
        if isinstance(scalar, str):
            scalar = seconds_of(scalar)
        if isinstance(scalar, bool) or not isinstance(scalar, int | float) or not 0 < scalar < math.inf:
            raise self.refuse(expected)
        try:
            return float(scalar)
        except OverflowError:
            raise self.refuse(expected) from None

    def choice(self, names: Collection[str], what: str) -> str:
        """One of `names`. For any other value, the error lists them all and suggests the most similar one."""
        chosen = self.text(f"the name of a {what}")
        if chosen not in names:
            raise self.error(unknown_name(what, chosen, names))
        return chosen

    def items(self, expected: str = "a list") -> list[YamlValue]:
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.refuse(expected)
        return [YamlValue(self.file, f"{self.key}[{i}]", node) for i, node in enumerate(self.node.value)]

    def mapping(self, expected: str = "a mapping") -> dict[str, YamlValue]:
        """Its values by key, in order. A key that is not a string, or is repeated, is refused."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.refuse(expected)
        values: dict[str, YamlValue] = {}
        for key_node, node in self.node.value:
            key = YamlValue(self.file, self.key, key_node).text("a string as key")
            path = f"{self.key}.{key}" if self.key else key
            if key in values:
                raise YamlValue(self.file, path, key_node).error("this key is given twice")
            values[key] = YamlValue(self.file, path, node)
        return values

    def fields(self, known: Collection[str], required: Collection[str] = ()) -> dict[str, YamlValue]:
        """Like `mapping`, but only with keys in `known`, and with all keys in `required`."""
        values = self.mapping(f"a mapping with {_listed(required or known)}")
        for key_node, _ in self.node.value:
            if key_node.value not in known:
                value = YamlValue(self.file, values[key_node.value].key, key_node)
                raise value.error(unknown_name("key", key_node.value, known))
        for key in required:
            if key not in values:
                raise self.error(f"the key `{key}` is missing")
        return values

    def _scalar(self, expected: str) -> object:
        if not isinstance(self.node, yaml.ScalarNode):
            raise self.refuse(expected)
        try:
            return yaml.SafeLoader("").construct_object(self.node)
        except (yaml.YAMLError, ValueError):
            # An unknown tag, or an invalid number or date.
            raise self.refuse(expected) from None


def parse_yaml(text: str, file: str) -> YamlValue | None:
    """The one YAML document in `text`, which error messages call `file`; None if it is empty. Raises ConfigError."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or error
        raise ConfigError(f"{file}{line}: not valid YAML: {problem}") from error
    except RecursionError:
        raise ConfigError(f"{file}: not valid YAML: nested too deeply") from None
    return None if node is None else YamlValue(file, "", node)


def parse_yaml_file(path: Path) -> YamlValue | None:
    """Like `parse_yaml`, for a file, which must exist and be UTF-8. Raises ConfigError."""
    try:
        return parse_yaml(path.read_text("utf-8-sig"), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid YAML: not UTF-8") from error


def unknown_name(what: str, given: str, names: Collection[str]) -> str:
    """The error message for a name that is not one of `names`."""
    nearest = get_close_matches(given, names, 1)
    advice = f"; did you mean `{nearest[0]}`?" if nearest else ""
    return f"unknown {what} `{given}`, expected {_listed(names)}{advice}"


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _found(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    if not node.value or node.tag == "tag:yaml.org,2002:null":
        return "nothing"
    return f"`{node.value if len(node.value) <= 60 else node.value[:57] + '...'}`"
