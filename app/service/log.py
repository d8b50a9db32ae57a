"""The log of the service on standard error: lines for people on a terminal, one line of JSON per record elsewhere.

glam.service, warnings, uvicorn --records--> formatter --> standard error
libraries --lines written to file descriptor 2--> pipe --records--------^      (not on a terminal)
"""

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Thread
from typing import Any, TextIO

LEVELS = {"glam.service": logging.INFO, "py.warnings": logging.WARNING, "uvicorn": logging.ERROR}
"""Loggers that are shown, and their lowest levels."""

LONGEST_LINE = 2_000
"""Most characters of a line that a library wrote; arbitrary."""

log = logging.getLogger("glam.service")


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record, with the values of ``extra={"facts": ...}``."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TerminalLines(logging.Formatter):
    """Formats a record as a line for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record: a request by its method, path, status, and duration; others with all their facts."""
        facts = dict(getattr(record, "facts", {}))
        text = record.getMessage()
        if text == "request":
            text = "{method} {path}  {status}  {milliseconds} ms  {client}".format_map(
                {"method": None, "path": None, "milliseconds": None, **facts}
            )
        elif facts:
            text += "  " + "  ".join(f"{name}: {value}" for name, value in facts.items())
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return f"{datetime.fromtimestamp(record.created):%H:%M:%S}  {text}"


@contextmanager
def log_to_stderr() -> Iterator[None]:
    """Context manager: inside the block, the service logs to standard error, and nothing else writes there."""
    if sys.stderr.isatty():
        with _handler(logging.StreamHandler(sys.stderr), TerminalLines()):
            yield
        return
    sys.stderr.flush()
    out = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    copier = Thread(target=_log_lines, args=(reading,), name="stderr", daemon=True)
    copier.start()
    try:
        with _handler(logging.StreamHandler(out), JsonLines()):
            yield
            sys.stderr.flush()
            os.dup2(out.fileno(), 2)  # ends the pipe
            copier.join(1.0)
    finally:
        os.dup2(out.fileno(), 2)
        out.close()


@contextmanager
def _handler(handler: "logging.StreamHandler[TextIO]", formatter: logging.Formatter) -> Iterator[None]:
    handler.setFormatter(formatter)
    logging.captureWarnings(True)
    loggers = [logging.getLogger(name) for name in LEVELS]
    usual = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    for logger, level in zip(loggers, LEVELS.values(), strict=True):
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        for logger, (handlers, propagate, level) in zip(loggers, usual, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
            logger.setLevel(level)


def _log_lines(reading: int) -> None:
    """Logs what libraries such as libtiff write to standard error."""
    with os.fdopen(reading, encoding="utf-8", errors="backslashreplace") as lines:
        for line in lines:
            if line.strip():
                log.warning("library message", extra={"facts": {"text": line.strip()[:LONGEST_LINE]}})
