"""The files of an index: catalog, segments of descriptors, checksums, lock, migrations."""
