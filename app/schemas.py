"""The JSON that the service answers with. The descriptions appear in ``/openapi.json`` and on ``/docs``."""

from pydantic import BaseModel, Field

from glam.index import Entry

Pixels = tuple[float, float, float, float]


class Problem(BaseModel):
    """Why a request was not answered."""

    detail: str = Field(description="One sentence for the person who asked.")


class Health(BaseModel):
    """The service is up."""

    status: str = Field(description='Always "ok".')


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


class Image(BaseModel):
    """An image of the index."""

    id: int = Field(description="Its number in this index.")
    path: str = Field(description="Its file, relative to the indexed folder, with forward slashes.")
    label: str = Field(description="The landmark it shows; empty when nobody said.")
    width: int = Field(description="Width in pixels, upright.")
    height: int = Field(description="Height in pixels, upright.")

    @classmethod
    def of(cls, entry: Entry) -> "Image":
        """The same facts as an entry of the index."""
        return cls(id=entry.id, path=entry.path, label=entry.label, width=entry.width, height=entry.height)


class Query(BaseModel):
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
    score: float = Field(description="Cosine similarity of the descriptors, -1 to 1.")
    image: Image


class Timing(BaseModel):
    """Where the time went, in milliseconds; waiting for other requests is not counted."""

    describe: float = Field(description="Reading the image and computing its descriptor; about 0 for a stored one.")
    search: float = Field(description="Searching the index.")


class SearchAnswer(BaseModel):
    """The images most alike, best first."""

    query: Query
    results: list[Result]
    milliseconds: Timing
