"""What an archive holds: manifest.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from persistence.archives.store import Store
from persistence.errors import Afu9Error, InvalidInput

NAME = "manifest.json"


class _Written(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")


class File(_Written):
    """first_id, last_id: bounds of its executions' ids. kept: those that changed after they were written here, and stayed in
    the database; None until what it holds is deleted there."""

    name: str
    bytes: int
    sha256: str
    executions: int
    rows: dict[str, int]
    first_id: UUID
    last_id: UUID
    kept: list[UUID] | None = None


class Manifest(_Written):
    """older_than, created_at: ISO 8601. schema_version: of the database. columns: of each table, as they were."""

    format: Literal[1] = 1
    archive: UUID
    state: Literal["writing", "complete"] = "writing"
    schema_version: int
    older_than: str
    created_at: str
    columns: dict[str, list[str]]
    files: list[File] = []

    @property
    def executions(self) -> int:
        """That are here and no longer in the database, as far as it is known."""
        return sum(file.executions - len(file.kept or ()) for file in self.files)


def write_manifest(store: Store, manifest: Manifest) -> None:
    store.put(NAME, (manifest.model_dump_json(by_alias=True, indent=1) + "\n").encode())


def read_manifest(store: Store) -> Manifest:
    """Raises NotFound, InvalidInput for what is no manifest, and Afu9Error for one of a later format."""
    content = b"".join(store.read(NAME))
    try:
        found: Any = json.loads(content)
        if isinstance(found, Mapping) and isinstance(found.get("format"), int) and found["format"] > 1:
            raise Afu9Error(
                f"{store.location} has the archive format {found['format']}, this code knows 1: update afu9"
            )
        return Manifest.model_validate_json(content)
    except (ValueError, ValidationError) as error:
        raise InvalidInput(f"{store.location}/{NAME} is damaged: {str(error).partition(chr(10))[0]}") from None
