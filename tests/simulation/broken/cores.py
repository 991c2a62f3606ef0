"""The broken cores: patches made by hand, and mutants made by a tool (cosmic-ray), of the shipped source.

Where order and disk are concerned, a patch may break the agent's half of a decision instead.
"""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cosmic_ray.ast import Visitor, get_ast
from cosmic_ray.plugins import get_operator

REPOSITORY = Path(__file__).resolve().parents[3]
DECISION = Path("flask_hsmx_cluster/decision")
PATCHES = Path(__file__).parent / "patches"
MUTANTS = Path(__file__).parent / "mutants.toml"


class BrokenCore(Protocol):
    """One thing that is wrong.

    ``name`` is unique, ``idea`` says in words what is wrong, ``maker`` who made it; ``text`` is all that it is.
    """

    @property
    def name(self) -> str: ...
    @property
    def idea(self) -> str: ...
    @property
    def maker(self) -> str: ...
    @property
    def text(self) -> str: ...

    def apply(self, root: Path) -> None:
        """Break the source below ``root``.

        :raises ValueError: the shipped source has changed so much that this does not apply any more.
        """


@dataclass(frozen=True)
class Patch:
    """A unified patch; its first line is the idea."""

    path: Path
    maker: str = "hand"

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def idea(self) -> str:
        return self.text.partition("\n")[0]

    def apply(self, root: Path) -> None:
        # Without fuzz, and never the other way round: a patch that lands elsewhere breaks something else.
        command = ["patch", "--strip=1", "--fuzz=0", "--no-backup-if-mismatch", "--forward", "--reject-file=-"]
        with self.path.open() as text:
            done = subprocess.run(command, cwd=root, stdin=text, capture_output=True, text=True)
        if done.returncode:
            raise ValueError(f"{self.path.name} does not apply any more: {done.stdout.strip()}")


@dataclass(frozen=True)
class Mutant:
    """One mutation by cosmic-ray. It is kept as the operator and the line: the occurrence's number changes too often.

    :param module: file name within the decision code.
    :param operator: cosmic-ray's name of the operator, without its provider.
    :param before: the line that is mutated, without its indentation, and ``after`` what becomes of it.
    """

    name: str
    idea: str
    module: str
    operator: str
    before: str
    after: str
    maker: str = "cosmic-ray"

    @property
    def text(self) -> str:
        return f"{self.module} {self.operator}\n-{self.before}\n+{self.after}\n"

    def apply(self, root: Path) -> None:
        path = root / DECISION / self.module
        source = path.read_text()
        lines = [line.strip() for line in source.splitlines()]
        if lines.count(self.before) == 1:
            for mutated in _mutations(source, self.operator, lines.index(self.before) + 1):
                if changed_line(source, mutated) == self.after:
                    path.write_text(mutated)
                    return
        raise ValueError(f"{self.name}: {self.operator} does not make {self.after!r} in {self.module} any more")


class OnLine(Visitor):
    """Mutates the ``nth`` place on a line where an operator of cosmic-ray fits."""

    def __init__(self, operator: str, line: int, nth: int) -> None:
        self.operator = get_operator(f"core/{operator}")()
        self.line, self.nth = line, nth

    def visit(self, node: Any) -> Any:
        for index, ((line, _column), _end) in enumerate(self.operator.mutation_positions(node)):
            if line == self.line:
                self.nth -= 1
                if self.nth < 0:
                    self.line = 0  # once is enough
                    return self.operator.mutate(node, index)
        return node


def _mutations(source: str, operator: str, line: int) -> Iterator[str]:
    """Yield what an operator makes of a line, one place after the other."""
    for nth in range(len(source)):
        visitor = OnLine(operator, line, nth)
        mutated = visitor.walk(get_ast(source)).get_code()
        if visitor.line:
            return
        yield mutated


def changed_line(source: str, mutated: str) -> str:
    """Return the first line that a mutation has changed, without its indentation."""
    pairs = zip(source.splitlines(), mutated.splitlines(), strict=False)
    return next((after.strip() for before, after in pairs if before != after), "")


def all_cores() -> list[BrokenCore]:
    """Return the broken cores, in the order of their names, those made by hand first."""
    patches = [Patch(path) for path in sorted(PATCHES.glob("*.patch"))]
    mutants = [Mutant(**one) for one in tomllib.loads(MUTANTS.read_text())["mutant"]]
    return [*patches, *sorted(mutants, key=lambda one: one.name)]


def make_copy(root: Path) -> None:
    """Copy the package and its tests below ``root``."""
    leave = shutil.ignore_patterns("__pycache__", "static", "templates", "broken")
    for name in ("flask_hsmx_cluster", "tests"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=leave)
