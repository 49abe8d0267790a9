"""The initial WCS of an image and how far to trust it."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from zeropoint.datamodel.exposure import PointingUncertainty
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.values import ImageContext

__all__ = [
    "BlindSearch",
    "blind_search",
    "has_celestial_wcs",
    "initial_wcs",
    "pointing_degrees",
    "pointing_uncertainty",
]

_WCS_CARDS = re.compile(
    r"^(CTYPE|CRVAL|CRPIX|CD|PC|CDELT|CUNIT|PV|A|B|AP|BP|LONPOLE|LATPOLE|RADESYS|EQUINOX)"
)

_WCS_NUMBER = re.compile(r"^(CRVAL|CRPIX|CDELT|CROTA)\d$|^(CD|PC)\d_\d$")
_CELESTIAL = re.compile(r"^(RA--|DEC-|GLON|GLAT|ELON|ELAT|[A-Z]LON|[A-Z]LAT|RA$|DEC$)")


@dataclass(frozen=True)
class BlindSearch:
    """How to find an image on the sky from its stars alone.

    Parameters
    ----------
    index_files
        Index files of astrometry.net, or folders of them.
    scale_low, scale_high
        Range of pixel scales, arcsec.
    """

    index_files: tuple[str, ...]
    scale_low: float
    scale_high: float


def has_celestial_wcs(header: fits.Header) -> bool:
    """Say whether a header holds a WCS of the sky."""
    return bool(_CELESTIAL.match(str(header.get("CTYPE1", "")))) and "CRVAL1" in header


def initial_wcs(context: ImageContext, shape: tuple[int, ...]) -> SkyWcs | None:
    """Return the WCS that the camera card promises: of the header, a table row or a pointing.

    With ``from: header`` said, a pointing is the boresight only, and the WCS is the header's.  None where the card names index files instead: it is then found from the stars (`blind_search`).

    Raises
    ------
    InvalidInputError
        If there is neither a usable WCS nor a boresight.
    """
    spec = context.card.get("wcs", {"from": "header"})
    if isinstance(spec, str):
        spec = {"from": spec}
    if spec.get("index_files"):
        return None
    if "table" in spec:
        return _from_cards(context, _table_header(context, spec), shape)
    if "from" not in spec and ("ra" in spec or "dec" in spec):
        return _from_pointing(context, spec, shape)
    for header in context.ordered_headers:
        if has_celestial_wcs(header):
            return _from_cards(context, header, shape)
    raise InvalidInputError(
        f"{context.path}: no WCS in the header (no CTYPE1 and CRVAL1 of the sky) and no boresight in camera card "
        f"{context.card.source}; give `wcs: {{ra: ..., dec: ..., pixel_scale: ...}}` there."
    )


def _table_header(context: ImageContext, spec: dict[str, Any]) -> fits.Header:
    row = context.row(spec["table"], spec.get("where") or {})
    header = fits.Header()
    for name in row.colnames:
        if _WCS_CARDS.match(name):
            value = row[name]
            if value is not np.ma.masked:
                header[name] = value.item() if hasattr(value, "item") else value
    has_sip = any(name.startswith(("A_", "B_")) for name in header)
    if has_sip:
        for letter in ("A", "B"):
            orders = [
                int(k.split("_")[1]) + int(k.split("_")[2])
                for k in header
                if re.match(rf"{letter}_\d_\d$", k)
            ]
            header[f"{letter}_ORDER"] = max(orders, default=0)
    suffix = "-SIP" if has_sip else ""
    header.setdefault("CTYPE1", f"RA---TAN{suffix}")
    header.setdefault("CTYPE2", f"DEC--TAN{suffix}")
    header.setdefault("RADESYS", "ICRS")
    return header


def _from_cards(context: ImageContext, header: fits.Header, shape: tuple[int, ...]) -> SkyWcs:
    try:
        _require_numbers(header)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wcs = WCS(header).celestial
            if wcs.naxis != 2 or not wcs.has_celestial:
                raise ValueError("it has no celestial axes")
            result = SkyWcs.from_astropy(wcs, (shape[0], shape[1]))
        x, y = 0.5 * (shape[1] - 1), 0.5 * (shape[0] - 1)
        scale = float(result.pixel_scale(x=x, y=y))
        if not (np.isfinite(scale) and 1e-4 < scale < 1200):
            raise ValueError(f"its pixel scale is {scale:g} arcsec")
        stretch = float(np.linalg.cond(result.local_jacobian(x=x, y=y)))
        if stretch > 10:
            raise ValueError(f"its pixels are {stretch:.3g} times longer than wide")
    except Exception as error:
        raise InvalidInputError(
            f"{context.path}: the WCS cannot be used ({str(error).splitlines()[0]}); correct the header or give a "
            f"boresight in camera card {context.card.source}."
        ) from None
    return result


def _require_numbers(header: fits.Header) -> None:
    """Raise ValueError on text where a WCS has numbers: astropy would take zero for it."""
    for key in header:
        if _WCS_NUMBER.match(key) and not isinstance(header[key], (int, float)):
            raise ValueError(f"{key} is {header[key]!r}")


def pointing_degrees(context: ImageContext) -> tuple[float, float]:
    """Return the boresight that the camera card gives, degrees; NaN where it gives none.

    Raises
    ------
    InvalidInputError
        If it is not an angle, or no position on the sky.
    """
    spec = context.card.get("wcs")
    spec = spec if isinstance(spec, dict) else {}
    ra = context.degrees("wcs.ra", spec.get("ra"), hours=True)
    dec = context.degrees("wcs.dec", spec.get("dec"))
    for name, value, limit in (("ra", ra, 360.0), ("dec", dec, 90.0)):
        if abs(value) > limit:
            raise InvalidInputError(f"{context.path}: wcs.{name} is {value:g}, which is not a sky position.")
    return ra, dec


def _from_pointing(context: ImageContext, spec: dict[str, Any], shape: tuple[int, ...]) -> SkyWcs:
    ra, dec = pointing_degrees(context)
    for name, value in (("ra", ra), ("dec", dec)):
        if not np.isfinite(value):
            raise InvalidInputError(
                f"{context.path}: no WCS and no boresight: camera card {context.card.source} finds no wcs.{name}."
            )

    def number(name: str, default: float) -> float:
        value = context.resolve(f"wcs.{name}", spec.get(name, default))
        return default if value is None else context.number(f"wcs.{name}", value)

    scale = number("pixel_scale", float("nan"))
    if not (np.isfinite(scale) and scale > 0):
        raise InvalidInputError(
            f"{context.path}: no pixel scale: camera card {context.card.source} needs a positive wcs.pixel_scale "
            "(arcsec) with ra and dec."
        )
    return SkyWcs.from_boresight(
        ra,
        dec,
        x=number("x", 0.5 * (shape[1] - 1)),
        y=number("y", 0.5 * (shape[0] - 1)),
        pixel_scale_arcsec=scale,
        rotation_deg=number("rotation_deg", 0.0),
        flip=bool(spec.get("flip", False)),
    )


def blind_search(context: ImageContext) -> BlindSearch | None:
    """Return where the camera card wants the image searched for, None where it gives a WCS.

    Raises
    ------
    InvalidInputError
        If the pixel scale or its uncertainty is not a positive number.
    """
    spec = context.card.get("wcs")
    if not isinstance(spec, dict) or not spec.get("index_files"):
        return None
    percent = (spec.get("uncertainty") or {}).get("scale_percent", 10.0)
    values = []
    for name, entry in (("pixel_scale", spec.get("pixel_scale")), ("uncertainty.scale_percent", percent)):
        value = context.resolve(f"wcs.{name}", entry)
        values.append(float("nan") if value is None else context.number(f"wcs.{name}", value))
        if not (np.isfinite(values[-1]) and values[-1] > 0):
            raise InvalidInputError(
                f"{context.path}: the search with wcs.index_files needs a positive wcs.{name} in camera card "
                f"{context.card.source}."
            )
    scale, part = values[0], min(values[1] / 100.0, 0.9)
    return BlindSearch(tuple(spec["index_files"]), scale * (1.0 - part), scale * (1.0 + part))


def pointing_uncertainty(context: ImageContext) -> PointingUncertainty | None:
    """Return how far the initial WCS may be off, None where the camera card says nothing.

    Raises
    ------
    InvalidInputError
        If a number of ``wcs.uncertainty`` is not one.
    """
    spec = context.card.get("wcs")
    stated = (spec.get("uncertainty") if isinstance(spec, dict) else None) or {}
    if not stated:
        return None
    return PointingUncertainty(
        **{str(name): context.number(f"wcs.uncertainty.{name}", value) for name, value in stated.items()}
    )
