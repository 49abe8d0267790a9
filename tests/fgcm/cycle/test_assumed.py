"""Errors of zeropoints where the atmosphere is assumed."""

from types import SimpleNamespace

import numpy as np

from zeropoint.fgcm.atmosphere import AtmosphereParameters
from zeropoint.fgcm.flags import ZeropointFlag
from zeropoint.recipes.fgcm_cycle.assumed import assumed_variance

#: Angstrom of I10 per unit of ln PWV, 1/Angstrom.
PER_LN_PWV, SLOPE = 20.0, 3e-4
RANGES = {
    "pwv": (0.1, 3.0), "o3": (220.0, 310.0), "tau": (0.002, 0.35), "alpha": (0.0, 2.0), "airmass": (1.0, 2.5),
}  # fmt: skip


class Source:
    """Passbands that feel water alone."""

    ranges = RANGES
    fitted = ("ln_pwv",)
    i10_std = np.zeros(1)

    def evaluate(self, index, nodes, *, derivatives):
        i10 = PER_LN_PWV * np.log(nodes.pwv)[:, None] * np.ones(2)
        return SimpleNamespace(i0=np.ones_like(i10), i10=i10)


def found(flags, fitted=("ln_pwv",)):
    n = len(flags)
    source = Source()
    source.fitted = fitted

    class Exposures(SimpleNamespace):
        def __len__(self):
            return n

    survey = SimpleNamespace(
        data=SimpleNamespace(
            exposures=Exposures(filter=np.zeros(n, np.int16), band=np.zeros(n, np.int16), n_det=2)
        ),
        passbands=source,
        secants=np.full((n, 2), 1.2),
    )
    # at the upper end of the range: only less water is possible
    air = AtmosphereParameters(np.full(n, 750.0), 3.0, 263.0, 0.03, 1.0, 1.2)
    solution = SimpleNamespace(
        parameters=SimpleNamespace(at=lambda e, r: air),
        slopes=SimpleNamespace(median_value=np.array([SLOPE])),
    )
    return assumed_variance(survey, solution, np.array(flags, np.int32))


def test_the_color_of_an_unknown_atmosphere_is_an_error():
    flags = [int(ZeropointFlag.PHOTOMETRIC_FIT_EXPOSURE), int(ZeropointFlag.NOFIT_NIGHT)]
    variance = found(flags)
    assert (variance[0] == 0).all()
    # 0.6 in ln of water, and nothing else, as passbands feel water alone
    expected = 2.5 / np.log(10.0) * SLOPE * PER_LN_PWV * 0.6
    np.testing.assert_allclose(np.sqrt(variance[1]), expected, rtol=0.01)


def test_without_a_fitted_atmosphere_nothing_is_assumed():
    assert not found([int(ZeropointFlag.NOFIT_NIGHT)], fitted=()).any()
