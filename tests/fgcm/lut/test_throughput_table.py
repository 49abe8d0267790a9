"""Throughputs as a table, and what the fit makes of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.make_lut import MadeLookUpTable
from zeropoint.fgcm.model.passband_source import QuadraturePassbands
from zeropoint.fgcm.passband_choice import choose_passbands
from zeropoint.fgcm.throughput_table import passbands_of, throughput_table


def test_the_table_gives_the_passbands_of_the_look_up_table(made: MadeLookUpTable) -> None:
    table = throughput_table(made.passbands)
    assert len(table) == 6
    again = passbands_of(table[::-1], made.lut)
    for name in made.passbands.physical_filters:
        one, other = made.passbands[name], again[name]
        assert other.i10_std == one.i10_std
        assert (other.detector_throughput == one.detector_throughput).all()


def test_quadrature_is_chosen_where_throughputs_are_there(made: MadeLookUpTable) -> None:
    def no_lut() -> None:
        raise AssertionError

    header = replace(made.lut, lut=None)
    chosen = choose_passbands(header, throughput_table(made.passbands), no_lut)
    assert isinstance(chosen.source, QuadraturePassbands)
    assert chosen.source.ranges["pwv"] == pytest.approx((1.0, 8.0))
    assert (chosen.source.atmosphere.wavelength == made.passbands.passbands[0].wavelength).all()


def test_what_cannot_be_used_is_said(made: MadeLookUpTable) -> None:
    table = throughput_table(made.passbands)
    with pytest.raises(InvalidInputError, match=r"no throughputs of detectors.*passbandIntegrals='lut'"):
        choose_passbands(made.lut, None, lambda: made.lut, "quadrature")
    with pytest.raises(InvalidInputError, match="one of each pair"):
        passbands_of(table[:-1], made.lut)
    other = table.copy()
    other["throughput"] *= np.linspace(1.0, 0.5, other["throughput"].shape[1])
    with pytest.raises(InvalidInputError, match="not that of the look-up table"):
        choose_passbands(made.lut, other, lambda: made.lut)
