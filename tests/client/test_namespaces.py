"""Namespaces: ours, a program's and plug-ins', on their hosts."""

from __future__ import annotations

# What a program registers is unknown to type checkers.
# mypy: disable-error-code="attr-defined, call-overload"
import ast
import copy
import gc
import inspect
import pickle
import re
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import epista
from epista import Workspace
from epista.client import namespaces
from epista.client.namespaces import Namespace, register_namespace
from epista.contract.errors import ConflictError, InvalidRequestError, NamespaceError

ROOT = Path(__file__).parent.parent.parent
GUIDE = ROOT / "docs" / "guides" / "namespaces.md"


@pytest.fixture(autouse=True)
def nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    namespaces.discover()
    monkeypatch.setattr(namespaces, "_left_out", [])
    hosts = [namespaces._class(on) for on in namespaces.HOSTS]
    before = [{name: one for name, one in vars(host).items() if isinstance(one, Namespace)} for host in hosts]
    yield
    for host, known in zip(hosts, before, strict=True):
        for name in [name for name, one in vars(host).items() if isinstance(one, Namespace)]:
            delattr(host, name)
        for name, one in known.items():
            setattr(host, name, one)


@pytest.fixture
def ws() -> Iterator[Workspace]:
    """A workspace that is never asked anything."""
    with Workspace("http://127.0.0.1:9", token="secret", workspace="lab") as workspace:
        yield workspace


class Counted:
    """A namespace that counts how often it is made."""

    made = 0

    def __init__(self, host: Any) -> None:
        type(self).made += 1
        self.host = host


def fresh(**attributes: Any) -> type[Counted]:
    return type("Fresh", (Counted,), {"made": 0, **attributes})


def test_a_namespace_is_made_once_with_its_host_and_kept(ws: Workspace) -> None:
    cls = fresh()
    assert register_namespace("mine", cls) is cls
    assert cls.made == 0

    first = ws.mine

    assert first is ws.mine
    assert first.host is ws
    assert cls.made == 1
    assert "mine" in dir(ws)
    assert "get" in dir(ws)


def test_it_is_a_decorator_too(ws: Workspace) -> None:
    @epista.register_namespace("mine")
    class Mine(Counted):
        pass

    assert isinstance(ws.mine, Mine)


def test_two_workspaces_have_each_their_own(ws: Workspace) -> None:
    register_namespace("mine", fresh())
    with Workspace("http://127.0.0.1:9", token="secret", workspace="other") as other:
        assert ws.mine.host is ws
        assert other.mine.host is other


def test_a_copy_of_a_host_makes_its_own(ws: Workspace) -> None:
    register_namespace("mine", fresh())
    assert ws.mine.host is ws

    twin = copy.copy(ws)

    assert twin.mine.host is twin
    assert ws.mine.host is ws


def test_an_asset_has_namespaces_and_they_are_no_part_of_it(http_ws: Workspace) -> None:
    register_namespace("mine", fresh(), on="asset")
    http_ws.put("a.txt", "x")
    asset = http_ws.get("a.txt")

    assert asset.mine.host is asset
    assert asset.mine is asset.mine
    assert "mine" in dir(asset)
    assert asset == http_ws.get("a.txt")
    assert asset.mine.host.workspace is http_ws
    for other in (pickle.loads(pickle.dumps(asset)), copy.copy(asset), copy.deepcopy(asset)):
        assert other == asset
        assert other.mine.host is other
        with pytest.raises(epista.ValidationError, match="knows no workspace"):
            _ = other.workspace


def test_a_namespace_does_not_keep_its_host_alive(http_ws: Workspace) -> None:
    class Small:
        def __init__(self, host: Any) -> None:
            self.host = host

    register_namespace("mine", Small, on="asset")
    asset = http_ws.put("a.txt", "x")
    alive = weakref.ref(asset.mine)

    del asset
    gc.collect()

    assert alive() is None


@pytest.mark.parametrize("override", [False, True])
@pytest.mark.parametrize("name", ["get", "query", "url", "session", "close", "run"])
def test_attributes_of_the_host_are_never_replaced(name: str, override: bool, ws: Workspace) -> None:
    was = inspect.getattr_static(Workspace, name)

    with pytest.raises(ConflictError, match=f"'{name}' is an attribute of every workspace"):
        register_namespace(name, Counted, override=override)

    assert inspect.getattr_static(Workspace, name) is was


