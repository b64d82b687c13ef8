"""A full disk is told as one, with what to do, whoever noticed it."""

from __future__ import annotations

import errno
import sys

import pytest

from byheart_store import StoreUnavailable
from byheart_store.tables.database import storage_errors

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="numbers of POSIX")


def told(error: Exception) -> str:
    with pytest.raises(StoreUnavailable) as caught, storage_errors("/home/lena/byheart/db"):
        raise error
    return str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError(errno.EFBIG, "File too large"),
        RuntimeError("lance error: No space left on device (os error 28), /x/y/local.rs:1:2\nmore"),
    ],
)
def test_a_full_disk_is_told_with_what_to_do(error: Exception) -> None:
    said = told(error)
    assert said.startswith("the disk is full")
    assert "make room where /home/lena/byheart/db lies and try again" in said
    assert ".rs" not in said


@pytest.mark.parametrize(
    "error", [PermissionError(errno.EACCES, "Permission denied"), RuntimeError("row 28 is odd")]
)
def test_no_other_failure_is_told_as_a_full_disk(error: Exception) -> None:
    assert "can't be used" in told(error)
