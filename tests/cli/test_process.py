"""The command as a process of its own: interrupts, closed pipes, start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

BYHEART = [sys.executable, "-m", "byheart_server"]


def test_the_module_runs_as_the_command() -> None:
    done = subprocess.run([*BYHEART, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: byheart")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_an_interrupt_ends_it_quietly(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [*BYHEART, "remember", "-", "--home", str(tmp_path)], stdin=pipe, stdout=pipe, stderr=pipe
    )
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=3)  # it waits for the text
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err.strip()) == (130, b"", b"")


def test_a_reader_that_leaves_is_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"text": "{number} {"x" * 20_000}"}}\n' for number in range(20)))
    home = ["--home", str(tmp_path / "home")]
    subprocess.run([*BYHEART, "import", str(path), *home], check=True, capture_output=True)

    pipe = subprocess.PIPE
    process = subprocess.Popen([*BYHEART, "export", *home], stdout=pipe, stderr=pipe)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    complaint = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=20) == 1
    assert complaint == b""
