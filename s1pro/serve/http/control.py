"""Control of a running engine, for reinforcement learning: new weights, sleep, and taking requests back.

| route | what |
|---|---|
| `POST /update_weights` JSON `{"folder", "version"}` | a model folder below `weights_root` |
| `POST /update_weights?version=N` safetensors body | tensors by the names of the parameters |
| `POST /sleep`, `POST /wakeup`, `GET /is_sleeping` | the memory of the cache is given back meanwhile |
| `POST /abort_request` `{"request_id"}` or `{"abort_all": true}` | always there; the rest needs `--control` |

Weights travel as safetensors, which holds numbers and nothing that could be executed. Requests under way go on with
the new weights; their answers carry the version. Of several ranks each is told, at the same time: all of them switch
after the same step.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from s1pro.base.errors import InputError
from s1pro.serve.http.bodies import AbortBody, WeightsBody
from s1pro.serve.http.errors import ApiError, body_error
from s1pro.serve.http.json_text import Json
from s1pro.serve.http.service import Run, Service
from s1pro.serve.strict_json import loads_strict
from s1pro.serve.weights import DTYPES


def control_routes(service: Service) -> APIRouter:
    """The routes of this module."""
    router = APIRouter()

    @router.post("/abort_request")
    async def abort_request(body: AbortBody) -> Response:
        """Ends requests; their answers come with what there is and `finish_reason` abort."""
        if (body.request_id is None) == (not body.abort_all):
            raise ApiError(400, "give either request_id or abort_all", param="request_id")
        runs = service.runs.values() if body.abort_all else [service.runs.get(body.request_id or "", [])]
        found: dict[str, Run] = {run.id: run for several in runs for run in several}
        for run in found.values():
            run.cancel()
        return Json({"aborted": sorted(found)})

    if service.settings.control:
        _add_control(router, service)
    return router


def _add_control(router: APIRouter, service: Service) -> None:
    engine = service.engine

    @router.post("/update_weights", openapi_extra=_WEIGHTS_BODY)
    async def update_weights(request: Request) -> Response:
        """Replaces the weights in place, between two steps."""
        if request.headers.get("content-type", "").partition(";")[0].strip() == "application/json":
            body = _weights_body(await request.body())
            source: Any = _checked_folder(body.folder, service.settings.weights_root)
            version = body.version
        else:
            version = _version(request.query_params.get("version"))
            source = await asyncio.to_thread(_tensors, await request.body())  # gigabytes: others are served meanwhile
        try:
            await engine.update_weights(source, version)
        except (ValueError, KeyError) as error:
            raise ApiError(400, f"these weights were not taken: {error}") from error
        return Json({"policy_version": version})

    @router.post("/sleep")
    async def sleep() -> Response:
        """Gives the memory of the cache back; requests are refused until `/wakeup`."""
        await engine.sleep()
        return Json({"is_sleeping": True})

    @router.post("/wakeup")
    async def wakeup() -> Response:
        """Takes the memory of the cache again."""
        await engine.wake()
        return Json({"is_sleeping": False})

    @router.get("/is_sleeping")
    async def is_sleeping() -> Response:
        """Whether the engine sleeps."""
        return Json({"is_sleeping": bool(engine.engine.asleep)})


_WEIGHTS_BODY = {
    "requestBody": {
        "content": {
            "application/json": {"schema": WeightsBody.model_json_schema()},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        }
    }
}


def _weights_body(data: bytes) -> WeightsBody:
    from pydantic import ValidationError

    try:
        return WeightsBody.model_validate(loads_strict(data.decode("utf-8")))
    except ValidationError as error:
        raise body_error(error.errors()) from error
    except ValueError as error:
        raise ApiError(400, f"the body is no JSON: {error}", code="invalid_body") from error


def _version(text: str | None) -> int:
    if text is None or re.fullmatch(r"[0-9]{1,18}", text) is None:
        raise ApiError(400, f"the query needs ?version=N, a whole number, got {text!r:.40}", param="version")
    return int(text)


def _checked_folder(name: str, root: Path | None) -> Path:
    """A model folder below the root, links followed.

    Raises:
        ApiError: no root is set, or the path leads out of it or to no model.
    """
    if root is None:
        raise ApiError(400, "this server takes no folders (--weights-root)", param="folder")
    try:
        folder = (root / name).resolve()
        inside = folder.is_relative_to(root.resolve()) and (folder / "config.json").is_file()
    except (ValueError, OSError, RuntimeError):
        inside = False
    if not inside:
        raise ApiError(400, f"folder: no model folder below --weights-root, got {name!r:.80}", param="folder")
    return folder


def _tensors(data: bytes) -> dict[str, Any]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not data:
        raise ApiError(400, "the body is empty; send a safetensors file")
    try:
        tensors = dict(load(data))
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"the body is no safetensors file: {error}") from error
    for name, tensor in tensors.items():
        if tensor.dtype in DTYPES and not torch.isfinite(tensor).all():
            raise InputError(f"weights: {name} holds values that are not finite; nothing was written")
    return tensors
