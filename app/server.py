"""The web service: the API, the page, and what guards both."""

from importlib import resources
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from glam.app import api, schemas
from glam.app.headers import SecurityHeaders
from glam.app.limits import BodyLimit, Limits
from glam.app.photographs import PhotographGone, Photographs
from glam.app.searcher import BoxError, Searcher
from glam.index import Index
from glam.model import Model

PAGE = Path(str(resources.files("glam.app") / "page"))


def create_app(index: Index, model: Model, limits: Limits = Limits()) -> FastAPI:  # noqa: B008  (frozen, so shared safely)
    """The service for one index.

    Args:
        index: open for reading; the caller closes it once the service has stopped.
        model: the one that built the index.
        limits: what an upload may be.

    Raises:
        GlamError: ``model`` is another one than the index was built with.
    """
    index.check_model(model)
    app = FastAPI(
        title="GLAM landmark search",
        description='Finds photographs of the same place. Every error is answered with `{"detail": "one sentence"}`.',
        # FastAPI's own documentation pages load scripts from another site; `page/docs.html` does not.
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = api.Services(
        index=index,
        model_name=Path(model.name).name,  # not the path: the page may be open to others
        searcher=Searcher(index, model),
        photographs=Photographs(index, limits.thumbnail_cache_bytes),
        limits=limits,
    )
    app.add_middleware(BodyLimit, limits=limits)
    app.add_middleware(SecurityHeaders)
    app.add_exception_handler(RequestValidationError, answer_bad_value)
    app.add_exception_handler(BoxError, answer_bad_box)
    app.add_exception_handler(PhotographGone, answer_gone)
    app.include_router(api.router)
    app.add_api_route("/healthz", health, tags=["service"], summary="Whether the service is up")
    app.add_api_route("/docs", docs, include_in_schema=False)
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


def health() -> schemas.Health:
    """Answers as soon as the service takes requests; the index and the model are loaded by then."""
    return schemas.Health(status="ok")


def docs() -> FileResponse:
    """The page that lists the API."""
    return FileResponse(PAGE / "docs.html")


def answer_bad_value(request: Request, error: Exception) -> JSONResponse:
    """422 with one sentence for the first value that is missing or out of range."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return _problem(422, f"{first['loc'][-1]}: {first['msg']}.")


def answer_bad_box(request: Request, error: Exception) -> JSONResponse:
    """422 with the sentence of a ``BoxError``."""
    return _problem(422, str(error))


def answer_gone(request: Request, error: Exception) -> JSONResponse:
    """404 with the sentence of a ``PhotographGone``."""
    return _problem(404, str(error))


def _problem(status: int, sentence: str) -> JSONResponse:
    return JSONResponse(schemas.Problem(detail=sentence).model_dump(), status_code=status)
