"""Changes of a hostile tree between two runs, with what the next run has to do, and during a run.

change(tree, count)                  other files, other `expected`
Disturbance(tree, count).step()      one path of `tree.moving` becomes something else; either outcome is right
Disturbance(tree, count).settle()    the paths get a last state, which is expected
"""

import os
import shutil
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.intake.hostile_content import BROKEN, draw_image
from tests.intake.hostile_tree import GOOD, LANDMARKS, HostileTree, named

LATER = 10**9
"""Nanoseconds that a time is moved by, so that a file looks changed."""

NOWHERE = "nothing here"
"""Target of dangling links."""


def change(tree: HostileTree, count: int) -> None:
    """Changes good images outside the landmark folders, each in another way.

    Args:
        tree: the tree, indexed in its present state.
        count: number of ways, each used once.
    """
    kinds = [kind for kind in CHANGES if tree.can_refuse or kind not in REFUSED_CHANGES]
    for kind in tree.rng.sample(kinds, min(count, len(kinds))):
        path = _take_indexed(tree)
        if path is not None:
            kind(tree, path)


def _take_indexed(tree: HostileTree) -> str | None:
    """Takes an image that the index has: a file of its own, outside the landmark folders; None if there is none."""
    paths = [path for path in tree.indexed if not path.startswith(LANDMARKS) and _is_plain_file(tree.root / path)]
    if not paths:
        return None
    path = tree.rng.choice(sorted(paths))
    tree.indexed.discard(path)
    return path


def _take_folder(tree: HostileTree, path: str) -> str | None:
    """Takes the folder of an image, with all that is in it; None if it holds more than images that the index has."""
    folder = str(Path(path).parent)
    below = tree.below(folder)
    free = all(other in tree.indexed or other == path for other in below)
    if folder == "." or not free or not all(_is_plain_file(tree.root / other) for other in below):
        return None
    if len(below) != len(list((tree.root / folder).iterdir())):
        return None
    tree.indexed.difference_update(below)
    return folder


