"""Where the Milvus collection of an index is: what a user asks for, and what the catalog of an index remembers."""

import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from glam.errors import GlamError

TOKEN = "GLAM_MILVUS_TOKEN"
"""Environment variable with the token: ``user:password`` or an API key. Never kept, and no option: command lines are
seen by everyone on a machine, and the lock of an index shows its writer's."""

URI = "GLAM_MILVUS_URI"
"""Environment variable with the address to use in place of the one that the index remembers, on a machine that reaches
the server in another way."""

LITE = ".db"
"""What the path of a Milvus Lite database ends in."""

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
"""What Milvus takes as the name of a collection."""


@dataclass(frozen=True)
class Milvus:
    """Asks for an index to be searched by Milvus.

    Attributes:
        uri: of the server, as ``http://milvus:19530``; or a path that ends in .db, for Milvus Lite.
        collection: its name; '' has it named after the folder of the index.
    """

    uri: str
    collection: str = ""


@dataclass(frozen=True)
class MilvusConfig:
    """The collection of an index.

    Attributes:
        uri: of the server, or the absolute path of a Milvus Lite database.
        collection: its name.
        owner: 32 hexadecimal digits that the index and its collection share, so that no other index writes there.
        images: digest of the ids that the collection held when its last writer closed it; '' while none has.
    """

    uri: str
    collection: str
    owner: str
    images: str = ""

    @classmethod
    def of(cls, wanted: Milvus, index: Path) -> "MilvusConfig":
        """A new collection for the index in the folder ``index``.

        Raises:
            GlamError: the address or the name is none that Milvus takes.
        """
        name = wanted.collection or re.sub(r"\W", "_", index.resolve().stem, flags=re.ASCII)
        if not wanted.collection and not NAME.match(name):
            name = f"_{name}"
        if not NAME.fullmatch(name):
            raise GlamError(
                f"{name!r} cannot name a collection: Milvus takes up to 255 letters, digits and '_', no digit first"
            )
        return cls(checked_uri(wanted.uri), name, uuid.uuid4().hex)

    def is_at(self, other: "MilvusConfig") -> bool:
        """Whether both are the same collection."""
        return (self.uri, self.collection) == (other.uri, other.collection)

    @property
    def address(self) -> str:
        """The address to use on this machine."""
        here = os.environ.get(URI)
        return checked_uri(here) if here else self.uri

    def __str__(self) -> str:
        return f"collection {self.collection} at {self.address}"


def is_lite(uri: str) -> bool:
    """Whether it is the path of a Milvus Lite database."""
    return uri.endswith(LITE) and "://" not in uri


def checked_uri(uri: str) -> str:
    """An address as it is kept; a path becomes absolute.

    Raises:
        GlamError: it is neither an address nor the path of a Milvus Lite database, or it holds a password.
    """
    if is_lite(uri):
        return str(Path(uri).absolute())
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https", "tcp") or not parts.hostname:
        raise GlamError(
            f"{uri!r} is no address as http://milvus:19530, nor the path of a Milvus Lite database, NAME.db"
        )
    if parts.username is not None or parts.password is not None:
        raise GlamError(f"the address of {parts.hostname} holds a user or password; they belong into {TOKEN}")
    return uri
