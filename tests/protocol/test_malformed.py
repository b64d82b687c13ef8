"""A line that is no message is answered, under its id where that can be told."""

import json

DEEP = "[" * 300 + "]" * 300
LONG = "9" * 5_000


LINES = [
    ("garbage", None, -32700),
    ("{", None, -32700),
    ("[" * 50_000, None, -32700),
    (f'{{"jsonrpc":"2.0","id":7,"method":"ping","params":{{"a":{DEEP}}}}}', 7, -32700),
    (f'{{"jsonrpc":"2.0","id":"é","method":"ping","params":{{"a":{LONG}}}}}', "é", -32700),
    ("null", None, -32600),
    ('[{"jsonrpc":"2.0","id":7,"method":"ping"}]', None, -32600),
    ('{"jsonrpc":"1.0","id":7,"method":"ping"}', 7, -32600),
    ('{"jsonrpc":"2.0","id":7,"method":"ping","params":[]}', 7, -32600),
    ('{"jsonrpc":"2.0","id":7}', 7, -32600),
    ('{"jsonrpc":"2.0","id":true}', None, -32600),
]


def test_line_that_is_no_message_is_answered_with_an_error(wire):
    for line, number, code in LINES:
        wire.send_line(line)
        answer = wire.receive()
        assert (answer["id"], answer["error"]["code"]) == (number, code), line[:200]
        assert "send" in answer["error"]["message"]
    assert wire.ask("ping")["result"] == {}


def test_empty_lines_and_notifications_are_not_answered(wire):
    wire.send_line("")
    wire.send_line("  \t")
    wire.send("notifications/nothing")
    wire.send_line(json.dumps({"jsonrpc": "2.0", "id": 1, "result": {}}))
    wire.send("ping", id="last")
    assert wire.receive()["id"] == "last"
