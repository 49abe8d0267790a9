"""Write a commented camera card from a FITS file, and say what a card lacks."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard
from zeropoint.instruments.image_file import open_headers, open_image
from zeropoint.instruments.observation_file import read_observation
from zeropoint.instruments.pointing import has_celestial_wcs
from zeropoint.instruments.reader import load_image
from zeropoint.instruments.values import ImageContext

__all__ = ["CardFinding", "card_template", "check_card", "check_image", "check_numbers"]

#: Card entry -> (header keywords to look for, value without one, meaning).
_GUESSES: dict[str, tuple[tuple[str, ...], str, str]] = {
    "pedestal": (("SOFTBIAS", "PEDESTAL"), "", "ADU to subtract before anything else"),
    "gain": (("GAIN", "EGAIN"), "estimate", "e-/ADU; `estimate` = from sky level against noise"),
    "read_noise": (("RDNOISE", "READNOI", "READNOIS", "ENOISE"), "0.0", "electrons"),
    "saturation": (("SATURATE", "SATLEVEL", "SATURATI"), "null", "ADU above which pixels are saturated"),
    "exposure_time": (("EXPTIME", "EXPOSURE", "ITIME"), "null", "seconds"),
    "filter": (("FILTER", "FILTERS", "FILTER1", "FILTNAM", "BAND"), "unknown", "physical filter"),
    "airmass": (("AIRMASS",), "null", "airmass"),
    "object": (("OBJECT",), "''", "what was observed"),
    "visit": (
        ("EXPID", "EXPNUM", "VISIT"),
        "",
        "exposure number; or {date: seconds}; leave out to hash the pixels",
    ),
}

#: Header keys that may number a detector, the most telling first.
_DETECTOR_KEYS = (
    "CCDNUM",
    "CCDID",
    "CCD",
    "DETECTOR",
    "CHIPID",
    "CHIP",
    "DETID",
    "CCD_ID",
    "DETNUM",
    "DET-ID",
    "RCID",
    "CCDLOC",
    "IMAGEID",
)
#: Pairs of header keys that may hold the boresight, the most telling first.
_POINTING_KEYS = (
    ("TELRA", "TELDEC"),
    ("RA", "DEC"),
    ("OBJCTRA", "OBJCTDEC"),
    ("RA_TEL", "DEC_TEL"),
    ("RA_OBJ", "DEC_OBJ"),
)
#: Largest plausible distance of the boresight from the reference point of a detector's WCS, degrees.
_NEAR_DEG = 3.0


def card_template(path: str | Path) -> str:
    """Return a commented YAML card guessed from an image's headers.

    Parameters
    ----------
    path
        FITS image.

    Raises
    ------
    InvalidInputError
        If the image cannot be read.
    """
    context, data = open_image(path, CameraCard("template", "the template", {}))
    lines = [
        f"# Camera card for images like {Path(path).name} ({data.shape[1]} x {data.shape[0]} pixels).",
        "# A value is a number, {key: HEADERKEY}, {key: [FIRST, SECOND], default: ...} or",
        "# {table: FILE, column: NAME, where: {COLUMN: VALUE}}. `zeropoint card check` tries it on an image.",
        _instrument_line(context),
        f"image: {{hdu: {context.image_hdu}}}",
        "# mask: {file: '{dir}/{stem}_mask.fits', hdu: 0, kind: bits, planes: {SATURATED: [0], BAD: [1]}}",
        "# variance: {hdu: 2, kind: variance}      # or weight, or sigma",
    ]
    for name, (keys, fallback, meaning) in _GUESSES.items():
        found = [key for key in keys if context.header_value(key) is not None]
        if found:
            value = f"{{key: {found[0]}}}"
            shown = context.header_value(found[0])
            lines.append(f"{name}: {value:<28} # {meaning}; here {shown}")
        elif fallback:
            lines.append(f"{name}: {fallback:<28} # {meaning}; no header key found")
    lines.append(_detector_line(context))
    lines += _date_lines(context)
    lines.append(_bands_line(context))
    lines += _wcs_lines(context)
    lines += [
        "# observatory: {longitude_deg: -70.8, latitude_deg: -30.2, elevation_m: 2200}   # for azimuth and altitude",
        "first_look: true                       # adapt size-dependent settings to the image",
        "config:                                # any field of the recipe",
        "  astrometry.wcsFitter: FitTanSipWcsTask",
    ]
    return "\n".join(lines) + "\n"


def _instrument_line(context: ImageContext) -> str:
    """Return a fixed name, as a repository needs it."""
    meaning = "a letter and up to 31 letters, digits, _ or -"
    for key in ("INSTRUME", "TELESCOP"):
        shown = " ".join(str(context.header_value(key) or "").split())
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", shown).strip("_-")
        if name:
            name = name if name[0].isalpha() else f"Cam_{name}"
            return f"instrument: {name[:32]!r:<22} # {meaning}; {key} is {shown}"
    return f"instrument: mycamera               # {meaning}"


def _detector_line(context: ImageContext) -> str:
    """Return the entry that numbers the detectors, commented out where the header has no number for it."""
    meaning = "# number of the detector: must differ between detectors of an exposure"
    for key in _DETECTOR_KEYS:
        shown = context.header_value(key)
        # the name of a type, such as KAF-16803, numbers nothing
        if not isinstance(shown, bool) and re.fullmatch(r"[A-Za-z]*[ _-]?\d{1,2}(\.0)?", str(shown).strip()):
            return f"detector: {{id: {{key: {key}}}}}        {meaning}; here {shown}"
    return f"# detector: {{id: {{key: CCDNUM}}}}      {meaning}; no header key found"


def _bands_line(context: ImageContext) -> str:
    name = context.header_value(_GUESSES["filter"][0])
    if name is None or not str(name).strip():
        return "bands: {unknown: r}                    # physical filter -> band of the reference catalogue: FILL IN"
    name = str(name).strip()
    words = re.findall(r"[A-Za-z]+", name) or ["r"]
    band = next((word for word in reversed(words) if len(word) == 1), words[0][0]).lower()
    return f"bands: {{{name!r}: {band}}}    # physical filter -> band of the reference catalogue: CHECK"


def _date_lines(context: ImageContext) -> list[str]:
    meaning = "# at: start, mid or end of the exposure"
    for key in ("DATE-OBS", "DATE-BEG", "MJD-OBS", "MJD", "JD"):
        value = context.header_value(key)
        if value is None:
            continue
        entry = f"{{key: {key}}}"
        time_key = next(
            (k for k in ("TIME-OBS", "UT", "UTC", "UTSTART") if context.header_value(k) is not None), None
        )
        if key.startswith("DATE") and "T" not in str(value) and time_key:
            entry = f"[{entry}, {{key: {time_key}}}]"
        return [f"date: {{value: {entry}, scale: utc, at: start}}   {meaning}; here {value}"]
    return ["# date: {value: {key: DATE-OBS}, scale: utc, at: start}   # no date found in the header"]


def _wcs_lines(context: ImageContext) -> list[str]:
    header = next((h for h in context.ordered_headers if has_celestial_wcs(h)), None)
    if header is not None:
        return _header_wcs_lines(context, header)
    ra, dec = next(iter(_pointing_keys(context)), (None, None))
    return [
        "wcs:                                   # no WCS in the header: give the pointing",
        f"  ra: {{key: {ra}}}" if ra else "  ra: 0.0                              # degrees: FILL IN",
        f"  dec: {{key: {dec}}}" if dec else "  dec: 0.0                             # degrees: FILL IN",
        "  pixel_scale: 1.0                     # arcsec: FILL IN",
        "  rotation_deg: 0.0                    # position angle of +y, North through East: FILL IN",
        "  flip: false                          # true if mirrored",
        "  uncertainty: {offset_arcsec: 120.0, rotation_deg: 2.0}",
    ]


def _pointing_keys(context: ImageContext) -> list[tuple[str, str]]:
    """Return the pairs of header keys that may say where the telescope pointed."""
    return [
        pair for pair in _POINTING_KEYS if all(context.header_value(key) not in (None, "") for key in pair)
    ]


def _header_wcs_lines(context: ImageContext, header: fits.Header) -> list[str]:
    """Return the entry for a WCS in the header, with the boresight where keys near that WCS give one."""
    uncertainty = "  uncertainty: {offset_arcsec: 30.0, rotation_deg: 1.0}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reference = SkyCoord(*WCS(header).celestial.wcs.crval, unit="deg", frame="icrs")
    except Exception:  # of a broken header, anything may come; `card check` says what
        reference = None
    for ra, dec in _pointing_keys(context) if reference is not None else ():
        for scale in ("", ", scale: 15"):  # plain numbers may be hours
            spec = {"key": ra, "scale": 15} if scale else {"key": ra}
            try:
                position = SkyCoord(
                    context.degrees("ra", spec, hours=True), context.degrees("dec", {"key": dec}), unit="deg"
                )
                near = reference.separation(position).deg < _NEAR_DEG
            except (InvalidInputError, ValueError):
                continue
            if near:
                return [
                    "wcs:",
                    "  from: header",
                    f"  ra: {{key: {ra}{scale}}}              # where the telescope pointed: {position.ra.deg:.5f} deg",
                    f"  dec: {{key: {dec}}}            # {position.dec.deg:+.5f} deg",
                    uncertainty,
                ]
    return [
        "wcs:",
        "  from: header",
        "  # ra: {key: TELRA}                   # where the telescope pointed, for tables of visits: no key found",
        "  # dec: {key: TELDEC}                 # that gives a place near the WCS (`scale: 15` makes hours degrees)",
        uncertainty,
    ]


@dataclass(frozen=True)
class CardFinding:
    """One line of a card check: ``level`` is ok, note or missing."""

    level: str
    text: str


def check_card(card: CameraCard, path: str | Path | None) -> list[CardFinding]:
    """Say what a card provides and what it lacks, and try it on an image if one is given.

    Parameters
    ----------
    card
        The card (already free of unknown keys).
    path
        An image to try it on.
    """
    findings: list[CardFinding] = []
    for key, meaning, consequence in (
        ("gain", "gain", "it will be estimated, and the verdict can be `usable` at best"),
        ("exposure_time", "exposure time", "no depth and no effective time"),
        ("date", "date", "no proper motions, no zenith distance"),
        ("filter", "filter", "the band must be given otherwise"),
        ("bands", "filter-to-band table", "the filter name itself is used as the band"),
        ("wcs", "initial WCS", "the header's WCS is used"),
        ("saturation", "saturation level", "saturated stars are found through the mask only"),
        ("mask", "mask plane", "no bad pixels are known"),
        (
            "detector",
            "detector",
            "every image is of detector 0; a camera of several needs `detector: {id: ...}`",
        ),
    ):
        if card.get(key) is None:
            findings.append(CardFinding("note", f"no {meaning} (`{key}`): {consequence}"))
        else:
            findings.append(CardFinding("ok", f"{meaning}: {_short(card.get(key))}"))
    return findings if path is None else findings + check_image(card, path)


def check_image(card: CameraCard, path: str | Path) -> list[CardFinding]:
    """Try a card on an image, and say what was found.

    Parameters
    ----------
    card
        The card.
    path
        The image.
    """
    try:
        loaded = load_image(path, card)
    except InvalidInputError as error:
        return [CardFinding("missing", str(error))]
    exposure = loaded.exposure
    info = exposure.visit_info
    assert exposure.wcs is not None
    ra, dec = exposure.wcs.pixel_to_sky(x=0.5 * (exposure.shape[1] - 1), y=0.5 * (exposure.shape[0] - 1))
    scale = float(exposure.wcs.pixel_scale(x=0.5 * exposure.shape[1], y=0.5 * exposure.shape[0]))
    amplifier = exposure.detector.amplifiers[0]
    findings = [
        CardFinding(
            "ok",
            f"image {exposure.shape[1]} x {exposure.shape[0]} pixels, median {np.median(exposure.image):.1f} e-",
        ),
        CardFinding("ok", f"gain {amplifier.gain:.4g} e-/ADU, read noise {amplifier.read_noise:.3g} e-"),
        CardFinding(
            "ok",
            f"exposure {info.exposure_time:g} s, mid MJD (TAI) {info.mjd_tai:.6f}, filter {info.physical_filter}, band {info.band}",
        ),
        CardFinding(
            "ok", f"centre RA {np.rad2deg(ra):.5f} Dec {np.rad2deg(dec):+.5f} deg, {scale:.4f} arcsec/pixel"
        ),
        CardFinding("ok", f"masked pixels {np.mean(exposure.mask != 0):.2%}"),
    ]
    findings.append(
        CardFinding("ok", f"visit {info.visit}, exposure {info.exposure}, detector {exposure.detector.id}")
    )
    if not np.isfinite(info.boresight_ra_deg + info.boresight_dec_deg):
        findings.append(
            CardFinding("note", "no boresight (`ra`, `dec` of `wcs`): tables of visits have no position")
        )
    findings += [CardFinding("note", caveat) for caveat in loaded.caveats]
    return findings


def check_numbers(card: CameraCard, paths: Sequence[str | Path]) -> list[CardFinding]:
    """Say whether a card tells images apart by exposure and detector, reading headers only.

    Parameters
    ----------
    card
        The card.
    paths
        Images, those that cannot be read among them: these are passed over, `check_card` names them.
    """
    findings: list[CardFinding] = []
    first: dict[tuple[int, int], Path] = {}
    for path in map(Path, paths):
        try:
            seen = read_observation(path, card)
        except InvalidInputError:
            continue
        key = seen.visit_info.exposure, seen.detector.id
        other = first.setdefault(key, path)
        if other != path:
            differing = _differing(other, path, card)
            hint = f" (their headers differ in {', '.join(differing)})" if differing else ""
            findings.append(
                CardFinding(
                    "missing",
                    f"{other} and {path} are both exposure {key[0]} of detector {key[1]}: give `detector: {{id: ...}}` "
                    f"for two detectors of one exposure, `visit:` or `exposure:` for two exposures{hint}",
                )
            )
    if not findings and len(first) > 1:
        n_exposures, n_detectors = (len({key[i] for key in first}) for i in (0, 1))
        findings.append(
            CardFinding("ok", f"{len(first)} images: {n_exposures} exposures, {n_detectors} detectors")
        )
    return findings


def _differing(one: Path, other: Path, card: CameraCard) -> list[str]:
    """Return the keys, of those that may number detectors or exposures, that differ between two images."""
    a, b = (open_headers(path, card)[0] for path in (one, other))
    keys = (*_DETECTOR_KEYS, *_GUESSES["visit"][0])
    return [key for key in keys if a.header_value(key) != b.header_value(key)]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 70 else text[:67] + "..."
