"""Checks of a command or snippet that is not run: it exists, and so do its options and names."""

import ast
import importlib
import re
import shlex
import subprocess
import sys
from functools import cache
from typing import Any

import typer

from tests.docs.pages import ROOT

GLAM: Any = typer.main.get_command(importlib.import_module("glam.app.cli.main").app)

TOOLS = frozenset({
    "cat", "cd", "cp", "curl", "docker", "du", "echo", "exit", "export", "git", "journalctl", "kubectl", "ls",
    "milvus-lite", "mkdir", "mv", "pip", "pipx", "pre-commit", "python3", "rm", "rsync", "sbatch", "source", "sudo",
    "systemctl", "tar", "test", "cmp",
})  # fmt: skip
"""Programs other than ours that pages may name."""

SEPARATORS = frozenset({"|", "||", "&&", ";", "&"})


def check_shell(text: str) -> None:
    """Check the commands of a shell block.

    Raises:
        AssertionError: a command or an option does not exist.
    """
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in simple_commands(text):
        check_command(command)


def simple_commands(text: str) -> list[list[str]]:
    """The words of each simple command; comments, here-documents, and assignments are left out."""
    text = re.sub(r"<<'?(\w+)'?(.*?)\n.*?^\1$", r"\2", text, flags=re.MULTILINE | re.DOTALL)
    commands: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars="|&;")
        words.whitespace_split = True
        words.commenters = ""
        current: list[str] = []
        for word in [*_without_comment(list(words)), ";"]:
            if word not in SEPARATORS:
                current.append(word)
                continue
            while current and re.fullmatch(r"[A-Z_]+=.*", current[0]):
                current.pop(0)
            if current:
                commands.append(current)
            current = []
    return commands


def _without_comment(words: list[str]) -> list[str]:
    at = next((i for i, word in enumerate(words) if word.startswith("#")), len(words))
    return words[:at]


def check_command(words: list[str]) -> None:
    """Check one command.

    Raises:
        AssertionError: it, or one of its options, does not exist.
    """
    program, *rest = words
    if program == "glam" and rest[:1] == ["train"]:
        known = train_options()
        for word in rest[1:]:
            option = word.partition("=")[0]
            if option.startswith("--"):
                parent = ".".join(option.split(".")[:2])  # --help-all lists no fields of --model.attention
                assert option in known or ("." in parent and parent in known), f"glam train has no {option}"
    elif program == "glam":
        parse_glam(rest)
    elif program == "make":
        targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert rest[0] in targets, f"the Makefile has no target {rest[0]}"
    elif program.endswith("python") and rest[0].endswith(".py"):
        script = (ROOT / rest[0]).read_text(encoding="utf-8")
        for option in (word.partition("=")[0] for word in rest if word.startswith("--")):
            assert f'"{option}"' in script, f"{rest[0]} has no {option}"
    elif program.endswith("python") and rest[0] == "-m":
        assert importlib.util.find_spec(rest[1]) is not None, f"no module {rest[1]}"
    else:
        assert program in TOOLS, f"{program} is neither a command of glam nor a known program"


def parse_glam(arguments: list[str]) -> dict[str, Any]:
    """Parameters of a call of `glam`, as click parses it.

    Raises:
        AssertionError: the command or an option does not exist, or an argument is missing.
    """
    command: Any = GLAM
    rest = list(arguments)
    name = "glam"
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        assert name in command.commands, f"glam has no command {' '.join(arguments)}"
        command = command.commands[name]
    try:
        parameters: dict[str, Any] = command.make_context(name, rest, resilient_parsing="--help" in rest).params
    except Exception as error:
        message = getattr(error, "message", "") or str(error) or type(error).__name__
        if type(error).__name__ == "Exit":  # --version prints and exits
            return {}
        raise AssertionError(f"glam {' '.join(arguments)}: {message}") from error
    return parameters


@cache
def train_options() -> frozenset[str]:
    """The options of `glam train`."""
    command = [sys.executable, "-m", "glam.app", "train", "--help-all"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return frozenset(re.findall(r"--[a-z_][\w.-]*", done.stdout)) | {"--help", "--help-all"}


def check_python(text: str) -> None:
    """Check a Python block: it parses, and every `glam` name in it exists.

    Raises:
        AssertionError: a name does not exist.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("glam"):
            for alias in node.names:
                _check_name(f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Attribute):
            dotted = ast.unparse(node)
            if re.fullmatch(r"glam(\.\w+)+", dotted):
                _check_name(dotted)


def _check_name(dotted: str) -> None:
    found: Any = importlib.import_module("glam")
    path = "glam"
    for part in dotted.split(".")[1:]:
        path = f"{path}.{part}"
        if not hasattr(found, part):
            assert importlib.util.find_spec(path) is not None, f"no {path}"
            importlib.import_module(path)
        found = getattr(found, part)
