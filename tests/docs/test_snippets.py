"""Every command and snippet of README and the manual: run page by page, or checked if it cannot run here.

A page's blocks run from top to bottom in a scratch folder with ``photos/`` (one sub-folder per landmark), ``others/``,
``query.jpg``, ``hit.jpg``, and ``places.glam`` (an index of ``photos/``, unless the page builds it). ``glam serve`` is
started on a free port. A ``text`` block after a command is compared with its output; numbers may differ.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.command_check import check_command, check_python, check_shell, simple_commands
from tests.docs.command_server import write_shims
from tests.docs.pages import ROOT, Block, blocks, user_pages

TESTED_ELSEWHERE = frozenset({"bash", "yaml"})
"""Languages of the recipes that `tests/docs/test_many_machines.py` runs."""

OUTPUT, FILES = frozenset({"text"}), frozenset({"csv", "dockerfile", "ini", "json", "nginx"})

LANDMARKS = ("Colosseum", "Petra", "Pantheon", "Parthenon")
PAGES = {str(page.relative_to(ROOT)): page for page in user_pages()}
ALL = [block for page in PAGES.values() for block in blocks(page)]
RUN = [block for block in ALL if block.language in ("sh", "python") and not block.not_run]
CHECKED = [block for block in ALL if block.language in ("sh", "python") and block.not_run]
SECONDS = 120
"""Limit for one block."""

TERMINAL = {"FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "140"}
"""Output as on a terminal, which is what pages show: tables instead of tabs."""


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the programs `glam` and `python` for the shell of a page."""
    folder = tmp_path_factory.mktemp("server")
    address = folder / "socket"
    write_shims(folder / "programs", address)
    environment = {**os.environ, **TERMINAL, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.docs.command_server", str(address)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield folder / "programs"
        server.kill()


@pytest.fixture(scope="session")
def materials(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a page finds in its folder: small images."""
    folder = tmp_path_factory.mktemp("materials")
    shell = Shell(programs, folder)
    shell.run("glam data generate drawn --landmarks 6 --images 7 --size 160")
    for number, name in enumerate(LANDMARKS):
        (folder / "drawn" / f"landmark_{number:05}").rename(folder / "drawn" / name)
    shell.run("mkdir photos others; mv drawn/landmark_* others/; mv drawn/* photos/; rmdir drawn")
    shell.run("mv photos/Petra/0000.jpg query.jpg; cp photos/Petra/0001.jpg hit.jpg")
    return folder


class Shell:
    """The shell of one page.

    Args:
        programs: folder of `glam` and `python`.
        folder: working folder.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])
        self.pid_file = folder.parent / f"{folder.name}.pid"
        own = {"PATH": f"{programs}:{os.environ['PATH']}", "SNIPPET_PORT": self.port, "PYTHONPATH": str(ROOT)}
        self.environment = {**os.environ, **own, **TERMINAL, "OMP_NUM_THREADS": "1"}
        self.environment["SNIPPET_PID_FILE"] = str(self.pid_file)

    def run(self, script: str) -> str:
        """Run a script in bash and return its output, standard error included.

        Raises:
            AssertionError: it failed.
        """
        output = self.folder.parent / f"{self.folder.name}.output"
        with output.open("w") as out:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", script.replace(":8000", f":{self.port}")],
                cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                timeout=SECONDS, check=False,
            )  # fmt: skip
        text = output.read_text(errors="replace")
        assert done.returncode == 0, f"exit code {done.returncode}\n{script}\n{text}"
        return text

    def run_python(self, code: str) -> str:
        """Run a Python script and return its output; it fails like `run`."""
        script = self.folder.parent / f"{self.folder.name}.py"
        script.write_text(code.replace(":8000", f":{self.port}"), encoding="utf-8")
        return self.run(f"python {script}")

    def close(self) -> None:
        """End the service that the page started."""
        if self.pid_file.exists():
            pid = int(self.pid_file.read_text())
            os.kill(pid, signal.SIGTERM)
            for _ in range(100):
                if not Path(f"/proc/{pid}").exists():
                    return
                time.sleep(0.1)
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("page", sorted({block.page for block in RUN}))
def test_the_snippets_of_a_page_run(page: str, programs: Path, materials: Path, tmp_path: Path) -> None:
    folder = tmp_path / "page"
    shutil.copytree(materials, folder)
    shell = Shell(programs, folder)
    found = blocks(PAGES[page])
    try:
        if not any("glam index build places.glam" in block.text for block in found if block in RUN):
            shell.run("glam index build places.glam photos/")
        printed = None
        for block in found:
            if block.language == "text" and printed is not None:
                assert matches(block.text, printed), f"{block.place}: the output is\n{printed}"
            printed = None
            if block in RUN:
                try:
                    printed = shell.run(block.text) if block.language == "sh" else shell.run_python(block.text)
                except AssertionError as error:
                    raise AssertionError(f"{block.place}: {error}") from error
    finally:
        shell.close()


