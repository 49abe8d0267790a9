"""Settings that follow from the image itself: its star size, its pointing, and what its catalogue offers.

Rubin's defaults fit Rubin's camera.  These few fields are set for each image, unless the configuration's
``derived_fields_keep`` names them, and everything set is reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import lsst.pex.config as pexConfig
import numpy as np

from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.datamodel.exposure import Exposure, PointingUncertainty
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.instruments.first_look import FirstLook, first_look, settings_from_first_look
from zeropoint.recipes.overrides import apply_overrides
from zeropoint.recipes.record import ImageRecord

__all__ = [
    "DERIVABLE_FIELDS",
    "DerivedSettings",
    "adapted_loader",
    "derivable",
    "derive_settings",
    "derived_config",
    "field_history",
    "search_settings",
    "times_set",
]

_PART = re.compile(r"""(\w+)|\["(\w+)"\]""")

#: Every field that may be derived, as CalibrateImage calls it and as it is written in ``derived_fields_keep``.
DERIVABLE_FIELDS = (
    "photometry.match.matchRadius",
    "astrometry.maxMeanDistanceArcsec",
    "install_simple_psf.fwhm",
    "install_simple_psf.width",
    'psf_measure_psf.starSelector["objectSize"].widthMin',
    "compute_shapelet_decomposition.radius_mode_min",
    "psf_measure_psf.makePsfCandidates.kernelSize",
    'psf_measure_psf.psfDeterminer["piff"].stampSize',
    'psf_measure_psf.psfDeterminer["piff"].modelSize',
    "astrometry.matcher.maxOffsetPix",
    "astrometry.matcher.maxRotationDeg",
    "astrometry_ref_loader.pixelMargin",
    "photometry_ref_loader.pixelMargin",
    "astrometry_ref_loader.anyFilterMapsToThis",
)
_SAME_NAMES = {name: name for name in DERIVABLE_FIELDS}
#: A field that needs the size of the stars.
_STAR_SIZE = "install_simple_psf.fwhm"


def derivable(**steps: str) -> dict[str, str]:
    """Return another recipe's names of the fields that may be derived.

    Parameters
    ----------
    **steps
        Step of CalibrateImage = name of the same step in the other recipe; fields of other steps are left out.

    Returns
    -------
    names
        Field of CalibrateImage -> field of the other recipe.
    """
    return {
        name: steps[step] + name.removeprefix(step)
        for name in DERIVABLE_FIELDS
        if (step := name.partition(".")[0]) in steps
    }


@dataclass
class DerivedSettings:
    """What was derived for one image.

    Parameters
    ----------
    values
        Field -> value.
    notes, caveats
        Sentences for the report; caveats keep the verdict from being good.
    """

    values: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)


def field_history(config: pexConfig.Config, name: str) -> list[Any] | None:
    """Return what a configuration remembers of the settings of one of `DERIVABLE_FIELDS`; None: no such field.

    A retargeted step may lack a field that the usual one has.
    """
    target: Any = config
    *parents, last = [(a or b, bool(b)) for a, b in _PART.findall(name)]
    try:
        for part, bracketed in parents:
            target = target[part] if bracketed else getattr(target, part)
        return list(getattr(target, "value", target).history[last[0]])
    except (AttributeError, KeyError, TypeError):
        return None


def times_set(config: pexConfig.Config, names: Iterable[str]) -> dict[str, int]:
    """Return how often each of some fields that may be derived has been set, so far as a configuration remembers."""
    return {name: len(field_history(config, name) or ()) for name in names}


def derive_settings(
    exposure: Exposure,
    references: ReferenceObjectLoader | None,
    *,
    look: bool,
    keep: Iterable[str] = (),
    names: Mapping[str, str] = _SAME_NAMES,
) -> DerivedSettings:
    """Return the settings that follow from an image.

    Parameters
    ----------
    exposure
        Post-ISR image with its initial WCS and pointing uncertainty.
    references
        Loader of the astrometric references, as configured; None if there are none.
    look
        Derive what follows from star size and pixel scale?
    keep
        Fields to leave alone, under the recipe's names.
    names
        The recipe's names of `DERIVABLE_FIELDS` (see `derivable`); those that it lacks are not derived.
    """
    assert exposure.wcs is not None
    result = DerivedSettings()
    kept = set(keep)

    def add(values: dict[str, Any]) -> str:
        new = {names[name]: value for name, value in values.items() if name in names}
        new = {name: value for name, value in new.items() if name not in kept}
        result.values.update(new)
        return ", ".join(f"{name}={value}" for name, value in new.items())

    if look and _STAR_SIZE in names:
        _look(exposure, result, add)
    elif look:
        add(settings_from_first_look(FirstLook(float("nan"), 0), _middle_scale(exposure)))
    if exposure.pointing is not None:
        shown = add(search_settings(exposure.pointing, exposure.wcs, exposure.shape))
        if shown:
            result.notes.append(f"the initial WCS is uncertain by {_stated(exposure.pointing)}; set: {shown}")
    if references is None:
        return result
    band = exposure.visit_info.band
    shown = add(_band_settings(references, band))
    if shown:
        source = references.source
        result.notes.append(
            f"reference catalogue {source.name} has no band {references.config.anyFilterMapsToThis or band!r} (it has "
            f"{', '.join(source.bands)}); set: {shown}"
        )
    return result


def derived_config[C: pexConfig.Config](
    config: C,
    record: ImageRecord,
    references: ReferenceObjectLoader | None,
    names: Mapping[str, str] = _SAME_NAMES,
) -> C:
    """Return a recipe's configuration for one image; what was derived is recorded in place.

    Parameters
    ----------
    config
        The recipe's own, with ``do_first_look`` and ``derived_fields_keep``; returned where nothing is derived, and
        never changed.
    record
        Its exposure is looked at; settings, notes and caveats are added to it.
    references, names
        As for `derive_settings`.
    """
    missing = [name for name in names.values() if field_history(config, name) is None]
    settings = derive_settings(
        record.exposure,
        references,
        look=config.do_first_look,
        keep=[*config.derived_fields_keep, *missing],
        names=names,
    )
    record.derived = settings.values
    record.notes += settings.notes
    record.caveats += settings.caveats
    for name, value in settings.values.items():
        record.metadata[f"derived.{name}"] = "None" if value is None else value
    if not settings.values:
        return config
    config = config.copy()
    apply_overrides(config, settings.values, origin="derived settings")
    return config


def _middle_scale(exposure: Exposure) -> float:
    """Return the pixel scale in the middle of an image, arcsec."""
    assert exposure.wcs is not None
    return float(exposure.wcs.pixel_scale(x=0.5 * exposure.shape[1], y=0.5 * exposure.shape[0]))


def _look(exposure: Exposure, result: DerivedSettings, add: Any) -> None:
    scale = _middle_scale(exposure)
    look = first_look(exposure)
    shown = add(settings_from_first_look(look, scale))
    if not np.isfinite(look.fwhm_pix):
        result.caveats.append("too few bright stars for a first measurement of the star size")
        return
    size = f"{look.fwhm_pix:.2f} px = {look.fwhm_pix * scale:.2f} arcsec ({look.n_stars} stars)"
    result.notes.append(f"first look: stars of FWHM {size}; settings derived from it: {shown or 'none'}")


def search_settings(pointing: PointingUncertainty, wcs: SkyWcs, shape: tuple[int, int]) -> dict[str, Any]:
    """Return matcher and loader settings that cover the uncertainty of the initial WCS.

    Parameters
    ----------
    pointing
        How far the WCS may be off.
    wcs, shape
        WCS and (height, width) of the image.

    Returns
    -------
    settings : dict
        ``astrometry.matcher.maxOffsetPix``, ``.maxRotationDeg`` and both loaders' ``pixelMargin``, only where
        they exceed the defaults.
    """
    settings: dict[str, Any] = {}
    scale = float(wcs.pixel_scale(x=0.5 * shape[1], y=0.5 * shape[0]))
    reach = int(pointing.reach(scale, shape))
    if reach > 250:
        settings["astrometry.matcher.maxOffsetPix"] = min(reach, 4000)
    margin = reach + 50
    if margin > 250:
        settings["astrometry_ref_loader.pixelMargin"] = margin
        settings["photometry_ref_loader.pixelMargin"] = margin
    if pointing.rotation_deg > 1.0:
        settings["astrometry.matcher.maxRotationDeg"] = min(pointing.rotation_deg, 6.0)
    return settings


def _stated(pointing: PointingUncertainty) -> str:
    parts = (
        (pointing.offset_arcsec, "arcsec"),
        (pointing.rotation_deg, "degree"),
        (pointing.scale_percent, "percent of the pixel scale"),
    )
    return ", ".join(f"{value:g} {unit}" for value, unit in parts if value)


def _band_settings(references: ReferenceObjectLoader, band: str) -> dict[str, Any]:
    """Return the band for astrometry where the configured one is not in the catalogue.

    Then the image's own band serves, or the catalogue's only one: positions do not depend on it.  Photometry
    does not guess.
    """
    config, bands = references.config, tuple(references.source.bands)
    own = config.filterMap.get(band, band)
    wanted = config.anyFilterMapsToThis
    if wanted in bands or (wanted is None and own in bands):
        return {}
    if own in bands:
        return {"astrometry_ref_loader.anyFilterMapsToThis": None}
    if len(bands) == 1 and not config.filterMap:
        return {"astrometry_ref_loader.anyFilterMapsToThis": bands[0]}
    return {}


def adapted_loader(loader: ReferenceObjectLoader, name: str, values: dict[str, Any]) -> ReferenceObjectLoader:
    """Return a loader of the same catalogue with derived values of its own configuration.

    Parameters
    ----------
    loader
        The loader as configured.
    name
        Field of the recipe that configures it.
    values
        Derived settings of the recipe.
    """
    own = {key.removeprefix(f"{name}."): value for key, value in values.items() if key.startswith(f"{name}.")}
    if not own:
        return loader
    config = loader.config.copy()
    for key, value in own.items():
        setattr(config, key, value)
    return type(loader)(loader.source, config, region=loader.region)
