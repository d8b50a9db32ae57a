"""The index: a catalog of images and their descriptors in one folder on disk, searched with FAISS or Milvus.

    write: build, sync, add, remove, relocate, compact, precompute
    read: open, info, verify, near_duplicates, read_source

`docs/search.md` describes the commands.
"""

from glam.index.index import Hit, Index
from glam.index.milvus import Milvus
from glam.index.operations.build import BuildReport, build
from glam.index.operations.compact import CompactReport, compact
from glam.index.operations.info import IndexInfo, info
from glam.index.operations.near_duplicates import Group, near_duplicates
from glam.index.operations.precompute import PrecomputeReport, precompute
from glam.index.operations.relocate import RelocateReport, relocate
from glam.index.operations.source import read_source
from glam.index.operations.sync import SyncReport, add, remove, sync
from glam.index.operations.verify import Problem, Verification, verify
from glam.index.rerank.base import Query
from glam.index.storage.records import Entry

open = Index.open

__all__ = [
    "BuildReport",
    "CompactReport",
    "Entry",
    "Group",
    "Hit",
    "Index",
    "IndexInfo",
    "Milvus",
    "PrecomputeReport",
    "Problem",
    "Query",
    "RelocateReport",
    "SyncReport",
    "Verification",
    "add",
    "build",
    "compact",
    "info",
    "near_duplicates",
    "open",
    "precompute",
    "read_source",
    "relocate",
    "remove",
    "sync",
    "verify",
]
