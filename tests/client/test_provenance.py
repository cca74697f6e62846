"""What a session notes of what it reads, and of who reads it."""

from __future__ import annotations

import contextvars
import subprocess
import sys
import threading
from pathlib import Path

import jupyter_client.manager
import msgspec
import pytest

from epista.client.provenance import Provenance, without_secrets
from epista.contract.lineage import MAX_READ, Activity


def test_what_is_written_names_what_was_read_before() -> None:
    provenance = Provenance()

    provenance.read(["ve_1", "ve_2"])
    provenance.read(["ve_1"])
    provenance.queried("qu_1")

    told = provenance.activity()
    assert (told.read, told.queries, told.title, told.left_out) == (("ve_2", "ve_1"), ("qu_1",), None, 0)


def test_a_run_narrows_it_to_what_was_read_inside() -> None:
    provenance = Provenance()
    provenance.read(["ve_before"])

    with provenance.run("outer"):
        provenance.read(["ve_outer"])
        with provenance.run("inner"):
            provenance.read(["ve_inner"])
            inner = provenance.activity()
        outer = provenance.activity()

    assert (inner.title, inner.read) == ("inner", ("ve_inner",))
    assert (outer.title, outer.read) == ("outer", ("ve_outer", "ve_inner"))
    assert provenance.activity().read == ("ve_before", "ve_outer", "ve_inner")


def test_a_run_ends_with_an_error_too() -> None:
    provenance = Provenance()

    with pytest.raises(ZeroDivisionError), provenance.run("fails"):
        raise ZeroDivisionError

    assert provenance.activity().title is None


def test_runs_of_two_sessions_do_not_mix() -> None:
    one, other = Provenance(), Provenance()

    with one.run("one"), other.run("other"):
        one.read(["ve_1"])
        other.read(["ve_2"])
        told = one.activity(), other.activity()

    assert [(each.title, each.read) for each in told] == [("one", ("ve_1",)), ("other", ("ve_2",))]


def test_runs_of_two_threads_do_not_mix() -> None:
    provenance = Provenance()
    both_inside = threading.Barrier(2, timeout=30)
    told: dict[str, Activity] = {}

    def work(name: str) -> None:
        with provenance.run(name):
            both_inside.wait()
            provenance.read([f"ve_{name}"])
            both_inside.wait()
            told[name] = provenance.activity()

    threads = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {name: one.read for name, one in told.items()} == {"a": ("ve_a",), "b": ("ve_b",)}


def test_a_thread_in_a_copy_of_the_context_reads_for_the_run() -> None:
    provenance = Provenance()

    with provenance.run("with threads"):
        thread = threading.Thread(target=contextvars.copy_context().run, args=(provenance.read, ["ve_1"]))
        thread.start()
        thread.join()
        told = provenance.activity()

    assert told.read == ("ve_1",)


def test_of_very_much_the_newest_is_named_and_the_rest_counted() -> None:
    provenance = Provenance()

    provenance.read(f"ve_{number}" for number in range(100_000))

    told = provenance.activity()
    assert (len(told.read), told.read[-1], told.left_out) == (MAX_READ, "ve_99999", 100_000 - MAX_READ)
    assert msgspec.json.decode(msgspec.json.encode(told), type=Activity) == told


def test_whoever_states_inputs_names_nothing_else() -> None:
    provenance = Provenance()
    provenance.read(["ve_1"])
    provenance.queried("qu_1")

    told = provenance.stated(["qu_2"])

    assert (told.read, told.queries) == ((), ("qu_2",))


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ('Workspace("./lab", token="abc def")', 'Workspace("./lab", token="...")'),
        ("db_password = 'x\"y'", "db_password = '...'"),
        ('{"api_key": "1"}', '{"api_key": "..."}'),
        ("use('epista_pat_a-b_c9')", "use('...')"),
        ("tokens = [1]; print('secret')", "tokens = [1]; print('secret')"),
    ],
)
def test_a_cell_is_kept_without_its_secrets(source: str, kept: str) -> None:
    assert without_secrets(source) == kept


SCRIPT = """
import msgspec, sys
from epista.client.provenance import Provenance
sys.stdout.write(msgspec.json.encode(Provenance(records_code={records}).activity()).decode())
"""


def _told(path: Path, *, records: bool = True) -> Activity:
    path.write_text(SCRIPT.format(records=records), encoding="utf-8")
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=True, cwd="/")
    return msgspec.json.decode(done.stdout, type=Activity)


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_a_script_is_told_from_the_root_of_its_repository(tmp_path: Path) -> None:
    folder = tmp_path / "pipelines" / "plates"
    folder.mkdir(parents=True)
    _git(tmp_path, "init", "-q")
    (folder / "normalise.py").write_text(SCRIPT.format(records=True), encoding="utf-8")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-qm", "first")

    clean = _told(folder / "normalise.py")
    (folder / "other.py").write_text("1")
    _git(tmp_path, "add", ".")
    changed = _told(folder / "normalise.py")

    assert (clean.script, clean.git_commit, clean.is_dirty) == (
        "pipelines/plates/normalise.py",
        _git(tmp_path, "rev-parse", "HEAD"),
        False,
    )
    assert changed.is_dirty is True
    assert str(tmp_path) not in msgspec.json.encode(clean).decode()


def test_a_script_outside_of_git_is_told_by_its_name_alone(tmp_path: Path) -> None:
    told = _told(tmp_path / "loose.py")

    assert (told.script, told.git_commit, told.is_dirty, told.cell) == ("loose.py", None, None, None)


def test_code_is_left_out_if_the_settings_say_so(tmp_path: Path) -> None:
    told = _told(tmp_path / "loose.py", records=False)

    assert (told.script, told.cell) == (None, None)


CELL = """
from epista.client.provenance import current_cell
token = "abc"
print(current_cell().number, current_cell().id)
print(current_cell().source)
"""


def test_the_cell_of_a_kernel_is_told_with_its_id_and_source() -> None:
    manager, client = jupyter_client.manager.start_new_kernel(kernel_name="python3")
    try:
        content = {"code": CELL, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": True}
        client.execute_interactive("1 + 1", timeout=60)
        asked = client.session.msg("execute_request", content | {"user_expressions": {}})
        asked["metadata"]["cellId"] = "cell-of-the-test"
        client.shell_channel.send(asked)
        printed = ""
        while True:
            message = client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != asked["header"]["msg_id"]:
                continue
            if message["msg_type"] == "stream":
                printed += message["content"]["text"]
            assert message["msg_type"] != "error", message["content"]
            if message["content"].get("execution_state") == "idle":
                break
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)

    assert printed == "2 cell-of-the-test\n" + CELL.replace('"abc"', '"..."')


def test_outside_of_a_notebook_there_is_no_cell() -> None:
    probe = "import sys; from epista.client.provenance import current_cell; print(current_cell(), 'IPython' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True).stdout == "None False\n"
