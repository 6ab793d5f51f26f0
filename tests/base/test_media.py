"""Media records: consistent by construction, the same for every kind of array."""

import numpy as np
import pytest
import torch

from s1pro.base.media import Media, Patches, Signals, join_media


def signals(*shapes: tuple[int, int], rate: float = 10.0) -> Signals:
    values = np.arange(sum(a * b for a, b in shapes), dtype=np.float32)
    return Signals(values_X=values, shapes=shapes, sampling_rates=(rate,) * len(shapes))


def test_join_keeps_order_and_kind() -> None:
    image = Patches(pixel_values_PX=np.zeros((4, 3), np.float32), grids=((1, 2, 2),))
    joined = join_media([Media(images=image), Media(), Media(images=image, signals=signals((2, 3)))], np.concatenate)
    assert joined is not None and joined.images is not None and joined.signals is not None
    assert joined.images.grids == ((1, 2, 2),) * 2 and joined.images.pixel_values_PX.shape == (8, 3)
    assert joined.videos is None and joined.signals.shapes == ((2, 3),)
    assert join_media([Media(), Media()], np.concatenate) is None


def test_map_replaces_every_array() -> None:
    media = Media(signals=signals((5, 1), (2, 2))).map(torch.from_numpy)
    assert media.signals is not None and isinstance(media.signals.values_X, torch.Tensor)
    assert media.signals.shapes == ((5, 1), (2, 2)) and not media.is_empty


@pytest.mark.parametrize(
    ("shapes", "rates", "count", "message"),
    [
        (((2, 1),), (1.0, 2.0), 2, "1 signals, but 2 sampling rates"),
        (((0, 1),), (1.0,), 0, "at least one point"),
        (((2, 1),), (0.0,), 2, "positive and finite"),
        (((2, 1),), (1.0,), 3, "have 2 values, got 3"),
    ],
)
def test_records_that_contradict_themselves_are_refused(shapes, rates, count, message) -> None:
    with pytest.raises(ValueError, match=message):
        Signals(values_X=np.zeros(count, np.float32), shapes=shapes, sampling_rates=rates)


def test_grids_must_describe_the_patches() -> None:
    with pytest.raises(ValueError, match="describe 4 patches, pixel_values has 3 rows"):
        Patches(pixel_values_PX=np.zeros((3, 1)), grids=((1, 2, 2),))