@pytest.mark.parametrize("name", ["key", "meta", "sha256", "lineage", "workspace"])
def test_fields_of_an_asset_are_never_replaced(name: str) -> None:
    with pytest.raises(ConflictError, match="is an attribute of every asset"):
        register_namespace(name, Counted, on="asset", override=True)


@pytest.mark.parametrize("name", ["", "a b", "1st", "_mine", "__class__", "class", "my-space", "\ufb01ne", "a.b"])
def test_a_name_is_a_public_identifier(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="is no name for a namespace"):
        register_namespace(name, Counted)


def test_a_host_is_one_of_those_there_are() -> None:
    with pytest.raises(InvalidRequestError, match="'session' has no namespaces; these have: workspace"):
        register_namespace("mine", Counted, on="session")
    with pytest.raises(InvalidRequestError, match="a class that takes its host"):
        register_namespace("mine", 5)


def test_a_taken_name_is_refused_unless_overridden(ws: Workspace) -> None:
    class One(Counted):
        pass

    class Other(Counted):
        pass

    register_namespace("mine", One)
    assert isinstance(ws.mine, One)
    with pytest.raises(ConflictError, match="taken, by tests") as caught:
        register_namespace("mine", Other)
    assert caught.value.hint == "override=True takes it over"
    assert isinstance(ws.mine, One)

    register_namespace("mine", Other, override=True)

    assert isinstance(ws.mine, Other)


def test_a_cell_that_runs_again_replaces_its_namespace_quietly(ws: Workspace) -> None:
    cell = "class Mine:\n    answer = {}\n    def __init__(self, ws): pass\nepista.register_namespace('mine', Mine)"

    exec(cell.format(1), {"epista": epista, "__name__": "__main__"})
    assert ws.mine.answer == 1
    exec(cell.format(2), {"epista": epista, "__name__": "__main__"})

    assert ws.mine.answer == 2


def test_an_attribute_error_while_it_is_made_is_not_taken_for_its_absence(ws: Workspace) -> None:
    class Broken:
        def __init__(self, ws: Any) -> None:
            ws.no_such_verb()

    register_namespace("mine", Broken)

    for ask in (lambda: ws.mine, lambda: getattr(ws, "mine", None), lambda: hasattr(ws, "mine")):
        with pytest.raises(NamespaceError, match="'mine' cannot be made: AttributeError: ") as caught:
            ask()
        assert isinstance(caught.value.__cause__, AttributeError)
        assert "secret" not in str(caught.value)


def test_another_error_is_raised_as_it_is_and_the_next_use_tries_again(ws: Workspace) -> None:
    class Flaky(Counted):
        def __init__(self, host: Any) -> None:
            super().__init__(host)
            if Flaky.made == 1:
                raise epista.UnreachableError("not now")

    register_namespace("mine", Flaky)

    with pytest.raises(epista.UnreachableError, match="not now"):
        _ = ws.mine
    assert isinstance(ws.mine, Flaky)


def test_an_attribute_error_in_a_property_keeps_its_message(ws: Workspace) -> None:
    class Mine(Counted):
        @property
        def odd(self) -> int:
            raise AttributeError("the laser is off")

    register_namespace("mine", Mine)

    with pytest.raises(AttributeError, match="the laser is off"):
        _ = ws.mine.odd


def test_a_namespace_that_asks_for_itself_is_told_so(ws: Workspace) -> None:
    class Mine:
        def __init__(self, ws: Any) -> None:
            ws.mine.anything()

    register_namespace("mine", Mine)

    with pytest.raises(NamespaceError, match="asks for itself"):
        _ = ws.mine


def test_namespaces_may_use_each_other(ws: Workspace) -> None:
    class Upper:
        def __init__(self, ws: Any) -> None:
            self.lower = ws.lower

    register_namespace("upper", Upper)
    register_namespace("lower", fresh())

    assert ws.upper.lower is ws.lower


def test_applies_decides_whether_it_exists(ws: Workspace) -> None:
    class Mine(Counted):
        @staticmethod
        def applies(host: Workspace) -> bool:
            return host.name == "lab"

    register_namespace("mine", Mine)

    with Workspace("http://127.0.0.1:9", token="secret", workspace="other") as other:
        assert hasattr(ws, "mine")
        assert "mine" in dir(ws)
        assert not hasattr(other, "mine")
        assert getattr(other, "mine", None) is None
        assert "mine" not in dir(other)
        with pytest.raises(AttributeError, match="this workspace has no namespace 'mine'"):
            _ = other.mine


