"""The web service: the API and the page, behind middleware.

connection (`connections.py`: time limits) --> AccessLogMiddleware (id, log, metrics) --> SecurityHeadersMiddleware
        --> ConditionalMiddleware (ETag, HEAD) --> DrainMiddleware --> AuthMiddleware (host, origin, role, token)
        --> AdmissionMiddleware (concurrent requests, memory of bodies) --> TimeoutMiddleware --> BodyLimitMiddleware
        --> MethodMiddleware (HEAD, OPTIONS, 405) --> endpoint
"""

import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from html import escape
from importlib import resources
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from glam.app.service import schemas
from glam.app.service.dependencies import AppState, get_app_state
from glam.app.service.image_files import ImageFileGone
from glam.app.service.memory_budget import MemoryFullError
from glam.app.service.middleware.access_log import AccessLogMiddleware
from glam.app.service.middleware.admission import AdmissionMiddleware
from glam.app.service.middleware.auth import Access, AuthMiddleware
from glam.app.service.middleware.body_limit import BodyLimitMiddleware
from glam.app.service.middleware.conditional import ConditionalMiddleware
from glam.app.service.middleware.errors import (
    RETRY_SECONDS,
    SHUTDOWN_RETRY_SECONDS,
    SHUTTING_DOWN,
    DrainMiddleware,
    service_busy,
)
from glam.app.service.middleware.methods import MethodMiddleware
from glam.app.service.middleware.root_path import RootPathMiddleware
from glam.app.service.middleware.security_headers import SecurityHeadersMiddleware
from glam.app.service.middleware.timeouts import TimeoutMiddleware
from glam.app.service.routes import explain, images, search
from glam.app.service.settings import ServiceLimits
from glam.app.service.workers.batcher import ClosedError, FullError
from glam.app.service.workers.search import BoxError, FilterError
from glam.errors import GlamError, ImageError
from glam.index import Index
from glam.model import Model

log = logging.getLogger("glam.service")

PAGE = Path(str(resources.files("glam.app") / "page"))

NOT_FOUND = "Not Found"
"""Starlette's detail of a 404 for a path that nothing is served at."""


def create_app(
    index: Index,
    model: Model,
    limits: ServiceLimits = ServiceLimits(),  # noqa: B008  (frozen, so shared safely)
    access: Access = Access(),  # noqa: B008
    *,
    root_path: str = "",
    owns_index: bool = False,
) -> FastAPI:
    """Create the service for one index.

    Args:
        index: open index. When it changes on disk, the service opens the new snapshot itself.
        model: the model that the index was built with.
        limits: limits on requests and on memory.
        access: access rules.
        root_path: path below which a proxy serves the service, such as ``/photos``; "" for none.
        owns_index: whether the service closes ``index``, when a newer snapshot replaces it or the service stops. If
            False, the caller closes it after the service has stopped.

    Raises:
        GlamError: the index was built with another model.
    """
    index.check_model(model)
    app_state = AppState(index, model, Path(model.name).name, limits, access, owns_index=owns_index)
    app = FastAPI(
        title="GLAM landmark search",
        description='Find images that show the same landmark. The response to an error is {"detail": "what is wrong"}.',
        # The documentation pages of FastAPI load scripts from another site; `page/docs.html` does not.
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.glam = app_state
    app.add_middleware(MethodMiddleware)
    app.add_middleware(BodyLimitMiddleware, limits=limits)
    app.add_middleware(TimeoutMiddleware, limits=limits)
    app.add_middleware(AdmissionMiddleware, limits=limits, budget=app_state.body_budget)
    app.add_middleware(AuthMiddleware, access=access)
    app.add_middleware(DrainMiddleware)
    if access.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=access.allowed_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization"],
            expose_headers=["Retry-After", "X-Request-ID"],
        )
    app.add_middleware(ConditionalMiddleware)
    app.add_middleware(SecurityHeadersMiddleware)
    app.add_middleware(AccessLogMiddleware, metrics=app_state.metrics, in_flight=app_state.in_flight)
    app.add_middleware(RootPathMiddleware, root_path=root_path)
    app.add_exception_handler(HTTPException, answer_http_error)
    app.add_exception_handler(RequestValidationError, answer_invalid_value)
    app.add_exception_handler(FullError, answer_busy)
    app.add_exception_handler(MemoryFullError, answer_full)
    app.add_exception_handler(ClosedError, answer_stopping)
    app.add_exception_handler(ImageError, answer_unreadable)
    app.add_exception_handler(GlamError, answer_unavailable)
    app.add_exception_handler(BoxError, answer_unprocessable)
    app.add_exception_handler(FilterError, answer_unprocessable)
    app.add_exception_handler(ImageFileGone, answer_not_found)
    for router in (search.router, images.router, explain.router):
        app.include_router(router)
    app.add_api_route("/healthz", health, tags=["service"], summary="Check that the service runs")
    app.add_api_route(
        "/readyz", ready, tags=["service"], summary="Check that the service accepts requests", responses={503: STOPPING}
    )
    app.add_api_route(
        "/metrics", metrics, tags=["service"], summary="Get metrics for Prometheus", response_class=Response
    )
    app.add_api_route("/docs", docs, include_in_schema=False)
    app.mount("/", PageFiles(directory=PAGE, html=True))
    return app


