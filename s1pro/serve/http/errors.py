"""Errors of the HTTP interface, in the form that clients of OpenAI's API know:

    {"error": {"message": "...", "type": "invalid_request_error", "param": "temperature", "code": "..."}}

An `InputError` from any room is the client's mistake (400); its message already says what is wrong. What nobody
foresaw is 500 with a number under which the log has the traceback: nothing of our insides goes to the client.
"""

from __future__ import annotations

import logging
import reprlib
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from s1pro.base.errors import InputError
from s1pro.serve.async_engine import EngineStopped
from s1pro.serve.http.bodies import Refused
from s1pro.serve.http.json_text import Json
from s1pro.serve.lockstep import RanksLost

LONGEST_MESSAGE = 1000
LONGEST_VALUE = 60
_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_log = logging.getLogger("s1pro.serve")


class ApiError(Exception):
    """An answer other than success.

    Args:
        status: of HTTP.
        message: for people.
        param: field of the request that is wrong.
        code: for programs.
        retry_after: seconds after which another try makes sense.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """The error object."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        message = self.message
        if len(message) > LONGEST_MESSAGE:
            message = message[:LONGEST_MESSAGE] + "…"
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return Json(self.body(), status_code=self.status, headers=headers)


class ClientGone(Exception):
    """The client closed the connection; nobody reads an answer."""


def as_api_error(error: Exception) -> ApiError:
    """What a client is told about an exception; unforeseen ones are logged."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, InputError):
        return ApiError(400, str(error))
    if isinstance(error, EngineStopped | RanksLost):
        return ApiError(503, str(error), code="stopping")
    number = uuid.uuid4().hex[:12]
    _log.error("internal error %s", number, exc_info=error)
    return ApiError(500, f"internal error {number}; the log of the server has the details", code="internal_error")


def add_error_handlers(app: FastAPI) -> None:
    """Turns everything that a route can raise into an error object."""

    async def known(_: Request, error: Exception) -> Response:
        return as_api_error(error).response()

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return body_error(error.errors()).response()

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        message = str(error.detail)
        if error.status_code in (404, 405):  # the router's own words say nothing of what was asked
            message = f"there is no {request.method} {request.url.path[:80]} here; /openapi.json lists the routes"
        response = ApiError(error.status_code, message).response()
        response.headers.update(error.headers or {})
        return response

    async def gone(_: Request, error: Exception) -> Response:
        return Response(status_code=499)

    app.add_exception_handler(ApiError, known)
    app.add_exception_handler(InputError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(ClientGone, gone)
    app.add_exception_handler(Exception, known)


def body_error(problems: Sequence[Mapping[str, Any]]) -> ApiError:
    """The first thing that is wrong with a body: where, what, and what stands there.

    Args:
        problems: what pydantic found, at least one.
    """
    first = problems[0]
    details: Mapping[str, Any] = first.get("ctx", {})
    if first["type"] == "json_invalid":
        message = f"the body is no JSON: {details.get('error', '')} at character {first['loc'][-1]}"
        return ApiError(400, message, code="invalid_body")
    cause = details.get("error")
    if isinstance(cause, Refused):
        return ApiError(400, str(cause), param=cause.field, code="unsupported")
    where = _path(first["loc"])
    if not where:
        message = "the body must be a JSON object, sent with Content-Type: application/json"
    elif first["type"] == "missing":
        message = f"{where}: this field is needed"
    else:
        said = str(cause) if isinstance(cause, ValueError) else first["msg"]
        message = f"{where}: {said}, got {_short(first['input'])}"
    return ApiError(400, message, param=where[:200] or None, code="invalid_body")


def _path(location: Sequence[str | int]) -> str:
    """`messages[0].role`."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location if part != "body"]
    return "".join(parts).removeprefix(".")


def _short(value: Any) -> str:
    """A value of a client as text of bounded length, and in bounded time."""
    shown = reprlib.Repr()
    shown.maxstring = shown.maxlong = LONGEST_VALUE
    shown.maxlevel = 2
    text = shown.repr(value)
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + "…"
