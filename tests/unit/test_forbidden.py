"""What our code never does: SQL made of strings, objects from bytes, code or shells from text."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("control_center", "workers", "orchestrator", "persistence")
SOURCES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"}
CALLS = {"eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"}
EXECUTES = {"execute", "executemany", "run_kept", "copy", "stream"}
# The text of a migration is a file of ours, named by its number.
MIGRATIONS = {("persistence/migrate.py", "text.encode()")}


def faults(source: str, file: str = "made_up.py") -> list[str]:
    """line: what is wrong, in the order of lines."""
    return [f"{line}: {what}" for line, what in sorted(_faults(ast.parse(source), file))]


def _faults(tree: ast.Module, file: str) -> Iterator[tuple[int, str]]:
    constants = set(_bound(tree.body, _is_constant))
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, f"import {n.name}") for n in names if n.name.split(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in MODULES:
                yield node.lineno, f"import {module}"
            case ast.Call(func=function, args=args, keywords=keywords):
                name = ast.unparse(function)
                if name in CALLS:
                    yield node.lineno, name
                if any(
                    k.arg == "shell" and not (_is_constant(k.value) and ast.literal_eval(k.value) is False)
                    for k in keywords
                ):
                    yield node.lineno, "shell"
                query = next((k.value for k in keywords if k.arg == "query"), args[0] if args else None)
                known = constants | set(_bound(list(_enclosing(tree, node)), _is_statement))
                if (
                    isinstance(function, ast.Attribute)
                    and function.attr in EXECUTES
                    and _is_of_a_database(function)
                    and not (query is None or _is_constant(query) or _is_statement(query))
                    and not (isinstance(query, ast.Name) and query.id in known)
                    and (file, ast.unparse(query)) not in MIGRATIONS
                ):
                    yield node.lineno, f"SQL from {ast.unparse(query)}"


def _is_of_a_database(function: ast.Attribute) -> bool:
    """`execute` is a database's, an engine's, and psycopg's own that only waits; the others have many owners."""
    owner = ast.unparse(function.value).lower()
    return (
        owner != "generators" and "engine" not in owner
        if function.attr.startswith("execute")
        else "cursor" in owner or "connection" in owner
    )


def _is_constant(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant)


def _is_statement(node: ast.expr) -> bool:
    """A file's, or one that psycopg composes: it quotes what it puts into a constant."""
    match node:
        case ast.Call(func=ast.Name(id="statement")):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Name(id="SQL"), args=[text]), attr="format")):
            return _is_constant(text)
    return False


def _bound(body: list[ast.stmt] | list[ast.AST], allowed: object) -> Iterator[str]:
    """The names that only ever get allowed values."""
    assert callable(allowed)
    good: set[str] = set()
    bad: set[str] = set()
    for node in body:
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            fine = not isinstance(node, ast.AugAssign) and node.value is not None and allowed(node.value)
            (good if fine else bad).update(t.id for t in targets if isinstance(t, ast.Name))
    yield from good - bad


def _enclosing(tree: ast.Module, call: ast.Call) -> Iterator[ast.AST]:
    """Everything in the outermost function around a call."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and any(node is call for node in ast.walk(function)):
            yield from ast.walk(function)
            return


@pytest.mark.parametrize("file", SOURCES, ids=str)
def test_our_code_does_nothing_of_the_kind(file: Path) -> None:
    """Every file of the four packages."""
    assert faults((ROOT / file).read_text(), file.as_posix()) == []


def test_all_our_code_was_looked_at() -> None:
    """The list of files is not empty by accident."""
    assert len(SOURCES) > 80
    assert {path.parts[0] for path in SOURCES} == set(PACKAGES)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("c.execute(f'SELECT {x}')", "1: SQL from f'SELECT {x}'"),
        ("c.execute('SELECT ' + x)", "1: SQL from 'SELECT ' + x"),
        ("c.execute('SELECT %s' % x)", "1: SQL from 'SELECT %s' % x"),
        ("c.execute('SELECT {}'.format(x))", "1: SQL from 'SELECT {}'.format(x)"),
        ("c.execute(query=f'{x}')", "1: SQL from f'{x}'"),
        ("def a(x):\n    c.execute(x)", "2: SQL from x"),
        ("def a(x):\n    q = f'{x}'\n    c.execute(q)", "3: SQL from q"),
        ("Q = 'SELECT 1'\nQ += x\nc.execute(Q)", "3: SQL from Q"),
        ("def a(x):\n    q = statement('a')\n    q = q + x\n    c.execute(q)", "4: SQL from q"),
        ("c.execute(SQL(f'SELECT {x}').format(y))", "1: SQL from SQL(f'SELECT {x}').format(y)"),
        ("c.execute('SELECT {}'.format(SQL(x)))", "1: SQL from 'SELECT {}'.format(SQL(x))"),
        ("cursor.executemany(text.encode(), [])", "1: SQL from text.encode()"),
        ("connection.cursor().copy(f'COPY {x}')", "1: SQL from f'COPY {x}'"),
        ("connection.run_kept(f'SELECT {x}', {})", "1: SQL from f'SELECT {x}'"),
        ("import pickle", "1: import pickle"),
        ("from marshal import loads", "1: import marshal"),
        ("def a():\n    import shelve, json", "2: import shelve"),
        ("import dill.settings", "1: import dill.settings"),
        ("yaml.load(text)", "1: yaml.load"),
        ("eval('1')", "1: eval"),
        ("exec(code)", "1: exec"),
        ("os.system('ls')", "1: os.system"),
        ("subprocess.run('ls', shell=True)", "1: shell"),
        ("subprocess.run('ls', shell=flag)", "1: shell"),
    ],
)
def test_what_is_forbidden_is_seen(source: str, fault: str) -> None:
    """Each on a made-up file."""
    assert faults(source) == [fault]


@pytest.mark.parametrize(
    "source",
    [
        "c.execute('SELECT 1')",
        "c.execute(b'SELECT 1', (x,))",
        "Q = 'SELECT 1'\ndef a():\n    c.execute(Q)",
        "def a(n):\n    sql = statement(n)\n    def once():\n        c.execute(sql)\n    once()",
        "c.execute(statement(name), p)",
        "c.execute(SQL('SELECT * FROM {}').format(Identifier(x)), p)",
        "engine.execute(workflow, context)",
        "generators.execute(self.pgconn)",
        "shutil.copy(a, b)",
        "yaml.safe_load(text)",
        "subprocess.run(['ls'], shell=False)",
    ],
)
def test_what_is_allowed_is_let_through(source: str) -> None:
    """Statements, constants and what only has the same name."""
    assert faults(source) == []