def test_applies_that_fails_is_a_fault_and_breaks_no_list(ws: Workspace) -> None:
    class Mine(Counted):
        @classmethod
        def applies(cls, host: Any) -> bool:
            return bool(host.nothing)

    register_namespace("mine", Mine)

    assert "mine" not in dir(ws)
    with pytest.raises(NamespaceError, match="AttributeError"):
        hasattr(ws, "mine")


def test_threads_at_first_use_get_the_same_namespace(ws: Workspace) -> None:
    class Slow(Counted):
        def __init__(self, host: Any) -> None:
            super().__init__(host)
            time.sleep(0.05)

    register_namespace("mine", Slow)
    barrier = threading.Barrier(8)
    found = []

    def use() -> None:
        barrier.wait()
        found.append(ws.mine)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert {id(one) for one in found} == {id(ws.mine)}
    assert Slow.made == 1


def test_a_namespace_may_wait_for_threads_that_use_another(ws: Workspace) -> None:
    class Waiting:
        def __init__(self, ws: Any) -> None:
            thread = threading.Thread(target=lambda: ws.lower)
            thread.start()
            thread.join(timeout=30)
            assert not thread.is_alive()

    register_namespace("upper", Waiting)
    register_namespace("lower", fresh())

    assert isinstance(ws.upper, Waiting)


def test_neither_the_host_nor_its_namespaces_show_a_credential(ws: Workspace) -> None:
    register_namespace("mine", fresh())
    _ = ws.mine

    assert "secret" not in repr(ws)
    assert "secret" not in repr(vars(ws))
    assert "secret" not in repr(epista.namespaces())
    assert "secret" not in repr(namespaces._class("workspace").__dict__)


# --- Entry points


def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """Make a module ``plugged`` importable."""
    (tmp_path / "plugged.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "plugged", raising=False)


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, namespaces.ENTRY_POINTS)


