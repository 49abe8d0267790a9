"""FgcmMakeLutTask: throughputs of a camera in; look-up table, standard atmosphere and standard passbands out.

The work is done by `zeropoint.fgcm.make_lut`; ``docs/look_up_table.md`` says what the table is, ``docs/datasets.md`` lists
the datasets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import lsst.pex.config as pexConfig
import lsst.pipe.base as pipeBase
import lsst.pipe.base.connectionTypes as cT
from lsst.utils.logging import PeriodicLogger
from lsst.utils.timer import timeMethod

from zeropoint.butler.throughputs import static_calibrations
from zeropoint.datamodel.arrow import arrow_to_table
from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.datamodel.transmission_curve import TransmissionCurve
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.make_lut import MakeLookUpTable
from zeropoint.fgcm.make_lut_config import FgcmMakeLutConfigBase, FgcmMakeLutParametersConfig
from zeropoint.fgcm.throughput_table import throughput_table
from zeropoint.tasks._fgcm import INSTRUMENT, camera_model, survey_table
from zeropoint.tasks._tables import stored

__all__ = [
    "FgcmMakeLutConfig",
    "FgcmMakeLutConnections",
    "FgcmMakeLutParametersConfig",
    "FgcmMakeLutTask",
]

Curves = Mapping[int, TransmissionCurve]


def _calibration(
    name: str, doc: str, dimensions: tuple[str, ...], *, multiple: bool = True
) -> cT.PrerequisiteInput:
    """Return a connection of transmission curves that are valid for ever."""
    return cT.PrerequisiteInput(
        doc=doc,
        name=name,
        storageClass="ArrowAstropy",
        dimensions=dimensions,
        lookupFunction=static_calibrations,
        isCalibration=True,
        deferLoad=True,
        multiple=multiple,
    )


class FgcmMakeLutConnections(  # type: ignore[call-arg]  # a metaclass takes the dimensions
    pipeBase.PipelineTaskConnections, dimensions=INSTRUMENT
):
    """Datasets of FgcmMakeLutTask, under Rubin's names."""

    camera = camera_model("Where the detectors are.")
    transmission_optics = _calibration(
        "transmission_optics", "Transmission of the optics.", INSTRUMENT, multiple=False
    )
    transmission_sensor = _calibration(
        "transmission_sensor", "Quantum efficiency of each sensor.", ("instrument", "detector")
    )
    transmission_filter = _calibration(
        "transmission_filter", "Transmission of each filter.", ("band", "instrument", "physical_filter")
    )
    transmission_filter_detector = _calibration(
        "transmission_filter_detector",
        "Transmission of each filter before each detector.",
        ("instrument", "physical_filter", "detector"),
    )
    fgcmLookUpTable = survey_table(
        "fgcmLookUpTable", "Passband integrals on a grid of atmospheres, in fourteen rows."
    )
    fgcmDetectorThroughputs = survey_table(
        "fgcm_detector_throughputs", "Throughput of each filter with each detector, without atmosphere."
    )
    fgcmStandardAtmosphere = survey_table(
        "fgcm_standard_atmosphere", "Transmission of the standard atmosphere."
    )
    fgcmStandardPassbands = cT.Output(
        doc="Standard passband of each filter: mean over the focal plane, with the standard atmosphere.",
        name="fgcm_standard_passband",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "physical_filter"),
        multiple=True,
    )
    standardPassbands = cT.Output(
        doc="Standard passband of each band, in nm and percent.",
        name="standard_passband",
        storageClass="ArrowAstropy",
        dimensions=("instrument", "band"),
        multiple=True,
    )

    def __init__(self, *, config: FgcmMakeLutConfigBase) -> None:
        super().__init__(config=config)
        if not config.doOpticsTransmission:
            del self.transmission_optics
        if not config.doSensorTransmission:
            del self.transmission_sensor
        if config.doFilterDetectorTransmission:
            del self.transmission_filter
        else:
            del self.transmission_filter_detector


class FgcmMakeLutConfig(  # type: ignore[call-arg]  # a metaclass takes the connections
    pipeBase.PipelineTaskConfig, FgcmMakeLutConfigBase, pipelineConnections=FgcmMakeLutConnections
):
    """Configuration of `FgcmMakeLutTask`: that of the step."""

    detectors = pexConfig.ListField[int](
        doc="Detectors of the table where the repository has neither a camera nor curves of detectors, or to have only some "
        "of them. Empty: all.",
        default=[],
    )

    def validate(self) -> None:
        """Check the connections and what the table is of."""
        FgcmMakeLutConfigBase.validate(self)


