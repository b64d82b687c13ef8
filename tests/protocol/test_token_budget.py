"""What the list of tools costs every conversation."""

import json

BUDGET = 1300


def test_tool_list_is_under_budget(wire):
    listed = json.dumps(wire.ask("tools/list")["result"], separators=(",", ":"), ensure_ascii=False)
    tokens = len(listed) / 4
    print(f"\ntools/list: {tokens:.0f} tokens of {BUDGET}")
    assert tokens < BUDGET


def test_schemas_are_plain_objects(wire):
    for tool in wire.ask("tools/list")["result"]["tools"]:
        for schema in (tool["inputSchema"], tool["outputSchema"]):
            assert schema["type"] == "object"
            assert not {"anyOf", "oneOf", "allOf", "$ref"} & _words(schema)


def test_every_tool_says_first_when_to_use_it(wire):
    for tool in wire.ask("tools/list")["result"]["tools"]:
        assert tool["description"].startswith("Use ")
        assert "Returns" in tool["description"]


def _words(schema):
    if isinstance(schema, dict):
        return set(schema).union(*map(_words, schema.values()))
    return set().union(*map(_words, schema)) if isinstance(schema, list) else set()
