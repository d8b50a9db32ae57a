"""Manifests: strict about columns, tolerant of how programs write CSV."""

from pathlib import Path

import pytest

from glam.datasets.collection import ImageFile
from glam.datasets.manifest import read_manifest, write_rows
from glam.errors import GlamError


def read(tmp_path: Path, content: str | bytes) -> tuple[ImageFile, ...]:
    file = tmp_path / "m.csv"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_manifest(file).images


@pytest.mark.parametrize(
    "content",
    [
        "path,landmark\na.jpg,tower\n\n",
        "\n\npath,landmark\n\na.jpg,tower\n   \n",
        "\ufeffpath,landmark\r\na.jpg,tower\r\n",
        "path,landmark\ra.jpg,tower\r",
        "path, landmark\na.jpg, tower\n",
        " path , landmark \n a.jpg, tower",
        'path,landmark\n"a.jpg","tower"\n',
        'path, landmark\n"a.jpg", "tower"\n',
        "path,landmark\n./a.jpg,tower\na.jpg,tower\n",
        "path,landmark\nb/./../a.jpg,tower\n".replace("b/./../", "././/"),
    ],
)
def test_one_image_however_it_is_written(tmp_path: Path, content: str) -> None:
    assert read(tmp_path, content) == (ImageFile("a.jpg", "tower"),)


def test_paths_have_one_form(tmp_path: Path) -> None:
    lines = ["path", "./a.jpg", "x//b.jpg", "x/./c.jpg", "x\\d.jpg", f"{tmp_path}/e.jpg", "v1./f.jpg"]
    assert [image.path for image in read(tmp_path, "\n".join(lines))] == [
        *("a.jpg", "x/b.jpg", "x/c.jpg", "x/d.jpg", "e.jpg", "v1./f.jpg")
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,place,year\na.jpg,Agra, India,2010\n", "line 2 has 4 of 3 columns"),
        ("path,place\na.jpg,x\nb.jpg\n", "line 3 has 1 of 2 columns"),
        ('path,place\na.jpg,"x\nb.jpg,y\nc.jpg,z\n', "line 2 has a quote that is not closed"),
        ('path,place\na.jpg,x\n"b.jpg,y\n"c.jpg",z\n', "line 3 has a quote"),
        ("path\na.jpg\nb\0.jpg\n", "line 3 contains a NUL"),
        ("path,place,place\na.jpg,x,y\n", "two columns 'place'"),
        ("path,landmark\na.jpg,x\n./a.jpg,y\n", "line 3 gives a.jpg the landmark 'y'"),
        ("path\n.\n", "names the folder itself"),
        ("path,x\n,1\n", "line 2: the path is empty"),
        ("path\n/etc/passwd.jpg\n", "line 2: the path '/etc/passwd.jpg' leads out"),
        ("path,x\na.jpg," + "x" * 200_000, "line 2 has .*, or a field of more than 131,072 characters"),
        (b"p\0a\0t\0h\0\n\0", "NUL"),
        ("path\n\u00e9.jpg\n".encode("latin-1"), "not a text file in UTF-8"),
        ("path\na.jpg\n".encode("utf-16"), "not a text file in UTF-8"),
        ("path;place\na.jpg;x\n", "no column 'path'"),
        ("", "m.csv is empty"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(GlamError, match=message):
        read(tmp_path, content)


def test_a_quote_left_open_before_a_long_rest_is_said_with_its_line(tmp_path: Path) -> None:
    rest = "".join(f"{i}.jpg,x\n" for i in range(30_000))
    with pytest.raises(GlamError, match="line 2 has a quote"):
        read(tmp_path, f'path,place\na.jpg,"x\n{rest}')


def test_spaces_before_a_comma_belong_to_no_field(tmp_path: Path) -> None:
    assert read(tmp_path, "path , landmark\na.jpg , tower \n") == (ImageFile("a.jpg", "tower"),)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    rows = [(" a.jpg", "x, y"), ("b\r.jpg", '"z"'), ("c\nd.jpg", " w"), ("e.jpg", "")]
    write_rows(tmp_path / "m.csv", ("path", "landmark"), rows)
    assert [(image.path, image.landmark) for image in read_manifest(tmp_path / "m.csv").images] == rows
