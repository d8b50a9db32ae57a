"""The index: descriptors and a catalogue of images in one folder on disk, searched by FAISS.

    changed by   build, sync, add, remove, compact, keep     read by   open, verify, near_duplicates

`docs/index.md` describes the format, what is guaranteed, and the commands.
"""

from glam.index.index import Hit, Index
from glam.index.milvus import Milvus
from glam.index.operations.build import BuildReport, build
from glam.index.operations.compact import CompactReport, compact
from glam.index.operations.near_duplicates import Group, near_duplicates
from glam.index.operations.precompute import KeepReport, keep
from glam.index.operations.removal import remove
from glam.index.operations.sync import SyncReport, add, sync
from glam.index.operations.verify import Problem, Verification, verify
from glam.index.storage.catalog import Entry

open = Index.open

__all__ = [
    "BuildReport",
    "CompactReport",
    "Entry",
    "Group",
    "Hit",
    "Index",
    "KeepReport",
    "Milvus",
    "Problem",
    "SyncReport",
    "Verification",
    "add",
    "build",
    "compact",
    "keep",
    "near_duplicates",
    "open",
    "remove",
    "sync",
    "verify",
]
