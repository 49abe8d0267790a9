"""Compare the open atmosphere with other models, through real passbands and for five types of stars.

    python benchmarks/atmosphere.py                                  # prints the tables
    python benchmarks/atmosphere.py --markdown docs/atmosphere.md    # and puts them into the marked block

For each set of references one amount of water and one of ozone are fitted to its curve near airmass 1.2, and the
difference of a G star there is removed from each band.  The command exits 1 if what remains, up to airmass 2.5, is
larger than 2 mmag in g, r, i or z, than 4 mmag in y, or than 1 mmag between an M and a G star.  The references are
read from the folder of the variable ``ZEROPOINT_TESTDATA``, else ``../shared/data``; what needs a package that is not
installed (speclite, pwv-kpno) is left out and says so.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import gzip
import importlib.util
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits
from scipy.optimize import least_squares

from zeropoint.fgcm.atmosphere import Atmosphere, AtmosphereParameters, pressure_at

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("ZEROPOINT_TESTDATA", ROOT.parent / "shared" / "data")) / "throughputs"
BEGIN, END = "<!-- atmosphere: begin -->", "<!-- atmosphere: end -->"
WAVELENGTH = np.arange(3000.0, 11000.1, 5.0)
STARS = ("a0v", "f5v", "g2v", "k5v", "m5v")
SUN, RED = STARS.index("g2v"), STARS.index("m5v")
BANDS = "grizy"
LIMIT = {"g": 2.0, "r": 2.0, "i": 2.0, "z": 2.0, "y": 4.0}
LIMIT_COLOR = 1.0
FARTHEST = 2.5
#: True amounts of water at the nodes of the LSST table, mm.
LSST_PWV = (1.0, 8.1)


def text(name: str, scale: float = 10.0) -> np.ndarray:
    """Read a gzipped table of two columns (wavelength, value) onto the common wavelengths."""
    with gzip.open(DATA / name) as stream:
        table = np.loadtxt(stream)
    return np.interp(WAVELENGTH, scale * table[:, 0], table[:, 1])


def grid(name: str) -> np.ndarray:
    """Read one of libRadtran's grids of transmission."""
    with gzip.open(DATA / "getobsatmo-lsst" / f"LSST_atmospherictransparencygrid_{name}.npy.gz") as stream:
        return np.load(stream)


def stars() -> np.ndarray:
    """Read photon rates per wavelength of the five stars, (star, wavelength)."""
    return np.array([text(f"pickles/{name}.sed.gz", 1.0) * WAVELENGTH for name in STARS])


def lsst_bands() -> dict[str, np.ndarray]:
    """Read the throughputs of telescope, filters and detectors of LSST."""
    return {band: text(f"lsst-throughputs/baseline/hardware_{band}.dat.gz") for band in BANDS}


def mmag(ours: np.ndarray, theirs: np.ndarray, band: np.ndarray, photons: np.ndarray) -> np.ndarray:
    """Compute ours minus theirs in mmag for each star."""
    return -2500.0 * np.log10((photons * band * ours).sum(axis=1) / (photons * band * theirs).sum(axis=1))


@dataclass(frozen=True)
class References:
    """Transmissions of one origin."""

    title: str
    elevation: float
    curves: dict[float, np.ndarray]
    """By secant."""
    pmb: float | None = None
    tau: float = 0.0
    dry: bool = False
    bands: dict[str, np.ndarray] = field(default_factory=lsst_bands)
    counts: bool = True
    """Exceeding a limit fails."""

    def parameters(self, secant: float, pwv: float, o3: float) -> AtmosphereParameters:
        return AtmosphereParameters(
            pmb=self.pmb or pressure_at(self.elevation),
            pwv=1e-9 if self.dry else pwv,
            o3=o3,
            tau=self.tau,
            alpha=1.0,
            airmass=secant,
        )

    def fit(self, atmosphere: Atmosphere, secant: float) -> tuple[float, float]:
        """Fit water and ozone to the curve at one secant; a gray factor is free."""
        theirs = self.curves[secant]
        used = (WAVELENGTH > 4500) & (WAVELENGTH < 10800) & (theirs > 0)

        def residuals(p: np.ndarray) -> np.ndarray:
            ours = atmosphere.transmission(self.parameters(secant, np.exp(p[0]), p[1]))[0]
            return (np.log(ours[used] / theirs[used]) - p[2]) * theirs[used]

        gray = float(
            np.median(
                np.log(atmosphere.transmission(self.parameters(secant, 3.0, 300.0))[0][used] / theirs[used])
            )
        )
        result = least_squares(
            residuals, [np.log(3.0), 300.0, gray], x_scale=[1, 100, 0.01], loss="soft_l1", f_scale=0.005
        )
        return float(np.exp(result.x[0])), float(result.x[1])


