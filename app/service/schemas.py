"""The JSON that the service answers with. The descriptions appear in ``/openapi.json`` and on ``/docs``."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, WithJsonSchema, computed_field

if TYPE_CHECKING:  # the client needs no index
    from glam.index import Entry

Pixels = Annotated[
    tuple[float, float, float, float],
    # The same as what pydantic says of a tuple, in words that every reader of OpenAPI knows.
    WithJsonSchema({"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}),
]


class ErrorAnswer(BaseModel):
    """Why a request was not answered."""

    detail: str = Field(description="One sentence for the person who asked.")


class Health(BaseModel):
    """How the service is."""

    status: Literal["ok", "stopping"] = Field(description='"ok" as long as it takes requests.')


class UploadLimits(BaseModel):
    """The largest upload that is accepted."""

    bytes: int = Field(description="Bytes of the image file.")
    pixels: int = Field(description="Width times height of the image.")


class Info(BaseModel):
    """What is being served."""

    images: int = Field(description="Number of images in the index.")
    model: str = Field(description="Name of the model that described them.")
    dimension: int = Field(description="Length of a descriptor.")
    limits: UploadLimits
    writable: bool = Field(description="Whether images can be added and removed here, given the right token.")
    needs_token: bool = Field(description="Whether searching needs a token.")
    explains: bool = Field(description="Whether it can be asked why an image was found.")


class Image(BaseModel):
    """An image of the index."""

    image_id: int = Field(description="Its number in this index.")
    path: str = Field(description="Its file, relative to the indexed folder, with forward slashes.")
    landmark: str = Field(description="The landmark it shows; empty if unknown.")
    width: int = Field(description="Width in pixels, upright.")
    height: int = Field(description="Height in pixels, upright.")
    metadata: dict[str, Any] = Field(default={}, description="What else is known of it, by name.")

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
        """The same facts as an entry of the index."""
        return cls(
            image_id=entry.image_id,
            path=entry.path,
            landmark=entry.landmark,
            width=entry.width,
            height=entry.height,
            metadata=dict(entry.metadata),
        )


class QueryInfo(BaseModel):
    """What was searched for."""

    image: Image | None = Field(description="The indexed image that was the query; null for an upload.")
    width: int = Field(description="Width of the whole query image in pixels, upright.")
    height: int = Field(description="Height of the whole query image in pixels, upright.")
    box: Pixels | None = Field(
        description="The part searched with: x1, y1, x2, y2 in pixels of the upright image; null for all."
    )


class Result(BaseModel):
    """One image that was found."""

    rank: int = Field(description="1 for the best.")
    score: float = Field(
        description="Cosine similarity of the descriptors, -1 to 1; with `rerank` it need not fall along the results."
    )
    confidence: float | None = Field(
        description="How likely it is that the best of as many unrelated images scores lower, 0 to 1; null where the "
        "index has too few images to tell."
    )
    image: Image


class Timing(BaseModel):
    """Where the time went, in milliseconds, waiting for other requests included."""

    describe: float = Field(description="Reading the image and computing its descriptor; about 0 for a stored one.")
    search: float = Field(description="Searching the index, and reranking where that was asked for.")


class SearchAnswer(BaseModel):
    """The images most alike, best first."""

    query: QueryInfo
    results: list[Result]
    more: bool = Field(description="Whether there are further results, to be had with a larger `skip`.")
    milliseconds: Timing


class Value(BaseModel):
    """A value that images have."""

    value: str = Field(description="As text.")
    count: int = Field(description="How many images have it.")


class Column(BaseModel):
    """Something known of the images that `where` can name."""

    name: str = Field(description="As in a condition; in double quotes where it is more than one word.")
    kind: Literal["text", "number"] = Field(description="What its values are.")
    values: list[Value] = Field(
        description="The most frequent values, at most 100, most frequent first; none of a number with more."
    )
    least: float | None = Field(description="The least number; null for text.")
    most: float | None = Field(description="The largest number; null for text.")


class Filters(BaseModel):
    """What the images can be filtered by."""

    columns: list[Column]
