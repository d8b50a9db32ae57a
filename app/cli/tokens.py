"""Access tokens: where the commands take them from, and how they keep them out of sight."""

import ctypes
import os
import re
import sys
from pathlib import Path

from glam.errors import GlamError

COOKIE_VALUE = re.compile(r"[!#-+\--:<-\[\]-~]+")
"""Valid value of a cookie (RFC 6265): the page stores its token in one."""

HIDDEN = "*"
"""Character that hides a token in the command line."""


def find_token(option: str, value: str | None, file: Path | None) -> str | None:
    """The token of an option, of its file, of an environment variable, or of the file that a variable names.

    Args:
        option: name of the option, such as ``--read-token``. The variable of ``--read-token`` is ``GLAM_READ_TOKEN``.
        value: value of the option or the variable; None if neither is given, or if the variable is empty.
        file: value of the option with ``-file`` at its end, or of its variable; None as for ``value``.

    Returns:
        The token; None if there is no source for one.

    Raises:
        GlamError: a source is empty or cannot be read, there are several, or a cookie cannot hold the token.
    """
    variable = "GLAM" + option.upper().replace("--", "-").replace("-", "_")
    sources: dict[str, str | Path] = {}
    in_environment, file_in_environment = os.environ.get(variable), os.environ.get(f"{variable}_FILE")
    if value is not None and value != in_environment:
        sources[option] = value
    if file is not None and str(file) != file_in_environment:
        sources[f"{option}-file"] = file
    if in_environment is not None:
        sources[variable] = in_environment
    if file_in_environment is not None:
        sources[f"{variable}_FILE"] = Path(file_in_environment)
    if not sources:
        return None
    if len(sources) > 1:
        raise GlamError(f"{' and '.join(sources)} are both set. Set one of them.")
    ((name, source),) = sources.items()
    token = _read(name, source) if isinstance(source, Path) else source
    if not token.strip():
        raise GlamError(f"{name} is set, but empty. Set it to a token, or remove it to serve without one.")
    if not COOKIE_VALUE.fullmatch(token):
        raise GlamError(
            f"{name} has characters that a cookie cannot hold. "
            "Use visible ASCII characters without quotes, commas, semicolons, and backslashes."
        )
    return token


def hide_argument(secret: str | None) -> str | None:
    """Removes a secret from the command line, which every user of the machine can read and the lock of an index shows.

    Args:
        secret: value of an option; None and "" for none.

    Returns:
        The secret, so that the function can be the callback of an option.
    """
    if secret:
        for arguments in (sys.argv, sys.orig_argv):
            for i, argument in enumerate(arguments):
                if argument == secret or argument.endswith(f"={secret}"):
                    arguments[i] = argument.removesuffix(secret) + HIDDEN * len(secret)
        _overwrite_command_line(secret.encode("utf-8", "surrogateescape"))
    return secret


def _read(name: str, file: Path) -> str:
    if str(file) in ("", "."):
        raise GlamError(f"{name} is set, but empty. Set it to the path of a file with a token, or remove it.")
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a text"
        raise GlamError(f"{name} is {file}, which cannot be read ({reason}). Check the path and its mode.") from error


def _overwrite_command_line(secret: bytes) -> None:
    """Overwrites a secret in the memory from which Linux reads the command line of this process."""
    try:
        facts = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        start, end = int(facts[45]), int(facts[46])  # fields 48 and 49, arg_start and arg_end
        line = Path("/proc/self/cmdline").read_bytes()
    except (OSError, ValueError, IndexError):
        return  # not Linux
    if start and len(line) == end - start:
        for found in re.finditer(rb"(?<=[\0=])" + re.escape(secret) + rb"(?=\0)", line):
            ctypes.memset(start + found.start(), ord(HIDDEN), len(secret))
