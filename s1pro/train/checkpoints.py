"""When and how a run writes its checkpoints, on one rank or on many.

On many ranks:

1. rank 0 prepares a hidden folder, all wait for it;
2. every rank writes the boxes it answers for (`checkpoint.state_parts`), at once or, with `async_checkpoint`, from a
   copy in the background while training goes on;
3. when all parts are on disk, rank 0 makes the folder visible and removes old ones.

Whether all parts are there is asked in the agreement that ranks reach after every step anyway, so the background needs
no exchanges of its own. At most one save is on its way: the next one, and the end of the run, wait for it. A rank
that cannot write (a full disk) makes all ranks stop with an error, and the folder stays hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from s1pro.base.errors import InputError
from s1pro.base.region import Region
from s1pro.checkpoint.state_parts import Box, publish, start_staging, step_folder, write_part
from s1pro.checkpoint.training_state import flatten, keep_newest, latest_state, load_state, save_state
from s1pro.parallel.mesh import Ranks
from s1pro.parallel.regions import local_part
from s1pro.train.optim import Optimizer


class Checkpoints:
    """The checkpoints of one run.

    Args:
        root: folder of the steps.
        keep: newest steps that stay.
        in_background: write while training goes on (several ranks only).
    """

    def __init__(
        self,
        root: Path,
        network: nn.Module,
        optimizer: Optimizer,
        ranks: Ranks,
        *,
        keep: int,
        in_background: bool = False,
    ) -> None:
        self._root, self._network, self._optimizer, self._ranks = root, network, optimizer, ranks
        self._keep, self._in_background = keep, in_background
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint") if in_background else None
        self._pending: tuple[int, Mapping[str, Any], Future[None]] | None = None

    def newest(self) -> Path | None:
        """The newest complete step, the one that rank 0 sees."""
        step = -1
        if self._ranks.is_first and (folder := latest_state(self._root)) is not None:
            step = int(folder.name.removeprefix("step-"))
        step = round(self._ranks.add([step if self._ranks.is_first else 0])[0])
        return None if step < 0 else step_folder(self._root, step)

    def load(self, folder: Path) -> dict[str, Any]:
        """Reads tensors in place, whatever number of ranks wrote them, and returns the counters."""
        tensors = self._tensors()
        counters = load_state(folder, tensors, self._regions(flatten(tensors)[0]))
        torch.set_rng_state(tensors["random_state"])
        return counters

    def save(self, step: int, counters: Mapping[str, Any]) -> None:
        """Writes a checkpoint, or begins to.

        Raises:
            InputError: some rank could not write its part.
        """
        if not self._ranks.is_distributed:
            save_state(self._root, step, self._tensors(), counters, keep=self._keep)
            return
        self.finish()
        if self._ranks.is_first:
            start_staging(self._root, step)
        self._ranks.wait()
        boxes = self._boxes()
        if self._thread is None:
            written: Future[None] = Future()
            _run_now(written, self._write, step, boxes)
        else:
            copies = {name: (tensor.to("cpu", copy=True), region) for name, (tensor, region) in boxes.items()}
            written = self._thread.submit(self._write, step, copies)
        self._pending = (step, dict(counters), written)
        if self._thread is None:
            self.finish()

    @property
    def is_writing(self) -> bool:
        """Whether this rank is still writing its part."""
        return self._pending is not None and not self._pending[2].done()

    def finish(self) -> None:
        """Waits for the save that is on its way and makes it visible. All ranks call it at the same place.

        Raises:
            InputError: some rank could not write its part.
        """
        if self._pending is None:
            return
        step, counters, written = self._pending
        self._pending = None
        error = written.exception()
        failures = self._ranks.add([float(error is not None)])[0]
        if failures:
            raise InputError(
                f"the checkpoint of step {step} was not written: {error or 'another rank failed, see its message'}"
            ) from error
        if self._ranks.is_first:
            plain = flatten(self._tensors())[1]
            publish(self._root, step, self._ranks.size, counters, plain)
            keep_newest(self._root, self._keep)
        self._ranks.wait()

    def close(self) -> None:
        """Ends the background thread. What it has not finished stays hidden."""
        if self._thread is not None:
            self._thread.shutdown(wait=True)

    def _write(self, step: int, boxes: Mapping[str, Box]) -> None:
        write_part(self._root, step, self._ranks.rank, self._ranks.size, boxes)

    def _tensors(self) -> dict[str, Any]:
        return {
            "network": {name: local_part(tensor) for name, tensor in self._network.state_dict().items()},
            "optimizer": self._optimizer.state_dict(),
            "random_state": torch.get_rng_state(),
        }

    def _boxes(self) -> dict[str, Box]:
        """What this rank answers for: of every number of the state there is one copy over all ranks."""
        flat, _ = flatten(self._tensors())
        regions = self._regions(flat)
        return {name: (flat[name], regions[name]) for name in flat if self._is_mine(name) and regions[name].numel}

    def _regions(self, flat: Mapping[str, Tensor]) -> dict[str, Region]:
        regions = {}
        for name, tensor in flat.items():
            parameter = self._parameter_of(name)
            if parameter is None:
                regions[name] = Region.whole(tuple(tensor.shape))
            else:
                regions[name] = self._optimizer.places[parameter].region(self._ranks, self._ranks.rank)
        return regions

    def _is_mine(self, name: str) -> bool:
        parameter = self._parameter_of(name)
        if parameter is None:
            return self._ranks.is_first
        return self._optimizer.places[parameter].is_primary(self._ranks, self._ranks.rank)

    def _parameter_of(self, name: str) -> str | None:
        """The tensor of the network whose shape and place a tensor of the state has; None if it is whole everywhere."""
        kind, _, rest = name.partition("/")
        if kind == "network":
            return rest
        parameter, _, key = rest.partition("/")
        return parameter if kind == "optimizer" and key != "step" else None


def _run_now(future: Future[None], function: Any, *args: Any) -> None:
    """As the background would: an error waits in the future until the ranks have compared notes."""
    try:
        function(*args)
    except OSError as error:
        future.set_exception(error)
    else:
        future.set_result(None)
