"""The import rule: arrows point at the contract, and the contract points at nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "epista"

MAY_IMPORT = {
    "contract": {"contract"},
    "serializers": {"serializers", "contract"},
    "naming": {"naming", "contract/errors"},
    "client": {"client", "naming", "serializers", "contract"},
    "compat": {"compat", "client", "naming", "serializers", "contract"},
    "cli": {"cli", "client", "naming", "serializers", "contract"},
    "server": {"server", "naming", "contract"},
    "server/access": {"server/access", "contract"},
    "server/stores": {"server/stores", "contract"},
    "server/engines": {"server/engines", "server/imaging", "serializers", "contract"},
    "server/imaging": {"server/imaging", "serializers", "contract"},
    "server/services": {
        "server/services",
        "server/access",
        "server/stores",
        "server/engines",
        "server/imaging",
        "server/config",
        "naming",
        "contract",
    },
    "server/routes": {"server/routes", "server/services", "server/access", "server/stores", "contract"},
    "server/web": {"server/web", "server/routes", "server/services", "server/access", "contract"},
}
"""What each room may import; of several that fit a file, the longest counts."""

EXCEPTIONS = {
    "cli/serve.py": {"server"},
}
"""Files that may import more, inside their functions."""


def test_every_import_follows_the_rule() -> None:
    broken = [
        f"{file} imports {target}"
        for file in sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
        if "/" in file
        for target in _imports(ROOT / file)
        if not _allowed(file, target)
    ]

    assert broken == []


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_every_room_of_the_rule_exists(room: str) -> None:
    assert (ROOT / room / "__init__.py").is_file()


def _allowed(file: str, target: str) -> bool:
    room = max((room for room in MAY_IMPORT if file.startswith(room + "/")), key=len)
    allowed = MAY_IMPORT[room] | EXCEPTIONS.get(file, set())
    return any(target == name or target.startswith(name + "/") for name in allowed)


def _imports(path: Path) -> Iterator[str]:
    """Yield what a file imports of ours, as paths below the package; the package itself exports nothing to its rooms."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.removeprefix("epista.").replace(".", "/") for name in names if name.startswith("epista."))
