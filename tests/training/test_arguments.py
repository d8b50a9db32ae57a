"""Arguments of `glam train`: an option that can be repeated."""

import pytest

from glam.training.arguments import with_one_list


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--x", "1"], ["--x", "1"]),
        (["--list", "*.png"], ['--list=["*.png"]']),
        (["--list", "#a", "--x", "1", "--list=!b"], ["--x", "1", '--list=["#a", "!b"]']),
        (['--list=["a/", "b=c"]', "--list", "[de].jpg"], ['--list=["a/", "b=c", "[de].jpg"]']),
        (["--list", "2019", "--list", "[1]"], ['--list=["2019", "[1]"]']),
        (["--list=[]"], ["--list=[]"]),
        (["--list"], ["--list"]),
        (["--list+", "a"], ["--list+", "a"]),
    ],
)
def test_a_repeated_option_becomes_one_list(arguments: list[str], expected: list[str]) -> None:
    assert with_one_list(arguments, "--list") == expected
