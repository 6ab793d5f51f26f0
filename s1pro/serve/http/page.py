"""What the page at `/` needs besides the model: its files, and help with signals, molecules and routing.

* `static/` is served at `/static`, its `index.html` at `/`. The policy that goes with them lets the page load only what
  lies there, and run no script that stands inside a text: what a model writes can never become one.
* `POST /page/signal?name=FILE` reads a recording (CSV, WAV, MiniSEED, ...) from the body and gives points for a plot
  and the part of a message: the values as NPY in a data URL, with rate and unit.
* `GET /page/molecule?smiles=` draws a structural formula (RDKit).
* `GET /page/routing/REF?token=N` gives the experts of one token, layer by layer, of an answer with `routed_experts`.
* `POST /page/pdf` gives the figures of a paper (`paper_figures`).
"""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Query, Request
from starlette.responses import FileResponse, Response

from s1pro.base.errors import InputError
from s1pro.inputs.signal_files import load_signal
from s1pro.inputs.signals import Signal
from s1pro.science.rdkit_access import UnreadableSmiles, read_smiles
from s1pro.serve.http.errors import ApiError
from s1pro.serve.http.json_text import Json
from s1pro.serve.http.paper_figures import PaperReader
from s1pro.serve.http.service import Service
from s1pro.serve.http.token_text import token_text

STATIC = Path(__file__).parent / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self'; "
    "connect-src 'self'; media-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DRAWING_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
MAX_PLOT_POINTS, MAX_PLOT_CHANNELS = 2000, 12
_EMPTY = "<!doctype html><meta charset=utf-8><title>s1pro</title><p>This server has no page: see /docs of the project."


def page_routes(service: Service, papers: PaperReader) -> APIRouter:
    """The routes of this module."""
    router = APIRouter()

    @router.head("/", include_in_schema=False)
    @router.get("/", include_in_schema=False)
    async def index() -> Response:
        return _static("index.html") if (STATIC / "index.html").is_file() else _html(_EMPTY)

    @router.get("/static/{path:path}", include_in_schema=False)
    async def static(path: str) -> Response:
        return _static(path)

    @router.post("/page/signal", openapi_extra=_BINARY_BODY)
    async def signal(
        request: Request,
        name: Annotated[str, Query(max_length=300)] = "",
        sampling_rate: Annotated[float | None, Query(gt=0, allow_inf_nan=False)] = None,
        unit: Annotated[str | None, Query(max_length=80)] = None,
    ) -> Response:
        """Points to plot, and the part of a message, of a recording in the body."""
        data = await request.body()
        return Json(await service.in_worker(lambda: _signal(data, name, sampling_rate, unit)))

    @router.get("/page/molecule")
    async def molecule(
        smiles: Annotated[str, Query(max_length=400)], side: Annotated[int, Query(ge=64, le=1024)] = 260
    ) -> Response:
        """A structural formula as SVG."""
        drawing = await service.in_worker(lambda: draw_molecule(smiles, side))
        headers = {"Content-Security-Policy": DRAWING_POLICY, "Cache-Control": "private, max-age=3600"}
        return Response(drawing, media_type="image/svg+xml", headers=headers)

    @router.get("/page/routing/{ref}")
    async def routing(ref: str, token: Annotated[int, Query(ge=0)] = 0) -> Response:
        """The experts of one token, layer by layer."""
        return Json(_experts_of(service, ref, token))

    @router.post("/page/pdf", openapi_extra=_BINARY_BODY)
    async def pdf(request: Request) -> Response:
        """The figures of a paper in the body, as pictures with their captions."""
        return await papers.answer(request)

    return router


