"""What one process does for one image; importable, so that worker processes can be spawned."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zeropoint.cli.logs import about_image, start_logging

if TYPE_CHECKING:
    from zeropoint.recipes.session import CalibrationSession, ImageRun

_LOG = logging.getLogger(__name__)

__all__ = ["Job", "calibrate_and_write", "calibrate_one", "check_common", "initialize_worker"]


@dataclass(frozen=True)
class Job:
    """The options shared by all images of one command."""

    camera: str
    references: Path
    photometry_references: Path | None
    out: Path
    config_files: tuple[Path, ...]
    overrides: tuple[str, ...]
    log_level: str


_SESSIONS: dict[Job, CalibrationSession] = {}


def check_common(job: Job) -> CalibrationSession:
    """Read card, references and overrides, and build the recipe, once per process.

    Raises
    ------
    InvalidInputError
        If one of them cannot be used.
    """
    if job not in _SESSIONS:
        from zeropoint.catalogs.reference_source import ReferenceSource
        from zeropoint.instruments.card import load_card
        from zeropoint.recipes.calibrate_image.products import check_output_directory
        from zeropoint.recipes.overrides import parse_assignment
        from zeropoint.recipes.session import CalibrationSession

        card = load_card(job.camera)
        overrides = tuple(parse_assignment(text) for text in job.overrides)
        column_map = card.get("references")
        references = ReferenceSource.open(job.references, column_map)
        photometry = None
        if job.photometry_references is not None:
            photometry = ReferenceSource.open(job.photometry_references, column_map)
        session = CalibrationSession(
            card,
            references,
            photometry_references=photometry,
            config_files=job.config_files,
            overrides=overrides,
        )
        check_output_directory(job.out)
        _SESSIONS[job] = session
    return _SESSIONS[job]


def initialize_worker(log_level: str) -> None:
    """Set up a spawned process: one thread per library, logs to stderr."""
    start_logging(log_level)


def calibrate_one(
    job: Job, paths: tuple[Path, ...], on_stage: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Calibrate one image and write its products; expected failures become part of the outcome.

    Returns
    -------
    outcome : dict
        ``image, stem, exit_code, verdict, reasons, files, metrics``, or ``error`` for an input error.
    """
    from zeropoint.cli.calibrate import file_stem
    from zeropoint.cli.errors import one_line
    from zeropoint.errors import CalibrationFailure, InvalidInputError

    stem = file_stem(paths[0])
    base: dict[str, Any] = {"image": str(paths[0]), "stem": stem}
    try:
        with about_image(stem):
            return base | calibrate_and_write(job, paths, stem, on_stage)[0]
    except (InvalidInputError, CalibrationFailure) as error:
        text, code = one_line(error), 4 if isinstance(error, CalibrationFailure) else 1
    except OSError as error:
        place = error.filename or job.out
        text, code = f"{place}: {error.strerror or error}; nothing more was written for {paths[0]}", 1
    except Exception as error:  # a defect of ours on one image must not stop the others
        text, code = (
            f"unexpected {type(error).__name__}: {one_line(error)}; see --log-level DEBUG, and report it",
            1,
        )
    _LOG.debug("%s: %s", paths[0], text, exc_info=True)
    if str(paths[0]) not in text:
        text = f"{paths[0]}: {text}"
    return base | {
        "exit_code": code,
        "verdict": "bad" if code == 4 else "error",
        "error": text,
        "reasons": [text],
        "files": [],
        "summary": "",
    }


def calibrate_and_write(
    job: Job, paths: tuple[Path, ...], stem: str, on_stage: Callable[[str], None] | None
) -> tuple[dict[str, Any], ImageRun]:
    """Calibrate one image and write its products; return the outcome and everything behind it.

    Raises
    ------
    InvalidInputError
        If an input cannot be used. An image that cannot be calibrated is an outcome, not an exception.
    """
    from zeropoint.quality.metrics import compute_metrics, write_metrics
    from zeropoint.quality.report import write_report
    from zeropoint.quality.verdict import judge
    from zeropoint.recipes.calibrate_image.products import remove_products, write_products
    from zeropoint.recipes.report_data import report_data, run_information

    session = check_common(job)
    run = session.calibrate(*paths, on_stage=on_stage)
    remove_products(job.out, stem)
    if on_stage is not None:
        on_stage("write")
    start = time.perf_counter()
    files = write_products(run.result, job.out, stem)
    run.seconds["write"] = time.perf_counter() - start
    data = report_data(run, session.references.name)
    metrics = compute_metrics(data)
    verdict = judge(metrics, list(run.caveats), run.result.failure)
    if on_stage is not None:
        on_stage("report")
    start = time.perf_counter()
    report = job.out / f"{stem}.report.html"
    write_report(report, data, metrics, verdict)
    run.seconds["report"] = time.perf_counter() - start
    metrics_path = job.out / f"{stem}.metrics.json"
    shown = {
        "verdict": verdict.level,
        "reasons": list(verdict.reasons),
        "caveats": list(run.caveats),
        "notes": list(run.notes),
    }
    write_metrics(metrics_path, {**shown, **metrics}, run=run_information(run))
    outcome = {
        "exit_code": verdict.exit_code,
        "verdict": verdict.level,
        "reasons": list(verdict.reasons),
        "files": [os.fspath(path) for path in (*files, metrics_path, report)],
        "metrics": _json_safe(metrics),
        "summary": _summary(metrics),
    }
    return outcome, run


def _json_safe(metrics: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not abs(v) < float("inf") else v for k, v in metrics.items()}


def _summary(metrics: dict[str, Any]) -> str:
    """Return the few numbers of the one-line summary."""
    parts = []
    zeropoint, error = metrics.get("zeroPoint"), metrics.get("zeropoint_err")
    if isinstance(zeropoint, float) and zeropoint == zeropoint:
        parts.append(f"zeropoint {zeropoint:.4f} +- {error:.4f} mag for one electron")
        per_second = metrics.get("zeropoint_adu_per_second")
        if isinstance(per_second, float) and per_second == per_second:
            parts.append(f"{per_second:.4f} for one ADU/s")
    fwhm = metrics.get("fwhm_arcsec")
    if isinstance(fwhm, float) and fwhm == fwhm:
        parts.append(f"FWHM {fwhm:.2f} arcsec")
    if metrics.get("n_sources"):
        parts.append(f"{metrics['n_sources']} sources")
    return f" ({', '.join(parts)})" if parts else ""
