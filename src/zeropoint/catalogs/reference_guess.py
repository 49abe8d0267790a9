"""Names that reference catalogues commonly give to positions, motions, magnitudes and errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "EPOCH_UNITS",
    "POSITIONS",
    "SIMPLE",
    "FoundBand",
    "bands",
    "default_unit",
    "error_column",
    "first",
    "is_flux_name",
    "is_standard_name",
]

POSITIONS = {
    "ra": ("coord_ra", "ra", "ra_icrs", "raj2000", "ra_j2000", "_raj2000", "ramean", "radeg", "ra_deg",
           "alpha_j2000", "alphawin_j2000", "right_ascension"),
    "dec": ("coord_dec", "dec", "de_icrs", "dec_icrs", "dej2000", "decj2000", "dec_j2000", "_dej2000", "decmean",
            "dedeg", "decdeg", "dec_deg", "delta_j2000", "deltawin_j2000", "declination"),
}  # fmt: skip

SIMPLE: dict[str, tuple[str, ...]] = {
    "id": ("id", "source_id", "objid", "sdssid", "sourceid", "source"),
    "ra_err": (
        "coord_raerr",
        "ra_err",
        "ra_error",
        "raerr",
        "e_ra_icrs",
        "e_raj2000",
        "ramean_err",
        "rameanerr",
    ),
    "dec_err": (
        "coord_decerr",
        "dec_err",
        "dec_error",
        "decerr",
        "e_de_icrs",
        "e_dej2000",
        "decmean_err",
        "decmeanerr",
    ),
    "pm_ra": ("pm_ra", "pmra", "pmra_cosdec"),
    "pm_dec": ("pm_dec", "pmdec", "pmde"),
    "pm_ra_err": ("pm_raerr", "pm_ra_err", "pmra_error", "pmra_err", "pmraerr", "e_pmra"),
    "pm_dec_err": ("pm_decerr", "pm_dec_err", "pmdec_error", "pmdec_err", "pmdecerr", "e_pmde", "e_pmdec"),
    "parallax": ("parallax", "plx"),
    "parallax_err": ("parallaxerr", "parallax_err", "parallax_error", "e_plx"),
    "epoch": ("epoch", "ref_epoch", "epoch_mjd", "mjd", "epochmean"),
    "resolved": ("resolved",),
    "photometric": ("photometric",),
    "variable": ("variable",),
    "star": ("starnotgal",),
}

#: Unit of an epoch -> factor and offset to MJD.
EPOCH_UNITS = {
    **dict.fromkeys(("mjd", "d", "day"), (1.0, 0.0)),
    "jd": (1.0, -2400000.5),
    **dict.fromkeys(("yr", "year", "jyear"), (365.25, 51544.5 - 2000.0 * 365.25)),
    "unix": (1.0 / 86400.0, 40587.0),
}

#: AB minus Vega magnitude of Gaia (E)DR3's passbands.
_GAIA_OFFSET = {"phot_g_mean": 0.1137, "phot_bp_mean": 0.0154, "phot_rp_mean": 0.3561}
#: AB magnitude of one electron per second in Gaia's passbands.
_GAIA_ZERO_POINT = {"phot_g_mean": 25.7934, "phot_bp_mean": 25.3806, "phot_rp_mean": 25.1161}
_GAIA_SHORT = {"Gmag": "phot_g_mean", "BPmag": "phot_bp_mean", "RPmag": "phot_rp_mean"}

_LETTERS = "ugrizyUBVRIJHKw"
#: Patterns of magnitude columns, best first; group 1 is the band.
_MAGNITUDES = tuple(
    re.compile(pattern)
    for pattern in (
        r"^(phot_(?:g|bp|rp)_mean)_mag$",
        r"^(\w{1,12}?)MeanPSFMag$",
        r"^psfMag_(\w{1,12})$",
        r"^(\w{1,20})_mag$",
        r"^mag_(?!err)(\w{1,12})$",
        r"^([A-Za-z]{1,3})mag$",
        rf"^([{_LETTERS}])$",
    )
)
_FLUX = re.compile(r"^(.+)_flux$")


@dataclass(frozen=True)
class FoundBand:
    """A flux or magnitude column recognised by name.

    Parameters
    ----------
    band
        Name of the band.
    column, error
        Its column and that of its error, if any.
    kind
        ``flux`` or ``mag``.
    offset
        AB minus the column's magnitudes.
    zero_point
        AB magnitude of flux 1, for fluxes that are not flux densities.
    error_kind
        ``mag_err`` or, where the file has signal-to-noise ratios instead, ``flux_snr``.
    """

    band: str
    column: str
    error: str | None
    kind: str
    offset: float = 0.0
    zero_point: float | None = None
    error_kind: str = "mag_err"


def first(names: Sequence[str], candidates: Iterable[str]) -> str | None:
    """Return the first candidate that is a column, whatever its case, in the file's own spelling."""
    by_lower = {name.lower(): name for name in reversed(names)}
    return next((by_lower[candidate] for candidate in candidates if candidate in by_lower), None)


