"""The description of a store, which tells its format and whose vectors its columns hold."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from byheart_store.home import Home
from byheart_store.tables import schema
from byheart_store.tables.schema import VECTOR_PREFIX, Description
from byheart_store.upkeep.damage import TableFiles
from byheart_store.upkeep.repair.visit import Visit

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.table import AsyncTable


async def read_description(
    visit: Visit, table: AsyncTable, files: TableFiles
) -> Description | None:
    """The description that the memories carry, made anew where it can't be read."""
    try:
        return schema.description_of(await table.schema())
    except (ValueError, KeyError, TypeError, AttributeError):
        return await _described_anew(visit, table, files)


async def _described_anew(visit: Visit, table: AsyncTable, files: TableFiles) -> Description | None:
    description = await _described_earlier(visit, files)
    if description is None:
        description = _description_from(await table.schema(), visit.home)
    finding = visit.found.add(
        "description",
        files.name,
        "the description of the store can't be read: it does not open",
        "it is made anew of the columns that are there"
        if description
        else "no model here has made the vectors; bring back a backup: byheart restore FILE",
    )
    if description is None or not visit.repair:
        return description
    await table.update_field_metadata(
        {
            "path": schema.DESCRIBED_FIELD,
            "metadata": {schema.DESCRIPTION_KEY: description.to_json()},
        }
    )
    finding.mended = True
    return description


async def _described_earlier(visit: Visit, files: TableFiles) -> Description | None:
    async for version in visit.earlier_versions(files):
        layout = await version.schema()
        try:
            description = schema.description_of(layout)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        described = {column.column for column in description.columns}
        if described <= set(layout.names):
            return description
    return None


def _description_from(layout: pa.Schema, home: Home) -> Description | None:
    """What the columns tell, where the embedded model has made the vectors or there are none."""
    from byheart_store.models.loading import load_encoder

    vectors = [one for one in layout if one.name.startswith(VECTOR_PREFIX)]
    number = 3 if "client" in layout.names else 1 if "context" in layout.names else 2
    description = Description(format=number)
    if not vectors:
        return description
    encoder = load_encoder(None, cache_dir=home.downloads)
    column = schema.vector_column(encoder.name, encoder.fingerprint, encoder.dimension)
    if column.column not in [one.name for one in vectors]:
        return None
    return replace(description, active=column.column, columns=(column,))
