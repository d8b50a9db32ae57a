"""Folders as people have them, at their worst, and what a run over them has to do with each file.

    HostileTree(root, outside, seed) --grow--> files, `expected` --change--> another state --disturb--> a moving target

Everything but the moment of a disturbance depends on the seed alone.
"""

import os
import random
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.intake.hostile_content import BROKEN, FORMATS, UNREAD_SUFFIXES, draw_image

ODD_NAMES = (
    "trip [italy]", "x [", "[/b]", "[red]", "new\nline", "esc\x1b[31mape", "-dash", "--help", "tab\there", "quote'\"",
    "back\\slash", "percent%20", "a?b#c&d;e", "trailing space ", " leading", "\u202egnp.rtl", "\N{DROMEDARY CAMEL}",
    "cafe\u0301", "caf\u00e9", "UPPER", "upper", "a" * 240, "nul", "dot.", "tilde~", "$HOME", "*", "{x}", ":8", "x:val",
    "zero\u200bwidth", "line\u2028separator", "bell\x07",
)  # fmt: skip
"""Stems of names that are valid UTF-8 and that something is likely to misread."""

INVALID_NAMES = (b"latin-\xe9", b"cut-\xf0\x9f", b"\xff\xfe", b"surrogate-\xed\xa0\x80")
"""Stems that are not UTF-8."""

SYSTEM_FOLDERS = ("@eaDir", "__MACOSX", "#recycle", "lost+found", "$RECYCLE.BIN", ".thumbnails")

LANDMARKS = ("landmark a", "landmark b")
"""Folders that always hold good images, so that there is something to evaluate and to train on."""

HUGE_FILE = 1 << 40
"""Bytes of a sparse file, more than any machine reads into memory."""

PATH_MAX = 4_096
"""Most bytes of a path that Linux opens."""


class Expected(NamedTuple):
    """What a run has to do with a path.

    Attributes:
        indexed: whether the index holds it afterwards; None if both are right.
        mention: text that the output has to contain, such as the path or its suffix; "" for none.
        refused: whether the system refuses to open it, so that the exit code is 1.
        index_only: whether only an index leaves it out, and other commands read it.
    """

    indexed: bool | None
    mention: str = ""
    refused: bool = False
    index_only: bool = False


GOOD, PASSED_OVER = Expected(True), Expected(False)


def named(path: str, *, indexed: bool = False, refused: bool = False, index_only: bool = False) -> Expected:
    """A path that the output has to name."""
    return Expected(indexed, path, refused, index_only)


