"""Pictures and videos show what their answers say: checked by measuring the pixels, and against RDKit and tables."""

from __future__ import annotations

import numpy as np
import pytest

from s1pro.science import digits, homologous_plots, property_plots, property_tables, videos
from s1pro.science.depiction import depict, depiction_families
from s1pro.science.molecules import Molecule
from s1pro.science.plot_canvas import Axis, draw_plot, round_axis, tick_text
from s1pro.science.rdkit_access import UnreadableSmiles


def darkest(frame: np.ndarray) -> tuple[float, float]:
    """Centre of the dark pixels: column and row."""
    dark = frame[..., 0] < 128
    rows, columns = np.nonzero(dark)
    return float(columns.mean()), float(rows.mean())


@pytest.mark.parametrize("direction", videos.DIRECTIONS)
def test_a_body_moves_at_constant_speed_in_its_direction(direction: str) -> None:
    for number in range(4):
        film = videos.moving_disc(f"test {number}", direction, 64, 8)
        places = np.array([darkest(frame) for frame in film])
        steps = np.diff(places, axis=0)
        dx, dy = videos.DIRECTIONS[direction]
        assert (steps @ (dx, dy) > 1).all() and np.abs(steps @ (dy, dx)).max() < 0.5
        assert (steps @ (dx, dy)).std() < 0.5


@pytest.mark.parametrize("turn", videos.TURNS)
def test_a_rod_turns_evenly(turn: str) -> None:
    for number in range(4):
        film = videos.turning_rod(f"test {number}", turn, 64, 8)
        # the head is the heavy end, so the centre of the ink points to it
        places = np.array([darkest(frame) for frame in film]) - 32
        angles = np.degrees(np.unwrap(np.arctan2(places[:, 1], places[:, 0])))
        steps = np.diff(angles) * videos.TURNS[turn]
        assert (steps > 15).all() and (steps < 40).all()


@pytest.mark.parametrize("shape", videos.CURVES)
def test_a_curve_grows_from_left_to_right(shape: str) -> None:
    film = videos.growing_curve("test", shape, 64, 8)
    line = film[-1][:56, 10:, 0] < 128
    columns = np.flatnonzero(line.any(axis=0))
    heights = np.array([-np.flatnonzero(line[:, c]).mean() for c in columns])
    half = len(heights) // 2
    first, second = heights[half] - heights[0], heights[-1] - heights[half]
    assert (first > 0, second > 0) == {"rises": (True, True), "falls": (False, False)}.get(shape, (True, False))
    ink = [(frame[..., 0] < 128).sum() for frame in film]
    assert ink == sorted(ink) and ink[0] < ink[-1]


def test_scans_are_the_records_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    truth = datasets.load_digits()
    for index in (0, 900, 1796):
        ink, digit = digits.scan(index)
        assert digit == truth.target[index] and np.array_equal(ink, truth.images[index])
    example = digits.digit_family(16).draw("test", 0, 0)
    index = int(example.entity.split(":")[1])
    picture = example.render().array
    assert np.array_equal(picture[::2, ::2, 0], np.round(255 - truth.images[index] * 255 / 16))
    assert digits.BORDERS["test"][0] <= index < digits.BORDERS["test"][1] == len(truth.target)


def test_depictions_are_black_on_white_and_depend_on_the_molecule_only() -> None:
    benzene = depict("c1ccccc1", 96)
    assert benzene.shape == (96, 96, 3) and benzene.dtype == np.uint8
    assert np.array_equal(benzene, depict("c1ccccc1", 96)) and (benzene == benzene[..., :1]).all()
    assert 0.02 < (benzene[..., 0] < 128).mean() < 0.4 and benzene[0].min() == 255
    # the inside of the ring cannot be reached from the corner: a flood over white pixels
    assert enclosed(benzene) > 200 > 60 > enclosed(depict("CCCCCC", 96))
    with pytest.raises(UnreadableSmiles):
        depict("C1CC")


def enclosed(picture: np.ndarray) -> int:
    """White pixels that a flood from the corner does not reach."""
    white = picture[..., 0] > 128
    reached = np.zeros_like(white)
    reached[0, 0] = True
    while True:
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        grown &= white
        if (grown == reached).all():
            return int((white & ~reached).sum())
        reached = grown


def test_answers_about_depictions_are_those_of_rdkit(molecules: tuple[Molecule, ...]) -> None:
    formula, rings, group = depiction_families(lambda: molecules)
    by_cluster: dict[str, list[Molecule]] = {}
    for molecule in molecules:
        by_cluster.setdefault(molecule.cluster, []).append(molecule)
    for example in formula.examples("test", 20):
        assert example.answer["text"] in {m.formula for m in by_cluster[example.entity]}
    for example in rings.examples("test", 20):
        assert {str(m.rings) for m in by_cluster[example.entity]} == {example.answer["text"]}
    for example in group.examples("test", 20):
        truths = {example.asked["group"] in m.groups for m in by_cluster[example.entity]}
        assert (example.answer["text"] == "yes") in truths


