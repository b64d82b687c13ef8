"""The demonstration, as `byheart demo` runs it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from byheart_server.demo.conversation import QUESTIONS, SECRET, SESSIONS

BYHEART = [sys.executable, "-m", "byheart_server", "demo"]


@pytest.mark.slow
def test_the_demonstration_runs_to_its_end_within_a_minute() -> None:
    started = time.monotonic()
    done = subprocess.run(BYHEART, capture_output=True, text=True, check=False, timeout=110)

    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 60
    assert all(question.text in done.stdout for question in QUESTIONS)
    assert "claude mcp add byheart -- " in done.stdout
    assert "\x1b[" not in done.stdout
    assert max(len(line) for line in done.stdout.partition("Connect")[0].splitlines()) <= 100


@pytest.mark.slow
def test_it_leaves_the_store_of_its_user_alone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    environment = os.environ | {"BYHEART_HOME": str(home)}
    done = subprocess.run(BYHEART, capture_output=True, check=False, timeout=110, env=environment)
    assert done.returncode == 0
    assert not home.exists()


@pytest.mark.slow
def test_a_server_that_dies_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'serve' in sys.orig_argv:\n    os._exit(3)\n"
    )
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        BYHEART,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 1
    assert done.stderr == "byheart: the server did not answer: Connection closed\n"


def test_the_conversation_holds_together() -> None:
    turns = [turn for session in SESSIONS for turn in session.turns]
    keys = [turn.key for turn in turns if turn.key]
    assert 55 <= len(turns) <= 70
    assert len(keys) == len(set(keys))
    for place, turn in enumerate(turns):
        assert not turn.replaces or turn.replaces in [turn.key for turn in turns[:place]]
    for question in (*QUESTIONS, SECRET):
        assert question.answers
        assert set(question.answers) <= set(keys)
