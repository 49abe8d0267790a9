"""Make the look-up table of a site and a camera, with the standard atmosphere and passbands."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from astropy.table import Table

from zeropoint.datamodel.arrow import table_to_arrow
from zeropoint.datamodel.transmission_curve import TransmissionCurve
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.atmosphere import Atmosphere, AtmosphereParameters
from zeropoint.fgcm.lut import FITS_SUFFIXES, LUT_TYPES, LookUpTable
from zeropoint.fgcm.lut_fill import fill_tables, table_shape
from zeropoint.fgcm.lut_grid import TABLE_NAMES, LutGrid, StandardAtmosphere, named_parameters, read_grid
from zeropoint.fgcm.lut_interpolation import USUAL, interpolation_error, places_within
from zeropoint.fgcm.lut_sampling import sampling_errors
from zeropoint.fgcm.make_lut_config import FgcmMakeLutConfigBase, FgcmMakeLutParametersConfig
from zeropoint.fgcm.passbands import (
    DetectorThroughputs,
    StandardPassbands,
    filter_throughputs,
    passband_tables,
    standard_passbands,
)
from zeropoint.fgcm.progress import OnProgress

if TYPE_CHECKING:
    from zeropoint.datamodel.focal_plane import FocalPlane

__all__ = ["LutSite", "MadeLookUpTable", "MakeLookUpTable"]

FloatArray = npt.NDArray[np.float64]

_log = logging.getLogger(__name__)

#: Bytes above which the integrals go through a file instead of memory.
_IN_MEMORY = 256 * 2**20
#: Atmospheres of the statement on narrow passbands.
_N_SAMPLING = 64
_NO_TABLE = "NoTableWasUsed"
_PRESSURE = (
    "Pressure scales the molecular depths. The integrals are those at lutPmb, the standard pressure, and pmbFactor is 1 at "
    "all nodes."
)


@dataclass(frozen=True)
class LutSite:
    """Atmosphere, nodes and standard values of a table.

    Parameters
    ----------
    atmosphere
        At the table's wavelengths.
    grid
        Nodes.
    standard
        Standard atmosphere.
    table_name
        What the header says: the configuration's ``atmosphereTableName``, or NoTableWasUsed.
    description
        Where the transmission comes from, in a sentence.
    """

    atmosphere: Atmosphere
    grid: LutGrid
    standard: StandardAtmosphere
    table_name: str
    description: str


@dataclass(frozen=True)
class MadeLookUpTable:
    """A look-up table and what belongs to it.

    Parameters
    ----------
    lut
        The table.
    passbands
        Standard passbands.
    std_transmission
        Of the standard atmosphere at the passbands' wavelengths.
    """

    lut: LookUpTable
    passbands: StandardPassbands
    std_transmission: FloatArray

    def standard_atmosphere(self) -> Table:
        """Return the standard atmosphere as a transmission curve's table; constant beyond its ends."""
        wavelength = self.passbands.passbands[0].wavelength
        values = self.std_transmission
        curve = TransmissionCurve(
            wavelength,
            values,
            below=float(values[0]),
            above=float(values[-1]),
            source="fgcm standard atmosphere",
        )
        return curve.to_table()

    def standard_passbands(self) -> dict[str, Table]:
        """Return filter -> its passband with the standard atmosphere, as a transmission curve's table."""
        return {
            each.physical_filter: TransmissionCurve(
                each.wavelength,
                each.throughput,
                below=float(each.throughput[0]),
                above=float(each.throughput[-1]),
                source=f"fgcm standard passband {each.physical_filter}",
            ).to_table()
            for each in self.passbands.passbands
        }

    def band_passbands(self, bands: Mapping[str, str]) -> dict[str, Table]:
        """Return band -> passband in nm and percent, of filters that are their own standard; see `passband_tables`."""
        return passband_tables(self.passbands, bands)

    def write_passbands(self, path: Path) -> None:
        """Write all curves to one table, parquet or FITS by the path's suffix.

        Parameters
        ----------
        path
            File. Columns: ``wavelength`` (Angstrom), ``atmosphere`` (standard), and for each filter ``NAME_passband`` (mean
            over the focal plane with the standard atmosphere) and ``NAME_throughput`` (one number for each detector and,
            last, the mean, without atmosphere).
        """
        table = Table(
            {"wavelength": self.passbands.passbands[0].wavelength, "atmosphere": self.std_transmission}
        )
        table["wavelength"].unit = "Angstrom"
        for each in self.passbands.passbands:
            table[f"{each.physical_filter}_passband"] = each.throughput
            table[f"{each.physical_filter}_throughput"] = each.detector_throughput.T
        table.meta["DETECTOR"] = ",".join(str(each) for each in self.passbands.detectors)
        if path.suffix in FITS_SUFFIXES:
            table.write(path, overwrite=True)
        else:
            pq.write_table(table_to_arrow(table), path)


