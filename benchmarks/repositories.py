"""The real images of the test data in one Butler repository: SDSS, ZTF and 71 exposures of one night.

Prints every command with its time, what `pipetask report` says, and the zeropoints.  Exits with 1 unless every image
is calibrated.  The data folder is the variable ``ZEROPOINT_TESTDATA``, else ``../shared/data``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml
from _commands import report, run, run_arguments
from real_data import CARDS, DATA, ZTF_COLUMNS, hatp32_frames, ztf_image


def fill(repository: Path, data: Path) -> None:
    """Make the repository and bring everything in."""
    from zeropoint.instruments.card import load_card

    hat = CARDS / "hatp32_wcs_table.yaml"
    run("zeropoint", "create-repo", repository)
    for card in ("sdss", "ztf", hat):
        run("zeropoint", "register-camera", repository, card)
    sdss = data / "sdss-s82"
    run(
        "zeropoint",
        "ingest-images",
        repository,
        *sorted((sdss / "4192/40/corr/4").glob("fpC*")),
        "--camera",
        "sdss",
    )
    run("zeropoint", "ingest-images", repository, ztf_image(data), "--camera", "ztf")
    run("zeropoint", "ingest-images", repository, *hatp32_frames(data), "--camera", hat)
    run("zeropoint", "ingest-references", repository, "sdss_ref", sdss / "ref_cats" / "sdss_demo_ref_cat")
    run("zeropoint", "ingest-references", repository, "ztf_ref", "--column-map", yaml.safe_dump(ZTF_COLUMNS, default_flow_style=True),
        data / "ztf-655-r-c13q3" / "DERIVED_sources_published_wcs_zp.csv.gz")  # fmt: skip
    columns = yaml.safe_dump(load_card(hat).get("references"), default_flow_style=True)
    run(
        "zeropoint",
        "ingest-references",
        repository,
        "tycho2",
        "--column-map",
        columns,
        data / "hatp32" / "tycho2_field.txt",
    )


def zeropoints(repository: Path, instrument: str, out: str) -> int:
    """Print the zeropoints of a run's images; return their number."""
    from lsst.daf.butler import Butler

    with Butler.from_config(str(repository), collections=out, instrument=instrument) as butler:
        refs = butler.query_datasets("preliminary_visit_image", explain=False, limit=None)
        stats = {ref.dataId["visit"]: butler.get(ref.makeComponentRef("summary_stats")) for ref in refs}
    values = np.array([one.zeroPoint for one in stats.values()])
    if len(values) > 6:
        print(f"\n{instrument}: {len(values)} images, zeropoint median {np.median(values):.4f}, "
              f"from {values.min():.4f} to {values.max():.4f}")  # fmt: skip
    else:
        for visit, one in sorted(stats.items()):
            print(
                f"\n{instrument} visit {visit}: zeropoint {one.zeroPoint:.4f} mag, PSF sigma {one.psfSigma:.3f} px"
            )
    return len(values)


def main() -> int:
    """Calibrate the real images through a repository and count the zeropoints; 1 if an image has none."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder with the test data")
    arguments = parser.parse_args()
    met = True
    with tempfile.TemporaryDirectory(prefix="repositories") as folder:
        repository = Path(folder) / "repo"
        fill(repository, arguments.data)
        runs = (
            ("SDSS", "sdss_ref", "u/sdss", 5),
            ("ZTF", "ztf_ref", "u/ztf", 1),
            ("MicroObservatory", "tycho2", "u/hat", 71),
        )
        for instrument, references, out, expected in runs:
            run(
                "zeropoint",
                "run",
                *run_arguments(repository, f"{instrument}/calibrate", instrument, references, out),
                allow=(0, 4),
            )
            report(repository, out)
            met &= zeropoints(repository, instrument, out) == expected
    print("\nall images calibrated" if met else "\nNOT all images calibrated")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
