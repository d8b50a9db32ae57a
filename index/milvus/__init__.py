"""Milvus as the backend of an index, so that many machines can search the same Milvus collection.

1. The folder of the index is the source of truth. It has transactions, a lock, checksums, and SQL filters, which a
   Milvus collection lacks. The Milvus collection is only a search structure, with ids and vectors, that can be rebuilt
   at any time.
2. A writer first commits a batch in the folder and then inserts it into the Milvus collection; when it closes the index
   it compares the two. A reader searches images that are still missing from the Milvus collection itself. So a kill at
   any moment is harmless, without a transaction over both.
3. The catalog evaluates filters, as it does for FAISS. Milvus gets the resulting ids and id ranges with the search.

    Writer --MilvusSync.put, update--> MilvusCollection <--MilvusSearch.search-- Index

    connection          the client, and its errors as messages for users
    collection          calls to a Milvus collection
    sync                updates the Milvus collection to match the folder
    search              searches the Milvus collection, with the interface of the FAISS structures
    filter_expressions  compact filter expressions on ids

`glam.index.storage.milvus_config` has the location of the Milvus collection. `docs/milvus.md` is the user guide.
"""

from glam.index.storage.milvus_config import Milvus, MilvusConfig

__all__ = ["Milvus", "MilvusConfig"]
