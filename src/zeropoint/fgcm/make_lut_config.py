"""Configuration of the look-up table."""

from __future__ import annotations

import math

import lsst.pex.config as pexConfig

from zeropoint.fgcm.atmosphere import MAX_AIRMASS
from zeropoint.fgcm.limits import LIMITS

__all__ = ["FgcmMakeLutConfigBase", "FgcmMakeLutParametersConfig", "SensorCorrectionTerms"]


def _range(doc: str, default: list[float] | None = None) -> pexConfig.ListField[float]:
    return pexConfig.ListField[float](doc=doc, default=default)


def _steps(doc: str, default: int) -> pexConfig.RangeField[int]:
    return pexConfig.RangeField[int](doc=doc, default=default, min=2)


def _value(doc: str, default: float | None = None) -> pexConfig.Field[float]:
    return pexConfig.Field[float](doc=doc, default=default)


class FgcmMakeLutParametersConfig(pexConfig.Config):
    """Site, grid and standard atmosphere of a look-up table that is made without an atmosphere table."""

    elevation = _value("Elevation of the telescope, m.")
    pmbRange = _range("Barometric pressure: first and last node, millibar.")
    pmbSteps = _steps("Number of nodes in pressure.", 5)
    pwvRange = _range(
        "Precipitable water vapour: first and last node, mm; nodes are uniform in its logarithm."
    )
    pwvSteps = _steps("Number of nodes in water vapour.", 15)
    o3Range = _range("Ozone: first and last node, Dobson units.", [220.0, 310.0])
    o3Steps = _steps("Number of nodes in ozone.", 3)
    tauRange = _range(
        "Aerosol optical depth: first and last node; nodes are uniform in its logarithm.", [0.002, 0.35]
    )
    tauSteps = _steps("Number of nodes in aerosol depth.", 11)
    alphaRange = _range("Aerosol slope: first and last node.", [0.0, 2.0])
    alphaSteps = _steps("Number of nodes in aerosol slope.", 9)
    zenithRange = _range(
        "Zenith distance: first and last node, degrees; nodes are uniform in its secant.", [0.0, 70.0]
    )
    zenithSteps = _steps("Number of nodes in zenith distance.", 21)
    pmbStd = _value("Pressure of the standard atmosphere, millibar.")
    pwvStd = _value("Water vapour of the standard atmosphere, mm.")
    o3Std = _value("Ozone of the standard atmosphere, Dobson units.", 263.0)
    tauStd = _value("Aerosol depth of the standard atmosphere at lambdaNorm.", 0.03)
    alphaStd = _value("Aerosol slope of the standard atmosphere.", 1.0)
    airmassStd = _value("Secant of the zenith distance of the standard atmosphere.")
    lambdaNorm = _value("Wavelength at which the aerosol depth is given, Angstrom.", 7750.0)
    lambdaStep = _value("Step of the wavelengths, nanometre.", 0.5)
    lambdaRange = _range("Wavelengths: first and last, Angstrom.", [3000.0, 11000.0])

    def validate(self) -> None:
        """Check that nothing is missing and that ranges and values are possible.

        Raises
        ------
        lsst.pex.config.FieldValidationError
            If something is missing or impossible; it names the field.
        """
        super().validate()
        fields = type(self)
        for name in ("pmb", "pwv", "o3", "tau", "alpha", "zenith", "lambda"):
            self._check_range(name)
        for field in (fields.pwvRange, fields.tauRange, fields.lambdaRange):
            if not field.__get__(self)[0] > 0:
                raise pexConfig.FieldValidationError(field, self, "must begin above 0.")
        for field, values in ((fields.pmbRange, list(self.pmbRange)), (fields.pmbStd, [self.pmbStd])):
            for value in values:
                if LIMITS["pmb"].wrong(value):
                    told = LIMITS["pmb"].told(value)
                    raise pexConfig.FieldValidationError(field, self, f"{value:g} is not between {told}.")
        self._check_zenith()
        for field in (fields.pwvStd, fields.lambdaNorm, fields.lambdaStep):
            if not field.__get__(self) > 0:
                raise pexConfig.FieldValidationError(field, self, "must be above 0.")
        if not self.airmassStd >= 1:
            raise pexConfig.FieldValidationError(fields.airmassStd, self, "must not be below 1.")
        if (self.lambdaRange[1] - self.lambdaRange[0]) / (10 * self.lambdaStep) < 2:
            raise pexConfig.FieldValidationError(
                fields.lambdaStep, self, "leaves fewer than three wavelengths; it is in nanometre."
            )

    def _check_zenith(self) -> None:
        """Raise if a node, or the one beyond the end that differences need, is lower than the airmasses hold."""
        field = type(self).zenithRange
        first, last = self.zenithRange
        if not 0 <= first < last < 90:
            raise pexConfig.FieldValidationError(field, self, "must lie from 0 to below 90 degrees.")
        secants = [1.0 / math.cos(math.radians(angle)) for angle in (first, last)]
        beyond = secants[1] + (secants[1] - secants[0]) / (self.zenithSteps - 1)
        if beyond > MAX_AIRMASS:
            raise pexConfig.FieldValidationError(
                field,
                self,
                f"the node beyond its end has a secant of {beyond:.2f}, above {MAX_AIRMASS:g}; end it higher in the sky, or "
                "increase zenithSteps.",
            )

    def _check_range(self, name: str) -> None:
        """Raise if a range is not two ascending numbers."""
        field = getattr(type(self), f"{name}Range")
        limits = list(field.__get__(self))
        if len(limits) != 2 or not limits[0] < limits[1]:
            raise pexConfig.FieldValidationError(field, self, f"must be two ascending numbers, not {limits}.")


