"""The file of tokens, and what `serve --http` refuses to start with."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from byheart_server.access.grants import Grant
from byheart_server.http_server.listening import Listening, parse_address
from byheart_server.http_server.tokens import read_tokens
from byheart_store import InvalidInput

from ..conftest import Call
from .serving import token_file

SECRET = "a-secret-of-many-characters"
ANA: dict[str, Any] = {"name": "ana", "access": "write", "namespaces": ["a"], "token": SECRET}
REFUSED: dict[str, tuple[Any, str]] = {
    "a short secret": ([ANA | {"token": "short"}], "tokens.0.token: "),
    "an empty secret": ([ANA | {"token": ""}], "tokens.0.token: "),
    "a secret that no header carries": ([ANA | {"token": "ä" * 16}], "tokens.0.token: "),
    "no secret": ([ANA | {"token": None}], "give either token or sha256"),
    "two secrets": ([ANA | {"sha256": "0" * 64}], "give either token or sha256"),
    "a digest that is none": ([ANA | {"token": None, "sha256": "abc"}], "tokens.0.sha256: "),
    "an unknown access": ([ANA | {"access": "root"}], "tokens.0.access: "),
    "an unknown field": ([ANA | {"expires": "soon"}], "tokens.0.expires: "),
    "no namespace": ([ANA | {"namespaces": []}], "tokens.0.namespaces"),
    "a blank namespace": ([ANA | {"namespaces": [" "]}], "namespaces: "),
    "namespaces left out": ([{k: v for k, v in ANA.items() if k != "namespaces"}], "namespaces"),
    "an admin of one namespace": ([ANA | {"access": "admin"}], '"namespaces": "all"'),
    "a name twice": ([ANA, ANA | {"token": SECRET * 2}], "two tokens are named 'ana'"),
    "a secret twice": ([ANA, ANA | {"name": "b"}], "has the secret of another"),
    "the digest of a secret": (
        [ANA, ANA | {"name": "b", "token": None, "sha256": sha256(SECRET.encode()).hexdigest()}],
        "has the secret of another",
    ),
}


@pytest.fixture
def command(
    command_at: Callable[[Path], Call], home: Path, monkeypatch: pytest.MonkeyPatch
) -> Call:
    for name in ("BYHEART_TOKEN", "BYHEART_TOKENS"):
        monkeypatch.delenv(name, raising=False)
    return command_at(home)


def test_a_secret_gives_its_grant(tmp_path: Path) -> None:
    hashed = sha256(b"another-secret-of-ops").hexdigest()
    ops = {"name": "ops", "access": "admin", "namespaces": "all", "sha256": hashed}
    tokens = read_tokens(token_file(tmp_path, [ANA, ops]), {})
    assert tokens.grant_of(SECRET.encode()) == Grant("ana", "write", ("a",))
    assert tokens.grant_of(b"another-secret-of-ops") == Grant("ops", "admin", None)
    assert tokens.grant_of(hashed.encode()) is None
    assert tokens.grant_of(b"") is None


def test_the_environment_gives_one_for_everything(tmp_path: Path) -> None:
    tokens = read_tokens(None, {"BYHEART_TOKEN": SECRET})
    assert tokens.grant_of(SECRET.encode()) == Grant("BYHEART_TOKEN", "admin", None)
    assert not read_tokens(None, {})


@pytest.mark.parametrize("problem", REFUSED)
def test_a_file_with_a_problem_is_refused_without_its_secrets(tmp_path: Path, problem: str) -> None:
    tokens, message = REFUSED[problem]
    file = token_file(tmp_path, tokens)
    with pytest.raises(InvalidInput) as refused:
        read_tokens(file, {})
    assert message in str(refused.value)
    assert str(file) in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"tokens": []}', '{"tokens": 1}', "{" * 99])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    file = token_file(tmp_path)
    file.write_text(content)
    with pytest.raises(InvalidInput, match=r"tokens\.json: "):
        read_tokens(file, {})


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX's")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = token_file(tmp_path)
    file.chmod(mode)
    with pytest.raises(InvalidInput, match=f"run: chmod 600 {file}"):
        read_tokens(file, {})


def test_elsewhere_is_served_only_with_a_token(command: Call, tmp_path: Path) -> None:
    for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:8000", "memory.example:80"):
        refused = command("serve", "--http", address)
        assert refused.code == 2
        assert "give --tokens FILE or BYHEART_TOKEN, or listen on 127.0.0.1" in refused.err
    Listening(host="0.0.0.0", port=0, tokens=read_tokens(token_file(tmp_path), {}))


@pytest.mark.parametrize(
    "address", ["", "8000", "localhost", "localhost:", ":http", ":65536", ":-1"]
)
def test_an_address_that_is_none_is_refused(command: Call, address: str) -> None:
    refused = command("serve", "--http", address)
    assert refused.code == 2
    assert "write 127.0.0.1:8000 or :0" in refused.err


def test_an_address_is_read() -> None:
    assert parse_address(":0") == ("127.0.0.1", 0)
    assert parse_address("[::1]:80") == ("::1", 80)
    assert parse_address("localhost:8000") == ("localhost", 8000)


def test_an_address_in_use_is_told(command: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = command("serve", "--http", f"127.0.0.1:{taken.getsockname()[1]}")
    assert refused.code == 1
    assert "Address already in use" in refused.err


def test_a_short_secret_in_the_environment_is_refused(
    command: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BYHEART_TOKEN", "hunter2")
    refused = command("serve", "--http", ":0")
    assert (refused.code, "hunter2" in refused.err) == (2, False)
