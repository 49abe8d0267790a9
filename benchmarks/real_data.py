"""Calibrate the real images of the test data, and compare with what is known of them.

Prints markdown tables; exits with 1 if a requirement is missed.  The data folder is the variable
``ZEROPOINT_TESTDATA``, else ``../shared/data``.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from scipy.spatial import cKDTree

from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.instruments.card import load_card
from zeropoint.quality.metrics import compute_metrics
from zeropoint.quality.verdict import Verdict, judge
from zeropoint.recipes.report_data import report_data
from zeropoint.recipes.session import CalibrationSession, ImageRun

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("ZEROPOINT_TESTDATA", ROOT.parent / "shared" / "data"))
CARDS = ROOT / "examples" / "cards"

#: Magnitude of 1 DN per second, measured with independent simple code (8 pixel apertures, no color term).
SDSS_ZEROPOINTS = {"u": 23.192, "g": 24.274, "r": 23.910, "i": 23.671, "z": 21.740}
#: Rows of the published table that belong to each frame.
SDSS_PUBLISHED_ROWS = {"u": 88, "g": 565, "r": 777, "i": 1112, "z": 301}
ARCSEC = np.pi / 648000.0


@dataclass
class Calibrated:
    """One image, its metrics and its verdict."""

    run: ImageRun
    metrics: dict[str, Any]
    verdict: Verdict
    seconds: float

    @property
    def stars(self) -> Table:
        """The star catalogue."""
        assert self.run.result.stars is not None
        return self.run.result.stars.to_table()

    @property
    def gain(self) -> float:
        """Electrons per DN."""
        return float(self.run.loaded.exposure.detector.amplifiers[0].gain)

    @property
    def zeropoint_dn_s(self) -> float:
        """Magnitude of 1 DN per second."""
        assert self.run.result.photometry is not None
        seconds = self.run.loaded.exposure.visit_info.exposure_time
        return float(self.run.result.photometry.zp - 2.5 * np.log10(self.gain * seconds))


def mad(values: Any) -> float:
    """Return 1.48 times the median absolute deviation."""
    values = np.asarray(values, np.float64)
    return float(1.4826 * np.median(np.abs(values - np.median(values)))) if len(values) else float("nan")


def calibrate(path: Path, card: str, references: ReferenceSource, *overrides: tuple[str, Any]) -> Calibrated:
    """Calibrate one file as the command line does, without writing anything."""
    start = time.perf_counter()
    run = CalibrationSession(load_card(card), references, overrides=overrides).calibrate(path)
    metrics = compute_metrics(report_data(run, references.name))
    verdict = judge(metrics, run.caveats, run.result.failure)
    return Calibrated(run, metrics, verdict, time.perf_counter() - start)


def astrometric_scatter(done: Calibrated) -> tuple[int, float, float]:
    """Return the number of astrometric matches and the scatter East and North, arcsec."""
    table = done.run.result.astrometry_matches
    if table is None:
        return 0, float("nan"), float("nan")
    east = (table["src_coord_ra"] - table["ref_coord_ra"]) * np.cos(table["ref_coord_dec"]) / ARCSEC
    north = (table["src_coord_dec"] - table["ref_coord_dec"]) / ARCSEC
    return len(table), mad(east), mad(north)


def photometric_scatter(done: Calibrated, band: str, least_snr: float = 50.0) -> tuple[int, float, float]:
    """Return number, 1.48 MAD and median of (reference - calibrated PSF magnitude) of bright stars."""
    table = done.run.result.photometry_matches
    if table is None:
        return 0, float("nan"), float("nan")
    snr = np.asarray(table["src_base_PsfFlux_instFlux"] / table["src_base_PsfFlux_instFluxErr"])
    with np.errstate(invalid="ignore", divide="ignore"):
        reference = 31.4 - 2.5 * np.log10(np.asarray(table[f"ref_{band}_flux"]))
    difference = reference - np.asarray(table["src_base_PsfFlux_mag"])
    good = (snr > least_snr) & np.isfinite(difference)
    return int(good.sum()), mad(difference[good]), float(np.median(difference[good]))


# -- SDSS ---------------------------------------------------------------------------------------------------


def sdss_frame(band: str, data: Path = DATA, *overrides: tuple[str, Any]) -> Calibrated:
    """Calibrate one SDSS frame, with SdssShape among the measurements."""
    folder = data / "sdss-s82"
    path = folder / "4192" / "40" / "corr" / "4" / f"fpC-004192-{band}4-0300.fit.gz"
    names = ("star_measurement.plugins.names", [*production_plugins(), "base_SdssShape"])
    references = ReferenceSource.open(folder / "ref_cats" / "sdss_demo_ref_cat")
    return calibrate(path, "sdss", references, names, *overrides)


def production_plugins() -> list[str]:
    """Return the star measurement's plugins of the shipped configuration."""
    from zeropoint.recipes.session import production_config

    return list(production_config().star_measurement.plugins.names)


