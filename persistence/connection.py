"""A connection that keeps statements, for those that run for every step.

What psycopg's cursor does for a call (find out whether to prepare, translate the text, look up an adapter for every value
and every column) takes a third to a half of the call's CPU. Here each of that is done once per connection and statement;
the adapters, the errors and the waiting are psycopg's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import count
from typing import Any

import psycopg
from psycopg import abc, adapt, generators
from psycopg.adapt import PyFormat
from psycopg.errors import FeatureNotSupported, InvalidSqlStatementName, error_from_result
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import DictRow

_NAME = re.compile(rb"%\((\w+)\)s|%%")


class Connection(psycopg.Connection[DictRow]):
    """In autocommit, for one thread at a time, like every connection of ours."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._kept: dict[bytes, _Kept] = {}
        self._numbers = count()

    def run_kept(self, sql: bytes, parameters: Mapping[str, Any]) -> list[DictRow]:
        """The rows of a statement with `%(name)s` parameters whose types follow from the statement alone. Raises what psycopg
        raises."""
        kept = self._kept.get(sql)
        if kept is not None:
            try:
                return self._run(kept, parameters)
            except (InvalidSqlStatementName, FeatureNotSupported):
                # not there behind a proxy's other connection, or a migration has given it other columns: nothing was done
                del self._kept[sql]
        kept = self._keep(sql)
        rows = self._run(kept, parameters)
        self._kept[sql] = kept
        return rows

    def _keep(self, sql: bytes) -> _Kept:
        names: list[str] = []

        def number(found: re.Match[bytes]) -> bytes:
            if (name := found[1]) is None:
                return b"%"
            if name.decode() not in names:
                names.append(name.decode())
            return b"$%d" % (names.index(name.decode()) + 1)

        text = _NAME.sub(number, sql)
        kept = _Kept(b"afu9_%d" % next(self._numbers), names, adapt.Transformer(self))
        self.pgconn.send_prepare(kept.name, text)
        self._answer()
        return kept

    def _run(self, kept: _Kept, parameters: Mapping[str, Any]) -> list[DictRow]:
        values = kept.transformer.dump_sequence([parameters[name] for name in kept.parameters], kept.formats)
        self.pgconn.send_query_prepared(kept.name, values)
        return kept.rows(self._answer())

    def _answer(self) -> PGresult:
        """Raises the error that it is."""
        results: list[PGresult] = self.wait(generators.execute(self.pgconn))
        for result in results:
            if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
                raise error_from_result(result, encoding=self.info.encoding)
        return results[-1]


class _Kept:
    """A prepared statement: how its values are written, and how its rows are read once a first answer told their columns."""

    __slots__ = ("columns", "formats", "name", "parameters", "transformer")

    def __init__(self, name: bytes, parameters: list[str], transformer: abc.Transformer) -> None:
        self.name = name
        self.parameters = parameters
        self.formats = [PyFormat.TEXT] * len(parameters)
        self.transformer = transformer
        self.columns: list[str] | None = None

    def rows(self, result: PGresult) -> list[DictRow]:
        self.transformer.set_pgresult(result, set_loaders=self.columns is None)
        if self.columns is None:
            self.columns = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
        columns = self.columns
        return self.transformer.load_rows(0, result.ntuples, lambda values: dict(zip(columns, values, strict=True)))