def test_an_entry_point_is_listed_without_an_import(ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(tmp_path, monkeypatch, "class Mine:\n    def __init__(self, ws): self.ws = ws")
    namespaces.load([point("workspace.mine", "plugged:Mine")])

    assert "mine" in dir(ws)
    assert ("mine", "workspace", "plugged", "not loaded yet") in epista.namespaces()
    assert "plugged" not in sys.modules

    assert ws.mine.ws is ws
    assert ("mine", "workspace", "plugged", "loaded") in epista.namespaces()


def test_a_plug_in_may_name_its_class_and_register_it_too(ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
        import epista

        @epista.register_namespace("mine")
        class _Mine:
            def __init__(self, ws): pass

        Mine = _Mine
    """
    plugin(tmp_path, monkeypatch, source)
    namespaces.load([point("workspace.mine", "plugged:Mine")])

    assert ws.mine is ws.mine
    assert type(ws.mine).__name__ == "_Mine"


@pytest.mark.parametrize(
    "source",
    ["import no_such_package_at_all", "1 / 0", "other = 1", "Mine = 5", "class Mine(", "raise AttributeError('x')"],
)
def test_a_broken_plug_in_warns_once_and_is_left_out(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    plugin(tmp_path, monkeypatch, source)
    namespaces.load([point("workspace.mine", "plugged:Mine")])

    with pytest.warns(RuntimeWarning, match="the namespace mine of plugged is left out") as warned:
        assert not hasattr(ws, "mine")

    assert len(warned) == 1
    assert not hasattr(ws, "mine")
    assert "mine" not in dir(ws)
    assert ws.url
    with pytest.raises(AttributeError, match="'mine' is left out: "):
        _ = ws.mine
    (row,) = (row for row in epista.namespaces() if row.name == "mine")
    assert "Error" in row.state


@pytest.mark.parametrize("name", ["mine", "session.mine", "workspace.get", "workspace.", "workspace.a.b", "workspace.taken"])
def test_an_entry_point_that_cannot_be_is_left_out(name: str, ws: Workspace) -> None:
    register_namespace("taken", Counted)
    was = dir(ws)

    with pytest.warns(RuntimeWarning, match="is left out"):
        namespaces.load([point(name, "plugged:Mine")])

    assert dir(ws) == was
    assert [row for row in epista.namespaces() if row.source == "plugged"]


def test_a_warning_that_is_an_error_leaves_the_other_plug_ins(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin(tmp_path, monkeypatch, "class Mine:\n    def __init__(self, ws): pass")

    with pytest.raises(RuntimeWarning, match="is left out"):
        namespaces.load([point("workspace.get", "plugged:Mine"), point("workspace.mine", "plugged:Mine")])

    assert hasattr(ws, "mine")


def test_a_missing_extra_of_ours_is_told_and_not_hidden(ws: Workspace) -> None:
    def load() -> Any:
        raise epista.MissingExtraError("no flowio", hint='pip install "epista[flow]"')

    namespaces._put(Namespace("mine", "workspace", "epista.client.mine:Mine", "epista", load), override=False)

    for _ in range(2):
        with pytest.raises(epista.MissingExtraError, match="no flowio"):
            hasattr(ws, "mine")


def test_threads_that_load_a_plug_in_at_once_get_one_class(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = """
        import time
        import epista
        time.sleep(0.1)

        @epista.register_namespace("mine")
        class Mine:
            def __init__(self, ws): pass
    """
    plugin(tmp_path, monkeypatch, source)
    namespaces.load([point("workspace.mine", "plugged:Mine")])
    found = []
    threads = [threading.Thread(target=lambda: found.append(ws.mine)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 6
    assert len({id(one) for one in found}) == 1


def test_an_experiment_and_its_copy_have_each_their_own(http_ws: Workspace) -> None:
    register_namespace("mine", fresh(), on="experiment")
    exp = http_ws.create_experiment("EXP-12")

    assert exp.mine.host is exp
    assert copy.copy(exp).mine.host is not exp
    assert copy.copy(exp) == exp == http_ws.experiment("EXP-12")
    assert "mine" in dir(exp)
    assert hash(exp) == hash(http_ws.experiment("EXP-12"))
    with pytest.raises(ConflictError, match="is an attribute of every experiment"):
        register_namespace("raw", Counted, on="experiment", override=True)
    with pytest.raises(AttributeError):
        exp.mine = 5


def test_members_of_an_experiment_know_their_workspace(http_ws: Workspace) -> None:
    register_namespace("mine", fresh(), on="asset")
    http_ws.put("EXP-12/a.json", [1])

    (member,) = http_ws.experiment("EXP-12").members

    assert isinstance(member, epista.Asset)
    assert member.workspace is http_ws
    assert member.mine.host is member


def test_the_table_shows_itself() -> None:
    register_namespace("mine", fresh())

    assert "mine" in repr(epista.namespaces())
    assert "<table>" in epista.namespaces()._repr_html_()


# --- A package of somebody else


def test_the_package_of_the_guide_works_when_it_is_installed(tmp_path: Path) -> None:
    blocks = re.findall(r"^```(?:text|python)\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    (settings,) = (block for block in blocks if block.startswith("[build-system]"))
    (module,) = (block for block in blocks if block.startswith("# lab_tools.py"))
    project, site = tmp_path / "lab-tools", tmp_path / "site"
    project.mkdir()
    (project / "pyproject.toml").write_text(settings + '\n[tool.setuptools]\npy-modules = ["lab_tools"]\n')
    (project / "lab_tools.py").write_text(module)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--target"]
    subprocess.run([*install, str(site), str(project)], check=True, timeout=120)
    uses = """
        import sys
        import epista

        with epista.Workspace("./lab") as ws:
            assert "tools" in dir(ws) and "lab_tools" not in sys.modules
            row, = [row for row in epista.namespaces() if row.name == "tools"]
            assert row == ("tools", "workspace", "lab-tools 1.0", "not loaded yet"), row
            ws.put("EXP-12/a.tally", [17, 23], format="tally")
            assert ws.fetch("EXP-12/a.tally").read_text() == "17\\n23\\n"
            assert ws.tools.total("EXP-12/a.tally") == 40
            assert type(ws.tools).__module__ == "lab_tools"
        parsed = epista.naming.parse("data/rig2-M2501-20231213")
        assert (parsed.convention, parsed.subject_id, parsed.platform) == ("lab", "M2501", "rig2")
        assert epista.naming.format(parsed) == "rig2-M2501-20231213"
    """
    used = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import epista.naming\n" + textwrap.dedent(uses)],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": f"{site}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert used.returncode == 0, used.stderr


# --- Ours


def test_ours_are_there_and_typed_for_editors(ws: Workspace) -> None:
    for place, target in namespaces.OURS.items():
        on, _, name = place.partition(".")
        cls = namespaces._class(on)
        found = vars(cls)[name]
        module = ast.parse(inspect.getsource(sys.modules[cls.__module__]))
        typed = {
            node.target.id: ast.unparse(node.annotation)
            for node in ast.walk(module)
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }

        assert found.source == "epista"
        assert found._loaded() is namespaces._named(target)
        assert typed[name] == target.partition(":")[2]
    assert type(ws.flow).__name__ == "Flow"