def default_unit(key: str, source: str) -> str | None:
    """Return the unit usual for a column without one, or None if there is no usual one."""
    lower = source.lower()
    if key == "epoch":
        if lower in ("epoch_mjd", "mjd", "epochmean"):
            return "mjd"
        return "jyear" if lower == "ref_epoch" else None
    if lower.startswith(("coord_", "pm_")):
        return None  # Rubin's names: radians if stated, else unknown
    if lower.startswith(("ramean", "decmean")):
        return "arcsec"  # PS1
    return "mas/yr" if key.startswith("pm_") else "mas"


def is_flux_name(name: str) -> bool:
    """Return whether a column name speaks of a flux rather than of a magnitude."""
    return "flux" in name.lower()


def is_standard_name(name: str) -> bool:
    """Return whether a name is one of the standard columns, whose meaning must not be taken on trust."""
    return name in ("epoch", "parent", "coord_ra", "coord_dec") or name.startswith(
        ("pm_", "parallax", "coord_")
    )


def error_column(names: Sequence[str], band: str, column: str) -> str | None:
    """Return the column that holds the errors of a flux or magnitude column, if there is one."""
    stem = column.removesuffix("Mag").removesuffix("mag").rstrip("_")
    candidates = [
        f"{column}Err", f"{column}_err", f"{column}err", f"{column}_error", f"{column}Sigma", f"e_{column}",
        f"err_{column}", f"sig_{column}", f"d{column}", f"{column}_unc", f"{stem}_magerr", f"{stem}_mag_err",
        f"{band}MeanPSFMagErr", f"psfMagErr_{band}", f"magerr_{band}", f"mag_err_{band}", f"magErr_{band}",
        f"{band}_err", f"{band}Err", f"{band}err", f"{band}_error", f"e_{band}mag", f"e_{band}",
    ]  # fmt: skip
    exact = next((name for name in candidates if name in names and name != column), None)
    if exact is not None:
        return exact
    lower = {name.lower(): name for name in names if name != column}
    # without regard of case only where the band keeps its own: `e_gmag` is not the error of `Gmag`
    return next(
        (lower[c.lower()] for c in candidates if c.lower() in lower and band in lower[c.lower()]), None
    )


def bands(names: Sequence[str], units: Mapping[str, str]) -> list[FoundBand]:
    """Return the bands recognised by name, one column each, in the file's order.

    Fluxes are preferred to magnitudes, except for Gaia's fluxes in electrons per second.
    """
    found: dict[str, FoundBand] = {}
    for name in names:
        match = _FLUX.match(name)
        if match is None:
            continue
        band = match[1]
        error = error_column(names, band, name)
        counts = band in _GAIA_ZERO_POINT and units.get(
            name, "e-/s" if "coord_ra" not in names else ""
        ) not in (
            "nJy",
            "uJy",
            "mJy",
            "Jy",
            "",
        )
        if counts and f"{band}_mag" in names:
            continue
        found[band] = FoundBand(
            band, name, error, "flux", zero_point=_GAIA_ZERO_POINT[band] if counts else None
        )
    for pattern in _MAGNITUDES:
        for name in names:
            match = pattern.match(name)
            band = _GAIA_SHORT.get(name, match[1]) if match else ""
            if match is None or band in found or not _plausible(name, band, names):
                continue
            found[band] = _magnitude(names, name, band)
    order = {name: i for i, name in enumerate(names)}
    return sorted(found.values(), key=lambda one: order[one.column])


def _plausible(name: str, band: str, names: Sequence[str]) -> bool:
    """Reject one-letter columns that may be a pixel coordinate or a redshift."""
    if name == "y" and "x" in names:
        return False
    if name in ("z", "y"):
        return bool({"g", "r", "i"} & set(names))
    return not band.lower().startswith(("e_", "err", "sig"))


def _magnitude(names: Sequence[str], name: str, band: str) -> FoundBand:
    """Return a magnitude column with its error and its offset to AB."""
    error, kind = error_column(names, band, name), "mag_err"
    if error is None and f"{band}_flux_over_error" in names:
        error, kind = f"{band}_flux_over_error", "flux_snr"
    return FoundBand(band, name, error, "mag", _GAIA_OFFSET.get(band, 0.0), error_kind=kind)
