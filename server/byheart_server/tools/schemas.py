"""Makes the tools' JSON schemas cost fewer tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def slim(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON schema that says the same in fewer tokens.

    Titles go, references are written out, and `anyOf [X, null]` becomes X: an argument that is
    not given is left out, and some clients reject `anyOf`.
    """
    slimmed: dict[str, Any] = _slimmed(schema, schema.get("$defs", {}))
    return slimmed


def _slimmed(node: Any, definitions: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_slimmed(item, definitions) for item in node]
    if not isinstance(node, Mapping):
        return node
    node = _without_null(node)
    if "$ref" in node:
        return _slimmed(definitions[node["$ref"].rpartition("/")[2]], definitions)
    slimmed = {name: value for name, value in node.items() if not _is_ballast(name, value)}
    if "properties" in node:
        slimmed.pop("description", None)  # a model's docstring speaks to its maintainers
    for name, value in slimmed.items():
        if name == "properties":
            slimmed[name] = {key: _slimmed(item, definitions) for key, item in value.items()}
        else:
            slimmed[name] = _slimmed(value, definitions)
    return slimmed


def _without_null(node: Mapping[str, Any]) -> Mapping[str, Any]:
    options = [option for option in node.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) != 1:
        return node
    rest = {name: value for name, value in node.items() if name != "anyOf"}
    only = options[0]
    return {**rest, **only}


def _is_ballast(name: str, value: Any) -> bool:
    return (
        name in {"title", "$defs"}
        or (name == "default" and value is None)
        or (name == "additionalProperties" and value is True)
    )
