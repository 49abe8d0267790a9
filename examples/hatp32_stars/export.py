"""Write the stars of all exposures of a repository, and the exposures, as the tables that ``zeropoint fgcm stars`` reads.

Run ``python export.py REPO COLLECTION OUT_FOLDER`` after the tasks calibrateImage, consolidateVisitSummary and
makeInitialVisitTable.  Fluxes are the instrumental ones of the PSF, from before any photometric calibration; those
of no use are marked, not left out, so that the star list accounts for them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack
from lsst.daf.butler import Butler  # noqa: TID251 - a script beside the package

FLUX = "base_PsfFlux"
INNER, OUTER = "base_CircularApertureFlux_6_0", "base_CircularApertureFlux_12_0"
#: Columns that are copied: new name -> name in the table of stars.
COLUMNS = {
    "ra": "coord_ra",
    "dec": "coord_dec",
    "x": "slot_Centroid_x",
    "y": "slot_Centroid_y",
    "instFlux": f"{FLUX}_instFlux",
    "instFluxErr": f"{FLUX}_instFluxErr",
    "innerFlux": f"{INNER}_instFlux",
    "outerFlux": f"{OUTER}_instFlux",
    "psf_candidate": "calib_psf_candidate",
    "saturated": "base_PixelFlags_flag_saturatedCenter",
    "edge": "base_PixelFlags_flag_edge",
    "bad_flux": f"{FLUX}_flag",
    "sky": "sky_source",
}
#: TAI - UTC since 2017, days.
LEAP = 37.0 / 86400.0


def main(repository: str, collection: str, out: Path) -> None:
    """Export everything."""
    out.mkdir(parents=True, exist_ok=True)
    parts = []
    with Butler.from_config(repository, collections=collection) as butler:
        for ref in sorted(butler.query_datasets("single_visit_star_unstandardized", limit=None)):
            stars = butler.get(ref)
            part = Table({new: stars[name] for new, name in COLUMNS.items()})
            part["not_primary"] = ~np.asarray(stars["detect_isPrimary"])
            for name in ("visit", "detector"):
                part[name] = np.full(len(part), ref.dataId[name])
            parts.append(part)
        (ref,) = butler.query_datasets("preliminary_visit_table", limit=None)
        found = butler.get(ref)
    visits = found["visit", "physical_filter", "airmass"]
    visits["exptime"], visits["telra"], visits["teldec"] = found["expTime"], found["ra"], found["dec"]
    visits["mjd"] = found["expMidptMJD"] - LEAP
    vstack(parts, metadata_conflicts="silent").write(out / "observations.fits", overwrite=True)
    visits.write(out / "visits.ecsv", overwrite=True)
    print(f"{sum(map(len, parts))} observations in {len(visits)} visits -> {out}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
