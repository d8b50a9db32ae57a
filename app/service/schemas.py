"""JSON schemas of the answers. The descriptions appear in ``/openapi.json`` and on ``/docs``."""

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
    """Why a request was not answered."""

    detail: str = Field(description="One sentence for the person who asked.")


class Health(BaseModel):
    """Health of the service."""

    status: Literal["ok", "stopping"] = Field(description='"ok" while it accepts requests.')


class UploadLimits(BaseModel):
    """The largest upload that is accepted."""

    bytes: int = Field(description="Bytes of the image file.")
    pixels: int = Field(description="Width times height of the image.")


class Info(BaseModel):
    """The index being served."""

    images: int = Field(description="Number of images in the index.")
    model: str = Field(description="Name of the model that described them.")
    dimension: int = Field(description="Length of a descriptor.")
    limits: UploadLimits
    writable: bool = Field(description="Whether images can be added and removed here, given the right token.")
    needs_token: bool = Field(description="Whether searching needs a token.")
    explains: bool = Field(description="Whether it can explain why an image was found.")


class Image(BaseModel):
    """An image of the index."""

    image_id: int = Field(description="Number of the image in this index.")
    path: str = Field(description="Path of the file, relative to the root of the index, with forward slashes.")
    landmark: str = Field(description="The landmark that the image shows; empty if unknown.")
    width: int = Field(description="Width in pixels, upright.")
    height: int = Field(description="Height in pixels, upright.")
    metadata: dict[str, Any] = Field(default={}, description="Further metadata, by name.")

    @computed_field(description="Deprecated name of `image_id`.", json_schema_extra={"deprecated": True})  # type: ignore[prop-decorator]
    @property
    def id(self) -> int:
        """Deprecated name of ``image_id``."""
        return self.image_id

    @computed_field(description="Deprecated name of `landmark`.", json_schema_extra={"deprecated": True})  # type: ignore[prop-decorator]
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

    image: Image | None = Field(description="The indexed image that was the query; null for an upload.")
    width: int = Field(description="Width of the whole query image in pixels, upright.")
    height: int = Field(description="Height of the whole query image in pixels, upright.")
    box: Pixels | None = Field(
        description="The part searched with: x1, y1, x2, y2 in pixels of the upright image; null for all."
    )


class Result(BaseModel):
    """One hit."""

    rank: int = Field(description="Rank, from 1 for the best.")
    score: float = Field(
        description="Cosine similarity of the descriptors, -1 to 1; with `rerank` it need not decrease."
    )
    confidence: float | None = Field(
        description="How likely it is that the best of as many unrelated images scores lower, 0 to 1; null if the "
        "index has too few images to tell."
    )
    image: Image


class Timing(BaseModel):
    """Time spent, in milliseconds, including the wait for other requests."""

    describe: float = Field(
        description="Reading the image and computing its descriptor, and its local features if a re-ranking step "
        "compares them; about 0 if the descriptor is stored."
    )
    search: float = Field(description="Searching the index, and re-ranking with `rerank`.")


class SearchAnswer(BaseModel):
    """The hits, best first."""

    query: QueryInfo
    results: list[Result]
    more: bool = Field(description="Whether there are more results; get them with a larger `skip`.")
    milliseconds: Timing


class Value(BaseModel):
    """A value of a column."""

    value: str = Field(description="As text.")
    count: int = Field(description="How many images have it.")


class Column(BaseModel):
    """A column that `where` can name."""

    name: str = Field(description="Name in a filter; put it in double quotes if it is not a single word.")
    kind: Literal["text", "number"] = Field(description="Type of its values.")
    values: list[Value] = Field(
        description="The most frequent values, at most 100, most frequent first; none for a number with more."
    )
    least: float | None = Field(description="The smallest number; null for text.")
    most: float | None = Field(description="The largest number; null for text.")


class Filters(BaseModel):
    """Columns that the images can be filtered by."""

    columns: list[Column]