def test_correlations_give_known_values() -> None:
    def at(curves: tuple[property_tables.Curve, ...], cas: str, temperature: float) -> float:
        (curve,) = [curve for curve in curves if curve.cas == cas]
        assert curve.x[0] <= temperature <= curve.x[-1]
        return float(np.interp(temperature, curve.x, curve.y))

    # tetrachloromethane boils at 349.8 K under 101.3 kPa; at 298 K benzene has 82.4 J/(mol K) as a gas and 874 kg/m3 as
    # a liquid, toluene 27.9 mN/m, propanol and nitrobenzene 1.945 and 1.863 mPa s; molten sodium chloride 1.556 g/cm3
    # at its melting point
    assert at(property_tables.vapour_pressures(), "56-23-5", 349.8) == pytest.approx(101.3, rel=0.02)
    assert at(property_tables.heat_capacities(), "71-43-2", 298.15) == pytest.approx(82.4, rel=0.01)
    assert at(property_tables.liquid_densities(), "71-43-2", 298.15) == pytest.approx(874, rel=0.01)
    assert at(property_tables.surface_tensions(), "108-88-3", 298.15) == pytest.approx(27.9, rel=0.01)
    assert at(property_tables.melt_densities(), "7647-14-5", 1080.0) == pytest.approx(1.55, rel=0.02)
    assert at(property_tables.viscosities(), "71-23-8", 298.15) == pytest.approx(1.945, rel=0.02)
    assert at(property_tables.viscosities(), "98-95-3", 298.15) == pytest.approx(1.863, rel=0.02)


def test_boiling_points_of_series_are_real_and_rise() -> None:
    points = homologous_plots.boiling_points()
    assert set(points) == set(homologous_plots.SERIES) and all(len(series) >= 6 for series in points.values())
    # methane, hexane, ethanol, acetic acid, acetone, toluene: handbook values
    known = {("alkanes", 1): 111.7, ("alkanes", 6): 341.9, ("1-alcohols", 2): 351.4, ("carboxylic acids", 2): 391.0}
    known |= {("2-ketones", 3): 329.2, ("alkylbenzenes", 7): 383.8}
    for (series, carbon), kelvin in known.items():
        assert points[series][carbon] == pytest.approx(kelvin, abs=0.6)
    family = homologous_plots.boiling_point_family()
    splits = {split: {e.entity for e in family.examples(split, 150)} for split in ("train", "validation", "test")}
    assert splits["test"] == {"series:1-thiols", "series:2-ketones", "series:alkylcyclohexanes"}
    assert splits["validation"] == {"series:nitriles"} and len(splits["train"]) == 14
    for example in family.examples("test", 20):
        name = example.entity.partition(":")[2]
        assert example.answer["value"] == points[name][example.asked["carbon"]]
        number, unit = example.answer["text"].split()
        assert unit == "K" and abs(float(number) - example.answer["value"]) <= example.answer["tolerance"] / 4 + 1e-9


def test_speeds_of_molecules_follow_maxwell() -> None:
    # nitrogen at 300 K: most probable speed 422 m/s, mean speed 476 m/s
    v = np.linspace(0, 4000, 20001)
    density = property_tables.speed_densities(v, 28.0134, 300)
    step = v[1] - v[0]
    assert density.sum() * step == pytest.approx(1) and (v * density).sum() * step == pytest.approx(476, rel=0.002)
    assert v[density.argmax()] == pytest.approx(422, abs=0.5)
    assert property_tables.most_probable_speed(28.0134, 300) == pytest.approx(422, abs=0.5)


@pytest.mark.parametrize("split", ["train", "test"])
def test_curves_go_where_their_trend_says(split: str) -> None:
    seen = set()
    for number in range(300):
        plot, trend = property_plots.trend_plot(split, number, 0)  # type: ignore[arg-type]
        seen.add((trend, plot.x_label, plot.y_label))
        assert (np.diff(plot.x) > 0).all()
        change = plot.y[-1] - plot.y[0]
        if trend == "peak":
            assert 5 < plot.y.argmax() < len(plot.y) - 5
        else:
            assert (change > 0) == (trend == "rising")
            assert abs(change) > 0.8 * np.ptp(plot.y)
    assert len(seen) == 11


def test_plots_have_round_axes_and_lines_where_the_numbers_are() -> None:
    axis = round_axis([0.13, 0.87], "")
    assert (axis.low, axis.high, axis.ticks) == (0.0, 1.0, (0.0, 0.5, 1.0))
    assert round_axis([1129.15, 1277.15], "").ticks == (1100.0, 1200.0, 1300.0)
    assert [tick_text(tick) for tick in round_axis([0.3, 0.7], "").ticks] == ["0.2", "0.4", "0.6", "0.8"]
    assert len(round_axis([5, 5], "").ticks) >= 2
    generator = np.random.default_rng(0)
    for _ in range(300):
        values = generator.normal(size=4) * 10.0 ** generator.integers(-6, 7)
        found = round_axis(values, "")
        assert found.low <= values.min() and values.max() <= found.high and 2 <= len(found.ticks) <= 4
    axes = Axis(low=0, high=10, ticks=(0, 5, 10), label="t [s]"), Axis(low=0, high=1, ticks=(0, 1), label="y [m]")
    rising = draw_plot([0, 10], [0, 1], *axes, width=160, height=128)
    falling = draw_plot([0, 10], [1, 0], *axes, width=160, height=128)
    assert rising.shape == (128, 160, 3) and not np.array_equal(rising, falling)
    inside = slice(25, 95)
    for picture, sign in ((rising, -1), (falling, 1)):
        rows, columns = np.nonzero(picture[inside, 40:120, 0] < 60)
        assert np.corrcoef(rows, columns)[0, 1] * sign > 0.95
    points = draw_plot([2, 8], [0.5, 0.5], *axes, width=160, height=128, style="points")
    assert 20 < (points[inside, 40:140, 0] < 60).sum() < 120


def test_readings_are_within_a_quarter_of_the_tolerance() -> None:
    family = property_plots.plot_families()[2]
    for example in family.examples("test", family.different("test", 100)):
        number, unit = example.answer["text"].split()
        assert unit == "g/cm3"
        assert abs(float(number) - example.answer["value"]) <= example.answer["tolerance"] / 4 + 1e-12
