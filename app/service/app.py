"""The web service: the API, the page, and what guards both.

request --> AccessLogMiddleware (id, log, metrics) --> SecurityHeadersMiddleware --> DrainMiddleware
        --> AuthMiddleware (host, origin, token) --> AdmissionMiddleware (how many) --> TimeoutMiddleware (how long)
        --> BodyLimitMiddleware (how large) --> endpoint
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST

from glam.app.service import schemas
from glam.app.service.dependencies import Shared, shared_of
from glam.app.service.image_files import ImageFileGone
from glam.app.service.middleware.access_log import AccessLogMiddleware
from glam.app.service.middleware.auth import Access, AuthMiddleware
from glam.app.service.middleware.body_limit import BodyLimitMiddleware
from glam.app.service.middleware.errors import DrainMiddleware
from glam.app.service.middleware.security_headers import SecurityHeadersMiddleware
from glam.app.service.middleware.timeouts import AdmissionMiddleware, TimeoutMiddleware
from glam.app.service.routes import explain, images, search
from glam.app.service.settings import ServiceLimits
from glam.app.service.workers.search import BoxError, ConditionError
from glam.index import Index
from glam.model import Model

PAGE = Path(str(resources.files("glam.app") / "page"))


def create_app(
    index: Index,
    model: Model,
    limits: ServiceLimits = ServiceLimits(),  # noqa: B008  (frozen, so shared safely)
    access: Access = Access(),  # noqa: B008
    *,
    owns_index: bool = False,
) -> FastAPI:
    """The service for one index.

    Args:
        index: open for reading. When the index on disk changes, the service opens it anew for itself.
        model: the one that built the index.
        limits: on requests.
        access: who may ask what.
        owns_index: whether the service closes ``index`` once a newer one is served or it has stopped; else the caller
            does, after it has stopped.

    Raises:
        GlamError: ``model`` is another one than the index was built with.
    """
    index.check_model(model)
    shared = Shared(index, model, Path(model.name).name, limits, access, owns_index=owns_index)
    app = FastAPI(
        title="GLAM landmark search",
        description='Finds photographs of the same place. Every error is answered with `{"detail": "one sentence"}`.',
        # FastAPI's own documentation pages load scripts from another site; `page/docs.html` does not.
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.shared = shared
    app.add_middleware(BodyLimitMiddleware, limits=limits)
    app.add_middleware(TimeoutMiddleware, limits=limits)
    app.add_middleware(AdmissionMiddleware, limits=limits)
    app.add_middleware(AuthMiddleware, access=access)
    app.add_middleware(DrainMiddleware)
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(AccessLogMiddleware, metrics=shared.metrics, running=shared.running)
    app.add_exception_handler(RequestValidationError, answer_bad_value)
    app.add_exception_handler(BoxError, answer_unusable)
    app.add_exception_handler(ConditionError, answer_unusable)
    app.add_exception_handler(ImageFileGone, answer_gone)
    for router in (search.router, images.router, explain.router):
        app.include_router(router)
    app.add_api_route("/healthz", health, tags=["service"], summary="Whether the service is up")
    app.add_api_route(
        "/readyz", ready, tags=["service"], summary="Whether it takes requests", responses={503: STOPPING}
    )
    app.add_api_route("/metrics", metrics, tags=["service"], summary="Figures for Prometheus", response_class=Response)
    app.add_api_route("/docs", docs, include_in_schema=False)
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    return app


STOPPING = {"model": schemas.Health, "description": "It is about to end."}


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    shared = shared_of(app)
    shared.watcher.start()
    yield
    shared.close()


async def health() -> schemas.Health:
    """Answers as long as the service runs; the index and the model are loaded by then."""
    return schemas.Health(status="ok")


async def ready(request: Request, response: Response) -> schemas.Health:
    """Answers 200 as long as new requests are taken, and 503 once the service is stopping."""
    if shared_of(request.app).running.stopping:
        response.status_code = 503
        return schemas.Health(status="stopping")
    return schemas.Health(status="ok")


async def metrics(request: Request) -> Response:
    """Returns how many requests came, how long they took, how many wait, and how large the batches were."""
    return Response(shared_of(request.app).metrics.text(), media_type=CONTENT_TYPE_LATEST)


def docs() -> FileResponse:
    """The page that lists the API."""
    return FileResponse(PAGE / "docs.html")


def answer_bad_value(request: Request, error: Exception) -> JSONResponse:
    """422 with one sentence for the first value that is missing or out of range."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return _problem(422, f"{first['loc'][-1]}: {first['msg']}.")


def answer_unusable(request: Request, error: Exception) -> JSONResponse:
    """422 with the sentence of a ``BoxError`` or a ``ConditionError``."""
    return _problem(422, str(error))


def answer_gone(request: Request, error: Exception) -> JSONResponse:
    """404 with the sentence of a ``ImageFileGone``."""
    return _problem(404, str(error))


def _problem(status: int, sentence: str) -> JSONResponse:
    return JSONResponse(schemas.ErrorAnswer(detail=sentence).model_dump(), status_code=status)
