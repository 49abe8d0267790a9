"""Turn the matched star lists of nine DSLR exposures (test data ``hat-dslr-20170306``) into tables of a survey.

Run ``python convert.py DATA_FOLDER OUT_FOLDER``.  Writes ``observations.parquet`` (positions from each exposure's own pixels, by
a polynomial of fifth order through the catalogue's positions), ``visits.csv`` (the lists tell neither time nor airmass),
and ``references.csv`` (APASS g, r, i of the catalogue, with the catalogue's own names of the stars).
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
from astropy.table import Table, unique, vstack

CENTER_RA, CENTER_DEC = 153.03, 44.989
#: What repeats of the brightest stars scatter by, mag: sampling and a colour filter array, not photons.
FLOOR = 0.036
#: Variance of a flux per count of it, from the scatter of fainter stars.
VARIANCE_PER_COUNT = 1.7
#: Error of APASS magnitudes, which the lists do not tell, mag.
APASS_ERROR = 0.05
#: Places in a line of a ``match`` file: 35 of the catalogue, then 14 of the detection.
ID, RA, DEC, MAGS, SOURCES = 0, 1, 2, (30, 31, 32), 34
X, Y, BACKGROUND, FWHM, FLUX = 36, 37, 38, 43, 46


def read(path: Path) -> list[list[str]]:
    """Return the complete lines of a file; a few are cut short."""
    with gzip.open(path, "rt") as file:
        return [words for line in file if len(words := line.split()) == 49]


def plane(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Project on the tangent plane at the field's center; radians, shape (n, 2)."""
    a, d = np.deg2rad(ra - CENTER_RA), np.deg2rad(dec)
    d0 = np.deg2rad(CENTER_DEC)
    depth = np.sin(d0) * np.sin(d) + np.cos(d0) * np.cos(d) * np.cos(a)
    eta = np.cos(d0) * np.sin(d) - np.sin(d0) * np.cos(d) * np.cos(a)
    return np.stack([np.cos(d) * np.sin(a) / depth, eta / depth], axis=1)


def sky(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn places on the tangent plane into degrees."""
    xi, eta = places.T
    d0 = np.deg2rad(CENTER_DEC)
    depth = np.cos(d0) - eta * np.sin(d0)
    ra = CENTER_RA + np.rad2deg(np.arctan2(xi, depth))
    dec = np.arctan2(np.sin(d0) + eta * np.cos(d0), np.hypot(xi, depth))
    return ra % 360.0, np.rad2deg(dec)


def measured_positions(
    x: np.ndarray, y: np.ndarray, ra: np.ndarray, dec: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return where the pixels are on the sky, by a polynomial through the catalogue's positions."""
    u, v = x / 2000.0 - 1.0, y / 1330.0 - 1.0
    terms = np.stack([u**i * v**j for i in range(6) for j in range(6 - i)], axis=1)
    wanted, good = plane(ra, dec), np.ones(len(x), bool)
    for _ in range(3):
        solution = np.linalg.lstsq(terms[good], wanted[good])[0]
        off = np.hypot(*(terms @ solution - wanted).T)
        good = off < 4.0 * np.sqrt(np.mean(off[good] ** 2) / 2.0)
    return sky(terms @ solution)


def main(data: Path, out: Path) -> None:
    """Convert all exposures."""
    out.mkdir(parents=True, exist_ok=True)
    parts, visits, references = [], [], []
    for path in sorted(data.glob("*.fistar.match.gz")):
        words = read(path)
        numbers = np.array(
            [[float(line[k]) for k in (RA, DEC, X, Y, FLUX, BACKGROUND, FWHM, *MAGS)] for line in words]
        )
        ra, dec, x, y, flux, background, fwhm, *mags = numbers.T
        visit = int(path.name.split("_")[0].split("-")[1])
        own_ra, own_dec = measured_positions(x, y, ra, dec)
        names = [line[ID] for line in words]
        error = np.sqrt(np.maximum(flux, 0.0) * VARIANCE_PER_COUNT + (FLOOR / 1.0857 * flux) ** 2)
        parts.append(Table({"exposure": np.full(len(x), visit), "star": names, "ra": own_ra, "dec": own_dec, "x": x, "y": y,
                            "flux": flux, "flux_err": error}))  # fmt: skip
        visits.append((visit, "R1", float(np.median(fwhm)), float(np.median(background))))
        apass = np.array([[line[SOURCES][k] == "A" for k in (5, 6, 7)] for line in words])
        columns = {}
        for band, mag, good in zip("gri", mags, apass.T, strict=True):
            columns[f"{band}_mag"] = np.where(good, mag, np.nan)
            columns[f"{band}_mag_err"] = np.where(good, APASS_ERROR, np.nan)
        references.append(Table({"id": names, "ra": ra, "dec": dec, **columns}))
    vstack(parts).write(out / "observations.parquet", overwrite=True)
    visit_table = Table(rows=visits, names=["exposure", "channel", "fwhm_pix", "background"])
    visit_table.write(out / "visits.csv", overwrite=True)
    unique(vstack(references), keys="id").write(out / "references.csv", overwrite=True)
    print(f"{sum(map(len, parts))} observations in {len(visits)} visits -> {out}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
