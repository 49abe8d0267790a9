"""Adaptive moments of sources; importing this module registers the whole HSM family."""

from __future__ import annotations

import lsst.pex.config as pexConfig

from zeropoint.measurement._hsm_base import HsmMoments, HsmMomentsConfig
from zeropoint.measurement.base import register
from zeropoint.measurement.context import MeasurementContext
from zeropoint.measurement.hsm_psf import (
    HsmPsfMoments,
    HsmPsfMomentsConfig,
    HsmPsfMomentsDebiased,
    HsmPsfMomentsDebiasedConfig,
)
from zeropoint.measurement.hsm_shapes import (
    HigherOrderMomentsPSF,
    HigherOrderMomentsPSFConfig,
    HigherOrderMomentsSource,
    HigherOrderMomentsSourceConfig,
    HsmShapeRegauss,
    HsmShapeRegaussConfig,
)

__all__ = [
    "HigherOrderMomentsPSF",
    "HigherOrderMomentsPSFConfig",
    "HigherOrderMomentsSource",
    "HigherOrderMomentsSourceConfig",
    "HsmPsfMoments",
    "HsmPsfMomentsConfig",
    "HsmPsfMomentsDebiased",
    "HsmPsfMomentsDebiasedConfig",
    "HsmShapeRegauss",
    "HsmShapeRegaussConfig",
    "HsmSourceMoments",
    "HsmSourceMomentsConfig",
    "HsmSourceMomentsRound",
    "HsmSourceMomentsRoundConfig",
]


class HsmSourceMomentsConfig(HsmMomentsConfig):
    """Options of ext_shapeHSM_HsmSourceMoments."""

    badMaskPlanes = pexConfig.ListField(
        dtype=str, default=["BAD", "SAT"], doc="Mask planes whose pixels are rejected."
    )


@register("ext_shapeHSM_HsmSourceMoments")
class HsmSourceMoments(HsmMoments):
    """Adaptive moments of sources inside their footprints' boxes (Hirata & Seljak 2003).

    Where the PSF is undersampled, compact sources get the moments of a fitted Gaussian instead.
    """

    ConfigClass = HsmSourceMomentsConfig
    config: HsmSourceMomentsConfig

    def measure(self, context: MeasurementContext) -> None:
        """See `MeasurementPlugin.measure`."""
        out, status = self.source_moments(
            context, list(self.config.badMaskPlanes), bool(self.config.roundMoments)
        )
        if self.config.subtractCenter:
            out[:, 0] -= context.x
            out[:, 1] -= context.y
        self.store(context, out)
        self.set_flags(context, status)


class HsmSourceMomentsRoundConfig(HsmSourceMomentsConfig):
    """Options of ext_shapeHSM_HsmSourceMomentsRound."""

    def setDefaults(self) -> None:
        """A circular weight."""
        super().setDefaults()
        self.roundMoments = True

    def validate(self) -> None:
        """Check that the weight is circular."""
        super().validate()
        if not self.roundMoments:
            raise ValueError("roundMoments must be True.")


@register("ext_shapeHSM_HsmSourceMomentsRound")
class HsmSourceMomentsRound(HsmSourceMoments):
    """Adaptive moments of sources under a circular weight."""

    ConfigClass = HsmSourceMomentsRoundConfig
