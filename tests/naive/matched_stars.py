"""Star lists, catalogues and exposures with known truth, for tests of matching and WCS fits."""

import numpy as np
from astropy.table import Table

from zeropoint.catalogs.references import ReferenceCatalog
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.exposure import Amplifier, DetectorInfo, Exposure, VisitInfo
from zeropoint.datamodel.wcs import SkyWcs, inverse_gnomonic

ARCSEC = np.pi / 648000.0
AB = 3630780547701.003
SIZE = 4096
SCALE = 0.2
FLAGS = [
    "base_PixelFlags_flag_edge",
    "base_PixelFlags_flag_nodata",
    "base_PixelFlags_flag_interpolated",
    "base_PixelFlags_flag_interpolatedCenter",
    "base_PixelFlags_flag_saturated",
    "base_SdssCentroid_flag",
]


def two_lists(
    rng,
    n_common,
    n_spurious,
    n_unseen,
    *,
    shift=(0.0, 0.0),
    rotation_deg=0.0,
    scale=1.0,
    noise=0.1,
    ra=1.0,
    dec=-0.5,
):
    """Return keyword arguments of the matcher; common objects have the same row in both lists."""
    half = SIZE / 2
    x, y = rng.uniform(-half, half, (2, n_common))
    mag = rng.uniform(14, 21, n_common)
    c, s = scale * np.cos(np.deg2rad(rotation_deg)), scale * np.sin(np.deg2rad(rotation_deg))
    wide = half + 300
    rx = np.r_[c * x - s * y + shift[0], rng.uniform(-wide, wide, n_unseen)]
    ry = np.r_[s * x + c * y + shift[1], rng.uniform(-wide, wide, n_unseen)]
    sx = np.r_[x + rng.normal(0, noise, n_common), rng.uniform(-half, half, n_spurious)]
    sy = np.r_[y + rng.normal(0, noise, n_common), rng.uniform(-half, half, n_spurious)]
    pixel = SCALE * ARCSEC
    source_ra, source_dec = inverse_gnomonic(sx * pixel, sy * pixel, ra, dec)
    ref_ra, ref_dec = inverse_gnomonic(rx * pixel, ry * pixel, ra, dec)
    return {
        "source_ra": source_ra,
        "source_dec": source_dec,
        "source_mag": np.r_[mag + rng.normal(0, 0.05, n_common), rng.uniform(14, 21, n_spurious)],
        "ref_ra": ref_ra,
        "ref_dec": ref_dec,
        "ref_mag": np.r_[mag + rng.normal(0, 0.05, n_common), rng.uniform(14, 21, n_unseen)],
        "pixel_scale_arcsec": SCALE,
        "center": (ra, dec),
    }


def plain_wcs():
    """A TAN WCS, rotated by 30 degrees."""
    middle = (SIZE - 1) / 2
    return SkyWcs.from_boresight(150.0, 20.0, x=middle, y=middle, pixel_scale_arcsec=SCALE, rotation_deg=30.0)


def distorted_wcs(amplitude=10.0):
    """The same with a radial distortion that reaches ``amplitude`` pixels in the corners."""
    base, middle = plain_wcs(), (SIZE - 1) / 2
    g = np.linspace(0, SIZE - 1, 25)
    x, y = (v.ravel() for v in np.meshgrid(g, g))
    u, v = (x - middle) / middle, (y - middle) / middle
    bend = amplitude * (u * u + v * v) / 2 / np.sqrt(2)
    xi, eta = base.pixel_to_tangent(x=x + u * bend, y=y + v * bend)
    return SkyWcs.fit(
        x, y, xi, eta, ra0=base.ra0, dec0=base.dec0, x_ref=middle, y_ref=middle, scale=SIZE / 2, order=3
    )


def misplaced(wcs, *, arcsec=3.0, rotation_deg=0.05):
    """Return a WCS that is off by a shift and a rotation."""
    c, s = np.cos(np.deg2rad(rotation_deg)), np.sin(np.deg2rad(rotation_deg))
    return wcs.with_affine(np.array([[c, -s], [s, c]]), np.array([0.8, -0.6]) * arcsec * ARCSEC)


def exposure(wcs, size=SIZE, height=None):
    image = np.zeros((height or size, size), np.float32)
    detector = DetectorInfo("test", "d0", 0, size, size, (Amplifier("A", (0, 0, size - 1, size - 1)),))
    visit = VisitInfo(1, 30.0, 60000.0, "r", "r")
    return Exposure(image, image, image.astype(np.int32), detector, visit, wcs=wcs)


def schema():
    result = Schema()
    floats = ["coord_ra", "coord_dec", "c_x", "c_y", "p_instFlux", "p_instFluxErr"]
    result.add(ColumnSpec("id", "i8"), *[ColumnSpec(name, "f8", "") for name in floats])
    errors = ["coord_raErr", "coord_decErr", "coord_ra_dec_Cov", "c_xErr", "c_yErr"]
    result.add(*[ColumnSpec(name, "f4") for name in errors])
    result.add(ColumnSpec("parent", "i8"), ColumnSpec("deblend_nChild", "i4"))
    result.add(*[ColumnSpec(name, "bool") for name in ("detect_isPrimary", *FLAGS)])
    result.add(ColumnSpec("base_ClassificationSizeExtendedness_value", "f8"))
    result.alias("slot_Centroid", "c")
    result.alias("slot_PsfFlux", "p")
    result.alias("slot_CalibFlux", "p")
    return result


def catalog(columns, x, y, mag, *, centroid_err=0.02, zero_point=30.0, snr=100.0):
    """Return a catalogue of stars under a schema."""
    result = SourceCatalog(columns, len(x))
    flux = 10 ** (-0.4 * (np.asarray(mag) - zero_point))
    result["id"] = np.arange(len(x)) + 1
    result["c_x"], result["c_y"] = x, y
    result["c_xErr"] = result["c_yErr"] = centroid_err
    result["p_instFlux"], result["p_instFluxErr"] = flux, flux / snr
    result["detect_isPrimary"] = True
    result["base_ClassificationSizeExtendedness_value"] = 0.0
    return result


def references(ra, dec, mag, *, mag_err=None, x=None, y=None, **bands):
    """Return a reference catalogue with the band r, and others given as magnitudes."""
    columns = {"coord_ra": ra, "coord_dec": dec}
    for band, values in {"r": mag, **bands}.items():
        flux = AB * 10 ** (-0.4 * np.asarray(values))
        columns[f"{band}_flux"] = flux
        if mag_err is not None:
            columns[f"{band}_fluxErr"] = flux * mag_err * 0.4 * np.log(10)
    columns["centroid_x"] = np.full(len(ra), 100.0) if x is None else x
    columns["centroid_y"] = np.full(len(ra), 100.0) if y is None else y
    err = None if mag_err is None else "r_fluxErr"
    return ReferenceCatalog(Table(columns), "r_flux", err, "test", len(ra))
