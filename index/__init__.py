"""The index: descriptors and a catalogue of images in one folder on disk, searched by FAISS.

    changed by   build, sync, add, remove, compact, keep     read by   open, verify, near_duplicates

`docs/index.md` describes the format, what is guaranteed, and the commands.
"""

from glam.index.building import BuildReport, build
from glam.index.catalogue import Entry
from glam.index.compaction import CompactReport, compact
from glam.index.duplicates import Group, near_duplicates
from glam.index.keeping import KeepReport, keep
from glam.index.milvus import Milvus
from glam.index.removal import remove
from glam.index.search import Hit, Index
from glam.index.syncing import SyncReport, add, sync
from glam.index.verification import Problem, Verification, verify

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
