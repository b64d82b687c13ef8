"""Where a store may lie, and what is said of a place that can't be used."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from byheart_store import ByHeartError, InvalidInput, StoreUnavailable
from byheart_store.home import Home
from byheart_store.tables.lease import Lease
from byheart_store.tables.location import Location

from ..conftest import Call

HOME = Path("/home/somebody/byheart")
AWS = {
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "hidden",
    "AWS_REGION": "eu-west-1",
}
AZURE = {"AZURE_STORAGE_ACCOUNT_NAME": "team", "AZURE_STORAGE_ACCOUNT_KEY": "hidden"}
GOOGLE = {"GOOGLE_APPLICATION_CREDENTIALS": "/keys/one.json"}
LANCEDB = {"LANCEDB_API_KEY": "hidden"}


@pytest.mark.parametrize(
    ("uri", "environ", "options"),
    [
        (
            "s3://bucket/team/memory/",
            AWS | {"AWS_SESSION_TOKEN": "short", "PATH": "/bin"},
            {
                "aws_access_key_id": "somebody",
                "aws_secret_access_key": "hidden",
                "aws_session_token": "short",
                "aws_region": "eu-west-1",
            },
        ),
        (
            "s3://bucket",
            AWS | {"AWS_REGION": "", "AWS_ENDPOINT_URL": "http://127.0.0.1:9000"},
            {
                "aws_access_key_id": "somebody",
                "aws_secret_access_key": "hidden",
                "aws_region": "us-east-1",
                "aws_endpoint": "http://127.0.0.1:9000",
            },
        ),
        (
            "S3://bucket/x",
            {"BYHEART_CREDENTIALS": "machine", "AWS_DEFAULT_REGION": "us-west-2"},
            {"aws_region": "us-west-2"},
        ),
        ("gs://bucket/x", GOOGLE, {"google_application_credentials": "/keys/one.json"}),
        (
            "az://container/x",
            AZURE,
            {"azure_storage_account_name": "team", "azure_storage_account_key": "hidden"},
        ),
        (
            "db://memories",
            LANCEDB | {"LANCEDB_REGION": "eu-west-1", "LANCEDB_HOST": "https://own.example"},
            {
                "lancedb_api_key": "hidden",
                "lancedb_region": "eu-west-1",
                "lancedb_host": "https://own.example",
            },
        ),
    ],
)
def test_keys_are_read_from_the_environment(
    uri: str, environ: dict[str, str], options: dict[str, str]
) -> None:
    location = Location.of(Home(HOME), uri, environ)
    assert location.options == options
    assert location.spans_hosts
    assert location.is_bucket == (location.scheme != "db")
    assert "hidden" not in repr(location)


def test_without_a_uri_a_store_lies_in_its_home() -> None:
    location = Location.of(Home(HOME), None, AWS)
    assert (location.address, location.is_disk, location.spans_hosts) == (
        str(HOME / "db"),
        True,
        False,
    )


def test_plain_http_is_spoken_only_where_the_endpoint_says_so() -> None:
    places = [
        Location.of(Home(HOME), "s3://bucket", AWS | {"AWS_ENDPOINT": f"{scheme}://127.0.0.1:9000"})
        for scheme in ("http", "https")
    ]
    # Only the engine is told, and only a server without encryption could tell the difference.
    assert [location._engine_options().get("allow_http") for location in places] == ["true", None]


@pytest.mark.parametrize(
    ("uri", "environ", "error", "says"),
    [
        ("ftp://host/x", {}, InvalidInput, "s3://BUCKET/PATH.*--home DIR"),
        ("/srv/memory", {}, InvalidInput, "--home DIR"),
        ("db", {}, InvalidInput, "--home DIR"),
        ("s3://", AWS, InvalidInput, "does not name the bucket; write s3://BUCKET/PATH"),
        ("az:///", AZURE, InvalidInput, "az://CONTAINER/PATH"),
        ("db://", LANCEDB, InvalidInput, "does not name the database; write db://NAME"),
        ("s3://bucket/../other", AWS, InvalidInput, "a name and a path alone"),
        ("s3://bucket/x?versionId=1", AWS, InvalidInput, "a name and a path alone"),
        (
            "s3://bucket/x",
            {"AWS_REGION": "eu-west-1"},
            StoreUnavailable,
            "S3 needs a key; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or .*BYHEART_CRED",
        ),
        (
            "s3://bucket/x",
            {"AWS_ACCESS_KEY_ID": "somebody", "AWS_REGION": "eu-west-1"},
            StoreUnavailable,
            "needs AWS_SECRET_ACCESS_KEY as well",
        ),
        ("s3://bucket/x", AWS | {"AWS_REGION": ""}, StoreUnavailable, "set AWS_REGION"),
        ("gs://bucket/x", {}, StoreUnavailable, "set GOOGLE_APPLICATION_CREDENTIALS"),
        (
            "az://container",
            {"AZURE_STORAGE_ACCOUNT_NAME": "team"},
            StoreUnavailable,
            "AZURE_STORAGE_ACCOUNT_KEY as well",
        ),
        ("db://memories", {}, StoreUnavailable, "LanceDB Cloud needs a key; set LANCEDB_API_KEY$"),
    ],
)
def test_a_place_that_can_not_be_used_is_refused_with_what_to_do(
    uri: str, environ: dict[str, str], error: type[ByHeartError], says: str
) -> None:
    with pytest.raises(error, match=says):
        Location.of(Home(HOME), uri, environ)


def test_a_secret_in_a_uri_is_not_repeated() -> None:
    with pytest.raises(InvalidInput, match="read from the environment") as refused:
        Location.of(Home(HOME), "s3://somebody:hidden@bucket/x", AWS)
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "environ"),
    [
        ("s3://bucket/x", AWS),
        ("az://container/x", AZURE | {"AZURE_STORAGE_ACCOUNT_KEY": "c2VjcmV0"}),
        ("gs://bucket/x", {"BYHEART_CREDENTIALS": "machine"}),
    ],
)
def test_the_lock_takes_the_options_of_the_engine(uri: str, environ: dict[str, str]) -> None:
    assert Location.of(Home(HOME), uri, environ).objects().prefix == "x"


async def test_a_key_that_is_none_is_told(tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    key.write_text('{"client_email": "a@b", "private_key_id": "1", "private_key": "none"}')
    location = Location.of(
        Home(HOME), "gs://bucket/x", {"GOOGLE_APPLICATION_CREDENTIALS": str(key)}
    )
    with pytest.raises(StoreUnavailable, match="gs://bucket/x can't be used") as refused:
        await Lease(location, "write").acquire(1)
    assert "Debug" not in str(refused.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "obstore" else find(name)
    )
    with pytest.raises(StoreUnavailable, match=r"pip install 'byheart\[cloud\]'"):
        Location.of(Home(HOME), "s3://bucket/x", AWS)
    assert Location.of(Home(HOME), "db://memories", LANCEDB).is_service


@pytest.fixture
def byheart(home: Path, command_at: Callable[[Path], Call], keys: dict[str, str]) -> Call:
    return command_at(home)


def test_commands_work_on_a_bucket(byheart: Call, uri: str, home: Path, tmp_path: Path) -> None:
    told = byheart("remember", "Ana likes tea", "--uri", uri, "--json").json
    found = byheart("recall", "What does Ana drink?", "--uri", uri, "--json").json
    assert found["hits"][0]["id"] == told["id"]
    assert byheart("stats", "--uri", uri, "--json").json["location"] == uri
    exported = byheart("export", "--uri", uri, "--output", tmp_path / "memories.jsonl")
    assert exported.code == 0
    assert byheart("forget", told["id"], "--purge", "--uri", uri).code == 0
    assert byheart("stats", "--uri", uri, "--json").json["memories"] == 0
    assert not (home / "db").exists()


@pytest.mark.parametrize("command", [("backup", "file"), ("restore", "file"), ("doctor",)])
def test_what_looks_at_files_is_refused_for_a_bucket(
    byheart: Call, uri: str, command: tuple[str, ...]
) -> None:
    refused = byheart(*command, "--uri", uri)
    assert refused.code == 2
    assert uri in refused.err


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_one_line(byheart: Call) -> None:
    refused = byheart("recall", "tea", "--uri", "s3://no-such-bucket/x")
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "s3://no-such-bucket/x can't be used: The specified bucket does not exist" in refused.err


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_told(
    byheart: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:9")
    refused = byheart("recall", "tea", "--uri", "s3://bucket/x")
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "no answer from http://127.0.0.1:9" in refused.err
