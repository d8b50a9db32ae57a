"""The index: descriptors and a catalogue of images in one folder on disk, searched by FAISS."""

from glam.index.building import BuildReport, build
from glam.index.catalogue import Entry
from glam.index.search import Hit, Index

open = Index.open

__all__ = ["BuildReport", "Entry", "Hit", "Index", "build", "open"]
