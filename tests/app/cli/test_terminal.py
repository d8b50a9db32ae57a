"""What the commands print: plurals, sizes, escapes, and tables on a terminal and in a pipe."""

from pathlib import Path

import pytest
from rich.console import Console

from glam.app.cli import terminal


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "0 images"), (1, "1 image"), (2, "2 images"), (12345, "12,345 images")]
)
def test_plurals(number: int, expected: str) -> None:
    assert terminal.count(number, "image") == expected
    assert terminal.count(number, "query", "queries").endswith("query" if number == 1 else "queries")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (1_092_733, "1.1 MB"),
        (2_500_000_000, "2.5 GB"),
        (7_200_000_000_000_000, "7200.0 TB"),
    ],
)
def test_sizes(size: int, expected: str) -> None:
    assert terminal.file_size(size) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Köln & 東京 [a].jpg", "Köln & 東京 [a].jpg"),
        ("a\nb\tc.jpg", r"a\nb\tc.jpg"),
        ("\x1b[31mred.jpg", r"\x1b[31mred.jpg"),
        ("caf\udce9.jpg", r"caf\udce9.jpg"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
    ],
)
def test_names_are_escaped(name: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert terminal.escape(name) == expected
    terminal.say(name)
    terminal.table(["path"], [[name]])
    assert capsys.readouterr().out.splitlines() == [expected, "path", expected]


def test_markup_and_emoji_codes_in_names_are_printed_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "[red]12:key:.jpg"
    terminal.say(name)
    terminal.note(name)
    terminal.unreadable([(name, "no such file")])
    monkeypatch.setattr(
        terminal, "results", Console(force_terminal=True, color_system=None, markup=False, emoji=False, width=60)
    )
    terminal.table(["path"], [[name]])
    shown = capsys.readouterr()
    assert shown.out.count(name) == 2
    assert shown.err.splitlines() == [name, "1 file could not be read:", f"  {name}: no such file"]


def test_a_piped_table_has_a_line_with_tabs_per_row(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [["1", "x" * 300], ["2", "b"]]
    terminal.table(["rank", "path"], rows, title="title")
    assert capsys.readouterr().out.splitlines() == ["title", "rank\tpath", f"1\t{'x' * 300}", "2\tb"]
    terminal.table(["rank", "path"], rows, piped_header=False)
    assert capsys.readouterr().out.splitlines() == [f"1\t{'x' * 300}", "2\tb"]


def test_a_table_on_a_terminal_is_aligned(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "results", Console(force_terminal=True, color_system=None, width=40))
    terminal.table(["name", "mAP", "path"], [["a", "9.5", "x.jpg"], ["b", "10.5", "longer.jpg"]])
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[1:] == ["a      9.5  x.jpg", "b     10.5  longer.jpg"]


def test_paths_open_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert terminal.openable(tmp_path / "here" / "a" / "1.jpg") == "a/1.jpg"
    assert terminal.openable(tmp_path / "1.jpg") == str(tmp_path / "1.jpg")
