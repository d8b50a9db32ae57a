"""What the commands print: plurals, sizes, escapes, and tables on a terminal and in a pipe."""

from pathlib import Path

import pytest
from rich.console import Console

from glam.app.cli import terminal
from glam.datasets.collection import Skipped


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


def test_what_a_scan_passed_over_is_one_line_by_reason(capsys: pytest.CaptureFixture[str]) -> None:
    found = Skipped(
        {".psd": 3, ".mov": 1_041, "": 2},
        excluded=12,
        links=(("album", "it leads to nothing"),),
        unlisted=(("new\nline", "permission denied"), ("b", "input/output error")),
    )
    terminal.skipped(found, unreadable_count=2)
    assert capsys.readouterr().err.splitlines() == [
        "skipped: 1,041 .mov, 3 .psd, 2 without a suffix (format not read), 2 unreadable, "
        "2 folders that could not be listed, 12 excluded, 1 link",
        "Folders that could not be listed:",
        "  new\\nline: permission denied",
        "  b: input/output error",
        "Links that were not followed:",
        "  album: it leads to nothing",
    ]


def test_nothing_is_said_if_nothing_was_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.skipped(Skipped())
    assert capsys.readouterr() == ("", "")


def test_rare_suffixes_are_counted_together(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.skipped(Skipped({f".{i:02}": 20 - i for i in range(9)}))
    assert capsys.readouterr().err.startswith("skipped: 20 .00, 19 .01,")
    terminal.skipped(Skipped({f".{i:02}": 20 - i for i in range(13)}))
    assert capsys.readouterr().err.endswith(" 13 .07, and 50 with 5 other suffixes (format not read)\n")