def sdss_published(band: str, data: Path = DATA) -> Table:
    """Return the pipeline measurements published with the frame of one band."""
    path = data / "sdss-s82" / "expected" / "detected-sources-4192.txt.gz"
    table = Table.read(path, format="ascii.commented_header")
    frames = np.asarray(table["id"]) >> 32
    _, first = np.unique(frames, return_index=True)
    starts = dict(zip(SDSS_PUBLISHED_ROWS, np.sort(first), strict=False))
    rows = table[starts[band] : starts[band] + SDSS_PUBLISHED_ROWS[band]]
    same = frames[starts[band] : starts[band] + len(rows)] == frames[starts[band]]
    if not same.all():
        raise ValueError(f"{path}: the rows of band {band} are not where they should be.")
    return rows


def sdss_parity(done: Calibrated, band: str, data: Path = DATA) -> dict[str, float]:
    """Compare stars of PSF S/N > 50 with the published measurements; fluxes are converted back to DN."""
    theirs, ours = sdss_published(band, data), done.stars
    plain = np.ones(len(theirs), bool)
    for flag in ("edge", "saturated", "interpolatedCenter"):
        plain &= np.asarray(theirs[f"base_PixelFlags_flag_{flag}"]) != "True"
    snr = floats(theirs["base_PsfFlux_instFlux"]) / floats(theirs["base_PsfFlux_instFluxErr"])
    plain &= (floats(theirs["base_ClassificationExtendedness_value"]) == 0) & (snr > 50.0)
    theirs = theirs[plain]
    x, y = (f"base_SdssCentroid_{axis}" for axis in "xy")
    tree = cKDTree(np.column_stack([ours[x], ours[y]]))
    distance, row = tree.query(
        np.column_stack([floats(theirs[x]), floats(theirs[y])]), distance_upper_bound=1.5
    )
    theirs, ours = theirs[np.isfinite(distance)], ours[row[np.isfinite(distance)]]
    aperture = (
        ours["base_CircularApertureFlux_6_0_instFlux"]
        / done.gain
        / floats(theirs["base_CircularApertureFlux_6_0_instFlux"])
    )
    psf = ours["base_PsfFlux_instFlux"] / done.gain / floats(theirs["base_PsfFlux_instFlux"])
    return {
        "n_published": int(plain.sum()),
        "n": len(ours),
        "aperture_ratio": float(np.median(aperture)),
        "aperture_scatter": mad(aperture),
        "psf_ratio": float(np.median(psf)),
        "psf_scatter": mad(psf),
        "x_scatter": mad(ours[x] - floats(theirs[x])),
        "y_scatter": mad(ours[y] - floats(theirs[y])),
        "x_offset": float(np.median(ours[x] - floats(theirs[x]))),
        "y_offset": float(np.median(ours[y] - floats(theirs[y]))),
        "xx_ratio": float(np.nanmedian(ours["base_SdssShape_xx"] / floats(theirs["base_SdssShape_xx"]))),
        "yy_ratio": float(np.nanmedian(ours["base_SdssShape_yy"] / floats(theirs["base_SdssShape_yy"]))),
    }


def floats(column: Any) -> np.ndarray:
    """Return a column as float64, masked values as NaN."""
    return np.ma.filled(np.ma.asarray(column, np.float64), np.nan)


