"""The help pages: one style, answered at once, with the options that people use."""

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import glam as package
from glam.app.cli.main import COMMON, app
from glam.app.cli.train import common_options
from glam.training.configs import bundled_configs
from glam.training.options import DataOptions, ModelOptions

GLAM = str(Path(sys.executable).with_name("glam"))


def run(*arguments: str, code: int = 0, **environment: str) -> str:
    done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "80", **environment}, prog_name="glam")
    assert done.exit_code == code, done.output
    return done.stdout


def pages(command: Any = None, name: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The words that call each command and each group, and the command."""
    command = command or typer.main.get_command(app)
    yield name, command
    for child_name, child in getattr(command, "commands", {}).items():
        yield from pages(child, (*name, child_name))


PAGES = dict(pages())


def test_all_commands_are_visited() -> None:
    assert len(PAGES) > 30
    assert ("index", "precompute") in PAGES


@pytest.mark.parametrize("name", PAGES, ids=" ".join)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_a_page_has_one_style(name: tuple[str, ...], option: str) -> None:
    page = run(*name, option)
    assert page.startswith(f"Usage: {' '.join(('glam', *name))} [OPTIONS]")
    assert not re.search(r"<\w+>|[{}]|\[\[", page), "types and brackets of Typer"
    assert "-h, --help" in page
    assert max(map(len, page.splitlines())) <= 80


@pytest.mark.parametrize("name", PAGES, ids=" ".join)
def test_every_value_has_a_name_in_upper_case_and_a_help_text(name: tuple[str, ...]) -> None:
    for parameter in PAGES[name].params:
        if PAGES[name].hidden or parameter.name in ("install_completion", "show_completion"):
            continue
        assert parameter.help, parameter.name
        assert parameter.help[0].isupper() or parameter.param_type_name == "argument" or "cpu" in parameter.help
        if not getattr(parameter, "is_flag", False):
            words = re.findall(r"\w+", parameter.metavar or "")
            is_choice = "|" in (parameter.metavar or "")
            assert words, parameter.name
            assert is_choice or all(word == word.upper() for word in words), parameter.metavar


def test_defaults_are_shown() -> None:
    page = " ".join(run("index", "build", "-h").split())
    for default in ("[default: glam-lite0]", "[default: the model's]", "[default: by number of images]"):
        assert default in page
    assert "--serve / --no-serve" in run("demo", "-h")
    assert "[default: serve]" in run("demo", "-h")
    assert "[default: False]" not in run("search", "-h")
    assert "GLAM_READ_TOKEN" in run("serve", "-h")


def test_common_commands_come_first() -> None:
    page = run("--help")
    common, advanced = page.split("Advanced:")
    assert re.findall(r"^  ([a-z-]+)  ", common, re.MULTILINE) == list(COMMON)
    assert all(f"  {name} " in advanced for name in ("adapt", "describe", "export", "data", "whiten", "bench"))
    assert "\n  keep " not in run("index", "-h")


@pytest.mark.parametrize("name", [name for name in PAGES if hasattr(PAGES[name], "commands")], ids=" ".join)
def test_a_bare_group_shows_its_help(name: tuple[str, ...]) -> None:
    assert run(*name) == run(*name, "--help")


def test_a_wrong_command_is_still_wrong() -> None:
    run("serch", code=2)
    run("index", "snyc", code=2)
    run("--debug", code=2)


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version").strip() == f"glam {package.__version__}"


def test_a_shell_completes_commands() -> None:
    environment = {**os.environ, "_GLAM_COMPLETE": "complete_bash", "COMP_WORDS": "glam index s", "COMP_CWORD": "2"}
    done = subprocess.run([GLAM], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["sync"]
    assert "--install-completion" in run("--help")


def test_the_help_of_train_fits_a_screen() -> None:
    page = run("train", "--help")
    assert len(page.splitlines()) <= 40
    for option in ("--config", "--data.train", "--out", "--resume", "--trainer.max_epochs", "--help-all"):
        assert re.search(rf"^  {re.escape(option)}\b", page, re.MULTILINE), option
    assert all(name in " ".join(page.split()) for name in bundled_configs())


def test_help_loads_neither_pytorch_nor_lightning() -> None:
    program = (
        "import sys\nfrom glam.app.cli.main import app\n"
        "try:\n    app(['train', '--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--data.train" in done.stdout


def test_the_options_of_train_exist_with_these_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    """Against the options that LightningCLI has, of which the page is a part."""
    from glam.training.cli import train
    from glam.training.module import LandmarkModule

    with pytest.raises(SystemExit):
        train(["--help"])
    everything = capsys.readouterr().out
    texts = {name.split()[0].rstrip(","): text for name, text in common_options()}
    for name in texts:
        assert re.search(rf"(^|\s|\[){re.escape(name)}[\s,]", everything) or name in ("-h", "--help-all"), name
    signature = inspect.signature(LandmarkModule.__init__).parameters
    defaults = {
        "--data.size": DataOptions.size,
        "--data.batch_size": DataOptions.batch_size,
        "--data.seed": DataOptions.seed,
        "--model.backbone": signature["backbone"].default,
        "--model.dim": signature["dim"].default,
        "--model.lr": ModelOptions.lr,
    }
    for name, default in defaults.items():
        assert f"[default: {default}]" in texts[name]
