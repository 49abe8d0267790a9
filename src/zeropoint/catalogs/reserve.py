"""Set aside a random share of stars, so that a fit can be judged on stars it did not use."""

from __future__ import annotations

from dataclasses import dataclass

import lsst.pex.config as pexConfig
import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.catalog import ColumnSpec, Schema

__all__ = ["ReserveSources", "ReserveSourcesConfig", "ReserveSourcesResult"]

BoolArray = npt.NDArray[np.bool_]


class ReserveSourcesConfig(pexConfig.Config):
    """How many sources to reserve."""

    fraction = pexConfig.RangeField(
        dtype=float,
        default=0.0,
        min=0.0,
        max=1.0,
        doc="Fraction of the candidates to reserve; usually 0.1-0.3.",
    )
    min_candidates = pexConfig.RangeField(
        dtype=int,
        default=0,
        min=0,
        doc="Reserve none when there are fewer sources than this: a small sample is worth more in the fit.",
    )
    seed = pexConfig.Field(
        dtype=int, default=1, doc="Added to the exposure's id to seed the choice; any whole number."
    )


@dataclass(frozen=True)
class ReserveSourcesResult:
    """Which sources were set aside.

    Parameters
    ----------
    reserved : bool, shape (n,)
        True for reserved sources.
    use : bool, shape (n,)
        True for sources that a fit may use: in the prior selection and not reserved.
    """

    reserved: BoolArray
    use: BoolArray


class ReserveSources:
    """Choose reserved sources at random.

    Parameters
    ----------
    config
        Settings; None for the defaults.
    schema
        If given, the flag ``<column_stem>_reserved`` is appended to it.
    column_stem
        Start of the flag's name, for example ``calib_psf``.

    Notes
    -----
    The choice depends only on the number of sources, the seed and the exposure's id: the legacy Mersenne
    Twister generator shuffles ``round(n * fraction)`` True values among n, as upstream does, so that the same
    catalogue gets the same reserved stars here and there.
    """

    ConfigClass = ReserveSourcesConfig

    def __init__(
        self,
        config: ReserveSourcesConfig | None = None,
        *,
        schema: Schema | None = None,
        column_stem: str = "calib",
    ) -> None:
        self.config = config if config is not None else ReserveSourcesConfig()
        self.column = f"{column_stem}_reserved"
        if schema is not None:
            doc = "Set if the source was reserved: not used in the fit, kept to judge it."
            schema.add(ColumnSpec(self.column, "bool", "", doc))

    def run(self, n: int, *, prior: BoolArray | None = None, exp_id: int = 0) -> ReserveSourcesResult:
        """Choose the reserved ones among n sources.

        Parameters
        ----------
        n
            Number of sources.
        prior : bool, shape (n,)
            Sources that count at all; only these are drawn from. Default all.
        exp_id
            Id of the exposure (or catalogue), so that every image has its own choice.

        Returns
        -------
        result
            `ReserveSourcesResult`.

        Raises
        ------
        ValueError
            If ``prior`` is not of length n.
        """
        if prior is None:
            population = np.arange(n)
        else:
            if len(prior) != n:
                raise ValueError(f"prior has {len(prior)} values for {n} sources.")
            population = np.flatnonzero(prior)
        chosen = np.zeros(len(population), np.bool_)
        if len(population) >= self.config.min_candidates:
            chosen[: round(len(population) * self.config.fraction)] = True
        generator = np.random.RandomState((self.config.seed + int(exp_id)) & 0xFFFFFFFF)
        generator.shuffle(chosen)
        reserved = np.zeros(n, np.bool_)
        reserved[population] = chosen
        use = ~reserved if prior is None else np.asarray(prior, np.bool_) & ~reserved
        return ReserveSourcesResult(reserved, use)