@pytest.mark.parametrize("block", [block for block in ALL if block.language == "sh"], ids=lambda block: block.place)
def test_commands_and_options_exist(block: Block) -> None:
    check_shell(block.text)


@pytest.mark.parametrize("block", [block for block in CHECKED if block.language == "python"], ids=lambda b: b.place)
def test_names_of_snippets_that_are_not_run_exist(block: Block) -> None:
    check_python(block.text)


def test_every_block_has_a_language_and_none_is_indented(capsys: pytest.CaptureFixture[str]) -> None:
    """An indented block, or one of an unknown language, would be neither run nor checked."""
    known = {"sh", "python"} | TESTED_ELSEWHERE | OUTPUT | FILES
    assert [block.place for block in ALL if block.language not in known] == []
    for name, page in PAGES.items():
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        assert re.findall(r"^ {4}\S.*", text, re.MULTILINE) == [] or name.startswith("docs/reference"), name
    with capsys.disabled():
        print(f"\nsnippets: {len(RUN)} run, {len(CHECKED)} only checked")


def matches(expected: str, printed: str) -> bool:
    """Whether an output is what a page shows: numbers and runs of spaces may differ, ``...`` stands for anything."""
    lines = [line.strip() for line in printed.splitlines()]
    position = 0
    for line in expected.splitlines():
        if line.strip() in ("", "..."):
            continue
        parts = re.split(r"(\.\.\.|-?\d+(?:\.\d+)?|\s+)", line.strip())
        pattern = "".join(
            ".*" if part == "..." else r"-?[\d.]+" if re.fullmatch(r"-?\d+(?:\.\d+)?", part)
            else r"\s+" if part.isspace() else re.escape(part)
            for part in parts if part
        )  # fmt: skip
        position = next((i + 1 for i in range(position, len(lines)) if re.fullmatch(pattern, lines[i])), -1)
        if position < 0:
            return False
    return True


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a 1 b", "a  22   b", True),
        ("a\n...\nc", "a\nb\nc", True),
        ("a 1\nb 2", "b 2\na 1", False),
        ("Rome ... 0.5", "Rome/1.jpg x 0.123", False),
        ("Rome... 0.5", "Rome/1.jpg 0.123", True),
    ],
)
def test_matches(expected: str, printed: str, same: bool) -> None:
    assert matches(expected, printed) is same


@pytest.mark.parametrize(
    "command",
    [
        ["glam", "find", "a"],
        ["glam", "search", "a", "b", "--rerankk", "c"],
        ["glam", "index", "build", "a"],
        ["glam", "train", "--data.trian", "photos"],
        ["make", "everything"],
        ["python", "benchmarks/search.py", "--none-such"],
        ["notaprogram"],
    ],
)
def test_a_wrong_command_is_found(command: list[str]) -> None:
    with pytest.raises(AssertionError):
        check_command(command)


def test_a_wrong_name_is_found() -> None:
    check_python("import glam\nglam.index.open('a')\nfrom glam.eval import evaluate_folder")
    with pytest.raises(AssertionError):
        check_python("import glam\nglam.index.opens('a')")


def test_simple_commands() -> None:
    text = "A=1 glam x --y 'a b' # comment\nls | cat && \\\n  echo z\ncat > f <<'END'\nnot a command\nEND\n"
    assert simple_commands(text) == [
        ["glam", "x", "--y", "a b"],
        ["ls"],
        ["cat"],
        ["echo", "z"],
        ["cat", ">", "f"],
    ]
