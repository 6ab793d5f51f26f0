"""The application: routes behind the gate, and what happens at its end.

Errors have one form (`errors`), the description of all routes is at `/openapi.json`, and there are no pages that load
scripts from elsewhere.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from s1pro import __version__
from s1pro.serve.http.chat import chat_routes
from s1pro.serve.http.completions import completion_routes
from s1pro.serve.http.control import control_routes
from s1pro.serve.http.errors import add_error_handlers
from s1pro.serve.http.info import info_routes
from s1pro.serve.http.middleware import App, Gate
from s1pro.serve.http.page import page_routes
from s1pro.serve.http.paper_figures import FiguresOfPdf, PaperReader
from s1pro.serve.http.responses import response_routes
from s1pro.serve.http.service import Service
from s1pro.serve.http.token_routes import token_routes

_ERROR: dict[str, Any] = {
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {
                    "error": {
                        "type": "object",
                        "required": ["message", "type"],
                        "properties": {
                            "message": {"type": "string"},
                            "type": {"type": "string"},
                            "param": {"type": ["string", "null"]},
                            "code": {"type": ["string", "null"]},
                        },
                    }
                },
            }
        }
    }
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": text, **_ERROR}
    for status, text in (
        (400, "The request is wrong"),
        (401, "No valid API key"),
        (403, "Not from here"),
        (404, "There is no such thing"),
        (408, "The body did not arrive"),
        (413, "The body is too large"),
        (429, "The server is full"),
        (501, "Not there"),
        (503, "The server stops or sleeps"),
    )
}


def create_app(service: Service, *, figures_of_pdf: FiguresOfPdf | None = None) -> App:
    """The ASGI application of a server. It closes the service at its end.

    Args:
        figures_of_pdf: reads papers for the page; without it `/page/pdf` answers 501.
    """
    papers = PaperReader(figures_of_pdf)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            yield
        finally:
            papers.close()
            service.close()

    app = FastAPI(
        title="s1pro",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses=_RESPONSES,
        redirect_slashes=False,
    )
    add_error_handlers(app)
    for routes in (
        info_routes,
        chat_routes,
        completion_routes,
        response_routes,
        token_routes,
        control_routes,
    ):
        app.include_router(routes(service))
    app.include_router(page_routes(service, papers))

    def observe(scope: Any, status: int) -> None:
        route = scope.get("route")
        path = getattr(route, "path", "other")
        service.metrics.requests.labels(path, str(status)).inc()

    return Gate(app, service.settings, observe)