def _is_plain_file(path: Path) -> bool:
    """Whether it is a regular file with one name, so that no other path changes with it."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def delete(tree: HostileTree, path: str) -> None:
    (tree.root / path).unlink()
    del tree.expected[path]


def move(tree: HostileTree, path: str) -> None:
    to = tree.new_path("moved", Path(path).suffix)
    (tree.root / path).rename(tree.root / to)
    tree.expected[to] = tree.expected.pop(path)


def move_out_of_sight(tree: HostileTree, path: str) -> None:
    """Moves an image to a folder of deleted files."""
    (tree.root / "#recycle").mkdir(exist_ok=True)
    (tree.root / path).rename(tree.root / tree.new_path("deleted", ".jpg", "#recycle"))
    del tree.expected[path]


def rewrite(tree: HostileTree, path: str) -> None:
    tree.write(path, draw_image(tree.rng, Path(path).suffix), GOOD)


def swap_with_another(tree: HostileTree, path: str) -> None:
    other = _take_indexed(tree)
    if other is None:
        return
    between = tree.root / tree.new_path("between")
    (tree.root / path).rename(between)
    (tree.root / other).rename(tree.root / path)
    between.rename(tree.root / other)


def replace_by_broken(tree: HostileTree, path: str) -> None:
    content = BROKEN[tree.rng.choice(sorted(BROKEN))].make(tree.rng)
    tree.write(path, content, named(path))


def replace_by_pipe(tree: HostileTree, path: str) -> None:
    (tree.root / path).unlink()
    os.mkfifo(tree.root / path)
    tree.expected[path] = named(path)


def replace_by_socket(tree: HostileTree, path: str) -> None:
    (tree.root / path).unlink()
    os.mknod(tree.root / path, 0o600 | stat.S_IFSOCK)
    tree.expected[path] = named(path)


def replace_by_dangling_link(tree: HostileTree, path: str) -> None:
    (tree.root / path).unlink()
    (tree.root / path).symlink_to(NOWHERE)
    tree.expected[path] = named(path)


def replace_by_folder(tree: HostileTree, path: str) -> None:
    """An image becomes a folder of its name, with an image in it."""
    delete(tree, path)
    (tree.root / path).mkdir()
    tree.add_good(path)


def replace_by_link_to_it(tree: HostileTree, path: str) -> None:
    """An image moves to another place in the tree, and a link takes its old place: both are images."""
    to = tree.new_path("linked to", Path(path).suffix)
    (tree.root / path).rename(tree.root / to)
    (tree.root / path).symlink_to(tree.root / to)
    tree.expected[to] = GOOD


def rename_folder(tree: HostileTree, path: str) -> None:
    """A folder gets another name; all in it moves with it."""
    folder = _take_folder(tree, path)
    if folder is None:
        return
    to = tree.new_path("renamed", folder="")
    (tree.root / folder).rename(tree.root / to)
    for other in tree.below(folder):
        tree.expected[to + other.removeprefix(folder)] = tree.expected.pop(other)
    tree.folders = [to if other == folder else other for other in tree.folders]


def mend_broken(tree: HostileTree, path: str) -> None:
    """A file that could not be read becomes an image, as after an interrupted copy."""
    for broken in sorted(tree.broken_files()):
        if _is_plain_file(tree.root / broken):
            tree.write(broken, draw_image(tree.rng), GOOD)
            return


def forbid_unchanged(tree: HostileTree, path: str) -> None:
    """The file is not opened, because its size and time are those that the index knows."""
    (tree.root / path).chmod(0)


def forbid_changed(tree: HostileTree, path: str) -> None:
    """What the file holds now is unknown, so its image stays."""
    file = tree.root / path
    found = file.stat()
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns + LATER))
    file.chmod(0)
    tree.expected[path] = named(path, indexed=True, refused=True)


def forbid_folder(tree: HostileTree, path: str) -> None:
    """A folder that can no longer be listed; its images stay."""
    folder = _take_folder(tree, path)
    if folder is None:
        return
    tree.folders = [other for other in tree.folders if other != folder]
    tree.expected[folder] = named(folder, refused=True)
    (tree.root / folder).chmod(0)


def permit(tree: HostileTree, path: str) -> None:
    """A file that was refused can be read again."""
    for refused, expected in sorted(tree.expected.items()):
        file = tree.root / refused
        if expected == named(refused, refused=True) and _is_plain_file(file):
            file.chmod(0o600)
            tree.expected[refused] = GOOD
            return


REFUSED_CHANGES = (forbid_unchanged, forbid_changed, forbid_folder, permit)
"""Changes that depend on a system that refuses."""

CHANGES: tuple[Callable[[HostileTree, str], None], ...] = (
    delete,
    move,
    move_out_of_sight,
    rewrite,
    swap_with_another,
    replace_by_broken,
    replace_by_pipe,
    replace_by_socket,
    replace_by_dangling_link,
    replace_by_folder,
    replace_by_link_to_it,
    rename_folder,
    mend_broken,
    *REFUSED_CHANGES,
)
"""Ways in which a tree changes between two runs. A change whose conditions the tree does not meet does nothing."""


class Disturbance:
    """Changes files while a command runs.

    Args:
        tree: the tree; its `moving` becomes the paths that are disturbed.
        count: number of paths.
    """

    def __init__(self, tree: HostileTree, count: int) -> None:
        self.tree = tree
        self.paths = [tree.new_path(f"moving {i}", ".jpg") for i in range(count)]
        tree.moving = self.paths
        for path in self.paths:
            self._write_good(path)

    def step(self) -> None:
        """Makes something else of one of the paths."""
        path = self.tree.rng.choice(self.paths)
        self._clear(path)
        makers = (
            self._write_good,
            self._write_part,
            self._make_folder,
            self._make_pipe,
            self._link,
            self._take_another,
        )
        if self.tree.rng.random() < 0.8:  # else nothing is there
            self.tree.rng.choice(makers)(path)

    def settle(self) -> None:
        """Gives each path a last state, which is expected from then on."""
        for path in self.paths:
            self._clear(path)
            self.tree.rng.choice((self._write_good, self._write_part, self._make_folder, self._make_pipe))(path)
        self.tree.moving = []

    def _clear(self, path: str) -> None:
        """Deletes what is at a path, and what is expected of it."""
        file = self.tree.root / path
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        else:
            file.unlink(missing_ok=True)
        for known in (path, *self.tree.below(path)):
            self.tree.expected.pop(known, None)

    def _write_good(self, path: str) -> None:
        """Writes an image in place, so that a reader may see a part of it."""
        content = draw_image(self.tree.rng)
        with (self.tree.root / path).open("wb") as file:
            file.write(content[: len(content) // 2])
            file.flush()
            file.write(content[len(content) // 2 :])
        self.tree.expected[path] = GOOD

    def _write_part(self, path: str) -> None:
        content = draw_image(self.tree.rng)
        self.tree.write(path, content[: len(content) // 2], named(path))

    def _make_folder(self, path: str) -> None:
        (self.tree.root / path).mkdir()
        self.tree.write(f"{path}/good.jpg", draw_image(self.tree.rng), GOOD)

    def _make_pipe(self, path: str) -> None:
        os.mkfifo(self.tree.root / path)
        self.tree.expected[path] = named(path)

    def _link(self, path: str) -> None:
        (self.tree.root / path).symlink_to(NOWHERE)
        self.tree.expected[path] = named(path)

    def _take_another(self, path: str) -> None:
        """Moves the file of another disturbed path here."""
        with suppress(OSError):
            (self.tree.root / self.tree.rng.choice(self.paths)).rename(self.tree.root / path)
