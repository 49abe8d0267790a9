"""Verdict, metrics, plots and report of a global fit as files."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zeropoint.datamodel.atomic_files import atomic_path
from zeropoint.errors import CalibrationFailure
from zeropoint.fgcm.accounting import Accounting
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.passband_choice import ChosenPassbands
from zeropoint.quality.fgcm.exposures import exposure_table, left_out
from zeropoint.quality.fgcm.metrics import fgcm_metrics
from zeropoint.quality.fgcm.report import draw_figures, write_fgcm_report
from zeropoint.quality.fgcm.report_data import FgcmReportData
from zeropoint.quality.fgcm.verdict import judge_calibration
from zeropoint.quality.report import write_atomically
from zeropoint.quality.verdict import Verdict
from zeropoint.recipes.fgcm_fit_from_tables import FitProgress
from zeropoint.recipes.overrides import changed_fields
from zeropoint.recipes.report_data import package_versions

__all__ = ["EXPOSURES", "METRICS", "PLOTS", "REPORT", "fit_report_data", "write_fit_report"]

#: Files and folder of a fit.
METRICS, REPORT, EXPOSURES, PLOTS = "metrics.json", "report.html", "exposures.csv", "plots"


def fit_report_data(
    name: str,
    config: FgcmFitCycleConfigBase,
    passbands: ChosenPassbands,
    progress: FitProgress,
    *,
    failure: CalibrationFailure | None = None,
    notes: Sequence[str] = (),
) -> FgcmReportData:
    """Return what the report of a fit is made of.

    Parameters
    ----------
    name
        Name of the survey.
    config, passbands
        Of the fit.
    progress
        What it came to.
    failure
        Why it ended early; None: it did not.
    notes
        Further sentences, on the products.
    """
    versions = package_versions()
    used = ("zeropoint", "python", "numpy", "scipy", "numba", "astropy")
    source = passbands.source
    return FgcmReportData(
        name,
        progress.last,
        tuple(progress.history),
        notes=(passbands.description.rstrip("."), *progress.notes, *notes),
        config_changes=tuple(changed_fields(config, type(config)())),
        stages=tuple((title, cpu, wall, {}) for title, cpu, wall in progress.seconds),
        versions={key: versions[key] for key in used if key in versions},
        failure=failure,
        steps=progress.steps,
        standard=vars(source.standard) if source.fitted else {},
    )


def write_fit_report(
    data: FgcmReportData, config: FgcmFitCycleConfigBase, out: Path, *, plots: bool = True
) -> tuple[Verdict, dict[str, Any]]:
    """Write report, metrics, plots and configuration of a fit.

    Parameters
    ----------
    data
        As `fit_report_data` returns it.
    config
        Of the fit.
    out
        Folder.
    plots
        Whether to draw.

    Returns
    -------
    verdict, metrics
        Verdict; what ``metrics.json`` holds.
    """
    metrics = fgcm_metrics(data)
    verdict = judge_calibration(metrics, data.caveats, data.failure)
    pictures = draw_figures(data) if plots else {}
    folder = out / PLOTS
    if plots:
        folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    for name, png in pictures.items():
        (folder / f"{name}.png").write_bytes(png)
    write_fgcm_report(out / REPORT, data, metrics, verdict, pictures)
    facts = data.facts
    if facts is not None:
        with atomic_path(out / EXPOSURES) as temporary:
            exposure_table(facts).write(temporary, format="ascii.csv")
    accounting = Accounting() if data.result is None else data.result.accounting
    values = {
        "verdict": verdict.level,
        "reasons": list(verdict.reasons),
        **metrics,
        "cycles": [dict(entry) for entry in data.history],
        "accounting": accounting.to_meta(),
        "not_photometric": [] if facts is None else [row[0] for row in left_out(facts)],
        "notes": list(data.notes),
        "seconds": {name: {"cpu": cpu, "wall": wall} for name, cpu, wall, _ in data.stages},
        "versions": dict(data.versions),
    }
    plain: dict[str, Any] = _plain(values)
    write_atomically(out / METRICS, json.dumps(plain, indent=1, allow_nan=False) + "\n")
    config.save(str(out / "config.py"))
    return verdict, plain


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold: NaN and infinity are null."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int):
        return value
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    number = float(value)
    return number if math.isfinite(number) else None
