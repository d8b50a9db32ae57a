"""Calls of SQLite to the operating system, observed in the library that the module `sqlite3` uses.

SQLite reaches files through a table of functions, its VFS (https://sqlite.org/vfs.html). `observed` replaces those that
change files by functions that call the original and report it.
"""

import _sqlite3
import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MAIN_JOURNAL = 0x800
CREATE = 0x4
"""Flags of xOpen."""

FILE, NAME, NUMBER = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int
"""Names stay addresses, because SQLite keeps the address and reads what follows the name."""

OPEN = ctypes.CFUNCTYPE(NUMBER, FILE, NAME, FILE, NUMBER, ctypes.POINTER(NUMBER))
DELETE = ctypes.CFUNCTYPE(NUMBER, FILE, NAME, NUMBER)
WRITE = ctypes.CFUNCTYPE(NUMBER, FILE, ctypes.c_void_p, NUMBER, ctypes.c_int64)
TRUNCATE = ctypes.CFUNCTYPE(NUMBER, FILE, ctypes.c_int64)
SYNC = ctypes.CFUNCTYPE(NUMBER, FILE, NUMBER)


class Vfs(ctypes.Structure):
    """The first fields of `sqlite3_vfs`."""

    _fields_ = (
        ("version", NUMBER),
        ("file_size", NUMBER),
        ("longest_path", NUMBER),
        ("next", ctypes.c_void_p),
        ("name", NAME),
        ("data", ctypes.c_void_p),
        ("open", ctypes.c_void_p),
        ("delete", ctypes.c_void_p),
    )


METHODS = ctypes.c_void_p * 19
"""`sqlite3_io_methods`: a version, then xClose, xRead, xWrite, xTruncate, xSync, and others."""

AT_WRITE, AT_TRUNCATE, AT_SYNC = 3, 4, 5


class Observer:
    """Called for each change of a file by SQLite. Paths are absolute."""

    def changed(self, path: str) -> None:
        """SQLite has opened, created or truncated a file."""

    def wrote(self, path: str) -> None:
        """SQLite has written to a file."""

    def synced(self, path: str, *, folder: bool) -> None:
        """SQLite has flushed a file, and then its folder if ``folder``."""

    def deleting(self, path: str, delete: Callable[[], int], *, folder: bool) -> int:
        """SQLite deletes a file by ``delete``, and then flushes its folder if ``folder``."""
        return delete()


def is_available() -> bool:
    """Whether the library exports the functions that this needs; a statically linked one may not."""
    try:
        return bool(_find_vfs())
    except AttributeError:
        return False


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Reports each change of a file by SQLite inside the block."""
    vfs = Vfs.from_address(_find_vfs())
    real_open, real_delete = OPEN(vfs.open), DELETE(vfs.delete)
    addresses = vfs.open, vfs.delete
    paths: dict[int, str] = {}
    unsynced_journals: set[int] = set()
    tables: dict[int, tuple[object, ...]] = {}

    def methods_like(address: int) -> int:
        """Address of a copy of a table of methods, in which three are replaced."""
        if address not in tables:
            table = METHODS.from_buffer_copy(METHODS.from_address(address))
            write, truncate, sync = WRITE(table[AT_WRITE]), TRUNCATE(table[AT_TRUNCATE]), SYNC(table[AT_SYNC])

            def on_write(file: int, data: int, count: int, offset: int) -> int:
                result = write(file, data, count, offset)
                if file in paths:
                    observer.wrote(paths[file])
                return result

            def on_truncate(file: int, size: int) -> int:
                result = truncate(file, size)
                if file in paths:
                    observer.changed(paths[file])
                return result

            def on_sync(file: int, flags: int) -> int:
                result = sync(file, flags)
                if file in paths:
                    observer.synced(paths[file], folder=file in unsynced_journals)
                    unsynced_journals.discard(file)
                return result

            replaced = WRITE(on_write), TRUNCATE(on_truncate), SYNC(on_sync)
            for place, function in zip((AT_WRITE, AT_TRUNCATE, AT_SYNC), replaced, strict=True):
                table[place] = ctypes.cast(function, ctypes.c_void_p).value
            tables[address] = (table, *replaced)
        return ctypes.addressof(tables[address][0])  # type: ignore[arg-type]

    def on_open(vfs_address: int, name: int | None, file: int, flags: int, out: "ctypes._Pointer[NUMBER]") -> int:
        result = real_open(vfs_address, name, file, flags, out)
        paths.pop(file, None)
        unsynced_journals.discard(file)
        methods = ctypes.c_void_p.from_address(file)
        if result == 0 and name is not None and methods.value:
            methods.value = methods_like(methods.value)
            paths[file] = _text(name)
            if flags & MAIN_JOURNAL and flags & CREATE:
                unsynced_journals.add(file)
            observer.changed(paths[file])
        return result

    def on_delete(vfs_address: int, name: int, sync: int) -> int:
        return observer.deleting(_text(name), lambda: real_delete(vfs_address, name, sync), folder=bool(sync))

    replaced = OPEN(on_open), DELETE(on_delete)
    vfs.open, vfs.delete = (ctypes.cast(function, ctypes.c_void_p).value for function in replaced)
    try:
        yield
    finally:
        vfs.open, vfs.delete = addresses
        KEPT.append((replaced, tables))


KEPT: list[object] = []
"""Functions that connections opened in a block of `observed` still call."""


def _text(address: int) -> str:
    return ctypes.string_at(address).decode()


def _find_vfs() -> int:
    library = ctypes.CDLL(_sqlite3.__file__)  # symbols are looked up in the libraries it is linked with, too
    library.sqlite3_vfs_find.restype = ctypes.c_void_p
    return library.sqlite3_vfs_find(None) or 0
