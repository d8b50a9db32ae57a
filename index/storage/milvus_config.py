"""The location of an index's Milvus collection, as a user gives it and as the catalog stores it."""

import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from glam.errors import GlamError

TOKEN = "GLAM_MILVUS_TOKEN"
"""Environment variable with the token, ``user:password`` or an API key. The token is never stored, and there is no
option for it: every user of a machine can see command lines, and the lock of an index records that of its writer."""

URI = "GLAM_MILVUS_URI"
"""Environment variable with an address that overrides the one stored in the index, for a machine that reaches the
server by another address."""

LITE = ".db"
"""Suffix of a Milvus Lite database."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
"""Valid names of a Milvus collection."""


@dataclass(frozen=True)
class Milvus:
    """Selects Milvus as the backend that searches an index; see `glam.index.build`.

    Attributes:
        uri: address of the server, such as ``http://milvus:19530``, or the path of a Milvus Lite database, which ends
            in ``.db``.
        collection: name of the Milvus collection; '' derives it from the name of the index folder.
    """

    uri: str
    collection: str = ""


@dataclass(frozen=True)
class MilvusConfig:
    """The Milvus collection of an index, as the catalog stores it.

    Attributes:
        uri: address of the server, or the absolute path of a Milvus Lite database.
        collection: name of the Milvus collection.
        owner: 32 hexadecimal digits, stored in the index and in the Milvus collection, so that no other index writes
            to it.
        images: digest of the image ids in the Milvus collection when the last writer closed it; '' before that.
    """

    uri: str
    collection: str
    owner: str
    images: str = ""

    @classmethod
    def of(cls, milvus: Milvus, index: Path) -> "MilvusConfig":
        """A new Milvus collection for an index.

        Args:
            milvus: address and name that the user gave.
            index: folder of the index.

        Raises:
            GlamError: the address or the name is invalid.
        """
        name = milvus.collection or re.sub(r"\W", "_", index.resolve().stem, flags=re.ASCII)
        if not milvus.collection and not NAME.match(name):
            name = f"_{name}"
        if not NAME.fullmatch(name):
            raise GlamError(
                f"{name!r} cannot name a Milvus collection. Use up to 255 letters, digits, and '_', and start with a "
                "letter or '_'."
            )
        return cls(checked_uri(milvus.uri), name, uuid.uuid4().hex)

    def is_at(self, other: "MilvusConfig") -> bool:
        """Whether both configurations mean the same Milvus collection."""
        return (self.uri, self.collection) == (other.uri, other.collection)

    @property
    def address(self) -> str:
        """The address to use on this machine: that in the environment variable `URI`, or else ``uri``."""
        here = os.environ.get(URI)
        return checked_uri(here) if here else self.uri

    def __str__(self) -> str:
        return f"collection {self.collection} at {self.address}"


def is_lite(uri: str) -> bool:
    """Whether a URI is the path of a Milvus Lite database."""
    return uri.endswith(LITE) and "://" not in uri


def checked_uri(uri: str) -> str:
    """Checks the URI of a Milvus server or database.

    Args:
        uri: address of a server, or path of a Milvus Lite database.

    Returns:
        The URI to store in the catalog; a path is made absolute.

    Raises:
        GlamError: the URI is neither of the two, or it contains a user or a password.
    """
    if is_lite(uri):
        return str(Path(uri).absolute())
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https", "tcp") or not parts.hostname:
        raise GlamError(
            f"{uri!r} is not the address of a Milvus server. Give one like http://milvus:19530, or the path of a "
            "Milvus Lite database, NAME.db."
        )
    if parts.username is not None or parts.password is not None:
        raise GlamError(
            f"The address of {parts.hostname} contains a user or password. Put them into the environment variable "
            f"{TOKEN}."
        )
    return uri