class FgcmMakeLutTask(pipeBase.PipelineTask):
    """Make the look-up table of passband integrals of a camera."""

    ConfigClass = FgcmMakeLutConfig
    _DefaultName = "fgcmMakeLut"
    config: FgcmMakeLutConfig

    @property
    def _filter_connection(self) -> str:
        """The connection that has the curves of filters."""
        each = self.config.doFilterDetectorTransmission
        return "transmission_filter_detector" if each else "transmission_filter"

    def runQuantum(
        self,
        butlerQC: pipeBase.QuantumContext,
        inputRefs: pipeBase.InputQuantizedConnection,
        outputRefs: pipeBase.OutputQuantizedConnection,
    ) -> None:
        """Read the curves, make the tables and write them."""
        handles = butlerQC.get(inputRefs)
        sensors = {int(h.dataId["detector"]): _curve(h) for h in handles.get("transmission_sensor", ())}
        of_filters: dict[Any, TransmissionCurve] = {}
        for handle in handles[self._filter_connection]:
            name = str(handle.dataId["physical_filter"])
            each = self.config.doFilterDetectorTransmission
            of_filters[(name, int(handle.dataId["detector"])) if each else name] = _curve(handle)
        camera = handles.get("camera")
        # curves are of all filters, outputs of those that the data query has
        of_curves = getattr(inputRefs, self._filter_connection)
        bands = {
            str(ref.dataId["physical_filter"]): str(ref.dataId["band"])
            for ref in [*of_curves, *outputRefs.fgcmStandardPassbands]
        }
        optics = handles.get("transmission_optics")
        outputs = self.run(
            filters=of_filters,
            bands=bands,
            optics=None if optics is None else _curve(optics),
            sensors=sensors,
            focal_plane=None if camera is None else FocalPlane.from_camera(camera),
            not_science=_not_science(handles.values()),
        )
        butlerQC.put(
            stored(
                pipeBase.Struct(
                    fgcmLookUpTable=outputs.fgcmLookUpTable,
                    fgcmDetectorThroughputs=outputs.fgcmDetectorThroughputs,
                    fgcmStandardAtmosphere=outputs.fgcmStandardAtmosphere,
                )
            ),
            outputRefs,
        )
        for name, key in (("fgcmStandardPassbands", "physical_filter"), ("standardPassbands", "band")):
            for ref in getattr(outputRefs, name):
                table = getattr(outputs, name).get(ref.dataId[key])
                if table is not None:
                    butlerQC.put(table, ref)

    @timeMethod
    def run(
        self,
        *,
        filters: Mapping[Any, TransmissionCurve],
        bands: Mapping[str, str],
        optics: TransmissionCurve | None = None,
        sensors: Curves | None = None,
        focal_plane: FocalPlane | None = None,
        not_science: Sequence[int] = (),
    ) -> pipeBase.Struct:
        """Make the tables.

        Parameters
        ----------
        filters
            Filter -> curve; with ``doFilterDetectorTransmission``, (filter, detector) -> curve.
        bands
            Filter -> band.
        optics
            Curve of the optics.
        sensors
            Detector -> curve.
        focal_plane
            Where the detectors are, if known.
        not_science
            Detectors that ``useScienceDetectors`` leaves out.

        Returns
        -------
        result : lsst.pipe.base.Struct
            ``fgcmLookUpTable``: Arrow table; ``fgcmDetectorThroughputs``, ``fgcmStandardAtmosphere``: tables;
            ``fgcmStandardPassbands``: filter -> table; ``standardPassbands``: band -> table.

        Raises
        ------
        zeropoint.errors.InvalidInputError
            If a curve, a band or every detector is missing, or a curve or the atmosphere cannot be used.
        """
        config = self.config
        detectors = self._detectors(focal_plane, sensors or {}, filters, not_science)
        each = config.doFilterDetectorTransmission
        _require_curves(config.physicalFilters, filters, detectors if each else None, bands)

        def filter_curve(name: str, detector: int) -> TransmissionCurve:
            return filters[(name, detector) if each else name]

        progress = PeriodicLogger(self.log)
        made = MakeLookUpTable(config).run(
            detectors,
            filter_curve=filter_curve,
            optics=optics,
            sensors=sensors,
            focal_plane=focal_plane,
            on_progress=lambda title, done, total: _log(progress, title, done, total),
        )
        self.metadata["nDetectors"], self.metadata["nFilters"] = len(detectors), len(config.physicalFilters)
        self.metadata["atmosphere"] = made.lut.meta["atmosphere"]
        for name, numbers in made.lut.meta["interpolationError"]["usual"].items():
            self.metadata[f"interpolationErrorMmag_{name}"] = numbers["maxMmag"]
        return pipeBase.Struct(
            fgcmLookUpTable=made.lut.to_arrow(),
            fgcmDetectorThroughputs=throughput_table(made.passbands),
            fgcmStandardAtmosphere=made.standard_atmosphere(),
            fgcmStandardPassbands=made.standard_passbands(),
            standardPassbands=made.band_passbands(bands),
        )

    def _detectors(
        self,
        focal_plane: FocalPlane | None,
        sensors: Curves,
        filters: Mapping[Any, TransmissionCurve],
        not_science: Sequence[int],
    ) -> list[int]:
        """Return the detectors of the table, ascending."""
        known = set(sensors) | {key[1] for key in filters if isinstance(key, tuple)}
        if focal_plane is not None:
            known = {int(each) for each in focal_plane.ids}
        if self.config.detectors:
            unknown = sorted(set(self.config.detectors) - known) if known else []
            if unknown:
                raise InvalidInputError(f"config.detectors names {unknown}, which the camera lacks.")
            known = set(self.config.detectors)
        elif self.config.useScienceDetectors:
            known -= set(not_science)
        if not known:
            raise InvalidInputError(
                "No detector is known: there is no camera and no curve of a detector. Ingest sensor curves, or name the "
                "detectors with config.detectors."
            )
        return sorted(known)


