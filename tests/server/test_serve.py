"""`epista serve` as a process: what it says when it starts, and how its workers share the work."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests import processes
from tests.makers import Api


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    return tmp_path / "lab"


def refusal(folder: Path, **given: object) -> str:
    """Return what it says on stderr when it does not start."""
    server = processes.spawn_served(folder, **given)  # type: ignore[arg-type] # any setting
    try:
        assert server.wait() == 3
    finally:
        server.end()
    assert "Traceback" not in server.said()
    return server.said()


def test_a_new_lab_prints_its_address_and_a_link_that_works_once(lab: Path) -> None:
    with processes.served(lab, token="not signed in yet") as server:
        assert server.lines[0] == f"Epista serves {lab} at {server.url}"
        assert server.link and server.link.startswith(f"{server.url}/sign-in#")

        server.token = processes.sign_in(server.url, server.link)
        again = Api(server.url, None).post("/sign-in", code=server.link.partition("#")[2])

        assert server.api().ok(server.api().get("/me"))["user"] == "admin"
        assert again.status_code == 401


def test_a_link_is_printed_until_somebody_is_signed_in_and_then_on_request_only(lab: Path) -> None:
    with processes.served(lab, token="nobody signs in") as server:
        assert server.link
    with processes.served(lab) as server:
        assert server.link, "nobody has signed in yet"
        token = server.token
    with processes.served(lab, token=token) as server:
        assert server.link is None
        assert server.api().get("/me").status_code == 200
    with processes.served(lab, new_link=True) as server:
        assert server.link
        assert server.api().get("/me").status_code == 200


def test_a_lab_can_be_made_ready_without_being_served(lab: Path) -> None:
    server = processes.spawn_served(lab, migrate_only=True)
    assert server.process.stdout
    line = processes.read_line(server.process.stdout)

    assert server.wait() == 0
    assert line == f"the lab in {lab} is up to date\n"
    assert (lab / "lab.db").exists()


def test_a_port_that_is_taken_is_named(lab: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        said = refusal(lab, port=port)

    assert said.startswith(f"SettingsError: cannot listen on 127.0.0.1:{port}")
    assert "--port" in said


def test_a_port_on_which_another_epista_serves_is_taken(lab: Path, tmp_path: Path) -> None:
    with processes.served(lab) as server:
        said = refusal(tmp_path / "another lab", port=int(server.url.rpartition(":")[2]))

    assert said.startswith("SettingsError: cannot listen")


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        pytest.param({"EPISTA_SERVER_WORKRES": "2"}, "nearest: 'workers'", id="unknown"),
        pytest.param({"EPISTA_SERVER_WORKERS": "many"}, "workers", id="no number"),
        pytest.param({"EPISTA_SERVER_BACKUP_ROOT": "somewhere"}, "no absolute path", id="relative"),
    ],
)
def test_a_setting_that_makes_no_sense_stops_the_start(lab: Path, environ: dict[str, str], named: str) -> None:
    said = refusal(lab, environ=environ)

    assert said.startswith("SettingsError: ")
    assert named in said
    assert not lab.exists()


def test_a_folder_that_is_no_lab_is_not_served(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"a photo")

    assert "is no lab" in refusal(tmp_path)


class TestTwoWorkers:
    @pytest.fixture
    def server(self, lab: Path) -> Iterator[processes.Server]:
        with processes.served(lab, workers=2) as server:
            yield server

    def test_both_serve_and_what_one_wrote_the_other_reads(self, server: processes.Server) -> None:
        sessions = [requests.Session() for _ in range(24)]
        headers = {"Authorization": f"Bearer {server.token}"}
        server.api().put("a.txt", b"text")
        address = f"{server.url}/api/v1/workspaces/lab/keys"

        answers = [session.get(address, headers=headers, timeout=60).text for session in sessions]
        connections = [len(worker.net_connections("tcp")) for worker in server.workers()]
        for session in sessions:
            session.close()

        assert answers == ["a.txt\n"] * 24
        # One socket listens; all others are ours.
        assert len(connections) == 2
        assert min(connections) > 1

    def test_conditional_puts_through_both_have_one_winner(self, server: processes.Server) -> None:
        statuses: list[int] = []
        threads = [
            threading.Thread(
                target=lambda number=number: statuses.append(
                    server.api().try_put("one.txt", f"by {number}".encode(), expect="absent").status_code
                )
            )
            for number in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(90)

        assert sorted(statuses) == [200] + [409] * 11

    def test_their_figures_are_summed(self, server: processes.Server) -> None:
        for _ in range(30):
            server.api().ok(server.api().get("/me"))

        # Each scrape is answered by one of them, and says the same.
        for _ in range(4):
            assert figure(server, 'epista_requests_total{endpoint="tokens.who",method="GET",status="200"}') == 30

    def test_a_worker_that_was_killed_leaves_nothing_in_flight(self, server: processes.Server) -> None:
        from tests.raw import Exchange

        with Exchange(server.api(), "POST", "/workspaces/lab/blobs", {"Content-Length": "1000000"}) as stalled:
            processes.wait_until(lambda: figure(server, "epista_requests_in_flight") == 2, "the stalled upload is counted")
            [busy] = [worker for worker in server.workers() if stalled.socket.getsockname()[1] in remote_ports(worker)]
            busy.kill()
            processes.wait_until(lambda: not processes.is_alive(busy.pid), "the busy worker is gone")
            processes.wait_until(lambda: len(server.workers()) == 2 and processes.answers(server.url), "it was replaced")

        # Only the scrape itself.
        assert figure(server, "epista_requests_in_flight") == 1


def remote_ports(worker: object) -> list[int]:
    import psutil

    assert isinstance(worker, psutil.Process)
    return [connection.raddr.port for connection in worker.net_connections("tcp") if connection.raddr]


def figure(server: processes.Server, name: str) -> float:
    """Return one figure of the server's metrics."""
    answer = requests.get(server.url + "/metrics", headers={"Authorization": f"Bearer {server.token}"}, timeout=60)
    assert answer.status_code == 200, answer.text
    return next((float(line.rpartition(" ")[2]) for line in answer.text.splitlines() if line.startswith(f"{name} ")), 0.0)
