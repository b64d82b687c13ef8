"""The entry point of the `byheart` command: runs it and turns errors into one line."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

import click

from byheart_server.commands import cli
from byheart_store import ByHeartError, InvalidInput

_FAILED = 1
_REFUSED = 2
_INTERRUPTED = 130


def main() -> None:
    """Run the command line of this process and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        # A Windows code page can't print every memory.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 refused, 130 interrupted."""
    try:
        code = cli.main(list(arguments), prog_name="byheart", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return _REFUSED
    except click.UsageError as error:
        return _complain(_usage(error), _REFUSED)
    except click.ClickException as error:
        return _complain(error.format_message(), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _INTERRUPTED
    except InvalidInput as error:
        return _complain(str(error), _REFUSED)
    except ByHeartError as error:
        return _complain(str(error), _FAILED)
    except BrokenPipeError:
        return _reader_left()
    except OSError as error:
        return _complain(_system(error), _FAILED)
    return code if isinstance(code, int) else 0


def _complain(message: str, code: int) -> int:
    click.echo(f"byheart: {' '.join(message.split())}", err=True)
    return code


def _usage(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx else "byheart"
    return f"{error.format_message().rstrip('.')}; see: {path} --help"


def _system(error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.filename is None:
        return f"{reason}; mend that and try again"
    return f"{error.filename}: {reason}; give another path or mend this one"


def _reader_left() -> int:
    # Python would complain once more when it flushes the closed pipe at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _FAILED


if __name__ == "__main__":
    main()