# -- sets of references -------------------------------------------------------------------------------------


def lsst_throughputs() -> References:
    curves = {n / 10: text(f"lsst-throughputs/atmos/atmos_{n}.dat.gz") for n in range(10, 26)}
    return References("LSST throughputs (MODTRAN, Cerro Pachón)", 2663.0, curves)


def fgcm_standard(name: str, title: str) -> References:
    with fits.open(DATA / "fgcm-atm-test" / name) as hdus:
        pars = hdus["PARS"].data[0]
        curves = {round(float(pars["AIRMASSSTD"]), 2): np.array(pars["ATMSTDTRANS"], dtype=float)}
        # the reference's pressure factor is gray: what the bands see is the pressure of the elevation
        return References(title, float(pars["ELEVATION"]), curves, tau=float(pars["TAUSTD"]))


def libradtran() -> References:
    folder = DATA / "getobsatmo-lsst"
    axes = json.loads((folder / "LSST_atmospherictransparencygrid_params.json").read_text())
    o2, ozone, rayleigh = grid("O2abs"), grid("OZabs"), grid("rayleigh")
    node = axes["OZ"].index(300.0)
    curves = {
        round(secant, 1): np.interp(
            WAVELENGTH, np.array(axes["WL"]) * 10, o2[:, i] * rayleigh[:, i] * ozone[:, i, node]
        )
        for i, secant in enumerate(axes["AIRMASS"])
    }
    title = "libRadtran (getObsAtmo; without water, plane-parallel, other oxygen lines: for information)"
    return References(title, 2663.0, curves, dry=True, counts=False)


def des() -> References:
    import speclite.filters

    ratio = np.ones_like(WAVELENGTH)
    bands = {}
    for band, name in zip(BANDS, "grizY"):
        plain = speclite.filters.load_filter(f"decamDR1noatm-{name}")
        seen = speclite.filters.load_filter(f"decamDR1-{name}")
        response = np.interp(WAVELENGTH, plain.wavelength, plain.response, left=0, right=0)
        inside = response > 0.1 * response.max()
        ratio[inside] = (np.interp(WAVELENGTH, seen.wavelength, seen.response) / np.maximum(response, 1e-9))[
            inside
        ]
        bands[band] = np.where(inside, response, 0.0)
    return References("DES standard atmosphere (speclite)", 2207.0, {1.2: ratio}, tau=0.03, bands=bands)


# -- tables -------------------------------------------------------------------------------------------------


def compare(references: References, photons: np.ndarray) -> tuple[list[str], bool]:
    """Return the lines of one set, and whether it keeps the limits."""
    atmosphere = Atmosphere.for_site(references.elevation)
    anchor = min(references.curves, key=lambda secant: abs(secant - 1.2))
    pwv, o3 = references.fit(atmosphere, anchor)
    difference = {
        secant: {
            band: mmag(
                atmosphere.transmission(references.parameters(secant, pwv, o3))[0], curve, throughput, photons
            )
            for band, throughput in references.bands.items()
        }
        for secant, curve in references.curves.items()
        if secant <= FARTHEST
    }
    constant = {band: values[SUN] for band, values in difference[anchor].items()}
    water = "" if references.dry else f"PWV {pwv:.2f} mm, "
    lines = [
        f"**{references.title}**: {water}ozone {o3:.0f} DU",
        "",
        *head(["secant", *BANDS, "M − G, largest"]),
    ]
    good = True
    for secant, values in difference.items():
        left = {band: values[band] - constant[band] for band in BANDS}
        worst = {band: float(left[band][np.argmax(np.abs(left[band]))]) for band in BANDS}
        color = max((float(left[band][RED] - left[band][SUN]) for band in BANDS), key=abs)
        good &= all(abs(worst[band]) <= LIMIT[band] for band in BANDS) and abs(color) <= LIMIT_COLOR
        if secant in (1.0, 1.2, 1.5, 2.0, 2.5) or secant == anchor:
            lines.append(row([f"{secant:g}", *(f"{worst[band]:+.2f}" for band in BANDS), f"{color:+.2f}"]))
    return [*lines, ""], good or not references.counts


