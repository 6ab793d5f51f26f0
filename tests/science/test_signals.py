"""The physics of every simulator, against formulas and known values from elsewhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.signal import find_peaks, hilbert

from s1pro.science.media import stream
from s1pro.science.signals import birds, chirps, diffraction, ecg, recordings, seismograms, transits

Values = npt.NDArray[np.float64]


def frequency(signal: Values, rate: float) -> Values:
    """Instantaneous frequency from the phase of the analytic signal; the ends are left out."""
    phase = np.unwrap(np.angle(hilbert(signal)))
    found = np.gradient(phase) * rate / (2 * np.pi)
    margin = len(found) // 8
    return found[margin:-margin]


@pytest.mark.parametrize(("first", "sweep"), [(1.0, 0.5), (4.5, -0.3), (2.0, 0.0)])
def test_the_frequency_of_a_chirp_changes_linearly(first: float, sweep: float) -> None:
    signal = chirps.chirp(first, sweep, phase=0.3, num_points=256)
    t = np.arange(256) / chirps.RATE
    expected = (first + sweep * t)[32:-32]
    assert np.abs(frequency(signal, chirps.RATE) - expected).mean() < 0.05
    with_noise = chirps.chirp_family().examples("train", 30)
    spans = []
    for example in with_noise:
        found = frequency(example.render().array.astype(float), chirps.RATE)
        half = len(found) // 2
        change = np.median(found[half:]) - np.median(found[:half])
        spans.append(abs(change))
        expected_sign = {"rising": 1, "falling": -1, "constant": 0}[example.answer["text"]]
        assert np.sign(change) == expected_sign if expected_sign else abs(change) < 0.7
    assert max(spans) < 5


@pytest.mark.parametrize("rhythm", ["normal rhythm", "bradycardia", "tachycardia"])
def test_the_mean_interval_between_r_peaks_is_that_of_the_requested_rate(rhythm: str) -> None:
    for number, rate in enumerate(np.linspace(*ecg.RATES_PER_MINUTE[rhythm], 5)):
        rr, premature = ecg.rr_intervals(rhythm, rate, stream("test", rhythm, number), duration=60)
        assert not premature.any()
        beats = ecg.beat_times(rr, first=0.3)
        signal = ecg.waveform(beats, num_points=int(60 * ecg.RATE))
        peaks, _ = find_peaks(signal, height=0.5)
        assert np.diff(peaks).mean() / ecg.RATE == pytest.approx(60 / rate, rel=0.02)


def test_rhythms_differ_as_their_definitions_say() -> None:
    duration = 120.0

    def variation(rhythm: str) -> float:
        rr, _ = ecg.rr_intervals(rhythm, 80, stream("test", rhythm), duration=duration)
        return float(rr.std() / rr.mean())

    assert variation("atrial fibrillation") > 0.15 > 0.06 > variation("normal rhythm")
    rr, premature = ecg.rr_intervals("premature beats", 75, stream("test"), duration=duration)
    early = np.flatnonzero(premature)
    assert len(early) > 20
    for beat in early[:-1]:
        assert rr[beat - 1] < 0.8 * rr.mean()  # comes early
        assert rr[beat - 1] + rr[beat] == pytest.approx(2 * 0.8, rel=0.15)  # and the pause compensates
    beats = ecg.beat_times(np.full(8, 0.8), first=0.4)
    with_p, without = ecg.waveform(beats), ecg.waveform(beats, p_waves=False)
    p_wave = with_p - without
    centre = 0.4 + 0.8 * 3 + ecg.WAVES["P"][1]
    assert p_wave[round(centre * ecg.RATE)] == pytest.approx(ecg.WAVES["P"][0], rel=0.1)
    early_beat = ecg.waveform(beats, premature=np.arange(9) == 4)
    near = slice(round((0.4 + 3.2 - 0.1) * ecg.RATE), round((0.4 + 3.2 + 0.1) * ecg.RATE))
    assert (early_beat[near] > 0.5).sum() > (with_p[near] > 0.5).sum()  # the QRS complex is wide


@pytest.mark.parametrize("distance", [20.0, 80.0, 150.0])
def test_s_follows_p_by_the_difference_of_slownesses(distance: float) -> None:
    delay = seismograms.s_minus_p(distance)
    assert delay == pytest.approx(distance * (1 / seismograms.V_S - 1 / seismograms.V_P))
    assert delay == pytest.approx(distance / 8.2, rel=0.01)  # rule of thumb: about 8 km per second
    p, s = seismograms.phase(2.0, 3.0, 0.3), seismograms.phase(2.0 + delay, 1.5, 0.4)
    onsets = [np.flatnonzero(np.abs(wave) > 0)[0] / seismograms.RATE for wave in (p, s)]
    assert onsets[1] - onsets[0] == pytest.approx(delay, abs=1 / seismograms.RATE)
    assert not p[: int(2.0 * seismograms.RATE)].any()
    assert np.abs(seismograms.phase(0.0, 2.5, 0.3)).max() <= 1.0


def test_records_of_earthquakes_hold_two_bursts_at_the_distance_of_their_class() -> None:
    family, right = seismograms.seismogram_families()[1], 0
    for example in family.examples("train", 90):
        power = example.render().array.astype(float) ** 2
        smooth = np.convolve(power, np.ones(5) / 5, mode="same")
        strongest = int(smooth.argmax())  # S is at least twice as strong as P
        first = int(np.flatnonzero(smooth > 0.05 * smooth.max())[0])
        low, high = (seismograms.s_minus_p(d) for d in seismograms.DISTANCES_KM[example.answer["text"]])
        right += low - 1 <= (strongest - first) / seismograms.RATE <= high + 1
    assert right > 72  # a crude picker fails on some


def test_a_planet_takes_the_square_of_the_ratio_of_radii() -> None:
    assert transits.covered(0.0, 0.1) == pytest.approx(0.01)
    assert transits.covered([0.0, 0.85, 1.2, -0.3], 0.1) == pytest.approx([0.01, 0.01, 0.0, 0.01])
    # between: by counting points of a fine grid over the planet
    axis = np.linspace(-0.1, 0.1, 801)
    x, y = np.meshgrid(axis, axis)
    planet = x**2 + y**2 <= 0.01
    for z in (0.93, 1.0, 1.05):
        share = (planet & ((x + z) ** 2 + y**2 <= 1)).sum() * (axis[1] - axis[0]) ** 2 / np.pi
        assert transits.covered(z, 0.1) == pytest.approx(share, rel=0.01)
    with pytest.raises(ValueError, match="between 0 and 1"):
        transits.covered(0.0, 1.5)
    t = np.linspace(0, 6, 6001)
    light = transits.transit_light(t, radius=0.1, period=1.5, first=0.4, orbit=5.0, impact=0.2)
    assert 1 - light.min() == pytest.approx(0.01)
    middles = [
        t[run].mean() for run in np.split(np.arange(6001), np.flatnonzero(np.diff(light < 1)) + 1) if light[run[0]] < 1
    ]
    assert np.diff(middles) == pytest.approx(np.full(3, 1.5), abs=2e-3) and middles[0] == pytest.approx(0.4, abs=2e-3)
    # duration of a transit (first to fourth contact) on a circular orbit
    expected = 1.5 / np.pi * np.arcsin(np.sqrt(1.1**2 - 0.2**2) / np.sqrt(5.0**2 - 0.2**2))
    assert (light < 1).mean() * 6 / 4 == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(
    ("lattice", "parameter", "angles"),
    [
        # handbook positions of copper, iron and polonium with Cu K-alpha
        ("face-centred", 3.615, (43.3, 50.4, 74.1, 89.9, 95.1)),
        ("body-centred", 2.866, (44.7, 65.0, 82.3, 98.9)),
        ("primitive", 3.359, (26.5, 37.8, 46.8, 54.6, 61.7)),
    ],
)
def test_peaks_stand_where_braggs_law_puts_them(lattice: str, parameter: float, angles: tuple[float, ...]) -> None:
    orders = list(diffraction.reflections(lattice))[: len(angles)]
    found = [diffraction.bragg_angle(parameter, n) for n in orders]
    assert found == pytest.approx(angles, abs=0.1)
    for n, angle in zip(orders, found, strict=True):
        assert angle is not None
        assert 2 * parameter / np.sqrt(n) * np.sin(np.radians(angle / 2)) == pytest.approx(diffraction.WAVELENGTH)
    signal = diffraction.pattern(lattice, parameter, width=0.8)
    degrees = np.linspace(diffraction.FIRST_DEGREE, diffraction.LAST_DEGREE, diffraction.NUM_POINTS)
    peaks = degrees[find_peaks(signal, prominence=0.02)[0]]
    for angle in angles:
        assert np.abs(peaks - angle).min() < 1 / diffraction.RATE


def test_lattices_extinguish_what_the_textbook_says() -> None:
    first = {lattice: list(diffraction.reflections(lattice))[:8] for lattice in diffraction.LABELS}
    assert first["primitive"] == [1, 2, 3, 4, 5, 6, 8, 9]
    assert first["body-centred"] == [2, 4, 6, 8, 10, 12, 14, 16]
    assert first["face-centred"] == [3, 4, 8, 11, 12, 16, 19, 20]
    assert diffraction.reflections("primitive")[9] == 30  # (300): 6, and (221): 24
    assert diffraction.bragg_angle(1.0, 49) is None


def test_calls_have_the_pitch_and_the_pulses_that_were_asked_for() -> None:
    t = np.arange(birds.NUM_POINTS) / birds.RATE
    inside = (t > 0.3) & (t < 0.7)
    for first, last in ((400.0, 400.0), (300.0, 500.0), (500.0, 300.0)):
        tone = birds.syllable(first, last, 0.1, 0.8)
        found = np.gradient(np.unwrap(np.angle(tone[inside]))) * birds.RATE / (2 * np.pi)
        expected = first * (last / first) ** ((t[inside] - 0.1) / 0.8)
        assert found[5:-5] == pytest.approx(expected[5:-5], rel=1e-3)
        assert not np.abs(tone[t < 0.1]).any() and not np.abs(tone[t > 0.9 + 1e-9]).any()
    trill = np.abs(birds.syllable(400.0, 400.0, 0.1, 0.8, pulses_per_second=15.0))
    spectrum = np.abs(np.fft.rfft(trill[inside] - trill[inside].mean()))
    assert spectrum.argmax() / 0.4 == pytest.approx(15, abs=2.5)


def test_recordings_are_the_real_ones_and_windows_keep_to_their_stretch() -> None:
    known = {recording.name: recording for recording in recordings.recordings()}
    assert len(known["ecg"].values) == 1024 and known["ecg"].values[:3].tolist() == [-86, -87, -87]
    nino = known["nino3"]
    assert len(nino.values) == 264 and 22 < nino.values.min() < nino.values.max() < 30  # degrees Celsius
    for recording in known.values():
        ends = []
        for split in ("train", "validation", "test"):
            starts = recording.starts(split, recordings.KIND_POINTS)
            assert starts
            ends += [starts[0], starts[-1] + recordings.KIND_POINTS]
        assert ends == sorted(ends) and ends[1] < ends[2] and ends[3] < ends[4] and ends[-1] <= len(recording.values)
    kind, _ = recordings.recording_families()
    for example in kind.examples("test", 12):
        medium, (name, _, start) = example.render(), example.entity.split(":")
        assert medium.details == {"sampling_rate": 1.0, "unit": "a.u.", "channels": ["value"]}
        window = known[name].values[int(start) : int(start) + recordings.KIND_POINTS]
        assert np.array_equal(medium.array, window.astype(np.float32)) and known[name].kind == example.answer["text"]


def test_the_recordings_of_statsmodels() -> None:
    pytest.importorskip("statsmodels")
    known = {recording.name: recording for recording in recordings.recordings()}
    assert known["sunspots"].values[:2].tolist() == [5, 11] and len(known["sunspots"].values) == 309
    assert known["co2"].values[0] == 316.1 and np.isnan(known["co2"].values).sum() == 59
    assert known["elnino"].values[:2].tolist() == [23.11, 24.2] and len(known["elnino"].values) == 732
    # the cycle of the sunspots takes about eleven years
    values = known["sunspots"].values - known["sunspots"].values.mean()
    spectrum = np.abs(np.fft.rfft(values))
    assert 309 / spectrum.argmax() == pytest.approx(11, abs=1)
    trend = recordings.recording_families()[1]
    examples = trend.examples("test", trend.different("test", 100))
    assert len(examples) > 50 and len({example.entity.partition(":")[0] for example in examples}) == 3
    for example in examples:
        values = example.render().array.astype(float)
        slope, start = np.polyfit(np.arange(len(values)), values, 1)
        assert (slope > 0) == (example.answer["text"] == "rising")
        fit = start + slope * np.arange(len(values))
        assert ((values - fit) ** 2).sum() <= 0.5 * ((values - values.mean()) ** 2).sum() + 1e-3


def test_a_package_that_changed_is_named(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    from s1pro.base.errors import InputError, MissingExtraError

    recordings.recordings.cache_clear()
    try:
        monkeypatch.setattr(recordings, "_package", lambda name: None)
        with pytest.raises(MissingExtraError, match=r"s1pro\[science\]"):
            recordings.recordings()
        monkeypatch.setattr(recordings, "_package", lambda name: Path(str(tmp_path)))
        with pytest.raises(InputError, match=r"ecg\.npz: not there"):
            recordings.recordings()
    finally:
        recordings.recordings.cache_clear()
