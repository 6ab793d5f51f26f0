"""What a server says about itself: models, health, metrics."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from s1pro.serve.http.errors import ApiError
from s1pro.serve.http.json_text import Json
from s1pro.serve.http.service import Service


def info_routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter()
    name = service.settings.model_name

    def card() -> dict[str, object]:
        return {
            "id": name,
            "object": "model",
            "created": service.created,
            "owned_by": "s1pro",
            "max_model_len": service.max_context,
        }

    @router.get("/v1/models")
    async def models() -> Response:
        """The one model of this server."""
        return Json({"object": "list", "data": [card()]})

    @router.get("/v1/models/{model:path}")
    async def model(model: str) -> Response:
        """The model by its name."""
        if model != name:
            raise ApiError(404, f"there is no model {model[:80]!r}; this server has {name!r}")
        return Json(card())

    @router.head("/health", include_in_schema=False)
    @router.get("/health")
    async def health() -> Response:
        """200 while requests can be answered, 503 while the server stops or after the engine has died."""
        if service.engine.accepting:
            return Json({"status": "ok"})
        return Json({"status": "stopping" if service.failure is None else "failed"}, status_code=503)

    @router.get("/metrics")
    async def metrics() -> Response:
        """Numbers for Prometheus."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router