def head(cells: Iterable[str]) -> list[str]:
    cells = list(cells)
    return [row(cells), "|" + "---|" * len(cells)]


def row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def nodes(photons: np.ndarray) -> tuple[list[str], bool]:
    """Compare with every node of the two FGCM tables, nothing fitted and nothing removed."""
    lines = [
        "**Nodes of the FGCM test tables** (water with its true amounts, without collision bands, which the tables lack;"
        " nothing fitted, nothing removed; largest of five stars)", "",
        *head(["site", "PWV mm", "ozone DU", "secant", *BANDS, "M − G, largest"]),
    ]  # fmt: skip
    good, bands = True, lsst_bands()
    for site, name, pwv in (("LSST", "lsst2", LSST_PWV), ("Subaru", "subaru2", (0.1, 3.6))):
        with fits.open(DATA / "fgcm-atm-test" / f"fgcm_atm_{name}_test.fits") as hdus:
            elevation = float(hdus["PARS"].data["ELEVATION"][0])
            image = {key: hdus[key].data for key in ("PWVATM", "O3ATM", "O2ATM", "RAYATM")}
            secants = [float(value) for value in hdus["PARS"].data["SECZENITH"][0]]
        atmosphere = Atmosphere.for_site(elevation, collision_bands=False)
        for i, (water, ozone) in enumerate(zip(pwv, (220.0, 310.0))):
            for j, secant in enumerate(secants):
                theirs = image["PWVATM"][i, j] * image["O3ATM"][i, j] * image["O2ATM"][j] * image["RAYATM"][j]
                at = AtmosphereParameters(pressure_at(elevation), water, ozone, 0.0, 1.0, secant)
                ours = atmosphere.transmission(at)[0]
                left = {band: mmag(ours, theirs, bands[band], photons) for band in BANDS}
                worst = [float(values[np.argmax(np.abs(values))]) for values in left.values()]
                color = max((float(values[RED] - values[SUN]) for values in left.values()), key=abs)
                good &= all(abs(w) <= LIMIT[b] for w, b in zip(worst, BANDS)) and abs(color) <= LIMIT_COLOR
                cells = [
                    site,
                    f"{water:g}",
                    f"{ozone:g}",
                    f"{secant:.2f}",
                    *(f"{w:+.2f}" for w in worst),
                    f"{color:+.2f}",
                ]
                lines.append(row(cells))
    return [*lines, ""], good


def oxygen(photons: np.ndarray) -> list[str]:
    """Tabulate what oxygen and trace gases take from a G star, in several models."""
    lines = [
        "**Oxygen and trace gases**: dimming of a G2V star in mmag at 2663 m", "",
        *head(["secant", "model", *BANDS]),
    ]  # fmt: skip
    folder, bands = DATA / "getobsatmo-lsst", lsst_bands()
    axes = json.loads((folder / "LSST_atmospherictransparencygrid_params.json").read_text())
    o2 = grid("O2abs")
    none = np.ones_like(WAVELENGTH)
    for secant in (1.0, 2.0):
        at = AtmosphereParameters(pressure_at(2663.0), 1.0, 0.0, 0.0, 0.0, secant)
        models = {
            "ours": (True, ("gases", "pairs")),
            "ours without collision bands (MODTRAN)": (False, ("gases",)),
        }
        curves = {}
        for title, (pairs, names) in models.items():
            absorbers = Atmosphere.for_site(2663.0, collision_bands=pairs).absorbers
            curves[title] = np.exp(-sum(absorbers[name].depth(at, derivatives=False)[0][0] for name in names))
        node = int(np.argmin(np.abs(np.array(axes["AIRMASS"]) - secant)))
        curves["libRadtran (getObsAtmo)"] = np.interp(WAVELENGTH, np.array(axes["WL"]) * 10, o2[:, node])
        for title, curve in curves.items():
            dim = [mmag(curve, none, bands[band], photons)[SUN] for band in BANDS]
            lines.append(row([f"{secant:g}", title, *(f"{value:.2f}" for value in dim)]))
    return [*lines, ""]