class MakeLookUpTable:
    """Make a look-up table.

    Parameters
    ----------
    config
        What the table is of; validated.
    """

    ConfigClass = FgcmMakeLutConfigBase

    def __init__(self, config: FgcmMakeLutConfigBase) -> None:
        self.config = config

    def run(
        self,
        detectors: Sequence[int],
        *,
        filter_curve: Callable[[str, int], TransmissionCurve],
        optics: TransmissionCurve | None = None,
        sensors: Mapping[int, TransmissionCurve] | None = None,
        focal_plane: FocalPlane | None = None,
        scratch: Path | None = None,
        on_progress: OnProgress | None = None,
    ) -> MadeLookUpTable:
        """Integrate the passbands of all filters and detectors through all atmospheres of the grid.

        Parameters
        ----------
        detectors
            Ids, in the order that the table gets.
        filter_curve
            Returns the curve of a filter before a detector.
        optics
            Curve of the optics; needed with ``doOpticsTransmission``.
        sensors
            Detector -> curve; needed with ``doSensorTransmission``.
        focal_plane
            Where the detectors are; needed if a curve depends on it.
        scratch
            Folder for a file of the table's size if that is above 256 MiB; None: the system's. The file vanishes with the
            table.
        on_progress
            Is told a title, how many steps are done, and of how many.

        Returns
        -------
        made : MadeLookUpTable
            The table may be mapped from the scratch file.

        Raises
        ------
        InvalidInputError
            If a curve is missing or lets no light pass, the atmosphere table cannot be used, or the scratch folder is full.
        """
        config = self.config
        site = self.site()
        atmosphere = site.atmosphere
        throughputs_of = self._throughputs_of(detectors, filter_curve, optics, sensors, focal_plane)
        passbands, std_transmission = self._passbands(site, throughputs_of)
        values = _storage((len(LUT_TYPES), *table_shape(site.grid, passbands)), scratch)
        fill_tables(values, site.grid, passbands, atmosphere, site.standard.pmb, on_progress)
        lut = LookUpTable(_header(site, passbands, std_transmission), values)
        error = interpolation_error(lut, passbands, atmosphere, site.standard.pmb)
        narrow = _narrow(site, passbands, throughputs_of, config.sensor_terms)
        meta = {
            "atmosphere": site.description,
            "pressure": _PRESSURE,
            "lutPmb": site.standard.pmb,
            "detectors": [int(each) for each in detectors],
            "interpolationError": error,
            **({"samplingErrorMmag": narrow} if narrow else {}),
        }
        _log.info(
            "Look-up table of %d filters and %d detectors, %d nodes, %s; the reference's interpolation is wrong by up to "
            "%.2f mmag in usual atmospheres.",
            len(passbands.passbands),
            len(passbands.detectors),
            np.prod(site.grid.shape),
            site.description,
            max(each["maxMmag"] for each in error["usual"].values()),
        )
        return MadeLookUpTable(LookUpTable(lut.header, values, meta), passbands, std_transmission)

    def passbands(
        self,
        detectors: Sequence[int],
        *,
        filter_curve: Callable[[str, int], TransmissionCurve],
        optics: TransmissionCurve | None = None,
        sensors: Mapping[int, TransmissionCurve] | None = None,
        focal_plane: FocalPlane | None = None,
    ) -> tuple[LutSite, StandardPassbands]:
        """Return site and passbands without the integrals of a grid: what a fit that integrates by itself needs.

        Parameters
        ----------
        detectors, filter_curve, optics, sensors, focal_plane
            As for `run`.

        Raises
        ------
        InvalidInputError
            As `run`.
        """
        site = self.site()
        throughputs_of = self._throughputs_of(detectors, filter_curve, optics, sensors, focal_plane)
        return site, self._passbands(site, throughputs_of)[0]

    def _throughputs_of(
        self,
        detectors: Sequence[int],
        filter_curve: Callable[[str, int], TransmissionCurve],
        optics: TransmissionCurve | None,
        sensors: Mapping[int, TransmissionCurve] | None,
        focal_plane: FocalPlane | None,
    ) -> Callable[..., DetectorThroughputs]:
        """Return what gives the throughputs of filters at wavelengths."""
        config = self.config
        if config.doOpticsTransmission and optics is None:
            raise InvalidInputError(
                "There is no curve of the optics; add it, or set doOpticsTransmission=False for unity."
            )
        return partial(
            filter_throughputs,
            detectors=list(detectors),
            optics=optics if config.doOpticsTransmission else None,
            sensors=(sensors or {}) if config.doSensorTransmission else None,
            filter_curve=filter_curve,
            focal_plane=focal_plane,
        )

    def _passbands(
        self, site: LutSite, throughputs_of: Callable[..., DetectorThroughputs]
    ) -> tuple[StandardPassbands, FloatArray]:
        """Return the standard passbands, and the transmission of the standard atmosphere."""
        config = self.config
        throughputs = throughputs_of(
            list(config.physicalFilters),
            wavelength=site.atmosphere.wavelength,
            sensor_terms=config.sensor_terms,
        )
        transmission = site.atmosphere.transmission(AtmosphereParameters(**vars(site.standard)))[0]
        return standard_passbands(throughputs, transmission, config.std_physical_filters), transmission

    def site(self) -> LutSite:
        """Return the atmosphere, the grid and the standard values that the configuration asks for.

        Raises
        ------
        InvalidInputError
            If ``atmosphereTableName`` is neither a file nor the name of a known table, or the file cannot be used.
        """
        name = self.config.atmosphereTableName
        if name is None:
            return _open_site(self.config.parameters, _NO_TABLE, "the open atmosphere")
        path = next((path for path in (Path(name), Path(f"{name}.fits")) if path.is_file()), None)
        if path is not None:
            if path.stem in TABLE_NAMES and ("lsst" in path.stem or "subaru" in path.stem):
                _log.warning(
                    "%s: some nodes of water in FGCM's tables for LSST and Subaru hold other amounts than their labels say; the "
                    "labels are used. The name alone, where there is no such file, stands for the open atmosphere.",
                    path,
                )
            grid, standard = read_grid(path)
            return LutSite(Atmosphere.from_table(path), grid, standard, name, f"the table {path.name}")
        parameters = named_parameters(name)
        if parameters is None:
            raise InvalidInputError(
                f"atmosphereTableName {name!r} is no file, and none of FGCM's tables ({', '.join(TABLE_NAMES)})."
            )
        return _open_site(parameters, name, f"the open atmosphere at site and nodes of {name}")


