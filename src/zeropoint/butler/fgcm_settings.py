"""What the tasks of the global calibration have to know of a camera: its filters, its bands and its site."""

from __future__ import annotations

from collections.abc import Mapping

from zeropoint.fgcm.atmosphere.scattering import pressure_at
from zeropoint.instruments.card import CameraCard

__all__ = ["fgcm_lines"]

#: Bands in which stars are sought, the best first: seeing and the density of stars speak for i.
_PRIMARY = ("i", "r", "z", "g", "y", "u")
#: Bands by wavelength.
_BY_WAVELENGTH = ("u", "g", "r", "i", "z", "y")
#: Metres above which a site is as dry as Maunakea.
_DRY_SITE = 3500.0


def fgcm_lines(card: CameraCard, label: str) -> list[str]:
    """Return Python that tells a task of the global calibration what a card knows.

    Parameters
    ----------
    card
        The camera card.
    label
        Task in the pipeline ``fgcm``.

    Notes
    -----
    Grid and standard atmosphere are those that FGCM has for Cerro Pachon and Maunakea, at the pressure of a standard
    atmosphere at the elevation of the site.
    """
    bands = {str(name): str(band) for name, band in (card.get("bands") or {}).items()}
    if label == "fgcmMakeLut":
        filters = sorted(bands, key=lambda name: _rank(bands[name], _BY_WAVELENGTH))
        lines = [f"config.physicalFilters = {filters!r}"] if filters else []
        return [*lines, *_site(card)]
    if not bands:
        return []
    if label == "fgcmFitCycle":
        return [*_fit(bands), *_place(card)]
    if label == "fgcmOutputProducts":
        return [f"config.physicalFilterMap = {bands!r}"]
    loader = "config.fgcmLoadReferenceCatalog"
    lines = [
        f"config.physicalFilterMap = {bands!r}",
        f"{loader}.filterMap = {bands!r}",
        f"{loader}.applyColorTerms = False  # a card has no color terms",
    ]
    if label == "fgcmBuildStarsTable":
        primary = sorted(set(bands.values()), key=lambda band: _rank(band, _PRIMARY))
        lines.append(f"config.primaryBands = {primary!r}")
    return lines


def _rank(band: str, order: tuple[str, ...]) -> tuple[int, str]:
    return (order.index(band) if band in order else len(order), band)


def _fit(bands: Mapping[str, str]) -> list[str]:
    """Return Python that tells the fit of the bands."""
    by_wavelength = sorted(set(bands.values()), key=lambda band: _rank(band, _BY_WAVELENGTH))
    return [
        f"config.bands = {by_wavelength!r}",
        f"config.physicalFilterMap = {dict(bands)!r}",
        "config.complete()  # what every band must have: the usual values",
    ]


def _place(card: CameraCard) -> list[str]:
    """Return Python that tells the fit where the observatory is, as far as the card knows."""
    place = card.get("observatory") or {}
    lines = []
    latitude, longitude = place.get("latitude_deg"), place.get("longitude_deg")
    if isinstance(latitude, int | float):
        lines.append(f"config.latitude = {float(latitude)!r}")
    if isinstance(longitude, int | float):
        # nights change at noon of the mean sun
        lines.append(f"config.utBoundary = {round((0.5 + float(longitude) / 360.0) % 1.0, 3)!r}")
    return lines


def _site(card: CameraCard) -> list[str]:
    """Return Python that sets the site and the standard atmosphere, nothing where the card does not know the elevation."""
    elevation = (card.get("observatory") or {}).get("elevation_m")
    if isinstance(elevation, bool) or not isinstance(elevation, int | float):
        return []
    pressure = round(pressure_at(float(elevation)), 1)
    is_dry = elevation > _DRY_SITE
    values = {
        "elevation": float(elevation),
        "pmbRange": [round(pressure - 15.0, 1), round(pressure + 15.0, 1)],
        "pmbStd": pressure,
        "pwvRange": [0.1, 3.6] if is_dry else [0.1, 12.0],
        "pwvSteps": 15 if is_dry else 21,
        "pwvStd": 1.5 if is_dry else 3.0,
        "airmassStd": 1.1 if is_dry else 1.2,
    }
    return [f"config.parameters.{name} = {value!r}" for name, value in values.items()]
