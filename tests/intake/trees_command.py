"""Runs `glam` commands in children of this process, which has imported everything: a command starts in milliseconds."""

import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

SPARE_MEMORY = 8 << 30
"""Address space that a command may add to what this process has, in bytes; a command that wants more fails."""

PAUSE = 0.01
"""Seconds between two looks at a command, and two disturbances; arbitrary."""


@dataclass(frozen=True)
class Result:
    """What a command did.

    Attributes:
        arguments: arguments of `glam`.
        code: exit code; the negative number of a signal; None if it did not end in time and was killed.
        out: standard output.
        err: standard error.
        seconds: time that it took.
    """

    arguments: tuple[str, ...]
    code: int | None
    out: str
    err: str
    seconds: float


def run_command(
    arguments: Sequence[str], seconds: float, meanwhile: Callable[[int], None] = lambda pid: None
) -> Result:
    """Runs a command.

    Args:
        arguments: arguments of `glam`.
        seconds: time after which it is killed.
        meanwhile: called every `PAUSE` seconds while it runs, with the id of its process.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            _be_command(arguments, out.fileno(), err.fileno())
        code: int | None = None
        while code is None and time.monotonic() - began < seconds:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                break
            meanwhile(pid)
            time.sleep(PAUSE)
        if code is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        elapsed = time.monotonic() - began
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "surrogateescape"))
        return Result(tuple(arguments), code, *texts, elapsed)


def load_commands() -> None:
    """Imports what commands import, so that they find it."""
    import glam.app.cli.main
    import glam.eval.folder
    import glam.index.operations.verify
    import glam.model
    import glam.training.cli  # noqa: F401


def _be_command(arguments: Sequence[str], out: int, err: int) -> None:
    """Runs a command in this process, and exits."""
    code: object = 1
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)  # tests replace them by objects of their own
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
        _limit_memory()
        sys.argv = ["glam", *arguments]
        import glam.app.cli.main

        glam.app.cli.main.main()
        code = 0
    except SystemExit as exit_:
        code = exit_.code or 0
    except BaseException:  # noqa: BLE001 - what the interpreter would do
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def _limit_memory() -> None:
    """Limits the address space of this process; no core files."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    statm = Path("/proc/self/statm")
    if statm.exists():
        limit = int(statm.read_text().split()[0]) * resource.getpagesize() + SPARE_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
