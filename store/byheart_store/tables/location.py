"""Where the tables lie: in a folder of this machine, in a bucket, or behind a database service."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from byheart_store.errors import InvalidInput, StoreUnavailable
from byheart_store.home import Home

if TYPE_CHECKING:
    from lancedb import AsyncConnection

DISK = "file"
SERVICE = "db"

INDEX_CACHE = 512 << 20
"""Bytes at the most; what a million memories are searched by fits, and a small store takes none."""

METADATA_CACHE = 32 << 20

REQUEST_SECONDS = 30.0
"""The longest that one request to a bucket may take; the engine asks again a few times."""

LEASE_REQUEST_SECONDS = 2.5
"""As above for the write lock, which has to know in time that it can't be kept."""

_TOLD_BY_SERVICE = re.compile(r"<Message>(.*?)</Message>")

_ASKED = re.compile(r"https?://[^/\s?]+")

_ROLE = "BYHEART_CREDENTIALS"
"""Set to `machine` where the machine itself may use the bucket, and no key is needed."""


@dataclass(frozen=True, slots=True)
class _Service:
    """What a scheme takes from the environment.

    `keys` are sets of variables of which one has to be there whole. Options of the engine are
    named as the variables are, in lower case, but for the `aliases`.
    """

    title: str
    keys: Sequence[Sequence[str]]
    options: Sequence[str] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    lock: str | None = None

    def read(self, environ: Mapping[str, str]) -> dict[str, str]:
        keys = (name for names in self.keys for name in names)
        names = dict.fromkeys([*self.aliases, *self.options, *keys])
        # What has a name of its own is read last, and counts.
        return {
            self.aliases.get(name, name.lower()): environ[name]
            for name in names
            if environ.get(name)
        }

    def check_key(self, environ: Mapping[str, str]) -> None:
        if environ.get(_ROLE) == "machine":
            return
        if any(all(map(environ.get, names)) for names in self.keys):
            return
        begun = [names for names in self.keys if any(map(environ.get, names))]
        if begun:
            lacking = " and ".join(name for name in begun[0] if not environ.get(name))
            raise StoreUnavailable(f"{self.title} needs {lacking} as well; set it and try again")
        ways = ", or ".join(" and ".join(names) for names in self.keys)
        own = f", or {_ROLE}=machine where the machine has rights of its own" if self.lock else ""
        raise StoreUnavailable(f"{self.title} needs a key; set {ways}{own}")


_SERVICES = {
    "s3": _Service(
        "S3",
        keys=[
            ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
            ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",),
        ],
        options=("AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT"),
        aliases={
            "AWS_DEFAULT_REGION": "aws_region",
            "AWS_ENDPOINT_URL": "aws_endpoint",
            "AWS_ENDPOINT_URL_S3": "aws_endpoint",
        },
        lock="S3Store",
    ),
    "gs": _Service(
        "Google Cloud Storage",
        keys=[
            ("GOOGLE_APPLICATION_CREDENTIALS",),
            ("GOOGLE_SERVICE_ACCOUNT",),
            ("GOOGLE_SERVICE_ACCOUNT_KEY",),
        ],
        lock="GCSStore",
    ),
    "az": _Service(
        "Azure Blob Storage",
        keys=[
            ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT_KEY"),
            ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_SAS_TOKEN"),
            (
                "AZURE_STORAGE_ACCOUNT_NAME",
                "AZURE_CLIENT_ID",
                "AZURE_CLIENT_SECRET",
                "AZURE_TENANT_ID",
            ),
        ],
        options=("AZURE_STORAGE_ENDPOINT",),
        lock="AzureStore",
    ),
    SERVICE: _Service(
        "LanceDB Cloud",
        keys=[("LANCEDB_API_KEY",)],
        options=("LANCEDB_REGION", "LANCEDB_HOST"),
    ),
}


