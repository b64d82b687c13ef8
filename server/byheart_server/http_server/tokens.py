"""The bearer tokens of a server: read from a file or the environment, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from byheart_server.access.grants import Access, Grant
from byheart_store import InvalidInput
from byheart_store.inputs import checked_name

SHORTEST_TOKEN = 16
LONGEST_TOKEN = 1_000
LONGEST_FILE = 1_000_000

Secret = Annotated[
    str, Field(min_length=SHORTEST_TOKEN, max_length=LONGEST_TOKEN, pattern=r"^[!-~]*$")
]


class TokenEntry(BaseModel):
    """A token of the file. Its secret stands in plain (`token`) or as the SHA-256 of it."""

    # An error must not repeat a secret.
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    name: Annotated[str, Field(min_length=1, max_length=100)]
    access: Access
    namespaces: Literal["all"] | Annotated[list[str], Field(min_length=1)]
    token: Secret | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")] | None = None

    @field_validator("name")
    @classmethod
    def _printable(cls, name: str) -> str:
        if not name.isprintable() or name != name.strip():
            raise ValueError("has to be printable, without blanks around it")
        return name

    @field_validator("namespaces")
    @classmethod
    def _nameable(cls, namespaces: Any) -> Any:
        if isinstance(namespaces, list):
            return [checked_name(name, "namespaces") for name in namespaces]
        return namespaces

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.token is None) == (self.sha256 is None):
            raise ValueError("give either token or sha256")
        if self.access == "admin" and self.namespaces != "all":
            raise ValueError('admin access concerns the whole store; give "namespaces": "all"')
        return self

    @property
    def digest(self) -> bytes:
        """The SHA-256 of the secret."""
        if self.token is not None:
            return _digest(self.token.encode())
        return bytes.fromhex(self.sha256 or "")

    @property
    def grant(self) -> Grant:
        """What the token allows."""
        namespaces = None if self.namespaces == "all" else tuple(dict.fromkeys(self.namespaces))
        return Grant(self.name, self.access, namespaces)


class TokenFile(BaseModel):
    """The file of tokens."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    tokens: Annotated[list[TokenEntry], Field(min_length=1)]


class Tokens:
    """What each known token allows; holds digests, not the secrets."""

    def __init__(self, entries: Iterable[TokenEntry]) -> None:
        """The tokens of these entries.

        Raises:
            InvalidInput: two of them have the same name or the same secret.
        """
        self._grants: dict[bytes, Grant] = {}
        names: set[str] = set()
        for entry in entries:
            if entry.name in names:
                raise InvalidInput(f"two tokens are named {entry.name!r}; rename one of them")
            if entry.digest in self._grants:
                raise InvalidInput(
                    f"the token {entry.name!r} has the secret of another; give it one of its own"
                )
            names.add(entry.name)
            self._grants[entry.digest] = entry.grant

    def __len__(self) -> int:
        return len(self._grants)

    def grant_of(self, secret: bytes) -> Grant | None:
        """What a secret allows; takes as long for a wrong one as for a right one."""
        digest = _digest(secret)
        found = None
        for known, grant in self._grants.items():
            if hmac.compare_digest(known, digest):
                found = grant
        return found


def read_tokens(path: Path | None, environ: Mapping[str, str] = os.environ) -> Tokens:
    """The tokens of a file, and BYHEART_TOKEN: one token with access to everything.

    Raises:
        InvalidInput: the file is not readable as described, or others may read it.
    """
    entries = _entries(path) if path else []
    secret = environ.get("BYHEART_TOKEN")
    if secret:
        given = {"name": "BYHEART_TOKEN", "access": "admin", "namespaces": "all", "token": secret}
        try:
            entries.append(TokenEntry.model_validate(given))
        except ValidationError as error:
            raise InvalidInput(f"BYHEART_TOKEN: {_complaint(error)}") from None
    try:
        return Tokens(entries)
    except InvalidInput as error:
        raise InvalidInput(f"{path or 'BYHEART_TOKEN'}: {error}") from None


def _entries(path: Path) -> list[TokenEntry]:
    content = _private(path)
    try:
        return list(TokenFile.model_validate_json(content).tokens)
    except ValidationError as error:
        raise InvalidInput(f"{path}: {_complaint(error)}; mend that and start again") from None


def _private(path: Path) -> bytes:
    """The content of a file that nobody but its owner may read."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise InvalidInput(
                    f"{path} may be read or written by others; run: chmod 600 {path}"
                )
            content = file.read(LONGEST_FILE + 1)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}; name the file of the tokens") from None
    if len(content) > LONGEST_FILE:
        raise InvalidInput(f"{path} is longer than {LONGEST_FILE:,} bytes; it is no file of tokens")
    return content


def _complaint(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False, include_context=False)[0]
    field = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    return f"{field}: {message}" if field else message


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()