def _open_site(parameters: FgcmMakeLutParametersConfig, table_name: str, description: str) -> LutSite:
    """Return a site with the open atmosphere."""
    first, last = parameters.lambdaRange
    step = 10.0 * parameters.lambdaStep
    # the ratio is whole but for rounding
    wavelength = first + step * np.arange(int((last - first) / step + 1e-6) + 1)
    atmosphere = Atmosphere.for_site(
        parameters.elevation, wavelength=wavelength, lambda_norm=parameters.lambdaNorm
    )
    names = ("pmb", "pwv", "o3", "tau", "alpha", "airmass")
    standard = StandardAtmosphere(**{name: getattr(parameters, f"{name}Std") for name in names})
    return LutSite(atmosphere, LutGrid.from_parameters(parameters), standard, table_name, description)


def _narrow(
    site: LutSite,
    passbands: StandardPassbands,
    throughputs_of: Callable[..., DetectorThroughputs],
    terms: Mapping[str, tuple[float, Mapping[int, float]]],
) -> dict[str, float]:
    """Return, and tell, how wrong the integrals of narrow filters are, mmag."""

    def mean(name: str, wavelength: FloatArray) -> FloatArray:
        of_filter = {name: terms[name]} if name in terms else {}
        made = throughputs_of([name], wavelength=wavelength, sensor_terms=of_filter)
        return made.throughput[0, -1]

    places = places_within(site.grid, _N_SAMPLING, USUAL)
    errors = sampling_errors(passbands, site.atmosphere, site.standard.pmb, places, mean)
    for name, (n, error) in errors.items():
        _log.warning(
            "Filter %s lets light pass at %d wavelengths only: between usual atmospheres its integrals are wrong by up to %.1f mmag; "
            "make parameters.lambdaStep smaller.",
            name,
            n,
            error,
        )
    return {name: round(error, 2) for name, (_, error) in errors.items()}