class PageFiles(StaticFiles):
    """The files of the page, without the Python module beside them."""

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Path of a file and its facts; None for a file that is not served."""
        return ("", None) if path.endswith(".py") else super().lookup_path(path)


NO_STORE = {"Cache-Control": "no-store"}

STOPPING = {"model": schemas.Health, "description": "The service is shutting down."}


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app_state = get_app_state(app)
    app_state.watcher.start()
    yield
    app_state.close()


async def health(response: Response) -> schemas.Health:
    """Answers 200 while the service runs. The index and the model are loaded before it starts."""
    response.headers.update(NO_STORE)
    return schemas.Health(status="ok")


async def ready(request: Request, response: Response) -> schemas.Health:
    """Answers 200 while the service accepts requests, and 503 during a shutdown."""
    response.headers.update(NO_STORE)
    if get_app_state(request.app).in_flight.stopping:
        response.status_code = 503
        return schemas.Health(status="stopping")
    return schemas.Health(status="ok")


async def metrics(request: Request) -> Response:
    """Returns the number and duration of requests, queue lengths, and batch sizes, in the text format of Prometheus."""
    return Response(get_app_state(request.app).metrics.text(), media_type=CONTENT_TYPE_LATEST, headers=NO_STORE)


def docs() -> FileResponse:
    """The page that documents the API."""
    return FileResponse(PAGE / "docs.html")


def answer_invalid_value(request: Request, error: Exception) -> JSONResponse:
    """422 with a sentence about the first missing or invalid value."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    reason = str(first["msg"]).removeprefix("Value error, ").removesuffix(".")
    if reason.startswith("Expected UploadFile"):
        reason = "Send a file: the part of the form needs a file name"
    return _error(422, f"{first['loc'][-1]}: {reason}.")


async def answer_busy(request: Request, error: Exception) -> Response:
    """503: the queue of a worker is full."""
    return await http_exception_handler(request, service_busy())


def answer_full(request: Request, error: Exception) -> JSONResponse:
    """503 with the sentence of a ``MemoryFullError``."""
    return _error(503, str(error), {"Retry-After": RETRY_SECONDS})


def answer_unavailable(request: Request, error: Exception) -> JSONResponse:
    """503: the index cannot be read. The log has the reason, which names files of this machine."""
    log.warning("index not read", extra={"facts": {"reason": str(error)}})
    return _error(503, "The index cannot be read now. Try again later.", {"Retry-After": RETRY_SECONDS})


def answer_stopping(request: Request, error: Exception) -> JSONResponse:
    """503: the workers no longer accept requests."""
    return _error(503, SHUTTING_DOWN, {"Retry-After": SHUTDOWN_RETRY_SECONDS})


def answer_unreadable(request: Request, error: Exception) -> JSONResponse:
    """422 with the reason why the image cannot be decoded."""
    assert isinstance(error, ImageError)
    return _error(422, f"The image cannot be read: {error.reason}. Send another file.")


def answer_unprocessable(request: Request, error: Exception) -> JSONResponse:
    """422 with the sentence of a ``BoxError`` or a ``FilterError``."""
    return _error(422, str(error))


async def answer_not_found(request: Request, error: Exception) -> Response:
    """404 with the sentence of an ``ImageFileGone``."""
    return await answer_http_error(request, HTTPException(404, str(error)))


async def answer_http_error(request: Request, error: Exception) -> Response:
    """The status and the sentence of an ``HTTPException``, in JSON; for a 404 that a browser shows, a page."""
    assert isinstance(error, HTTPException)
    if error.status_code == 400 and isinstance(error.__cause__, OSError):  # of writing the upload to a file
        log.warning("upload not stored", extra={"facts": {"reason": str(error.__cause__)}})
        return _error(503, "The service has no space for the upload. Try again later.", {"Retry-After": RETRY_SECONDS})
    if error.status_code == 404 and "text/html" in request.headers.get("Accept", ""):
        return _not_found_page(request, error.detail)
    return await http_exception_handler(request, error)


def _not_found_page(request: Request, sentence: str) -> HTMLResponse:
    page = (PAGE / "not_found.html").read_text(encoding="utf-8")
    if sentence != NOT_FOUND:
        page = page.replace("There is nothing at this address.", escape(sentence))
    # Relative links, because a proxy may serve the page below a path of its own.
    depth = request.scope["path"].removeprefix(request.scope.get("root_path", "")).count("/") - 1
    page = page.replace('="./', '="' + ("../" * depth or "./"))
    return HTMLResponse(page, 404, {"Vary": "Accept"})


def _error(status: int, sentence: str, headers: Mapping[str, str] = {}) -> JSONResponse:
    return JSONResponse(schemas.ErrorAnswer(detail=sentence).model_dump(), status_code=status, headers=dict(headers))
