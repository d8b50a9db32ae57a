"""Calls to the Milvus collection of an index, which holds image ids and descriptors."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glam.errors import GlamError
from glam.index.limits import DEFAULT_LIMITS, MilvusLimits
from glam.index.milvus.connection import connect, disconnect, milvus_errors
from glam.index.milvus.filter_expressions import IdCondition
from glam.index.storage.milvus_config import MilvusConfig
from glam.index.types import Descriptors, ImageIds

ROWS = 1_000
"""Rows sent or fetched in one message (arbitrary): 8 MB of descriptors of length 2,048."""

PAGE = 10_000
"""Ids fetched in one message (arbitrary): 80 KB."""

SECONDS = 60.0
"""Timeout of a call (arbitrary)."""

BUILD_SECONDS = 3600.0
"""Timeout of calls that build or load a search structure on the server (arbitrary)."""

SETTLED = 30.0
"""Seconds after opening during which searches wait for earlier writes to reach every node ("Strong" consistency). Later
ones do not wait ("Bounded" consistency, for which Milvus allows a delay of 5 seconds)."""

LITE = "milvus_lite"
"""Prefix of the server version of Milvus Lite, embedded or as a server."""

EXACT, APPROXIMATE = "FLAT", "AUTOINDEX"
"""Milvus names of the two kinds of search structure; with the second one, the server chooses the algorithm."""

Found = tuple[NDArray[np.float32], ImageIds]
"""Scores (m,) and image ids (m,) of the results of a query, best first."""


class MilvusCollection:
    """A connection to the Milvus collection of an index. Any number of threads may use it.

    Args:
        config: address and name of the Milvus collection, and its owner.
        limits: limits on messages.

    Attributes:
        config: address and name of the Milvus collection, and its owner.
        limits: limits on messages.

    Raises:
        GlamError: a package is missing, or the server cannot be reached.
    """

    def __init__(self, config: MilvusConfig, limits: MilvusLimits = DEFAULT_LIMITS.milvus) -> None:
        self.config = config
        self.limits = limits
        self._uri = config.address
        self._name = config.collection
        self._client = connect(self._uri)
        self._opened = time.monotonic()
        try:
            with milvus_errors(self._uri):
                self._lite = str(self._client.get_server_version(timeout=SECONDS)).startswith(LITE)
        except GlamError:
            self.close()
            raise

    def close(self) -> None:
        """Closes the connection."""
        disconnect(self._client, self._uri)

    def exists(self) -> bool:
        """Whether the Milvus collection exists."""
        with milvus_errors(self._uri):
            return bool(self._client.has_collection(self._name, timeout=SECONDS))

    def create(self, fingerprint: str, dim: int) -> None:
        """Creates an empty Milvus collection with exact search.

        Args:
            fingerprint: fingerprint of the model of the index.
            dim: length of a descriptor.
        """
        from pymilvus import DataType  # type: ignore[import-untyped]

        facts = {"owner": self.config.owner, "fingerprint": fingerprint}
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False, description=json.dumps(facts))
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
        with milvus_errors(self._uri):
            self._client.create_collection(
                self._name,
                schema=schema,
                index_params=self._index(EXACT),
                properties={"glam": json.dumps(facts)},
                consistency_level="Strong",
                timeout=SECONDS,
            )

    def check(self, fingerprint: str, dim: int) -> None:
        """Checks that the Milvus collection belongs to this index.

        Args:
            fingerprint: fingerprint of the model of the index.
            dim: length of a descriptor.

        Raises:
            GlamError: it belongs to another index or another model.
        """
        with milvus_errors(self._uri):
            described = self._client.describe_collection(self._name, timeout=SECONDS)
        facts = _facts(described)
        if facts is None:
            raise GlamError(f"The Milvus {self.config} was not created by glam. Choose another with --collection.")
        if facts.get("fingerprint") != fingerprint or _dim(described) != dim:
            raise GlamError(
                f"The Milvus {self.config} holds descriptors of another model. Choose another with --collection."
            )
        if facts.get("owner") != self.config.owner:
            raise GlamError(
                f"The Milvus {self.config} belongs to another index. Choose another with --collection, or drop it."
            )

    def load(self) -> None:
        """Loads the Milvus collection on the server, so that it can be searched."""
        from pymilvus.client.types import LoadState  # type: ignore[import-untyped]

        with milvus_errors(self._uri):
            state = self._client.get_load_state(self._name, timeout=SECONDS)["state"]
            if state != LoadState.Loaded:  # loading requires more than read permission
                if not self._client.list_indexes(self._name):  # the writer that created it was killed
                    self._client.create_index(self._name, self._index(EXACT), timeout=SECONDS)
                self._client.load_collection(self._name, timeout=BUILD_SECONDS)

    def put(self, image_ids: ImageIds, descriptors: Descriptors) -> None:
        """Inserts descriptors. They replace those that have the same ids.

        Args:
            image_ids: (n,) int64, ids of the images.
            descriptors: (n, dim) float32.
        """
        for start in range(0, len(image_ids), ROWS):
            part = slice(start, start + ROWS)
            pairs = zip(image_ids[part].tolist(), descriptors[part], strict=True)
            data = [{"id": image_id, "vector": descriptor} for image_id, descriptor in pairs]
            with milvus_errors(self._uri):
                self._client.upsert(self._name, data, timeout=SECONDS)

    def delete(self, image_ids: ImageIds) -> None:
        """Deletes the descriptors of images.

        Args:
            image_ids: (n,) int64, ids of the images.
        """
        for start in range(0, len(image_ids), PAGE):
            with milvus_errors(self._uri):
                self._client.delete(self._name, ids=image_ids[start : start + PAGE].tolist(), timeout=SECONDS)

    def flush(self) -> None:
        """Writes inserted descriptors to disk. Only Milvus Lite needs this; a server does it by itself."""
        if self._lite:
            with milvus_errors(self._uri):
                self._client.flush(self._name, timeout=SECONDS)

    def image_ids(self) -> ImageIds:
        """All image ids in the Milvus collection, (n,) int64 in ascending order."""
        found = sorted(image_id for page in self._pages() for image_id in page)
        return np.array(found, dtype=np.int64)

    def descriptors(self, image_ids: ImageIds, dim: int) -> Descriptors:
        """Fetches the descriptors of images.

        Args:
            image_ids: (n,) int64, ids of the images.
            dim: length of a descriptor.

        Returns:
            (n, dim) float32; zeros for images that are not in the Milvus collection.
        """
        found: dict[int, Any] = {}
        for start in range(0, len(image_ids), ROWS):
            with milvus_errors(self._uri):
                rows = self._client.get(
                    self._name,
                    ids=image_ids[start : start + ROWS].tolist(),
                    output_fields=["vector"],
                    timeout=SECONDS,
                )
            found.update((row["id"], row["vector"]) for row in rows)
        descriptors = np.zeros((len(image_ids), dim), dtype=np.float32)
        for i, image_id in enumerate(image_ids.tolist()):
            if image_id in found:
                descriptors[i] = found[image_id]
        return descriptors

    def search(self, queries: Descriptors, k: int, condition: IdCondition, above: float | None = None) -> list[Found]:
        """Finds the nearest images whose ids meet a condition.

        Args:
            queries: (q, dim) float32 of unit length.
            k: most results per query, at most ``limits.results``.
            condition: condition on the image ids.
            above: only images that score higher than this are found; None for all.

        Returns:
            For each query its scores and image ids, best first.
        """
        filters = condition.as_text() if self._lite else condition.as_template()
        parameters = {} if above is None else {"radius": above}
        block = max(self.limits.results_per_message // k, 1)
        found: list[Found] = []
        for start in range(0, len(queries), block):
            with milvus_errors(self._uri):
                answer = self._client.search(
                    self._name,
                    data=list(queries[start : start + block]),
                    limit=k,
                    filter=filters.expression,
                    filter_params=filters.parameters,
                    search_params={"metric_type": "IP", "params": parameters},
                    output_fields=["id"],
                    consistency_level="Strong" if time.monotonic() < self._opened + SETTLED else "Bounded",
                    timeout=SECONDS,
                )
            found.extend(_found(hits) for hits in answer)
        return found

    def choose_structure(self, structure: str) -> None:
        """Sets the kind of search structure. During a change the Milvus collection cannot be searched.

        Args:
            structure: `EXACT` or `APPROXIMATE`.
        """
        with milvus_errors(self._uri):
            if self._client.list_indexes(self._name):
                current = self._client.describe_index(self._name, "vector", timeout=SECONDS)
                if (current["index_type"] == EXACT) == (structure == EXACT):
                    return
                self._client.release_collection(self._name, timeout=SECONDS)
                self._client.drop_index(self._name, "vector", timeout=SECONDS)
            self._client.create_index(self._name, self._index(structure), timeout=BUILD_SECONDS)
            self._client.load_collection(self._name, timeout=BUILD_SECONDS)

    def _index(self, structure: str) -> Any:
        parameters = self._client.prepare_index_params()
        parameters.add_index("vector", index_name="vector", index_type=structure, metric_type="IP")
        return parameters

    def _pages(self) -> Iterator[list[int]]:
        with milvus_errors(self._uri):
            pages = self._client.query_iterator(
                self._name, filter="", output_fields=["id"], batch_size=PAGE, consistency_level="Strong"
            )
            while page := pages.next():
                yield [row["id"] for row in page]
            pages.close()


def _found(hits: list[Mapping[str, Any]]) -> Found:
    scores = np.array([hit["distance"] for hit in hits], dtype=np.float32)
    image_ids = np.array([hit["id"] for hit in hits], dtype=np.int64)
    order = np.lexsort((image_ids, -scores))
    return scores[order], image_ids[order]


def _facts(described: Mapping[str, Any]) -> dict[str, Any] | None:
    """The facts that `MilvusCollection.create` stored, twice: Milvus Lite stores properties, but no description."""
    for text in ((described.get("properties") or {}).get("glam"), described.get("description")):
        try:
            facts = json.loads(text or "")
        except ValueError:
            continue
        if isinstance(facts, dict) and "owner" in facts:
            return facts
    return None


def _dim(described: Mapping[str, Any]) -> int | None:
    dims = [field["params"].get("dim") for field in described["fields"] if field["name"] == "vector"]
    return int(dims[0]) if dims and dims[0] is not None else None
