"""Ingest post-ISR images: read facts, check them, write records, visits and datasets in one step."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lsst.daf.butler import (
    Butler,
    CollectionType,
    DataCoordinate,
    DatasetIdGenEnum,
    DatasetRef,
    FileDataset,
)
from sqlalchemy.exc import IntegrityError, OperationalError

from zeropoint.butler.cameras import VISIT_SYSTEMS
from zeropoint.butler.collection_chains import images_run, update_defaults
from zeropoint.butler.dataset_types import POST_ISR_DATASET, ensure_dataset_type, post_isr_type
from zeropoint.butler.image_facts import ImageFacts
from zeropoint.butler.ingested import Ingested, ingested_images
from zeropoint.butler.parallel import map_files
from zeropoint.butler.records import ExistingRecords, check_exposure, insert_visits
from zeropoint.butler.staging import read_facts_or_problem, stage, staging_folder
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard
from zeropoint.instruments.companions import without_companions

__all__ = ["IngestReport", "ingest_images"]

#: Visits written in one transaction.
_BATCH = 200


@dataclass
class IngestReport:
    """What became of the files of one call.

    Parameters
    ----------
    ingested, updated, known
        New ones, ones ingested anew, and ones that were there already.
    failures
        File and what is wrong with it; nothing of these is in the repository.
    notes
        Sentences worth knowing, each with the number of images it applies to.
    warnings
        The same of what will probably spoil the calibration.
    companions
        Files that hold mask or variance of images, and were skipped.
    visits
        Numbers of the visits of all files that are now in the repository.
    """

    ingested: list[Path] = field(default_factory=list)
    updated: list[Path] = field(default_factory=list)
    known: list[Path] = field(default_factory=list)
    failures: list[tuple[Path, str]] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    companions: list[Path] = field(default_factory=list)
    visits: set[int] = field(default_factory=set)


def ingest_images(
    butler: Butler,
    files: Sequence[Path],
    card: CameraCard,
    *,
    transfer: str = "direct",
    processes: int = 1,
    update: bool = False,
    mixed: bool = False,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> IngestReport:
    """Ingest images of one registered camera and define their visits.

    Parameters
    ----------
    butler
        Writeable.
    files
        A camera's own FITS files, or post-ISR visit images that lsst-images wrote.
    card
        The registered camera's card.
    transfer
        ``direct``: the files stay where they are and are read in place; ``copy``: the repository gets visit images of
        its own.
    processes
        Number of processes that read files; the result does not depend on it.
    update
        Ingest anew what is there already, with the present card and files.
    mixed
        Accept files whose headers name different cameras or telescopes.
    on_progress
        Called with a word for the phase, the number of files done, and of all.

    Returns
    -------
    report : IngestReport
        A file that cannot be ingested is a failure there, and does not keep others out.

    Raises
    ------
    InvalidInputError
        If the repository cannot be written.
    """
    report, instrument = IngestReport(), str(card.get("instrument"))
    progress = on_progress or (lambda phase, done, total: None)
    run = _prepare(butler, instrument)
    unique = list(dict.fromkeys(path.absolute() for path in files))
    unique, report.companions = without_companions(unique, card)
    facts: list[ImageFacts] = []
    for i, (path, outcome) in enumerate(
        zip(unique, map_files(read_facts_or_problem, unique, (card,), processes))
    ):
        if isinstance(outcome, ImageFacts):
            facts.append(outcome)
        else:
            report.failures.append((path, outcome))
        progress("read", i + 1, len(unique))
    known = ingested_images(butler, POST_ISR_DATASET, run, facts)
    facts = _without_duplicates(facts, known, report)
    if not mixed:
        facts = _of_one_camera(butler, facts, run, report)
    facts = _without_known(facts, known, card, update, report)
    existing = ExistingRecords.query(butler, instrument, facts)
    visits = _checked_visits(facts, existing, report)
    batch = _Batch(butler, run, card, existing, known, transfer, update, processes, report)
    done, total = 0, sum(len(group) for group in visits)
    for start in range(0, len(visits), _BATCH):
        groups = visits[start : start + _BATCH]
        batch.write(groups)
        done += sum(len(group) for group in groups)
        progress("write", done, total)
    update_defaults(butler, instrument)
    report.failures.sort(key=lambda failure: unique.index(failure[0]))
    return report


def _prepare(butler: Butler, instrument: str) -> str:
    """Register the dataset type and the run."""
    run = images_run(instrument)
    ensure_dataset_type(butler, post_isr_type(butler.dimensions))
    butler.collections.register(run, CollectionType.RUN)
    return run


def _without_duplicates(
    facts: list[ImageFacts], known: dict[tuple[int, int], Ingested], report: IngestReport
) -> list[ImageFacts]:
    """Drop, as failures, files that share exposure and detector with another, but for the one ingested before."""
    groups: dict[tuple[int, int], list[ImageFacts]] = defaultdict(list)
    for each in facts:
        groups[each.exposure, each.detector].append(each)
    kept = []
    for key, same in groups.items():
        there = known.get(key)
        first = next((each for each in same if there is not None and there.is_of(each.path)), None)
        if len(same) == 1:
            first = same[0]
        if first is not None:
            kept.append(first)
        for each in same:
            if first is None:
                other = next(o for o in same if o is not each)
                report.failures.append((each.path, _clash(each, f"also {other.path}")))
            elif each is not first:
                report.failures.append((each.path, _clash(each, f"{first.path} already")))
    return kept


def _clash(facts: ImageFacts, what: str) -> str:
    return (
        f"{facts.path}: exposure {facts.exposure} of detector {facts.detector} is {what}; each image needs a number of its "
        "own: if they are two detectors of one exposure, `detector: {id: {key: ...}}` in the camera card must tell them "
        "apart, else `visit:` or `exposure:`."
    )


def _of_one_camera(
    butler: Butler, facts: list[ImageFacts], run: str, report: IngestReport
) -> list[ImageFacts]:
    """Drop, as failures, files whose headers name another camera than the images ingested before, or than most."""
    expected = Ingested.identity_in(butler, POST_ISR_DATASET, run)
    if not expected:
        kinds = Counter(tuple(sorted(each.identity.items())) for each in facts)
        expected = dict(kinds.most_common(1)[0][0]) if kinds else {}
    kept = []
    for each in facts:
        differs = [
            f"{key} is {value!r} where others have {expected[key]!r}"
            for key, value in each.identity.items()
            if key in expected and expected[key] != value
        ]
        if differs:
            report.failures.append(
                (
                    each.path,
                    f"{each.path}: is not of the same camera as other images of {each.instrument}: {', '.join(differs)}; "
                    "give it an instrument of its own, or ingest with --mixed if it is the same.",
                )
            )
        else:
            kept.append(each)
    return kept


def _without_known(
    facts: list[ImageFacts],
    known: dict[tuple[int, int], Ingested],
    card: CameraCard,
    update: bool,
    report: IngestReport,
) -> list[ImageFacts]:
    """Drop what is ingested already, unless it shall be ingested anew."""
    rest = []
    for each in facts:
        there = known.get((each.exposure, each.detector))
        if there is None:
            rest.append(each)
        elif not there.is_of(each.path):
            if update and not there.source_exists():
                rest.append(each)
                continue
            text = _clash(each, f"{there.source} already")
            if not there.source_exists():
                text = f"{each.path}: was ingested from {there.source}, which is gone; --update takes the file from here."
            report.failures.append((each.path, text))
        elif update:
            rest.append(each)
        else:
            report.known.append(each.path)
            report.visits.add(each.visit)
            stale = there.stale_reason(each, card)
            if stale:
                report.notes[f"ingested before {stale}; --update ingests them anew"] += 1
    return rest


def _checked_visits(
    facts: list[ImageFacts], existing: ExistingRecords, report: IngestReport
) -> list[list[ImageFacts]]:
    """Return the images of each visit, without those that contradict what is known."""
    accepted: dict[int, ImageFacts] = {}
    visits: dict[int, list[ImageFacts]] = defaultdict(list)
    for each in facts:
        try:
            check_exposure(each, existing, accepted.get(each.exposure))
        except InvalidInputError as error:
            report.failures.append((each.path, str(error)))
            continue
        accepted.setdefault(each.exposure, each)
        visits[each.visit].append(each)
    return list(visits.values())


@dataclass
class _Batch:
    """Write visits; one that fails leaves nothing behind, and others are kept."""

    butler: Butler
    run: str
    card: CameraCard
    existing: ExistingRecords
    known: dict[tuple[int, int], Ingested]
    transfer: str
    update: bool
    processes: int
    report: IngestReport

    def write(self, visits: list[list[ImageFacts]]) -> None:
        """Write some visits in one transaction, or each in its own if that fails.

        Raises
        ------
        InvalidInputError
            If the repository cannot be written.
        """
        try:
            with staging_folder(self.butler) as folder:
                self._write_from(folder, visits)
        except (OSError, OperationalError) as error:
            reason = getattr(error, "orig", None) or getattr(error, "strerror", None) or error
            done = len(self.report.ingested) + len(self.report.updated)
            raise InvalidInputError(
                f"The repository cannot be written: {' '.join(str(reason).split())}; {done} images were ingested before. "
                "Nothing is broken: run the same command again when that is mended."
            ) from None

    def _write_from(self, folder: Path, visits: list[list[ImageFacts]]) -> None:
        staged = self._stage([each for group in visits for each in group], folder)
        visits = [kept for group in visits if (kept := [each for each in group if each.path in staged])]
        try:
            self._write_together(visits, staged)
            return
        except (InvalidInputError, IntegrityError) as error:
            if len(visits) == 1:
                self._fail(visits[0], error)
                return
        # find out which one it was
        for group in visits:
            try:
                self._write_together([group], staged)
            except (InvalidInputError, IntegrityError) as error:
                self._fail(group, error)

    def _stage(self, facts: list[ImageFacts], folder: Path) -> dict[Path, FileDataset]:
        """Write descriptors or copies; return what to ingest by the image's path."""
        arguments = (self.card, folder, self.transfer)
        staged: dict[Path, FileDataset] = {}
        # descriptors are quicker written than processes started
        processes = self.processes if self.transfer == "copy" else 1
        for each, outcome in zip(facts, map_files(stage, facts, arguments, processes)):
            if isinstance(outcome, str):
                self.report.failures.append((each.path, outcome))
            else:
                staged[each.path] = FileDataset(
                    str(outcome.file), [self._ref(each)], formatter=outcome.formatter
                )
        return staged

    def _ref(self, facts: ImageFacts) -> DatasetRef:
        butler = self.butler
        data_id = DataCoordinate.standardize(
            instrument=facts.instrument,
            exposure=facts.exposure,
            detector=facts.detector,
            universe=butler.dimensions,
        )
        dataset_type = butler.get_dataset_type(POST_ISR_DATASET)
        return DatasetRef(
            dataset_type, data_id, run=self.run, id_generation_mode=DatasetIdGenEnum.DATAID_TYPE_RUN
        )

    def _write_together(self, visits: list[list[ImageFacts]], staged: dict[Path, FileDataset]) -> None:
        butler, system = self.butler, VISIT_SYSTEMS[self.card.get("visit_system") or "one-to-one"][0]
        everything = [each for group in visits for each in group]
        old = [
            self.known[key].ref
            for each in everything
            if (key := (each.exposure, each.detector)) in self.known
        ]
        if old:
            butler.pruneDatasets(old, disassociate=True, unstore=True, purge=True)
        by_mode: dict[str, list[FileDataset]] = defaultdict(list)
        for each in everything:
            temporary = Path(str(staged[each.path].path)) != each.path
            by_mode["move" if temporary else self.transfer].append(staged[each.path])
        with butler.transaction():
            insert_visits(butler, visits, self.existing, system, replace=self.update)
            for mode, datasets in by_mode.items():
                butler.ingest(*datasets, transfer=mode)
        for each in everything:
            key = (each.exposure, each.detector)
            (self.report.updated if key in self.known else self.report.ingested).append(each.path)
            self.report.visits.add(each.visit)
            self.report.notes.update(each.caveats)
            self.report.warnings.update(self._unlisted_filter(each))

    def _unlisted_filter(self, facts: ImageFacts) -> list[str]:
        """Return a sentence on a filter that the card's table of bands lacks."""
        bands = self.card.get("bands") or {}
        if facts.observation is None or not bands or facts.physical_filter in map(str, bands):
            return []
        known = ", ".join(f"{name}: {band}" for name, band in bands.items())
        return [
            f"filter {facts.physical_filter!r} is not in the card's `bands:` ({known}); the band is taken to be "
            f"{facts.band!r}, which the reference catalogue must have"
        ]

    def _fail(self, group: list[ImageFacts], error: Exception) -> None:
        first = str(getattr(error, "orig", None) or error).strip().splitlines()[0].rstrip(".")
        for each in group:
            shown = first if str(each.path) in first else f"{each.path}: cannot be registered: {first}"
            self.report.failures.append((each.path, f"{shown}."))
