"""All families of questions about media, by name.

Making a family costs nothing: files and molecules are read when the first example is drawn. `MediaSettings` are the
sizes of the media; a model is asked in the sizes it was trained with.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from s1pro.science.depiction import depiction_families
from s1pro.science.digits import digit_family
from s1pro.science.homologous_plots import boiling_point_family
from s1pro.science.media import MediaFamily
from s1pro.science.molecules import SMALL_MOLECULES, Molecule, load_molecules
from s1pro.science.property_plots import plot_families
from s1pro.science.signals.birds import bird_family
from s1pro.science.signals.chirps import chirp_family
from s1pro.science.signals.diffraction import diffraction_family
from s1pro.science.signals.ecg import ecg_family
from s1pro.science.signals.recordings import recording_families
from s1pro.science.signals.seismograms import seismogram_families
from s1pro.science.signals.transits import transit_family
from s1pro.science.videos import video_families


@dataclass(frozen=True, kw_only=True)
class MediaSettings:
    """Sizes in pixels.

    Attributes:
        depiction_side: of a structural formula.
        plot_width, plot_height: of a plot with labels.
        digit_side: of a scan, a multiple of 8.
        video_side, video_frames: of a video.
    """

    depiction_side: int = 96
    plot_width: int = 160
    plot_height: int = 128
    digit_side: int = 64
    video_side: int = 64
    video_frames: int = 8


Molecules = Sequence[Molecule] | Callable[[], Sequence[Molecule]]
"""Molecules, or what gives them when they are needed."""


def media_families(settings: MediaSettings | None = None, molecules: Molecules | None = None) -> dict[str, MediaFamily]:
    """Name to family.

    Args:
        molecules: what depictions show; all small ones that are installed by default, read when they are needed.
    """
    settings = settings or MediaSettings()
    given = installed_molecules if molecules is None else molecules
    families = (
        *depiction_families(lambda: given() if callable(given) else given, side=settings.depiction_side),
        *plot_families(width=settings.plot_width, height=settings.plot_height),
        boiling_point_family(width=settings.plot_width, height=settings.plot_height),
        digit_family(settings.digit_side),
        *video_families(side=settings.video_side, frames=settings.video_frames),
        chirp_family(),
        transit_family(),
        diffraction_family(),
        ecg_family(),
        bird_family(),
        *seismogram_families(),
        *recording_families(),
    )
    return {family.name: family for family in families}


@functools.cache
def installed_molecules() -> tuple[Molecule, ...]:
    """All small molecules of the installed compound collection."""
    return load_molecules(SMALL_MOLECULES).molecules
