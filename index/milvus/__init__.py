"""An index searched by Milvus: many machines ask one collection, and nothing else about the index changes.

1. The folder stays the truth. SQLite has transactions, a lock, checksums and the filters' SQL, and a collection none of
   these; so the collection is one more search structure derived from it: ids and vectors, made again at will.
2. A writer commits a batch in the folder, then puts it into the collection, and compares the two as it closes. A reader
   searches by itself what a killed writer has not put in yet. So no kill needs a transaction across both.
3. A filter is worked out by the catalog, as always, and goes to Milvus as ids and ranges of ids, inside the search.

    Writer --MilvusSync.put, update--> MilvusCollection <--MilvusSearch.search-- Index

    connection          the client; errors in one sentence
    collection          the calls to one collection
    sync                keeps the collection the same as the folder
    search              finds the nearest, as FAISS does
    filter_expressions  which ids may be found, in brief

`glam.index.storage.milvus_config` says where the collection is, as the catalog keeps it.

`docs/milvus.md` is for users.
"""

from glam.index.storage.milvus_config import Milvus, MilvusConfig

__all__ = ["Milvus", "MilvusConfig"]