def _curve(handle: Any) -> TransmissionCurve:
    """Return the curve behind a handle; unless told not to, the Butler leaves out what belongs to the table as a whole."""
    arrow = handle.get(parameters={"strip_astropy_meta_yaml": False}, storageClass="ArrowTable")
    return TransmissionCurve.from_table(
        arrow_to_table(arrow), source=f"{handle.ref.datasetType.name} {dict(handle.dataId.required)}"
    )


def _not_science(groups: Iterable[Any]) -> list[int]:
    """Return the detectors among the handles' data ids whose records say that they are not for science."""
    found = set()
    for group in groups:
        for handle in group if isinstance(group, list) else ():
            record = handle.dataId.records["detector"] if "detector" in handle.dataId else None
            if record is not None and record.purpose not in (None, "SCIENCE"):
                found.add(int(record.id))
    return sorted(found)


def _log(progress: PeriodicLogger, title: str, done: int, total: int) -> None:
    """Tell how far the work is, now and then."""
    progress.log("%s: %d of %d", title, done, total)


def _require_curves(
    names: Sequence[str],
    filters: Mapping[Any, TransmissionCurve],
    detectors: Sequence[int] | None,
    bands: Mapping[str, str],
) -> None:
    """Raise the error that names all filters without curves, and what to do; detectors: where each has curves of its own."""
    known = set(filters) if detectors is None else {name for name, _ in filters}
    none = [name for name in names if name not in known]
    some = {
        name: [number for number in detectors or () if (name, number) not in filters]
        for name in names
        if name in known
    }
    told = [f"{_filters(none)} no curve"] if none else []
    told += [
        f"{_filters([name])} no curve before detectors {', '.join(map(str, numbers))}"
        for name, numbers in some.items()
        if numbers
    ]
    unknown = [name for name in names if name not in bands]
    if unknown:
        others = ", ".join(sorted(bands)) or "none"
        told.append(
            f"physicalFilters names {', '.join(unknown)}, which the data query does not have (it has: {others})"
        )
    if not told:
        return
    left = [name for name, numbers in some.items() if not numbers and name in bands]
    remedy = "`zeropoint ingest-throughputs` brings curves into the repository"
    if left:
        remedy += f', or leave them out: -c "fgcmMakeLut:physicalFilters={left}"'
    raise InvalidInputError(f"{'; '.join(told)}. {remedy}.")


def _filters(names: Sequence[str]) -> str:
    """Return the begin of a sentence on filters."""
    return f"Filter {names[0]!r} has" if len(names) == 1 else f"Filters {', '.join(map(repr, names))} have"