class HostileTree:
    """A folder of good and bad files.

    Args:
        root: folder to make; its parent exists.
        outside: folder to make for the targets of links that lead out of the root.
        seed: anything with a `str` that tells trees apart.
        can_refuse: whether files without permissions are refused to this process, as they are not to root.
        follow_links: whether runs follow links to folders.

    Attributes:
        expected: what a run has to do with each path relative to the root; paths that are not listed must not be in
            the index, and need not be named.
        indexed: good images that the index has in their present state; `change` changes each once.
        moving: paths that `disturb` changes; anything may be the case there during a run.
        left_out: kinds that this system cannot make, with the reason.
    """

    def __init__(
        self, root: Path, outside: Path, seed: object, *, can_refuse: bool, follow_links: bool = False
    ) -> None:
        self.root, self.outside = root, outside
        self.rng = random.Random(str(seed))
        self.can_refuse, self.follow_links = can_refuse, follow_links
        self.expected: dict[str, Expected] = {}
        self.indexed: set[str] = set()
        self.moving: list[str] = []
        self.left_out: dict[str, str] = {}
        self._number = 0
        for folder in (root, outside):
            folder.mkdir()
        self.folders = ["", *LANDMARKS]
        for landmark in LANDMARKS:
            (root / landmark).mkdir()
            for _ in range(3):
                self.add_good(landmark)

    def grow(self, count: int) -> None:
        """Adds things of random kinds.

        Args:
            count: number of things.
        """
        kinds = [kind for kind in KINDS if self.can_refuse or kind not in REFUSED_KINDS]
        if not self.can_refuse:
            self.left_out["no permission"] = "this process reads everything, and setpriv is not installed"
        for kind in self.rng.sample(kinds, min(count, len(kinds))):
            try:
                kind(self)
            except PermissionError as error:  # device nodes are for root
                self.left_out[kind.__name__] = str(error)

    def folder(self) -> str:
        """A random folder of the tree, relative to the root, that can be read."""
        return self.rng.choice(self.folders)

    def new_path(self, stem: str, suffix: str = "", folder: str | None = None) -> str:
        """A path that nothing has, with a stem like the one given."""
        folder = self.folder() if folder is None else folder
        prefix = f"{folder}/" if folder else ""
        path = f"{prefix}{stem}{suffix}"
        while path in self.expected or os.path.lexists(self.root / path):
            self._number += 1
            path = f"{prefix}{stem}{self._number}{suffix}"
        return path

    def write(self, path: str, content: bytes, expected: Expected) -> str:
        """Writes a file, and says what is expected of it."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)  # a stem can hold a slash
        (self.root / path).write_bytes(content)
        self.expected[path] = expected
        return path

    def add_good(self, folder: str | None = None, stem: str = "good") -> str:
        """Adds a good image and returns its path."""
        suffix = self.rng.choice(list(FORMATS))
        return self.write(self.new_path(stem, suffix, folder), draw_image(self.rng, suffix), GOOD)

    def add_folder(self, stem: str, *, good: int = 2) -> str:
        """Adds a folder with good images and returns its path."""
        path = self.new_path(stem)
        (self.root / path).mkdir(parents=True)
        for _ in range(good):
            self.add_good(path)
        return path

    def at_rest(self) -> dict[str, Expected]:
        """What is expected of the paths that are not moving."""
        return {path: expected for path, expected in self.expected.items() if not self.is_moving(path)}

    def is_moving(self, path: str) -> bool:
        """Whether a path, or a folder that it is in, is moving."""
        return any(path == moving or path.startswith(f"{moving}/") for moving in self.moving)

    def note_indexed(self) -> None:
        """Notes that a run has seen the tree in its present state."""
        self.indexed = {path for path, expected in self.at_rest().items() if expected == GOOD}

    def broken_files(self) -> list[str]:
        """The paths that are no images, although the system lets them be opened."""
        return [path for path, expected in self.at_rest().items() if expected == named(path)]

    def below(self, folder: str) -> list[str]:
        """The known paths in a folder and its sub-folders."""
        return [path for path in self.expected if path.startswith(f"{folder}/")]

    def remove(self) -> None:
        """Deletes the tree, whatever its permissions are."""
        for top in (self.root, self.outside):
            for _, folders, _, descriptor in os.fwalk(top):  # paths can be too long
                for name in folders:
                    if stat.S_ISDIR(os.lstat(name, dir_fd=descriptor).st_mode):
                        os.chmod(name, 0o700, dir_fd=descriptor)
            shutil.rmtree(top)


def add_odd_name(tree: HostileTree) -> None:
    """A good image and a folder with one, both with odd names."""
    tree.add_good(stem=tree.rng.choice(ODD_NAMES))
    tree.folders.append(tree.add_folder(tree.rng.choice(ODD_NAMES)))


def add_broken_with_odd_name(tree: HostileTree) -> None:
    path = tree.new_path(tree.rng.choice(ODD_NAMES), ".jpg")
    tree.write(path, b"broken", named(path))


def add_invalid_name(tree: HostileTree) -> None:
    """A good image with a name that is not UTF-8; such paths are not in an index."""
    path = tree.new_path(os.fsdecode(tree.rng.choice(INVALID_NAMES)), ".jpg")
    tree.write(path, draw_image(tree.rng), named(path, index_only=True))


def add_folder_of_invalid_name(tree: HostileTree) -> None:
    folder = tree.new_path(os.fsdecode(tree.rng.choice(INVALID_NAMES)))
    (tree.root / folder).mkdir()
    path = tree.new_path("good", ".jpg", folder)
    tree.write(path, draw_image(tree.rng), named(path, index_only=True))


def add_broken_content(tree: HostileTree) -> None:
    for name in tree.rng.sample(list(BROKEN), 3):
        broken = BROKEN[name]
        path = tree.new_path(name, broken.suffix)
        tree.write(path, broken.make(tree.rng), named(path))


def add_huge_file(tree: HostileTree) -> None:
    """A sparse file, which takes no space and cannot be read into memory."""
    path = tree.write(tree.new_path("huge", ".jpg"), draw_image(tree.rng), PASSED_OVER)
    try:
        os.truncate(tree.root / path, HUGE_FILE)
        tree.expected[path] = named(path)
    except OSError as error:
        (tree.root / path).unlink()
        del tree.expected[path]
        tree.left_out["huge file"] = str(error)


def add_pipe(tree: HostileTree) -> None:
    path = tree.new_path("pipe", ".jpg")
    os.mkfifo(tree.root / path)
    tree.expected[path] = named(path)
    os.mkfifo(tree.root / tree.new_path("pipe without suffix"))


def add_socket(tree: HostileTree) -> None:
    path = tree.new_path("socket", ".png")
    os.mknod(tree.root / path, 0o600 | stat.S_IFSOCK)
    tree.expected[path] = named(path)


def add_endless_device(tree: HostileTree) -> None:
    """A device like /dev/zero."""
    path = tree.new_path("device", ".jpg")
    os.mknod(tree.root / path, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    tree.expected[path] = named(path)


def _link(tree: HostileTree, path: str, target: str | Path, expected: Expected) -> str:
    (tree.root / path).symlink_to(target)
    tree.expected[path] = expected
    return path


def add_link_loops(tree: HostileTree) -> None:
    one, two = tree.new_path("loop one", ".jpg"), tree.new_path("loop two", ".jpg")
    _link(tree, one, tree.root / two, named(one))
    _link(tree, two, tree.root / one, named(two))
    for stem, suffix, target in (("itself", ".jpg", "."), ("up", "", "..")):
        path = tree.new_path(stem, suffix, tree.rng.choice(LANDMARKS))
        _link(tree, path, target, _linked_folder(tree, path))


def add_links_out(tree: HostileTree) -> None:
    (tree.outside / "other").mkdir(exist_ok=True)
    (tree.outside / "other" / "good.jpg").write_bytes(draw_image(tree.rng))
    for stem, suffix, target in (("out file", ".jpg", "other/good.jpg"), ("out folder", "", "other")):
        path = tree.new_path(stem, suffix)
        _link(tree, path, tree.outside / target, named(path, index_only=True))
    path = tree.new_path("link to a device", ".jpg")
    _link(tree, path, "/dev/zero", named(path))


def add_dangling_link(tree: HostileTree) -> None:
    path = tree.new_path("dangling", ".jpg")
    _link(tree, path, "nothing here", named(path))


def add_links_inside(tree: HostileTree) -> None:
    """Links to a file, which is an image at each path, and to a folder."""
    target = tree.add_good(tree.rng.choice(LANDMARKS), "target")
    first = _link(tree, tree.new_path("link", ".jpg"), tree.root / target, GOOD)
    _link(tree, tree.new_path("link to link", ".jpg"), tree.root / first, GOOD)
    path = tree.new_path("linked folder")
    _link(tree, path, tree.root / tree.rng.choice(LANDMARKS), _linked_folder(tree, path))


def _linked_folder(tree: HostileTree, path: str) -> Expected:
    """What is expected of a link to a folder of the tree: its images are in the index at their own paths alone."""
    return PASSED_OVER if tree.follow_links else named(path)


def add_hard_link(tree: HostileTree) -> None:
    target = tree.add_good()
    path = tree.new_path("hard link", Path(target).suffix)
    (tree.root / path).hardlink_to(tree.root / target)
    tree.expected[path] = GOOD


def add_odd_times(tree: HostileTree) -> None:
    for nanoseconds in (0, -10, 2**33 * 10**9, 1):
        os.utime(tree.root / tree.add_good(), ns=(nanoseconds, nanoseconds))


def add_other_formats(tree: HostileTree) -> None:
    for suffix in tree.rng.sample(UNREAD_SUFFIXES, 2):
        tree.write(tree.new_path("other", suffix), draw_image(tree.rng), Expected(False, suffix))
    tree.write(tree.new_path("no suffix"), draw_image(tree.rng), PASSED_OVER)


def add_wrong_suffix(tree: HostileTree) -> None:
    """An image of another format than its suffix says is read by its content."""
    tree.write(tree.new_path("PNG content", ".jpg"), draw_image(tree.rng, ".png"), GOOD)


def add_system_folder(tree: HostileTree) -> None:
    folder = tree.new_path(tree.rng.choice(SYSTEM_FOLDERS), folder="")
    (tree.root / folder / "sub").mkdir(parents=True)
    for path in (f"{folder}/thumbnail.jpg", f"{folder}/sub/thumbnail.jpg"):
        tree.write(path, draw_image(tree.rng), PASSED_OVER)


def add_hidden_file(tree: HostileTree) -> None:
    tree.write(tree.new_path("._good", ".jpg"), b"AppleDouble", PASSED_OVER)


def add_folder_with_suffix(tree: HostileTree) -> None:
    """A folder called like an image."""
    tree.add_folder("album.jpg", good=1)


def add_deep_folder(tree: HostileTree) -> None:
    """Good images 40 folders down."""
    path = tree.new_path("deep", folder="")
    for level in range(40):
        path = f"{path}/{level}"
    (tree.root / path).mkdir(parents=True)
    tree.add_good(path)


def add_too_long_path(tree: HostileTree) -> None:
    """Folders whose path is longer than the system opens; they are made one inside the other."""
    top = tree.new_path("too long", folder="")
    (tree.root / top).mkdir()
    current = os.open(tree.root / top, os.O_RDONLY)
    for _ in range(PATH_MAX // 200 + 1):
        os.mkdir("x" * 200, dir_fd=current)
        inner = os.open("x" * 200, os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = inner
    os.close(current)
    tree.expected[top] = named(top, refused=True)


def add_unreadable_file(tree: HostileTree) -> None:
    path = tree.write(tree.new_path("no permission", ".jpg"), draw_image(tree.rng), PASSED_OVER)
    (tree.root / path).chmod(0)
    tree.expected[path] = named(path, refused=True)


def add_link_to_unreadable_file(tree: HostileTree) -> None:
    target = tree.write(tree.new_path("no permission", ".psd"), draw_image(tree.rng), Expected(False, ".psd"))
    (tree.root / target).chmod(0)
    path = tree.new_path("link to no permission", ".jpg")
    _link(tree, path, tree.root / target, named(path, refused=True))


def add_unlistable_folder(tree: HostileTree) -> None:
    """A folder that may not be listed, or only be listed; what is in it is not known."""
    mode = tree.rng.choice((0o000, 0o100, 0o400))
    folder = tree.add_folder("no entry")
    for path in tree.below(folder):
        tree.expected[path] = PASSED_OVER if mode != 0o400 else named(path, refused=True)
    if mode != 0o400:  # else its files can be listed, and not opened
        tree.expected[folder] = named(folder, refused=True)
    (tree.root / folder).chmod(mode)


REFUSED_KINDS = (add_unreadable_file, add_link_to_unreadable_file, add_unlistable_folder)
"""Kinds that depend on a system that refuses."""

KINDS: tuple[Callable[[HostileTree], None], ...] = (
    add_odd_name,
    add_broken_with_odd_name,
    add_invalid_name,
    add_folder_of_invalid_name,
    add_broken_content,
    add_huge_file,
    add_pipe,
    add_socket,
    add_endless_device,
    add_link_loops,
    add_links_out,
    add_dangling_link,
    add_links_inside,
    add_hard_link,
    add_odd_times,
    add_other_formats,
    add_wrong_suffix,
    add_system_folder,
    add_hidden_file,
    add_folder_with_suffix,
    add_deep_folder,
    add_too_long_path,
    *REFUSED_KINDS,
)
"""Everything that a tree may hold besides good images in landmark folders."""