def line_by_line(photons: np.ndarray) -> list[str]:
    """Compare water with the line-by-line cross sections of pwv-kpno, which are read and not kept."""
    found = importlib.util.find_spec("pwv_kpno")
    if found is None or not found.submodule_search_locations:
        return ["Water against line-by-line cross sections: left out, pwv-kpno is not installed.", ""]
    table = np.loadtxt(Path(found.submodule_search_locations[0]) / "default_atmosphere" / "h2ocs.txt")
    fine = table[:, 0] * 1e4
    per_mm = 6.02214e23 / 18.0152 / 10.0
    lines = [
        "**Water against line-by-line cross sections** (pwv-kpno, first and fourth of its nine heights): ours minus theirs,"
        " G2V, mmag, of dimming by water alone", "",
        *head(["elevation m", "PWV × secant mm", *BANDS, "M − G, largest"]),
    ]  # fmt: skip
    bands = lsst_bands()
    edges = np.searchsorted(fine, np.append(WAVELENGTH - 2.5, WAVELENGTH[-1] + 2.5))
    count = np.maximum(np.diff(edges), 1)
    for elevation, height in ((0.0, 1), (2663.0, 4)):
        water = Atmosphere.for_site(elevation).absorbers["water"]
        for amount in (1.0, 3.6, 10.0, 20.0, 60.0):
            seen = np.exp(-table[:, height] * per_mm * amount)
            total = np.concatenate([[0.0], np.cumsum(seen)])
            theirs = (total[edges[1:]] - total[edges[:-1]]) / count
            at = AtmosphereParameters(pressure_at(elevation), amount, 0.0, 0.0, 0.0, 1.0)
            ours = np.exp(-water.depth(at, derivatives=False)[0][0])
            left = [mmag(ours, theirs, bands[band], photons) for band in BANDS]
            color = max((float(values[RED] - values[SUN]) for values in left), key=abs)
            cells = [
                f"{elevation:g}",
                f"{amount:g}",
                *(f"{values[SUN]:+.2f}" for values in left),
                f"{color:+.2f}",
            ]
            lines.append(row(cells))
    return [*lines, ""]


def cost() -> list[str]:
    """Measure 209 exposures on 1601 wavelengths."""
    rng = np.random.default_rng(5)
    atmosphere = Atmosphere.for_site(2663.0)
    n = 209
    at = AtmosphereParameters(
        rng.uniform(725, 740, n), rng.uniform(0.5, 10, n), rng.uniform(220, 310, n),
        rng.uniform(0.01, 0.2, n), rng.uniform(0, 2, n), rng.uniform(1, 2.5, n),
    )  # fmt: skip
    best = {}
    for title, call in (
        ("transmission", atmosphere.transmission),
        ("with all derivatives", atmosphere.evaluate),
    ):
        seconds = []
        for _ in range(10):
            start = time.process_time()
            call(at)
            seconds.append(time.process_time() - start)
        best[title] = min(seconds)
    return [
        f"209 exposures × 1601 wavelengths: {', '.join(f'{k} {1e3 * v:.0f} ms' for k, v in best.items())} (CPU).",
        "",
    ]


def put(path: Path, block: str) -> None:
    """Write the tables between the marks of a file."""
    whole = path.read_text()
    start, end = whole.index(BEGIN) + len(BEGIN), whole.index(END)
    path.write_text(f"{whole[:start]}\n{block}\n{whole[end:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--markdown", type=Path, help="file that has the marked block")
    options = parser.parse_args()
    if not DATA.is_dir():
        sys.exit(f"{DATA} does not exist; set ZEROPOINT_TESTDATA to the folder of real data")
    photons = stars()
    sets = [
        lsst_throughputs(),
        fgcm_standard("fgcm_atm_lsst2_test.fits", "FGCM test table, standard atmosphere of LSST"),
        fgcm_standard("fgcm_atm_subaru2_test.fits", "FGCM test table, standard atmosphere of Subaru"),
    ]
    lines, good = ["Ours minus theirs in mmag: of five stars (A0V to M5V) the largest.", ""], True
    if importlib.util.find_spec("speclite") is None:
        lines += ["DES standard atmosphere: left out, speclite is not installed.", ""]
    else:
        sets.append(des())
    sets.append(libradtran())
    for references in sets:
        part, kept = compare(references, photons)
        lines += part
        good &= kept
    part, kept = nodes(photons)
    lines += [*part, *oxygen(photons), *line_by_line(photons), *cost()]
    good &= kept
    print("\n".join(lines))
    print("all within the limits" if good else "BEYOND THE LIMITS")
    if options.markdown:
        put(options.markdown, "\n".join(lines))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
