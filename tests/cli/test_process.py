"""The command as a process of its own: interrupts, closed pipes, start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from ..conftest import Call

BYHEART = [sys.executable, "-m", "byheart_server"]
# A terminal sends Ctrl-C as a signal only to the session that it controls: the one that opened it.
OWN_TERMINAL = """
import os, sys
os.close(os.open(os.ttyname(0), os.O_RDWR))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def test_the_module_runs_as_the_command() -> None:
    done = subprocess.run([*BYHEART, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: byheart")


def test_the_version_is_told_even_by_files_that_were_never_installed() -> None:
    done = subprocess.run([*BYHEART, "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("byheart 0")


def test_nothing_is_written_outside_the_store(tmp_path: Path) -> None:
    """ONNX Runtime's telemetry leaves a device id in its user's home; it spares only CI."""
    user = tmp_path / "user"
    user.mkdir()
    spared = ("CI", "GITHUB_ACTIONS", "ORT_RUNNING_UNIT_TESTS", "ORT_DISABLE_TELEMETRY")
    kept = {name: value for name, value in os.environ.items() if name not in spared}
    kept = {name: value for name, value in kept.items() if not name.startswith("XDG_")}
    subprocess.run(
        [*BYHEART, "remember", "x", "--home", str(tmp_path / "store")],
        env={**kept, "HOME": str(user)},
        check=True,
        capture_output=True,
    )
    assert list(user.rglob("*")) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_an_interrupt_ends_it_quietly(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [*BYHEART, "remember", "-", "--home", str(tmp_path)], stdin=pipe, stdout=pipe, stderr=pipe
    )
    assert process.stdin is not None
    process.stdin.write(b"half a sentence")
    process.stdin.flush()
    _await_reader(process.stdin.fileno())
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err.strip()) == (130, b"", b"")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize(
    ("answer", "code", "left"),
    [
        ("\x03", 130, 1),
        pytest.param("n\n", 1, 1, marks=pytest.mark.slow),
        pytest.param("y\n", 0, 0, marks=pytest.mark.slow),
    ],
)
def test_forgetting_at_a_terminal_is_asked_first(
    byheart: Call, home: Path, answer: str, code: int, left: int
) -> None:
    assert byheart("remember", "x").code == 0

    command = [*BYHEART, "forget", "--before", "2100-01-01", "--home", str(home)]
    assert at_a_terminal(command, answer) == code

    assert byheart("stats", "--json").json["memories"] == left


def _await_reader(pipe: int) -> None:
    """Wait until all that was written to a pipe is read, and whoever read it waits for more."""
    import fcntl
    import termios

    deadline = time.monotonic() + 60
    while any(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4))):
        assert time.monotonic() < deadline, "nobody reads"
        time.sleep(0.02)


def at_a_terminal(command: list[str], answer: str) -> int:
    """The exit code of a command that is answered when it asks something."""
    import pty

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", OWN_TERMINAL, *command[1:]],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    with process:
        said = b""
        while b"[y/N]" not in said and (heard := _heard(ours)):
            said += heard
        code = _answered(process, ours, answer)
    os.close(ours)
    assert b"[y/N]" in said, said.decode()
    return code


def _answered(process: subprocess.Popen[bytes], terminal: int, answer: str) -> int:
    """Answer until it is heard: what is typed while a prompt sets up the terminal is lost."""
    for _ in range(20):
        os.write(terminal, answer.encode())
        with suppress(subprocess.TimeoutExpired):
            return process.wait(timeout=2)
    process.kill()
    raise AssertionError("no answer was heard")


def _heard(terminal: int) -> bytes:
    """What the terminal shows next; nothing once its process has ended."""
    try:
        return os.read(terminal, 1024)
    except OSError:
        return b""


def test_a_reader_that_leaves_is_no_traceback(byheart: Call, home: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "{number} {"x" * 20_000}"}}\n' for number in range(20)))
    assert byheart("import", path).code == 0

    pipe = subprocess.PIPE
    command = [*BYHEART, "export", "--home", str(home)]
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    complaint = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=20) == 1
    assert complaint == b""
