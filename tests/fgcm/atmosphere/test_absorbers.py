"""The compiled sum over absorbers against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from zeropoint.fgcm.atmosphere import DERIVATIVES, Atmosphere, AtmosphereParameters


@pytest.mark.parametrize("names", [(), ("alpha", "ln_pwv"), DERIVATIVES])
def test_the_kernel_takes_away_what_the_laws_say(names, rng):
    site = Atmosphere.for_site(2600.0, wavelength=np.sort(rng.uniform(3500.0, 10500.0, 40)))
    n = 7
    parameters = AtmosphereParameters(
        pmb=rng.uniform(760.0, 790.0, n), pwv=rng.uniform(0.5, 15.0, n), o3=rng.uniform(220.0, 310.0, n),
        tau=np.append(0.0, rng.uniform(0.01, 0.3, n - 1)), alpha=rng.uniform(0.0, 2.0, n), airmass=rng.uniform(1.0, 3.0, n),
    )  # fmt: skip
    parts = [each.law(parameters).depth() for each in site.absorbers.values()]
    transmission, slopes = site.evaluate(parameters, names)
    np.testing.assert_allclose(transmission, np.exp(-sum(depth for depth, _ in parts)), rtol=1e-12)
    assert tuple(slopes) == tuple(names)
    for name, slope in slopes.items():
        expected = -sum(given[name] for _, given in parts if name in given)
        np.testing.assert_allclose(slope, expected, rtol=1e-11, atol=1e-15)
