"""How a model routes calibration text: what B and `fitted` expansion, and their measurement, need to know.

Per layer with experts:

    ids_LTX, probs_LTX    for a sample of tokens, the X most probable experts and their probabilities, best first
    weights_LTX           the share that each of them has in the output of the mixture; 0 for those that are not active
    rank_counts_LEX       over all tokens, how often expert e had rank r (0 is the most probable)

`train.calibration` collects it from the routers of a network. The file is safetensors with the sizes in its metadata.
In layers with very many experts only the best `MAX_RANKS` are kept; what lies behind them carries no weight.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from s1pro.base.errors import InputError

MAX_RANKS = 64
MAX_BYTES = 16 * 2**30
_FORMAT = "s1pro-calibration-1"
_DTYPES = {
    "ids_LTX": np.dtype(np.int32),
    "probs_LTX": np.dtype(np.float32),
    "weights_LTX": np.dtype(np.float32),
    "rank_counts_LEX": np.dtype(np.int64),
}


@dataclass(frozen=True)
class LayerRouting:
    """One layer: the sample of a `Calibration`, and how many experts there are."""

    num_experts: int
    ids_TX: npt.NDArray[np.int32]
    probs_TX: npt.NDArray[np.float32]
    weights_TX: npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """See the module docstring.

    Attributes:
        top_k: K of the model that was watched.
        num_tokens: tokens behind `rank_counts_LEX`.
    """

    top_k: int
    num_tokens: int
    ids_LTX: npt.NDArray[np.int32]
    probs_LTX: npt.NDArray[np.float32]
    weights_LTX: npt.NDArray[np.float32]
    rank_counts_LEX: npt.NDArray[np.int64]

    @property
    def num_layers(self) -> int:
        return len(self.ids_LTX)

    @property
    def num_experts(self) -> int:
        return self.rank_counts_LEX.shape[1]

    def layer(self, index: int) -> LayerRouting:
        return LayerRouting(self.num_experts, self.ids_LTX[index], self.probs_LTX[index], self.weights_LTX[index])

    def check(self, *, num_experts: int, num_layers: int, top_k: int) -> None:
        """Raises `InputError` unless this was taken from a model of these sizes."""
        expected = {"experts": num_experts, "layers": num_layers, "top_k": top_k}
        found = {"experts": self.num_experts, "layers": self.num_layers, "top_k": self.top_k}
        wrong = [
            f"{name} is {found[name]} instead of {value}" for name, value in expected.items() if found[name] != value
        ]
        if wrong:
            raise InputError(f"the calibration belongs to another model: {', '.join(wrong)}")


def save_calibration(calibration: Calibration, path: Path) -> None:
    """Writes the file under a temporary name first."""
    sizes = {"top_k": calibration.top_k, "num_tokens": calibration.num_tokens}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    tensors = {name: np.ascontiguousarray(getattr(calibration, name)) for name in _DTYPES}
    save_file(tensors, temporary, metadata={"format": _FORMAT, "sizes": json.dumps(sizes)})
    temporary.replace(path)


def load_calibration(path: Path) -> Calibration:
    """Reads and checks a file of `save_calibration`.

    Raises:
        InputError: no such file, or one that is damaged or inconsistent.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such calibration file")
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: {path.stat().st_size} bytes is no calibration")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT or set(file.keys()) != set(_DTYPES):
                raise InputError(f"{path}: not a calibration file of this version; make it again")
            sizes = json.loads(metadata["sizes"])
            tensors = {name: file.get_tensor(name) for name in _DTYPES}
            calibration = Calibration(top_k=int(sizes["top_k"]), num_tokens=int(sizes["num_tokens"]), **tensors)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: damaged calibration file ({error})") from error
    problem = _problem(calibration)
    if problem:
        raise InputError(f"{path}: {problem}; make the calibration again")
    return calibration


def _problem(calibration: Calibration) -> str | None:
    arrays = {name: getattr(calibration, name) for name in _DTYPES}
    for name, dtype in _DTYPES.items():
        if arrays[name].dtype != dtype or arrays[name].ndim != 3 or not arrays[name].size:
            return f"{name} is {arrays[name].dtype} {list(arrays[name].shape)}"
    ids, counts = arrays["ids_LTX"], arrays["rank_counts_LEX"]
    if not ids.shape == arrays["probs_LTX"].shape == arrays["weights_LTX"].shape:
        return "ids, probabilities and weights have different shapes"
    layers, experts, ranks = counts.shape
    if layers != len(ids) or experts != ranks or ids.shape[2] > experts or not 1 <= calibration.top_k <= experts:
        return f"sizes do not fit: ids {list(ids.shape)}, rank counts {list(counts.shape)}, top_k {calibration.top_k}"
    if ids.min() < 0 or ids.max() >= experts or counts.min() < 0:
        return "expert ids or counts are out of range"
    if not all(np.isfinite(arrays[name]).all() and arrays[name].min() >= 0 for name in ("probs_LTX", "weights_LTX")):
        return "probabilities are negative or not finite"
    return None