@dataclass(frozen=True, slots=True)
class Location:
    """A folder or a URI, and the options with which the engine opens it; these hold secrets."""

    address: str
    scheme: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, home: Home, uri: str | None, environ: Mapping[str, str] = os.environ) -> Location:
        """The folder `db` of a home, or what a URI names, with its keys from the environment.

        Raises:
            InvalidInput: the URI names no place that there can be.
            StoreUnavailable: a key or a package that it takes is missing.
        """
        if uri is None:
            return cls(str(home.tables), DISK)
        scheme, name = _parsed(uri)
        service = _SERVICES[scheme]
        if service.lock and importlib.util.find_spec("obstore") is None:
            raise StoreUnavailable(
                f"{scheme}:// needs a package more; install it: pip install 'byheart[cloud]'"
            )
        service.check_key(environ)
        options = service.read(environ)
        if scheme == "s3":
            options = _with_region(options)
        return cls(f"{scheme}://{name}", scheme, options)

    @property
    def is_disk(self) -> bool:
        """Whether the tables are files of this machine, to be forced to its disk and mended."""
        return self.scheme == DISK

    @property
    def is_service(self) -> bool:
        """Whether a database service looks after indexes and fragments by itself."""
        return self.scheme == SERVICE

    @property
    def is_bucket(self) -> bool:
        """Whether the tables are objects of a store that puts on a condition."""
        return not self.is_disk and not self.is_service

    @property
    def spans_hosts(self) -> bool:
        """Whether servers on other machines may share the tables."""
        return not self.is_disk

    async def connect(self) -> AsyncConnection:
        """Open the database.

        Raises:
            StoreUnavailable: it can't be reached.
        """
        import lancedb

        try:
            if self.is_service:
                return await lancedb.connect_async(
                    self.address,
                    api_key=self.options.get("lancedb_api_key"),
                    region=self.options.get("lancedb_region", "us-east-1"),
                    host_override=self.options.get("lancedb_host"),
                )
            # Zero means that every read looks for commits of other processes first.
            return await lancedb.connect_async(
                self.address,
                read_consistency_interval=timedelta(0),
                storage_options=self._engine_options() if self.is_bucket else None,
                session=lancedb.Session(
                    index_cache_size_bytes=INDEX_CACHE, metadata_cache_size_bytes=METADATA_CACHE
                ),
            )
        except ValueError as error:
            raise self.unreachable(error) from error

    def unreachable(self, error: Exception) -> StoreUnavailable:
        """What is told when the bucket or the service refuses or does not answer."""
        reason = _reason(error)
        return StoreUnavailable(
            f"{self.address} can't be used: {reason}; check that it is there, what the key may "
            "do, and the network"
        )

    def objects(self) -> Any:
        """An `obstore` store of what lies beside the tables in the bucket."""
        from obstore import store

        bucket, _, path = self.address.partition("://")[2].partition("/")
        kind = getattr(store, _SERVICES[self.scheme].lock or "")
        patience = timedelta(seconds=LEASE_REQUEST_SECONDS)
        return kind(
            bucket,
            prefix=path or None,
            config=dict(self.options),
            client_options={
                "allow_http": self._allows_http(),
                "timeout": patience,
                "connect_timeout": patience,
            },
            retry_config={"max_retries": 2, "retry_timeout": patience},
        )

    def _engine_options(self) -> dict[str, str]:
        seconds = f"{REQUEST_SECONDS:.0f}s"
        options = {"timeout": seconds, "connect_timeout": "5s", "client_max_retries": "3"}
        if self._allows_http():
            options["allow_http"] = "true"
        return {**self.options, **options}

    def _allows_http(self) -> bool:
        """Only where somebody has asked for it by the endpoint that they gave."""
        return any(value.startswith("http://") for value in self.options.values())


def _parsed(uri: str) -> tuple[str, str]:
    scheme, mark, name = uri.partition("://")
    scheme = scheme.lower()
    if not mark or scheme not in _SERVICES:
        raise InvalidInput(
            f"--uri: {uri!r} is no place for a store; give s3://BUCKET/PATH, gs://BUCKET/PATH, "
            "az://CONTAINER/PATH or db://NAME; a folder is given by --home DIR"
        )
    name = name.strip("/")
    if not name:
        what = "the database" if scheme == SERVICE else "the bucket"
        raise InvalidInput(f"--uri: {uri!r} does not name {what}; write {_example(scheme)}")
    if any(mark in name for mark in "?#@") or ".." in name.split("/"):
        raise InvalidInput(
            f"--uri: {uri.split('@')[-1]!r} may hold a name and a path alone; write "
            f"{_example(scheme)}; keys are read from the environment"
        )
    return scheme, name


def _example(scheme: str) -> str:
    return {"db": "db://NAME", "az": "az://CONTAINER/PATH"}.get(scheme, f"{scheme}://BUCKET/PATH")


def _with_region(options: dict[str, str]) -> dict[str, str]:
    if "aws_region" in options:
        return options
    if "aws_endpoint" not in options:
        raise StoreUnavailable("S3 needs a region; set AWS_REGION to that of the bucket")
    return {**options, "aws_region": "us-east-1"}


def _reason(error: Exception) -> str:
    """The heart of what the engine says, on one line."""
    said = (
        " ".join(str(error).partition("Debug source:")[0].split()).replace('\\"', '"')
        or type(error).__name__
    )
    if told := _TOLD_BY_SERVICE.search(said):
        return told[1][:300]
    asked = _ASKED.search(said)
    return f"no answer from {asked[0]}" if asked and "status" not in said.lower() else said[:300]