_BINARY_BODY = {
    "requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}


def _experts_of(service: Service, ref: str, token: int) -> dict[str, Any]:
    """What a trace says of one token.

    Raises:
        ApiError: there is no such trace (404), or no such token in it.
    """
    trace = service.routing.get(ref)
    if trace is None:
        raise ApiError(404, "there is no such routing trace, or it was forgotten for newer ones")
    tokens, layers, _ = trace.experts_TLK.shape
    if token >= tokens:
        raise ApiError(400, f"token {token} of {tokens}: the last one was sampled and never fed", param="token")
    config, fed = service.engine.engine.network.config.text, trace.token_ids_T
    return {
        "token": token,
        "text": None if fed is None else token_text(service.processor.tokenizer, int(fed[token])),
        "tokens": tokens,
        "num_experts": config.router.num_experts,
        "num_groups": config.router.num_groups,
        "layers": [
            {"layer": int(layer), "experts": [int(e) for e in trace.experts_TLK[token, i]]}
            for i, layer in zip(range(layers), config.moe_layers, strict=True)
        ],
    }


def _static(path: str) -> Response:
    """A file of `static/`; nothing outside, and no hidden one."""
    if re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*", path) is None:
        raise ApiError(404, "there is no such file")
    file = (STATIC / path).resolve()
    if not file.is_relative_to(STATIC.resolve()) or not file.is_file():
        raise ApiError(404, "there is no such file")
    return FileResponse(file, headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"})


def _html(text: str) -> Response:
    return Response(text, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": POLICY})


def _signal(data: bytes, name: str, rate: float | None, unit: str | None) -> dict[str, Any]:
    signal = load_signal(data, sampling_rate=rate, unit=unit)
    length, channels = signal.values_SA.shape
    part = {
        "type": "time_series",
        "time_series": "data:application/octet-stream;base64," + base64.b64encode(_npy(signal)).decode("ascii"),
        "sampling_rate": signal.sampling_rate,
        "unit": signal.unit,
        "channels": list(signal.channel_names) or None,
        "missing": None if np.isfinite(signal.values_SA).all() else "interpolate",
    }
    return {
        "name": name,
        "length": length,
        "num_channels": channels,
        "sampling_rate": signal.sampling_rate,
        "unit": signal.unit,
        "channels": list(signal.channel_names),
        "start_time": signal.start_time,
        "note": signal.note,
        "plot": plot_points(signal.values_SA),
        "part": {key: value for key, value in part.items() if value is not None},
    }


def plot_points(values_SA: npt.NDArray[np.floating[Any]]) -> dict[str, Any]:
    """At most `MAX_PLOT_POINTS` points per channel, in which no peak is lost.

    Long signals are cut into pieces; of each the smallest and the largest value are kept, in their order in time.
    Returns the positions and, per channel, the values; missing ones are None.
    """
    values = values_SA[:, :MAX_PLOT_CHANNELS]
    if len(values) <= MAX_PLOT_POINTS:
        return {"x": list(range(len(values))), "y": [_with_none(column) for column in values.T]}
    borders = np.linspace(0, len(values), MAX_PLOT_POINTS // 2 + 1).astype(np.int64)
    low = np.minimum.reduceat(values, borders[:-1], axis=0)
    high = np.maximum.reduceat(values, borders[:-1], axis=0)
    rising = values[borders[:-1]] <= values[borders[1:] - 1]
    y = np.stack([np.where(rising, low, high), np.where(rising, high, low)], axis=1).reshape(-1, values.shape[1])
    x = np.stack([borders[:-1], (borders[:-1] + borders[1:]) // 2], axis=1).ravel()
    return {"x": x.tolist(), "y": [_with_none(column) for column in y.T]}


def draw_molecule(smiles: str, side: int) -> str:
    """A structural formula as SVG: paths and shapes, no scripts, no links.

    Raises:
        InputError: not a molecule, or a large one.
        MissingExtraError: RDKit is not installed.
    """
    try:
        molecule = read_smiles(smiles)
    except UnreadableSmiles as error:
        raise InputError(str(error)) from error
    from rdkit.Chem import rdDepictor
    from rdkit.Chem.Draw import rdMolDraw2D

    rdDepictor.Compute2DCoords(molecule, canonOrient=True)
    drawing = rdMolDraw2D.MolDraw2DSVG(side, side)
    rdMolDraw2D.PrepareAndDrawMolecule(drawing, molecule)
    drawing.FinishDrawing()
    svg = str(drawing.GetDrawingText())
    if re.search(r"<\s*(?:script|foreignObject|image|use|a)\b|\bon\w+\s*=|javascript:", svg, re.IGNORECASE):
        raise InputError("the drawing holds more than shapes; it is not shown")
    return svg


def _with_none(column: npt.NDArray[np.floating[Any]]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in column]


def _npy(signal: Signal) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(signal.values_SA, dtype=np.float32), allow_pickle=False)
    return stream.getvalue()
