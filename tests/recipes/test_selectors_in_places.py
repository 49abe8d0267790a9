"""Every selector in every place where one is configurable: it works there, or the configuration says why not."""

from __future__ import annotations

import functools

import lsst.pex.config as pexConfig
import numpy as np
import pytest

from zeropoint.catalogs.reference_source import ReferenceSource
from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.catalogs.selectors import SourceSelector, sourceSelectorRegistry
from zeropoint.errors import InvalidInputError, NoStarsSelectedError
from zeropoint.recipes.calibrate_image import CalibrateImage, CalibrateImageConfig
from zeropoint.recipes.overrides import apply_overrides
from zeropoint.recipes.session import production_config
from zeropoint.simulation import SimulationSettings, simulate_exposure, write_simulation

NAMES = sorted(sourceSelectorRegistry)
#: Every field of the recipe that takes a selector, and whether matches exist there.
PLACES = {
    "psf_measure_psf.starSelector": False,
    "psf_normalized_calibration_flux.measure_ap_corr.sourceSelector": False,
    "psf_normalized_calibration_flux.fallback_source_selector": False,
    "measure_aperture_correction.sourceSelector": False,
    "star_selector": True,
    "astrometry.sourceSelector": False,
    "astrometry.referenceSelector": False,
    "photometry.match.sourceSelection": False,
    "photometry.match.referenceSelection": False,
    "compute_summary_stats.starSelector": False,
}


@functools.cache
def default_config() -> CalibrateImageConfig:
    return production_config()


def selector_fields(config: pexConfig.Config, prefix: str = "") -> set[str]:
    """Return the paths of all fields of a configuration that hold a selector."""
    found = set()
    for name, field in type(config)._fields.items():
        value, path = getattr(config, name), prefix + name
        target = getattr(value, "target", None) if not getattr(field, "multi", False) else None
        if isinstance(target, type) and issubclass(target, SourceSelector):
            found.add(path)
        elif isinstance(value, pexConfig.Config):
            found |= selector_fields(value, path + ".")
        elif isinstance(field, pexConfig.ConfigurableField):
            found |= selector_fields(value.value, path + ".")
    return found


def test_the_places_are_all_that_there_are():
    # those of the star-phase instance that only applies have no effect
    found = {path for path in selector_fields(default_config()) if not path.startswith("star_normalized")}
    assert found == set(PLACES)


@pytest.mark.parametrize("place", PLACES)
def test_every_selector_can_be_chosen_by_its_name(place):
    config = default_config().copy()
    for name in NAMES:
        apply_overrides(config, {place: name}, origin="test")
        step, _, field = place.rpartition(".")
        owner = config if not step else functools.reduce(getattr, step.split("."), config)
        choice = getattr(owner, field)
        assert choice.target is sourceSelectorRegistry[name]
        if sourceSelectorRegistry[name].usesMatches and not PLACES[place]:
            with pytest.raises(pexConfig.FieldValidationError, match="needs matches") as caught:
                config.validate()
            assert caught.value.fullname == place
        else:
            config.validate()
            assert isinstance(choice.apply(), SourceSelector)


@pytest.mark.parametrize("place", PLACES)
def test_an_unknown_name_is_answered_with_the_known_ones(place):
    with pytest.raises(InvalidInputError) as caught:
        apply_overrides(default_config().copy(), {place: "scienze"}, origin="test")
    assert place in str(caught.value)
    assert all(name in str(caught.value) for name in NAMES)


# -- the whole recipe ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    settings = SimulationSettings(
        width=600, height=580, n_stars=260, magnitude_bright=17.0, n_cosmic_rays=0, seed=8
    )
    simulated = simulate_exposure(settings)
    return simulated, ReferenceSource.open(write_simulation(simulated, tmp_path_factory.mktemp("field"))[1])


def calibrate(field, overrides):
    config = production_config()
    config.astrometry_ref_loader.anyFilterMapsToThis = None
    apply_overrides(config, overrides, origin="test")
    config.validate()
    simulated, references = field
    loaders = {
        f"{name}_references": ReferenceObjectLoader(references, getattr(config, f"{name}_ref_loader"))
        for name in ("astrometry", "photometry")
    }
    return CalibrateImage(config).run(simulated.exposure.copy(), **loaders)


CHOICES = {
    "older": {
        "psf_measure_psf.starSelector": "matcher",
        "psf_normalized_calibration_flux.fallback_source_selector": "flagged",
        "measure_aperture_correction.sourceSelector": "flagged",
        "star_selector": "diaCatalog",
        "astrometry.sourceSelector": "astrometry",
        "astrometry.referenceSelector": "null",
        "photometry.match.sourceSelection": "null",
        "photometry.match.referenceSelection": "null",
        "compute_summary_stats.starSelector": "flagged",
    },
    "unusual": {
        "psf_measure_psf.starSelector": "astrometry",
        "psf_normalized_calibration_flux.measure_ap_corr.sourceSelector": "objectSize",
        "measure_aperture_correction.sourceSelector": "objectSize",
        "star_selector": "references",
        "astrometry.sourceSelector": "objectSize",
        "astrometry.referenceSelector": "references",
        "photometry.match.sourceSelection": "astrometry",
        "compute_summary_stats.starSelector": "objectSize",
    },
}


@pytest.mark.parametrize("choices", CHOICES.values(), ids=CHOICES)
def test_an_image_is_calibrated_with_other_selectors(field, choices):
    result = calibrate(field, choices)
    # 30 stars and more of 0.01 to 0.1 mag; the zero point of the simulation is 31.8
    assert result.photometry.zp == pytest.approx(31.8, abs=0.03)
    assert result.summary.psfSigma > 0
    if choices["star_selector"] == "diaCatalog":
        # only sources with a reference, and nothing else was asked of the matched
        assert len(result.photometry.match_src) == len(result.stars) > 20
        assert np.isfinite(result.stars["coord_ra"]).all()


def test_a_selection_without_stars_names_its_settings(field):
    empty = {
        "star_selector.name": "science",
        'star_selector["science"].doFluxLimit': True,
        'star_selector["science"].fluxLimit.minimum': 1e15,
    }
    with pytest.raises(NoStarsSelectedError) as caught:
        calibrate(field, empty)
    # the sky sources are selected, and are no stars
    n = caught.value.metadata["n_input_sources"]
    assert 100 < n < 300
    assert f"star_selector['science'] selects none of {n} rows (rejected by fluxLimit {n}," in str(
        caught.value
    )
