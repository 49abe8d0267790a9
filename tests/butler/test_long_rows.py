"""Look-up tables in a repository: long rows, of which the header alone can be read."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from lsst.daf.butler import Butler, DatasetType

from zeropoint.datamodel.arrow import arrow_to_table, table_to_arrow

N = 200_000


def test_rows_are_written_one_by_one_and_columns_read_alone(butler: Butler) -> None:
    kind = DatasetType("fgcmLookUpTable", ("instrument",), "ArrowAstropy", universe=butler.dimensions)
    butler.registry.registerDatasetType(kind)
    butler.collections.register("lut")
    rows = np.arange(3 * N, dtype=np.float32).reshape(3, N)
    table = Table({"luttype": ["I0", "I1", "D_PMB"], "lut": rows}, meta={"lutPmb": 778.0})
    table["lut"].description = "integrals"
    ref = butler.put(table_to_arrow(table), kind, instrument="TestCam", run="lut")
    path = butler.getURI(ref).ospath
    assert pq.ParquetFile(path).num_row_groups == 3
    back = butler.get(ref)
    np.testing.assert_array_equal(back["lut"], rows)
    assert back["lut"].description == "integrals"
    assert list(butler.get(ref.makeComponentRef("columns"))) == ["luttype", "lut"]
    parameters = {"columns": ["luttype"], "strip_astropy_meta_yaml": False}
    before = pa.total_allocated_bytes()
    header = butler.getDeferred(ref, parameters=parameters, storageClass="ArrowTable").get()
    assert header.column_names == ["luttype"]
    assert pa.total_allocated_bytes() - before < rows.nbytes / 10
    assert arrow_to_table(header).meta == table.meta
    stripped = butler.get(ref, parameters={"columns": ["luttype"]}, storageClass="ArrowTable")
    assert b"table_meta_yaml" not in (stripped.schema.metadata or {})
    with pytest.raises(ValueError, match="no column none"):
        butler.get(ref, parameters={"columns": ["none"]})