class SensorCorrectionTerms(pexConfig.Config):
    """First-order correction in wavelength of the throughputs of some detectors."""

    refLambda = pexConfig.Field[float](doc="Wavelength where the correction is zero, Angstrom.")
    correctionTermDict = pexConfig.DictField[int, float](
        doc="Detector -> c: its throughput is multiplied by 1 + c (lam - refLambda)/refLambda.", default={}
    )


class FgcmMakeLutConfigBase(pexConfig.Config):
    """What the look-up table is of."""

    physicalFilters = pexConfig.ListField[str](doc="Filters of the table, in order.", default=[])
    stdPhysicalFilterOverrideMap = pexConfig.DictField[str, str](
        doc="Filter -> filter that defines its standard passband; others define their own.", default={}
    )
    atmosphereTableName = pexConfig.Field[str](
        doc="Atmosphere table: a file in the layout of FGCM's, with or without .fits; or the name of a table of FGCM's "
        "(such as fgcm_atm_lsst2), which stands for its site, grid and standard values with the open atmosphere. "
        "None: the open atmosphere with `parameters`.",
        default=None,
        optional=True,
    )
    useScienceDetectors = pexConfig.Field[bool](
        doc="Leave out detectors that are not for science, such as guiders and wavefront sensors.",
        default=True,
    )
    doOpticsTransmission = pexConfig.Field[bool](
        doc="Multiply by the transmission of the optics.", default=True
    )
    doSensorTransmission = pexConfig.Field[bool](
        doc="Multiply by the quantum efficiency of each sensor.", default=True
    )
    doFilterDetectorTransmission = pexConfig.Field[bool](
        doc="Filters have a curve before each detector, instead of one that may depend on the radius.",
        default=False,
    )
    sensorCorrectionTermDict = pexConfig.ConfigDictField(
        doc="Filter -> first-order corrections of the detectors' throughputs.",
        keytype=str,
        itemtype=SensorCorrectionTerms,
        default={},
    )
    parameters = pexConfig.ConfigField[FgcmMakeLutParametersConfig](
        doc="Site, grid and standard atmosphere; required, and looked at, only if atmosphereTableName is None.",
        default=None,
    )

    def validate(self) -> None:
        """Check the filters, and the parameters if they are used.

        Raises
        ------
        lsst.pex.config.FieldValidationError
            If one is missing or impossible; it names the field.
        """
        fields = type(self)
        # not super().validate(): the parameters may lack values where a table gives them
        for name, field in self._fields.items():
            if name != "parameters":
                field.validate(self)
        if not self.physicalFilters:
            raise pexConfig.FieldValidationError(
                fields.physicalFilters, self, "name the filters of the table."
            )
        if len(set(self.physicalFilters)) < len(self.physicalFilters):
            raise pexConfig.FieldValidationError(fields.physicalFilters, self, "a filter is listed twice.")
        named = set(self.stdPhysicalFilterOverrideMap) | set(self.stdPhysicalFilterOverrideMap.values())
        missing = sorted(named - set(self.physicalFilters))
        if missing:
            raise pexConfig.FieldValidationError(
                fields.stdPhysicalFilterOverrideMap,
                self,
                f"{', '.join(missing)}: not among physicalFilters ({', '.join(self.physicalFilters)}).",
            )
        if self.atmosphereTableName is None:
            fields.parameters.validate(self)

    @property
    def std_physical_filters(self) -> list[str]:
        """The filter that defines the standard passband of each of ``physicalFilters``."""
        return [self.stdPhysicalFilterOverrideMap.get(name, name) for name in self.physicalFilters]

    @property
    def sensor_terms(self) -> dict[str, tuple[float, dict[int, float]]]:
        """Filter -> (reference wavelength, detector -> term) of ``sensorCorrectionTermDict``."""
        return {
            name: (terms.refLambda, dict(terms.correctionTermDict))
            for name, terms in self.sensorCorrectionTermDict.items()
        }
