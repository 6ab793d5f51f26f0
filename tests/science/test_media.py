from __future__ import annotations

import importlib.util
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from s1pro.base.errors import InputError
from s1pro.base.signal_tokens import signal_layout
from s1pro.science.media import Choice, MediaFamily, Medium, place_in, stream, time_series
from s1pro.science.media_families import MediaSettings, media_families
from s1pro.science.media_files import MediaFolder, media_digest
from s1pro.science.molecules import Molecule
from s1pro.science.split import SPLITS
from s1pro.science.system_prompts import group_of_domain

NAMES = tuple(
    name for name in media_families() if name != "trend_in_recording" or importlib.util.find_spec("statsmodels")
)


@pytest.fixture(scope="module")
def families(molecules: tuple[Molecule, ...]) -> dict[str, MediaFamily]:
    return media_families(molecules=molecules)


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_numbered_rendered_alike_and_split(name: str, families: dict[str, MediaFamily]) -> None:
    family = families[name]
    assert family.name == name and group_of_domain(family.domain) in ("science", "general")
    entities: dict[str, set[str]] = {}
    for split in SPLITS:
        count = family.different(split, 24)
        examples = family.examples(split, count, seed=3)
        again = family.examples(split, count // 2, seed=3)
        assert [e.answer for e in examples[: count // 2]] == [e.answer for e in again]
        for one, other in list(zip(examples, again, strict=False))[:3]:
            first, second = one.render(), other.render()
            assert np.array_equal(first.array, second.array) and first.details == second.details
            assert first.array.dtype == (np.float32 if family.modality == "signal" else np.uint8)
        keys = [(e.entity, tuple(e.asked.items()), media_digest(e.render())) for e in examples]
        assert len(set(keys)) == count, "examples within the limit differ"
        entities[split] = {example.entity for example in family.examples(split, 150, seed=3)}
        if isinstance(family.answer, Choice):
            labels = [example.answer["text"] for example in examples]
            counts = [labels.count(label) for label in set(labels)]
            assert (
                set(labels) <= set(family.answer.labels) and max(counts) - min(counts) <= 1
            ) or name == "digit_in_scan"
    assert not entities["train"] & entities["validation"]
    assert not entities["test"] & (entities["train"] | entities["validation"])
    other_seed = [e.render().array for e in family.examples("train", 6, seed=4)]
    assert not all(
        a.shape == e.render().array.shape and np.array_equal(a, e.render().array)
        for a, e in zip(other_seed, family.examples("train", 6, seed=3), strict=True)
    )


@pytest.mark.parametrize("name", NAMES)
def test_questions_come_back_from_all_wordings(name: str, families: dict[str, MediaFamily]) -> None:
    family, wording = families[name], random.Random(0)
    seen = set()
    for example in family.examples("train", 12):
        for held_out in (False, True):
            text = family.questions.render(example.asked, wording, held_out=held_out)
            assert family.questions.parse(text) == dict(example.asked)
            seen.add(text)
    assert len(seen) >= 6


@pytest.mark.parametrize("name", NAMES)
def test_signals_become_few_tokens(name: str, families: dict[str, MediaFamily]) -> None:
    medium = families[name].draw("train", 0, 0).render()
    if medium.kind == "time_series":
        assert 1 <= signal_layout(len(medium.array), medium.details["sampling_rate"]).tokens <= 40
        assert set(medium.details) == {"sampling_rate", "unit", "channels"}
    else:
        assert medium.details == ({"fps": 2.0} if medium.kind == "video" else {})


def test_sizes_are_settings(molecules: tuple[Molecule, ...]) -> None:
    sizes = MediaSettings(
        depiction_side=64, plot_width=128, plot_height=96, digit_side=16, video_side=32, video_frames=4
    )
    families = media_families(sizes, molecules)
    shapes = {name: families[name].draw("train", 0, 0).render().array.shape for name in NAMES}
    assert shapes["rings_in_depiction"] == (64, 64, 3) and shapes["trend_in_plot"] == (96, 128, 3)
    assert shapes["digit_in_scan"] == (16, 16, 3) and shapes["turn_in_video"] == (4, 32, 32, 3)
    for wrong, message in (
        ({"digit_side": 20}, "multiple of 8"),
        ({"video_side": 8}, "at least 32 pixels"),
        ({"depiction_side": 8}, "depictions have"),
        ({"plot_width": 8}, "plots have"),
    ):
        with pytest.raises(InputError, match=message):
            for name in ("rings_in_depiction", "trend_in_plot"):
                media_families(MediaSettings(**wrong), molecules)[name].draw("train", 0, 0).render()


def test_pools_are_walked_through_once_before_again() -> None:
    places = [place_in(7, number, "a") for number in range(21)]
    assert [sorted(places[k : k + 7]) for k in (0, 7, 14)] == [list(range(7))] * 3
    assert places[:7] != places[7:14] and places != [place_in(7, number, "b") for number in range(21)]
    assert stream("a", 1).random() == stream("a", 1).random() != stream("a", 11).random()


def test_media_are_files_named_by_content(tmp_path: Path) -> None:
    picture = Medium(kind="image", array=np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
    film = Medium(kind="video", array=np.zeros((2, 4, 4, 3), np.uint8), details={"fps": 2.0})
    signal = time_series([1.0, 2.5], sampling_rate=4, unit="mV", channels=["lead I"])
    folder = MediaFolder(tmp_path / "corpus", seen_from=tmp_path / "corpus" / "source")
    parts = [folder.write(medium) for medium in (picture, film, signal)]
    assert parts == [folder.write(medium) for medium in (picture, film, signal)]
    assert len([path for path in (tmp_path / "corpus").rglob("*") if path.is_file()]) == 3
    (tmp_path / "corpus" / "source").mkdir()
    paths = [tmp_path / "corpus" / "source" / part[part["type"]] for part in parts]
    assert [path.suffix for path in paths] == [".png", ".npy", ".npy"]
    assert np.array_equal(np.array(Image.open(paths[0])), picture.array)
    for path, medium in zip(paths[1:], (film, signal), strict=True):
        assert np.array_equal(np.load(path, allow_pickle=False), medium.array)
    assert parts[1]["fps"] == 2.0
    assert {k: parts[2][k] for k in ("sampling_rate", "unit", "channels")} == {
        "sampling_rate": 4.0,
        "unit": "mV",
        "channels": ["lead I"],
    }
    absolute = MediaFolder(tmp_path / "corpus").write(picture)["image"]
    assert Path(absolute).is_absolute() and Path(absolute).is_file()


def test_a_medium_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*unused: object, **also_unused: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(np, "save", breaks)
    with pytest.raises(OSError, match="disk full"):
        MediaFolder(tmp_path).write(time_series([1.0], sampling_rate=1, unit="V"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        ("image", np.zeros((4, 4, 3), np.float32)),
        ("image", np.zeros((4, 4), np.uint8)),
        ("video", np.zeros((4, 4, 3), np.uint8)),
        ("time_series", np.zeros(0, np.float32)),
        ("time_series", np.array([1.0, np.nan], np.float32)),
    ],
)
def test_what_is_no_medium_is_refused(kind: str, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"not a|not finite"):
        Medium(kind=kind, array=array)  # type: ignore[arg-type]
