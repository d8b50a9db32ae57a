"""JSON schemas of the responses. The descriptions appear in ``/openapi.json`` and, as plain text, on ``/docs``."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, WithJsonSchema, computed_field

if TYPE_CHECKING:  # the client needs no index
    from glam.index import Entry

Pixels = Annotated[
    tuple[float, float, float, float],
    # Equivalent to pydantic's own schema of a tuple, in keywords that every reader of OpenAPI knows.
    WithJsonSchema({"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}),
]


class ErrorAnswer(BaseModel):
    """The reason why a request failed."""

    detail: str = Field(description="What is wrong, and what to do about it: one or two sentences.")


class Health(BaseModel):
    """Health of the service."""

    status: Literal["ok", "stopping"] = Field(
        description="ok while the service accepts requests, stopping during a shutdown."
    )


class UploadLimits(BaseModel):
    """Limits on uploads."""

    bytes: int = Field(description="Largest file size in bytes.")
    pixels: int = Field(description="Largest image size in pixels: width times height.")


class Info(BaseModel):
    """Facts about the index and the service."""

    images: int = Field(description="Number of images in the index, from 0.")
    model: str = Field(description="Name of the model that computed the descriptors.")
    dimension: int = Field(description="Number of dimensions of a descriptor.")
    limits: UploadLimits = Field(description="Limits on uploads.")
    writable: bool = Field(description="Whether the service can add and remove images. A write token may be required.")
    needs_token: bool = Field(description="Whether searching requires a token.")
    explains: bool = Field(description="Whether the service can explain a hit. Always true.")


class Image(BaseModel):
    """An image of the index."""

    image_id: int = Field(description="Number that identifies the image in this index, from 0.")
    path: str = Field(description="Path of the file, relative to the root of the index, with forward slashes.")
    landmark: str = Field(description="Landmark that the image shows; empty if unknown.")
    width: int = Field(description="Width of the upright image in pixels.")
    height: int = Field(description="Height of the upright image in pixels.")
    metadata: dict[str, Any] = Field(default={}, description="Further metadata: values by name.")

    @computed_field(description="Deprecated name of image_id.", json_schema_extra={"deprecated": True})  # type: ignore[prop-decorator]
    @property
    def id(self) -> int:
        """Deprecated name of ``image_id``."""
        return self.image_id

    @computed_field(description="Deprecated name of landmark.", json_schema_extra={"deprecated": True})  # type: ignore[prop-decorator]
    @property
    def label(self) -> str:
        """Deprecated name of ``landmark``."""
        return self.landmark

    @classmethod
    def of(cls, entry: "Entry") -> "Image":
        """An image from an entry of the index."""
        return cls(
            image_id=entry.image_id,
            path=entry.path,
            landmark=entry.landmark,
            width=entry.width,
            height=entry.height,
            metadata=dict(entry.metadata),
        )


class QueryInfo(BaseModel):
    """Facts about the query."""

    image: Image | None = Field(description="The query, if it is an indexed image; null for an upload.")
    width: int = Field(description="Width of the upright query in pixels, without regard to the box.")
    height: int = Field(description="Height of the upright query in pixels, without regard to the box.")
    box: Pixels | None = Field(
        description="Region of the query that was searched with: x1, y1, x2, y2 in pixels of the upright image; null "
        "for the whole image."
    )


class Result(BaseModel):
    """One hit."""

    rank: int = Field(description="Rank of the hit: 1 for the best.")
    score: float = Field(
        description="Cosine similarity of the descriptors of the query and the image, -1 to 1. The results "
        "are sorted by score, except after re-ranking."
    )
    confidence: float | None = Field(
        description="Chance that an index of the same size, but with unrelated images, would have no score this high: "
        "0 to 1, or null if the index has too few images to estimate it."
    )
    image: Image = Field(description="The image that was found.")


class Timing(BaseModel):
    """Durations in milliseconds, including the wait for other requests."""

    describe: float = Field(
        description="Time in milliseconds to read the query and compute its descriptor, and its local features if a "
        "re-ranking step compares them. About 0 if the descriptor is stored."
    )
    search: float = Field(description="Time in milliseconds to search the index and re-rank the hits.")


class SearchAnswer(BaseModel):
    """One page of hits."""

    query: QueryInfo = Field(description="Facts about the query.")
    results: list[Result] = Field(description="The hits, best first.")
    more: bool = Field(description="Whether there are more hits. Request them with skip increased by top.")
    milliseconds: Timing = Field(description="Durations of the search in milliseconds.")


class Value(BaseModel):
    """A value of a column."""

    value: str = Field(description="The value as text.")
    count: int = Field(description="Number of images with this value, from 1.")


class Column(BaseModel):
    """A column that a filter expression can use."""

    name: str = Field(
        description="Name of the column. In a filter expression, put it in double quotes unless it is a single word."
    )
    kind: Literal["text", "number"] = Field(description="Type of the values: text or number.")
    values: list[Value] = Field(
        description="The most frequent values, most frequent first, at most 100. Empty for a number column with more "
        "than 100 different values."
    )
    least: float | None = Field(description="Smallest value of a number column; null for text.")
    most: float | None = Field(description="Largest value of a number column; null for text.")


class Filters(BaseModel):
    """Columns that filter expressions can use."""

    columns: list[Column] = Field(description="The columns, at most 100. Columns without any value are left out.")