def _storage(shape: tuple[int, ...], scratch: Path | None) -> npt.NDArray[np.float32]:
    """Return zeros, in a file without a name where they are many."""
    n_bytes = 4 * int(np.prod(shape))
    if n_bytes <= _IN_MEMORY:
        return np.zeros(shape, np.float32)
    folder = Path(tempfile.gettempdir()) if scratch is None else scratch
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            # a file with holes would end the process where the disk is full
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, n_bytes)
            else:
                file.truncate(n_bytes)
            return np.memmap(file, np.float32, "r+", shape=shape)
    except OSError as error:
        raise InvalidInputError(
            f"{folder}: a scratch file of {n_bytes / 1e9:.1f} GB cannot be made ({error.strerror}); set TMPDIR to a folder "
            "with room."
        ) from None


def _header(site: LutSite, passbands: StandardPassbands, std_transmission: FloatArray) -> dict[str, Any]:
    """Return every column of the layout but kinds and integrals."""
    grid, standard, atmosphere = site.grid, site.standard, site.atmosphere
    wavelength = atmosphere.wavelength
    return {
        "tablename": site.table_name,
        "elevation": atmosphere.elevation,
        "physicalFilters": ",".join(passbands.physical_filters),
        "stdPhysicalFilters": ",".join(each.std_physical_filter for each in passbands.passbands),
        "pmb": grid.pmb,
        "pmbFactor": np.ones(len(grid.pmb)),
        "pmbElevation": atmosphere.pmb_elevation,
        "pwv": np.exp(grid.ln_pwv),
        "o3": grid.o3,
        "tau": np.exp(grid.ln_tau),
        "lambdaNorm": atmosphere.lambda_norm,
        "alpha": grid.alpha,
        "zenith": grid.zenith,
        "nCcd": len(passbands.detectors),
        **{f"{name}Std": getattr(standard, name) for name in ("pmb", "pwv", "o3", "tau", "alpha")},
        "zenithStd": float(np.degrees(np.arccos(1.0 / standard.airmass))),
        "lambdaRange": wavelength[[0, -1]],
        "lambdaStep": float((wavelength[-1] - wavelength[0]) / (len(wavelength) - 1) / 10.0),
        "lambdaStd": passbands.column("lambda_std"),
        "lambdaStdFilter": passbands.column("lambda_std_filter"),
        "i0Std": passbands.column("i0_std"),
        "i1Std": passbands.column("i1_std"),
        "i10Std": passbands.column("i10_std"),
        "i2Std": passbands.column("i2_std"),
        "lambdaB": passbands.column("lambda_b"),
        "atmLambda": wavelength,
        "atmStdTrans": std_transmission,
    }
