"""``zeropoint ingest-throughputs``: bring a camera's transmission curves into a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zeropoint.cli.errors import clear_errors
from zeropoint.cli.logs import quiet_middleware
from zeropoint.cli.throughput_options import given_throughputs, throughput_options

if TYPE_CHECKING:
    from zeropoint.butler.throughputs import IngestedThroughputs, Throughputs

_NOUNS = {
    "transmission_optics": "optics",
    "transmission_sensor": "sensors",
    "transmission_filter": "filters",
    "transmission_filter_detector": "filters before detectors",
}


@click.command(name="ingest-throughputs")
@click.argument("repo")
@click.argument("instrument")
@throughput_options
@clear_errors
def ingest_throughputs(
    repo: str,
    instrument: str,
    **given: Any,
) -> None:
    """Certify transmission curves of INSTRUMENT in REPO, valid for ever.

    A FILE is text of two columns, a table (FITS, parquet, ECSV), or one of the LSST Science Pipelines' FITS files; a number in
    its place stands for a throughput that is the same at all wavelengths. The curves go into the calibration collection
    INSTRUMENT/calib, which becomes an input of the camera's pipelines. Those that are given take the place of what there was.
    Filters without a curve get the `passbands:` of the camera card, if it has some. Doing it twice is harmless.

    \b
    Examples
      zeropoint ingest-throughputs REPO MyCam --optics m1.dat --optics m2.dat --sensor ccd.txt --filter r=r.dat
      zeropoint ingest-throughputs REPO MyCam --optics 0.8 --sensor 0..7=e2v.txt --sensor 8=itl.txt --filter r=r.fits
    """
    from zeropoint.butler.repository import open_repository
    from zeropoint.butler.throughputs import ingest_throughputs as ingest

    quiet_middleware()
    butler = open_repository(repo, writeable=True)
    curves = _with_passbands(given_throughputs(**given), butler, instrument)
    done = ingest(butler, instrument, curves)
    for line in _lines(done):
        click.echo(f"{instrument}: {line}")


def _with_passbands(curves: Throughputs, butler: Any, instrument: str) -> Throughputs:
    """Return the curves with the top hats of a camera card for filters that have neither a curve now nor before."""
    from dataclasses import replace

    from zeropoint.butler.cameras import card_of, registered_cameras
    from zeropoint.butler.throughputs import filters_with_curves
    from zeropoint.datamodel.transmission_curve import TransmissionCurve

    if instrument not in registered_cameras(butler):
        return curves
    card = card_of(butler, instrument)
    there = {*curves.filters, *curves.filter_detectors, *filters_with_curves(butler, instrument)}
    hats = {
        str(name): TransmissionCurve.top_hat(
            float(limits[0]),
            float(limits[1]),
            throughput=float(limits[2]) if len(limits) > 2 else 1.0,
            source=f"camera card {card.name}, passbands.{name}",
        )
        for name, limits in (card.get("passbands") or {}).items()
        if str(name) not in there
    }
    return replace(curves, filters={**hats, **curves.filters})


def _lines(done: IngestedThroughputs) -> list[str]:
    lines = []
    for name, noun in _NOUNS.items():
        counts = [
            f"{counter[name]} {what}"
            for counter, what in (
                (done.n_new, "new"),
                (done.n_replaced, "replaced"),
                (done.n_unchanged, "there already"),
            )
            if counter.get(name)
        ]
        if counts:
            lines.append(f"{noun}: {', '.join(counts)}")
    lines[0] = f"{lines[0]} -> {done.collection}"
    for what, names in done.missing.items():
        shown = ", ".join(map(str, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        lines.append(
            "no curve of the optics yet" if what == "optics" else f"{what} without a curve yet: {shown}"
        )
    return lines
