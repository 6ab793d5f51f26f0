"""Pictures to patches, images per second, against the image processors of transformers.

    PYTHONPATH=.:FOLDER python bench/image_preprocessing.py [--rounds 15] [--cpu-time] [--sizes 480x640 1080x1920]

FOLDER holds torchvision, which the processor of the release needs and this project does not (`pip install --no-deps
--target FOLDER torchvision==…`); without it only the slower one is there. Contestants, in turn, one thread:

* `ours`       `load_image` and `image_patches`: Pillow and numpy
* `fast`       `Qwen2VLImageProcessor` of transformers (the release's "fast" one): torch and torchvision
* `pillow`     `Qwen2VLImageProcessorPil` of transformers

All get the same decoded Pillow image and give float32 patches; how far the results lie apart is printed in levels of
255. The row `jpeg` begins with the bytes of a JPEG file of the largest size instead. `--cpu-time` counts the time of
the processor instead of that on the wall, for machines that others use too.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import io
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from paired import environment, ratios, run_rounds
from PIL import Image

from s1pro.inputs.images import ImageSettings, image_patches, load_image

SETTINGS = ImageSettings()
SIZES = ("100x100", "256x256", "480x640", "375x500", "720x1280", "1080x1920", "2000x3000")


def picture(height: int, width: int) -> Image.Image:
    """Slopes with some noise."""
    y, x = np.mgrid[0:height, 0:width]
    slopes = np.stack([x * 255 // width, y * 255 // height, (x + y) * 127 // (height + width)], axis=-1)
    noise = np.random.default_rng(0).integers(-20, 21, slopes.shape)
    return Image.fromarray(np.clip(slopes + noise, 0, 255).astype(np.uint8))


def peers() -> dict[str, Any]:
    options = {key: value for key, value in SETTINGS.as_json().items() if key != SETTINGS.type_key}
    found = {}
    if importlib.util.find_spec("torchvision"):
        declare_compiled_operators()
        from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

        found["fast"] = Qwen2VLImageProcessor(**options)
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    found["pillow"] = Qwen2VLImageProcessorPil(**options)
    return found


@functools.cache
def declare_compiled_operators() -> torch.library.Library:
    """A torchvision built for GPUs cannot load its operators beside a CPU torch, and then fails to import.

    Resizing uses none of them (it is torch's own), so their names are enough, as long as the returned object lives.
    """
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def measure(name: str, calls: dict[str, Callable[[], np.ndarray]], rounds: int, clock: Callable[[], float]) -> None:
    results = {contestant: call() for contestant, call in calls.items()}
    start = clock()
    calls["ours"]()
    repeats = max(1, round(0.05 / (clock() - start)))  # long enough to be timed

    def repeated(call: Callable[[], object]) -> Callable[[], object]:
        def several_times() -> None:
            for _ in range(repeats):
                call()

        return several_times

    timings = run_rounds({key: repeated(call) for key, call in calls.items()}, rounds=rounds, clock=clock)
    for contestant, timing in timings.items():
        low, middle, high = ratios(timing, timings["ours"])
        apart = np.abs(results[contestant] - results["ours"]) * 127.5
        print(
            f"| {name} | {contestant} | {repeats / timing.median:,.1f} | {repeats / timing.best:,.1f} | "
            f"{low:.2f}, {middle:.2f}, {high:.2f} | {apart.mean():.3f}, {apart.max():.0f} |"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="HEIGHTxWIDTH")
    options = parser.parse_args(arguments)
    clock = time.process_time if options.cpu_time else time.perf_counter
    torch.set_num_threads(1)
    processors = peers()
    print(environment())
    if "fast" not in processors:
        print("torchvision is not there: only the slower processor of transformers is measured")
    print("| image | contestant | images/s, median | best | time / ours: min, median, max | apart: mean, max |")
    print("|---|---|---|---|---|---|")
    sizes = [tuple(map(int, size.split("x"))) for size in options.sizes]
    for height, width in sizes:
        image = picture(height, width)
        calls = {"ours": lambda image=image: image_patches(load_image(image), SETTINGS)[0]}
        for name, processor in processors.items():
            calls[name] = lambda image=image, processor=processor: processed(processor, image)
        measure(f"{height} x {width}", calls, options.rounds, clock)
    file = io.BytesIO()
    picture(*max(sizes)).save(file, "JPEG", quality=90)
    data = file.getvalue()
    calls = {"ours": lambda: image_patches(load_image(data), SETTINGS)[0]}
    for name, processor in processors.items():
        calls[name] = lambda processor=processor: processed(processor, Image.open(io.BytesIO(data)))
    measure("jpeg", calls, options.rounds, clock)


def processed(processor: Any, image: Image.Image) -> np.ndarray:
    return processor(images=image, return_tensors="pt")["pixel_values"].numpy()


if __name__ == "__main__":
    main()