def run_sdss(data: Path, limit: int | None) -> bool:
    """Calibrate the five SDSS frames; print two tables."""
    done = {band: sdss_frame(band, data) for band in list(SDSS_ZEROPOINTS)[:limit]}
    print("| frame | matches | East \" | North \" | S/N > 50 | ref - PSF mag, 1.48 MAD | ZP (1 DN/s) | - table | "
          "verdict | s |\n|---|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    met = True
    for band, one in done.items():
        n, east, north = astrometric_scatter(one)
        n_bright, scatter, _ = photometric_scatter(one, band)
        difference = one.zeropoint_dn_s - SDSS_ZEROPOINTS[band]
        print(f"| {band} | {n} | {east:.4f} | {north:.4f} | {n_bright} | {scatter:.4f} | {one.zeropoint_dn_s:.3f} | "
              f"{difference:+.3f} | {said(one)} | {one.seconds:.1f} |")  # fmt: skip
        strict = band in "gri"
        met &= abs(difference) <= 0.03 or not strict
        met &= (n >= 35 and max(east, north) <= 0.04 and scatter <= 0.025) or not strict
        met &= one.verdict.level != "bad"
    print("\n| frame | stars | published | 6 px flux ratio (MAD) | PSF flux ratio (MAD) | x, y scatter px | x, y offset px | "
          "xx ratio | yy ratio |\n|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for band, one in done.items():
        p = sdss_parity(one, band, data)
        print(f"| {band} | {p['n']} | {p['n_published']} | {p['aperture_ratio']:.4f} ({p['aperture_scatter']:.4f}) | "
              f"{p['psf_ratio']:.4f} ({p['psf_scatter']:.4f}) | {p['x_scatter']:.3f}, {p['y_scatter']:.3f} | "
              f"{p['x_offset']:+.3f}, {p['y_offset']:+.3f} | {p['xx_ratio']:.4f} | {p['yy_ratio']:.4f} |")  # fmt: skip
        if band in "gri":
            met &= abs(p["aperture_ratio"] - 1) <= 0.005 and p["psf_scatter"] <= 0.015
            met &= max(p["x_scatter"], p["y_scatter"]) <= 0.05
            met &= max(abs(p["xx_ratio"] - 1), abs(p["yy_ratio"] - 1)) <= 0.02
    return met


def said(done: Calibrated) -> str:
    """Return verdict and reasons for a table."""
    return f"{done.verdict.level}{': ' if done.verdict.reasons else ''}{'; '.join(done.verdict.reasons)}"


# -- ZTF ----------------------------------------------------------------------------------------------------

#: Radii of the header's FIXAPERS diameters.
ZTF_RADII = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)
#: From 7 to 12 pixels radius, isolated stars, with a free sky level: +- 0.5.
ZTF_GROWTH_MMAG = 9.4
ZTF_COLUMNS = {"ra": "ra", "dec": "dec", "bands": {"r": {"mag": "mag_zr_nocolor", "mag_err": "magerr"}}}


def ztf_image(data: Path = DATA) -> Path:
    """Return the image's path."""
    return next((data / "ztf-655-r-c13q3").glob("*sciimg.fits.gz"))


def ztf_references(data: Path = DATA) -> ReferenceSource:
    """Return the list derived from the published calibration."""
    return ReferenceSource.open(
        data / "ztf-655-r-c13q3" / "DERIVED_sources_published_wcs_zp.csv.gz", ZTF_COLUMNS
    )


def ztf_quadrant(path: Path, data: Path = DATA) -> Calibrated:
    """Calibrate the quadrant, or a part of it."""
    return calibrate(path, "ztf", ztf_references(data))


def exact_circles(image: np.ndarray, x: np.ndarray, y: np.ndarray, radii: tuple[float, ...]) -> np.ndarray:
    """Return sums over circles that cut pixels (by 20 x 20 points a pixel), shape (n_radii, n); NaN off the image."""
    half, fine = int(max(radii)) + 2, (np.arange(20) - 9.5) / 20.0
    grid = np.arange(-half, half + 1)
    flux = np.full((len(radii), len(x)), np.nan)
    for i, (cx, cy) in enumerate(zip(x, y, strict=True)):
        kx, ky = round(cx), round(cy)
        stamp = image[max(ky - half, 0) : ky + half + 1, max(kx - half, 0) : kx + half + 1]
        if stamp.shape != (len(grid), len(grid)):
            continue
        u = (grid[:, None] + fine + kx - cx).ravel() ** 2
        v = (grid[:, None] + fine + ky - cy).ravel() ** 2
        square = v[:, None] + u
        for k, radius in enumerate(radii):
            inside = square <= radius**2
            cover = inside.reshape(len(grid), 20, len(grid), 20).mean(axis=(1, 3))
            flux[k, i] = float((stamp * cover).sum(dtype=np.float64))
    return flux


def ztf_figures(done: Calibrated, header: fits.Header) -> dict[str, float]:
    """Compare with the header's zeropoint and aperture corrections, in mmag.

    The curve of growth is compared relative to the aperture of 10 pixels diameter, which needs no PSF.  As in the
    header, circles cut pixels exactly.  The zero point holds for an aperture of 12 pixels radius, in which there are
    9.4 mmag more than in the header's largest: ``zeropoint_scale_mmag`` allows for that.
    """
    stars = done.stars
    seconds = done.run.loaded.exposure.visit_info.exposure_time
    zeropoint = done.zeropoint_dn_s + 2.5 * np.log10(seconds)
    snr = stars["base_PsfFlux_instFlux"] / stars["base_PsfFlux_instFluxErr"]
    good = (snr > 100) & ~stars["base_PixelFlags_flag_saturated"] & ~stars["base_PixelFlags_flag_edge"]
    good &= ~stars["base_PixelFlags_flag_suspect"] & (stars["deblend_nChild"] == 0) & (stars["parent"] == 0)
    good &= stars["base_ClassificationSizeExtendedness_value"] < 0.5
    x, y = (np.asarray(stars[f"base_SdssCentroid_{axis}"], np.float64)[good] for axis in "xy")
    applied = done.run.result.applied_photo_calib
    scale = 1.0 if applied is None else applied.calibration_mean
    flux = exact_circles(done.run.result.exposure.image, x, y, ZTF_RADII) / scale
    sound = (flux > 0).all(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mags = -2.5 * np.log10(flux[:, sound])
        psf_mag = -2.5 * np.log10(np.asarray(stars["base_PsfFlux_instFlux"], np.float64)[good][sound])
    figures = {
        "zeropoint": zeropoint,
        "zeropoint_mmag": 1000 * (zeropoint - header["MAGZP"]),
        "zeropoint_scale_mmag": 1000 * (zeropoint - header["MAGZP"] - header["APCOR6"]) - ZTF_GROWTH_MMAG,
        "n": float(sound.sum()),
    }
    published = [header[f"APCOR{k}"] for k in range(1, 7)]
    for k, radius in enumerate(ZTF_RADII):
        growth = float(np.median(mags[4] - mags[k]))
        figures[f"growth_{radius}"] = growth
        figures[f"growth_mmag_{radius}"] = 1000 * (growth - (published[k] - published[4]))
        figures[f"psf_minus_aperture_{radius}"] = float(np.median(psf_mag - mags[k]))
        figures[f"psf_mmag_{radius}"] = 1000 * (figures[f"psf_minus_aperture_{radius}"] - published[k])
    return figures


def run_ztf(data: Path, limit: int | None) -> bool:
    """Calibrate the ZTF quadrant; print a table."""
    path = ztf_image(data)
    header = fits.getheader(path)
    done = ztf_quadrant(path, data)
    n, east, north = astrometric_scatter(done)
    n_bright, scatter, _ = photometric_scatter(done, "r")
    f = ztf_figures(done, header)
    print(f"| quantity | zeropoint | header | difference |\n|---|---|---|---|\n"
          f"| zeropoint, mag of 1 DN | {f['zeropoint']:.4f} | {header['MAGZP']:.4f} | {f['zeropoint_mmag']:+.1f} mmag |")  # fmt: skip
    for k, radius in enumerate(ZTF_RADII, start=1):
        ref = header[f"APCOR{k}"]
        print(f"| AP(10) - AP({2 * radius:g}) | {f[f'growth_{radius}']:+.4f} | {ref - header['APCOR5']:+.4f} | "
              f"{f[f'growth_mmag_{radius}']:+.1f} mmag |\n"
              f"| PSF - AP({2 * radius:g}) (APCOR{k}) | {f[f'psf_minus_aperture_{radius}']:+.4f} | {ref:+.4f} | "
              f"{f[f'psf_mmag_{radius}']:+.1f} mmag |")  # fmt: skip
    print(f"| astrometric scatter East, North | {east:.4f}, {north:.4f} arcsec | | {n} matches |\n"
          f"| reference - PSF mag, 1.48 MAD, S/N > 50 | {scatter:.4f} | | {n_bright} stars |\n"
          f"| FWHM (header SEEING) | {done.metrics['fwhm_arcsec']:.3f} arcsec | {header['SEEING']} px | |\n"
          f"| verdict | {said(done)} | | {done.seconds:.1f} s |")  # fmt: skip
    return done.verdict.level != "bad" and abs(f["zeropoint_mmag"]) < 20


# -- HAT-P-32 -----------------------------------------------------------------------------------------------


def hatp32_frames(data: Path = DATA) -> list[Path]:
    """Return the frames in order."""
    return sorted((data / "hatp32").glob("*.fits.fz"))


def hatp32_frame(path: Path, start: str, data: Path = DATA) -> Calibrated:
    """Calibrate one frame from the ``mount`` or from the ``table`` of plate solutions."""
    card = {"mount": "hatp32_tycho2.yaml", "table": "hatp32_wcs_table.yaml"}[start]
    loaded = load_card(str(CARDS / card))
    references = ReferenceSource.open(data / "hatp32" / "tycho2_field.txt", loaded.get("references"))
    return calibrate(path, str(CARDS / card), references)


def hatp32_figures(done: Calibrated) -> dict[str, float]:
    """Return unsaturated matches, scatter in pixels, and the photometric scatter."""
    table = done.run.result.astrometry_matches
    if table is None or done.run.result.failure is not None:
        return {"solved": 0.0}
    plain = ~np.asarray(table["src_base_PixelFlags_flag_saturatedCenter"], bool)
    exposure = done.run.result.exposure
    assert exposure.wcs is not None
    x, y = exposure.wcs.sky_to_pixel(
        ra=np.asarray(table["ref_coord_ra"], float), dec=np.asarray(table["ref_coord_dec"], float)
    )
    dx, dy = x - table["src_base_SdssCentroid_x"], y - table["src_base_SdssCentroid_y"]
    return {
        "solved": 1.0,
        "matches": float(plain.sum()),
        "x_scatter": mad(dx[plain]),
        "y_scatter": mad(dy[plain]),
        "photometric": float(done.metrics["photom_scatter_mag"]),
    }


def check_against_table(done: Calibrated, data: Path = DATA) -> float:
    """Return the largest distance on a grid between the fitted WCS and the published plate solution, pixels."""
    from zeropoint.instruments.reader import load_image

    other = load_image(done.run.loaded.path, load_card(str(CARDS / "hatp32_wcs_table.yaml"))).exposure.wcs
    wcs = done.run.result.exposure.wcs
    if wcs is None or other is None:
        return float("nan")
    height, width = done.run.result.exposure.shape
    x, y = (v.ravel() for v in np.meshgrid(np.linspace(20, width - 20, 9), np.linspace(20, height - 20, 9)))
    ra, dec = other.pixel_to_sky(x=x, y=y)
    u, v = wcs.sky_to_pixel(ra=ra, dec=dec)
    return float(np.hypot(u - x, v - y).max())


def run_hatp32(data: Path, limit: int | None) -> bool:
    """Calibrate the frames from both starting points; print a table."""
    print("| start | solved | unsaturated Tycho matches | scatter x, y px | worst corner vs table px | photometric MAD | verdicts | s a frame |\n"
          "|---|---|---|---|---|---|---|---|")  # fmt: skip
    met = True
    frames = hatp32_frames(data)
    frames = frames if limit is None else frames[:: max(len(frames) // limit, 1)]
    failures: list[str] = []
    for start in ("mount", "table"):
        done = [hatp32_frame(path, start, data) for path in frames]
        figures = [hatp32_figures(one) for one in done]
        solved = [f for f in figures if f["solved"]]
        away = [check_against_table(o, data) for o, f in zip(done, figures, strict=True) if f["solved"]]
        levels = [one.verdict.level for one in done]
        counts = ", ".join(f"{levels.count(level)} {level}" for level in ("good", "usable", "bad"))
        median = {k: float(np.nanmedian([f[k] for f in solved])) for k in solved[0]}
        least = min(f["matches"] for f in solved)
        print(f"| {start} | {len(solved)} of {len(done)} | {median['matches']:.0f} (least {least:.0f}) | {median['x_scatter']:.3f}, "
              f"{median['y_scatter']:.3f} | {np.nanmedian(away):.2f} (worst {np.nanmax(away):.2f}) | {median['photometric']:.3f} | {counts} | "
              f"{np.mean([one.seconds for one in done]):.1f} |")  # fmt: skip
        failures += [f"{start} {o.run.loaded.stem}: {said(o)}" for o in done if o.verdict.level != "usable"]
        met &= len(solved) == len(done) and levels.count("usable") == len(done)
    print("\n" + "\n".join(f"- {line}" for line in failures))
    print("\nreasons of the last: " + said(done[-1]))
    return met


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", choices=["sdss", "ztf", "hatp32", []], help="default: all three")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--limit", type=int, help="at most about so many frames of a set")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    met = True
    for name in options.sets or ["sdss", "ztf", "hatp32"]:
        print(f"\n### {name}\n", flush=True)
        met &= {"sdss": run_sdss, "ztf": run_ztf, "hatp32": run_hatp32}[name](options.data, options.limit)
    print(f"\nrequirements {'met' if met else 'MISSED'}")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
