"""A simulated night through a repository: 40 exposures, five of them spoiled, by `zeropoint run`.

Prints every command with its time, what became of each spoiled exposure, and how the good ones compare with the
truth that the simulation knows.  Exits with 1 unless the good exposures are good and the spoiled ones failed for
their own reason.  With ``--compare`` the same night runs through ``pipetask run`` too: the ratio of times, and whether
tables and pixels are the same.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from _commands import report, run, run_arguments, same

#: Kind of damage -> words of which one must be in the recorded reason.
EXPECTED = {
    "blank": ("NoStars", "ObjectSize", "AllCentroids", "NoGood"),
    "saturated": ("TooManyMasked", "NoStars", "ObjectSize", "NormalizedCalib", "PsfGeneration"),
    "wrong_field": ("Matcher", "Astrometry", "NoReference"),
    "truncated": ("truncated",),
    "nan": ("NaN", "finite"),
}


def prepare(folder: Path, n: int, size: int) -> tuple[Path, dict[str, int]]:
    """Write the night, spoil five exposures, and ingest everything; return the repository and kind -> visit."""
    from zeropoint.simulation import night_settings, spoil, write_night
    from zeropoint.simulation.spoil import SPOILED_KINDS

    settings = night_settings(n, size=size, seed=3)
    night = write_night(settings, folder / "images", seed=3)
    spoiled = {}
    for i, kind in enumerate(SPOILED_KINDS):
        place = (2 * i + 1) * n // (2 * len(SPOILED_KINDS))
        spoil(night.images[place], kind)
        spoiled[kind] = night.settings[place].visit
    repository = folder / "repo"
    run("zeropoint", "create-repo", repository)
    run("zeropoint", "register-camera", repository, "simcam")
    run("zeropoint", "ingest-references", repository, "sim_refs", night.references)
    # the truncated file may be refused here; the others must come in
    run("zeropoint", "ingest-images", repository, *night.images, "--camera", "simcam", allow=(0, 1))
    return repository, spoiled


def judge(repository: Path, out: str, n: int, spoiled: dict[str, int]) -> bool:
    """Print what became of each exposure; return whether all is as it should be."""
    from lsst.daf.butler import Butler

    butler = Butler.from_config(str(repository), collections=out)
    met = True
    reasons: dict[int, str] = {}
    for ref in butler.query_datasets("calibrateImage_log", explain=False, limit=None):
        reasons[int(ref.dataId["visit"])] = " ".join(record.message for record in butler.get(ref))
    for ref in butler.query_datasets("calibrateImage_metadata", explain=False, limit=None):
        failure = butler.get(ref).to_dict().get("calibrateImage", {}).get("failure", {})
        reasons[int(ref.dataId["visit"])] += f" {failure.get('type', '')}"
    images = {
        int(r.dataId["visit"])
        for r in butler.query_datasets("preliminary_visit_image", explain=False, limit=None)
    }
    print("\n| spoiled | visit | image | partial image | reason found |\n|---|---|---|---|---|")
    partial = {int(r.dataId["visit"]) for r in
               butler.query_datasets("preliminary_visit_image_partial", explain=False, limit=None)}  # fmt: skip
    for kind, visit in spoiled.items():
        words = [word for word in EXPECTED[kind] if word in reasons.get(visit, "")]
        ingested = visit in reasons
        print(f"| {kind} | {visit} | {visit in images} | {visit in partial} | "
              f"{', '.join(words) if ingested else 'refused by ingest-images'} |")  # fmt: skip
        met &= visit not in images and (bool(words) or not ingested)
        met &= (visit in partial) == (kind not in ("truncated", "nan"))
    good = sorted(images - set(spoiled.values()))
    zeropoints = []
    for visit in good:
        data_id = {"instrument": "SimCam", "visit": visit, "detector": 0}
        stats = butler.get("preliminary_visit_image.summary_stats", data_id)
        zeropoints.append(stats.zeroPoint)
    print(f"\n{len(good)} good images; zeropoint {np.mean(zeropoints):.4f} +- {np.std(zeropoints):.4f} mag")
    return met and len(good) == n - len(spoiled)


def main() -> int:
    """Calibrate a night with `zeropoint run`, count what came of it, and compare with `pipetask` on request."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-n", type=int, default=40, help="exposures (default 40)")
    parser.add_argument("--size", type=int, default=1024, help="image side, pixels (default 1024)")
    parser.add_argument("--compare", action="store_true", help="run pipetask too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="night") as folder:
        repository, spoiled = prepare(Path(folder), arguments.n, arguments.size)
        pipeline = repository / "pipelines" / "SimCam" / "calibrate.yaml"
        ours = run(
            "zeropoint",
            "run",
            *run_arguments(repository, pipeline, "SimCam", "sim_refs", "night"),
            allow=(0, 1, 4),
        )
        report(repository, "night")
        met = judge(repository, "night", arguments.n, spoiled)
        if arguments.compare:
            words = run_arguments(repository, pipeline, "SimCam", "sim_refs", "pipetask")
            theirs = run("pipetask", "run", *words, "--register-dataset-types", "--no-raise-on-partial-outputs",
                         allow=(0, 1), last=3)  # fmt: skip
            equal = same(repository, "night", "pipetask")
            print(f"\nzeropoint run {ours:.0f} s, pipetask run {theirs:.0f} s: ratio {theirs / ours:.2f}; "
                  f"outputs {'identical' if equal else 'DIFFER'}")  # fmt: skip
            met &= equal
    print("\nall requirements met" if met else "\nNOT all requirements met")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
