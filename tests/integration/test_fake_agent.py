# SPDX-License-Identifier: Apache-2.0
"""The fake ECS agent against recordings of the real one (tests/data/ecs-agent-1.83.0.json); the other local fakes."""

import http.client
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time

import black_hole
import pytest
from fake_docker import FakeDocker
from fake_ecs_agent_log import AgentLog, Duration, Moment, go_duration
from rig import Rig

with open(pathlib.Path(__file__).resolve().parents[1] / "data" / "ecs-agent-1.83.0.json", encoding="utf-8") as _file:
    RECORDED = json.load(_file)


@pytest.fixture
def rig():
    with Rig(daemon=False, size=3, heartbeat=0.3) as one:
        yield one


@pytest.fixture
def old():
    with Rig(daemon=False, size=3, agent=["--release", "1.83.0", "--tasks", "0"]) as one:
        yield one


def lines(rig):
    return (rig.root / "var/log/ecs/ecs-agent.log").read_text().splitlines()


def messages(rig):
    return [re.search(r'msg="((?:[^"\\]|\\.)*)"', line)[1] for line in lines(rig) if line.startswith("level=")]


def wait_line(rig, text, timeout=10):
    rig.wait_for(lambda: any(text in one for one in messages(rig)), timeout, f"the line {text!r}")


# -- introspection ------------------------------------------------------------------------------------------------

def exchange(port, request, half_close=False, timeout=3):
    """Send @request, read until the answer is whole or the connection ends. Return (bytes, still open)."""
    with socket.create_connection(("127.0.0.1", port), timeout) as one:
        one.sendall(request.encode())
        if half_close:
            one.shutdown(socket.SHUT_WR)
        one.settimeout(0.3)
        data = b""
        while True:
            try:
                part = one.recv(65536)
            except TimeoutError:
                return data, True
            if not part:
                return data, False
            data += part


def plain_answer(data):
    head, _, body = data.partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    headers = [[name, "*" if name == "Date" else value] for name, value in (line.split(": ", 1) for line in rest)]
    return first, headers, body.decode()


@pytest.mark.parametrize("state", ["registered", "with-task", "raw"])
def test_introspection_answers_as_recorded(state):
    import asyncio

    import fake_introspection
    rows = [row for row in RECORDED["introspection"] if row["state"] == state]
    metadata = next(json.loads(row["body"]) for row in rows if '"ContainerInstanceArn"' in row["body"])
    server = fake_introspection.Introspection(metadata, sniffed=True)
    for row in rows:
        if row["body"].startswith('{"Tasks":[{'):
            server.tasks = json.loads(row["body"])["Tasks"]

    async def ask(row, port):
        half = "half-closed" in row.get("title", "")
        return await asyncio.to_thread(exchange, port, row["request"], half)

    async def run():
        port = await server.start("::ffff:127.0.0.1", 0)
        answers = await asyncio.gather(*[ask(row, port) for row in rows])
        server.stop()
        return answers

    for row, (data, still_open) in zip(rows, asyncio.run(run())):
        assert plain_answer(data) == (row["status_line"], row["headers"], row["body"]), row["request"]
        if "stays_open" in row:
            assert still_open == row["stays_open"], row["title"]


def test_large_lists_are_chunked_and_in_another_order_each_time(rig):
    rig.agent("tasks 300 5 2")
    url = http.client.HTTPConnection("127.0.0.1", rig.introspection_port, timeout=5)
    orders = []
    for _ in range(2):
        url.request("GET", "/v1/tasks")
        response = url.getresponse()
        assert response.headers["Transfer-Encoding"] == "chunked" and "Content-Length" not in response.headers
        body = response.read()
        assert len(body) > 200_000 and b"\\u003c" in body
        tasks = json.loads(body)["Tasks"]
        orders.append([one["Arn"] for one in tasks])
        assert sum(one["DesiredStatus"] != one["KnownStatus"] for one in tasks) == 5
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])
    url.close()
    data, still_open = exchange(rig.introspection_port, "GET /v1/tasks HTTP/1.0\r\n\r\n")
    assert b"Content-Length" not in data and not still_open and data.endswith(b"]}")


def test_nothing_asked_is_closed_after_five_seconds(rig):
    with socket.create_connection(("127.0.0.1", rig.introspection_port), 8) as one:
        began = time.monotonic()
        assert one.recv(1) == b"" and 4 < time.monotonic() - began < 7


def get(rig, path, timeout=0.5):
    one = http.client.HTTPConnection("127.0.0.1", rig.introspection_port, timeout=timeout)
    try:
        one.request("GET", path)
        return one.getresponse().read()
    finally:
        one.close()


def test_introspection_can_hang_be_late_and_be_wrong(rig):
    rig.agent("hang tasks")
    assert rig.own.arn.encode() in get(rig, "/v1/metadata")
    with pytest.raises(TimeoutError):
        get(rig, "/v1/tasks")
    rig.agent("hang off")
    rig.agent("delay tasks 0.2")
    began = time.monotonic()
    assert get(rig, "/v1/tasks").startswith(b'{"Tasks"') and time.monotonic() - began >= 0.2
    rig.agent("wrong metadata null-arn")
    assert json.loads(get(rig, "/v1/metadata"))["ContainerInstanceArn"] is None
    rig.agent("wrong metadata off")
    assert rig.own.arn.encode() in get(rig, "/v1/metadata")
    with pytest.raises(ValueError):
        rig.agent("wrong metadata nonsense")


def test_a_stopped_agent_accepts_and_does_not_answer_and_a_killed_one_refuses(rig):
    rig.kill_agent(signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        get(rig, "/v1/metadata")
    rig.wait_for(lambda: not rig.own.agent_connected, 10, "heartbeats to be missed")
    rig.kill_agent(signal.SIGCONT)
    rig.wait_for(rig.linked, 10, "the link again")
    rig.kill_agent()
    with pytest.raises(ConnectionRefusedError):
        get(rig, "/v1/metadata")
    rig.wait_for(lambda: not rig.own.agent_connected, 5, "the link to be gone")


# -- log ----------------------------------------------------------------------------------------------------------

def shape(level, msg, fields, module):
    """What a line is apart from its numbers."""
    return level, re.sub(r"\d[\d.]*", "#", msg), tuple(fields), module


def recorded_shapes(*names):
    return [shape(*row) for name in names for row in RECORDED["log"][name]]


def written_shapes(rig):
    shapes = []
    for line in lines(rig):
        match = re.match(r'level=(\w+) time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ msg="((?:[^"\\]|\\.)*)"(.*)$', line)
        if match:
            fields = sorted(set(re.findall(r' (\w+)=(?:"(?:[^"\\]|\\.)*"|\S+)', match[3])) - {"module"})
            module = re.search(r" module=(\S+)$", match[3])
            shapes.append(shape(match[1], match[2], fields, module[1] if module else None))
    return shapes


def test_the_lines_of_a_cut_are_the_recorded_ones(old):
    before = len(written_shapes(old))
    old.drop_link()
    old.wait_for(lambda: messages(old).count("Failed to connect to ACS") >= 4, 10, "four tries")
    old.restore_link()
    old.wait_for(old.linked, 10, "the link again")
    written = written_shapes(old)[before:]
    known = recorded_shapes("02-acs-cut-and-refused-45s", "03-acs-restored-45s")
    assert set(written) - set(known) == set()
    acs = [one for one in written if "ACS" in one[1]]
    assert acs[0][1] == "Waiting before reconnecting to ACS" and acs[-1][1] == "Connected to ACS endpoint"
    wanted = [one for one in recorded_shapes("02-acs-cut-and-refused-45s") if "ACS" in one[1]]
    assert acs[:6] == wanted[:6]


def test_the_lines_of_start_close_frame_and_stop_are_recorded_ones(old):
    old.control.close()
    wait_line(old, "Reconnecting to ACS immediately without waiting")
    old.wait_for(lambda: messages(old).count("Connected to ACS endpoint") == 2, 5, "the second connection")
    old.agent("terminate")
    assert old.agent.process.wait(5) == 0
    known = recorded_shapes(*RECORDED["log"])
    # ours is shortened, and holds no line that the real one did not write
    assert set(written_shapes(old)) - set(known) == set()
    close = [one[1] for one in written_shapes(old) if one in recorded_shapes("04-acs-close-frame-reconnect")]
    assert "ACS WebSocket connection closed for a valid reason" in close
    assert messages(old)[-1] == "ACS session ended (context closed)"


def test_a_refused_registration_ends_with_one_and_never_opens_the_port():
    with Rig(daemon=False, agent=None) as rig:
        process = subprocess.run(
            ["/usr/bin/python3", "fake_ecs_agent.py", "--root", str(rig.root), "--control-url", rig.control.url,
             "--arn", rig.own.arn, "--release", "1.83.0", "--register", "refused", "--detached"], cwd=pathlib.Path(__file__).parent,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
        assert process.returncode == 1
        known = recorded_shapes("10-cold-start-backend-refused")
        about = lambda shapes: [one for one in shapes if "regist" in one[1]]  # noqa: E731
        assert about(written_shapes(rig)) == about(known)


@pytest.mark.parametrize("arguments", [[], ["--json"]])
def test_the_new_release_says_more(arguments):
    with Rig(daemon=False, agent=arguments) as rig:
        rig.drop_link()
        rig.wait_for(lambda: any("Failed to connect to ACS" in line for line in lines(rig)), 10, "a failed try")
        text = "\n".join(lines(rig))
        assert "ACS WebSocket connection closed" in text and "lastConnectedTime" in text
        if arguments:
            rows = [json.loads(line) for line in lines(rig)]
            one = next(row for row in rows if row["msg"] == "Websocket connection established.")
            assert isinstance(one["maxConnectionDuration"], int) and list(rows[0])[:3] == ["level", "time", "msg"]


def test_commands_write_what_they_should(rig):
    rig.agent("wedge")
    wait_line(rig, "Disconnected from ACS")
    count = len(lines(rig))
    rig.holds_for(lambda: not any("ACS" in one for one in messages(rig)[count:]), 0.5, "no word of ACS")
    rig.agent("restore")
    rig.wait_for(rig.linked, 5, "the link again")
    rig.agent("reconnect")
    wait_line(rig, "Disconnected from server.")
    rig.wait_for(rig.linked, 5, "the link again")
    rig.agent("deregister")
    wait_line(rig, "Container instance is deregistered")
    assert 'reconnectDelay="3m0s"' in "\n".join(lines(rig))  # an hour, times 0.05
    rig.agent("update 0.2")
    wait_line(rig, "Restored from checkpoint file")
    rig.wait_for(rig.linked, 5, "the link again")
    rig.agent("drop timeout")
    wait_line(rig, "i/o timeout")
    assert any("dial tcp 127.0.0.1" in one for one in messages(rig))
    rig.agent("exit 5")
    assert rig.agent.process.wait(5) == 5 and "Agent will terminally exit" in messages(rig)[-1]


def test_rotation_of_every_kind_and_a_silent_log(rig):
    log = rig.root / "var/log/ecs/ecs-agent.log"
    inode = log.stat().st_ino
    rig.agent("rotate copytruncate")
    assert log.stat().st_ino == inode and log.stat().st_size == 0
    rig.agent("say info after")
    rig.agent("rotate rename")
    assert log.stat().st_ino != inode and log.with_name("ecs-agent.log.2").stat().st_ino == inode
    rig.agent("log off")
    rig.agent("say info silent")
    rig.agent("log on")
    rig.agent("log warn")
    rig.agent("say info hidden")
    rig.agent("say warn heard")
    assert messages(rig) == ["heard"]
    rig.agent("line half a li\tne")
    assert lines(rig)[-1] == "half a li\tne"


def test_a_flood_is_as_fast_as_recorded_ones(rig):
    log = rig.root / "var/log/ecs/ecs-agent.log"
    began, size = time.monotonic(), log.stat().st_size
    rig.agent("flood")
    rig.wait_for(lambda: log.stat().st_size - size > 500_000, 10, "half a megabyte")
    assert time.monotonic() - began > 0.5
    rig.agent("flood off")
    assert shape("error", messages(rig)[-1], [], "docker_client.go") in recorded_shapes("16-dockerd-stopped")


@pytest.mark.parametrize("seconds,text", [
    (0.274615086, "274.615086ms"), (1.478829072, "1.478829072s"), (73.4, "1m13.4s"), (3600, "1h0m0s"), (0, "0s"),
    (1867.123456789, "31m7.123456789s"), (120, "2m0s")])
def test_durations_are_written_as_go_does(seconds, text):
    assert go_duration(seconds) == text


def test_values_are_quoted_as_go_does(tmp_path):
    log = AgentLog(str(tmp_path))
    line = log.line("info", 'say "a\\b"\n', {"d": Duration(1.5), "t": Moment(0)}, "x.go")
    assert r'msg="say \"a\\b\"\n"' in line and " d=1.5s" in line and line.endswith(" module=x.go")
    assert " t=1970-01-01 00:00:00.000000000 +0000 UTC m=+7.654321098" in line


# -- links ----------------------------------------------------------------------------------------------------------

def established(pid, port):
    """TCP connections of process @pid to @port that are established."""
    inodes = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return sum(row[9] in inodes and row[3] == "01" and int(row[2].split(":")[1], 16) == port for row in rows)


def test_api_connections_outlive_the_links_as_recorded(rig):
    counts = RECORDED["connections_to_control_plane"]
    count = lambda: established(rig.agent.pid, rig.control.port)  # noqa: E731
    rig.wait_for(lambda: count() == counts["01-registered"], 5, "four connections")
    rig.drop_link("port")
    rig.wait_for(lambda: not rig.own.agent_connected and count() == counts["02-acs-cut-and-refused-45s"], 5, "two")
    rig.holds_for(lambda: count() == 2, 0.5, "two connections")
    rig.restore_link()
    rig.wait_for(lambda: count() == counts["03-acs-restored-45s"], 10, "four connections again")


def test_the_control_plane_answers_http_unless_it_refuses_all(rig):
    def status():
        one = http.client.HTTPConnection("127.0.0.1", rig.control.port, timeout=2)
        try:
            one.request("GET", "/")
            return one.getresponse().status
        finally:
            one.close()

    assert status() == 403
    rig.control.refuse("links")
    assert status() == 403
    rig.control.refuse("all")
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        status()
    rig.control.refuse("port")
    with pytest.raises(ConnectionRefusedError):
        status()


def test_agent_connected_follows_the_link_unless_forced(rig):
    assert rig.own.agent_connected
    rig.fake.world.force_connected(rig.own.arn, False)
    assert not rig.own.agent_connected
    rig.fake.world.force_connected(rig.own.arn, None)
    assert rig.own.agent_connected
    rig.drop_link()
    rig.wait_for(lambda: not rig.own.agent_connected, 5, "agentConnected=false")


def test_links_over_tls():
    with Rig(daemon=False, tls=True) as rig:
        assert rig.control.url.startswith("https://") and rig.own.agent_connected


@black_hole.in_namespace
def test_dropped_packets_leave_the_link_established_until_heartbeats_are_missed():
    with Rig(daemon=False, size=3, heartbeat=0.3, time_scale=1.0) as rig:
        black_hole.drop_packets(rig.control.port)
        rig.wait_for(lambda: not rig.own.agent_connected, 10, "missed heartbeats")
        assert rig.agent("status")["connected"]  # it has not noticed
        assert established(rig.agent.pid, rig.control.port) == 4


# -- docker and systemd -----------------------------------------------------------------------------------------------

def docker_get(path, request, timeout=0.5):
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(timeout)
        one.connect(path)
        one.sendall(f"GET {request} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while part := one.recv(4096):
            data += part
        return data.partition(b"\r\n\r\n")[2]


def test_docker_pings_lists_hangs_and_goes(tmp_path):
    docker = FakeDocker(str(tmp_path / "docker.sock")).start()
    assert docker_get(docker.path, "/_ping") == b"OK"
    assert docker_get(docker.path, "/containers/json?limit=1") == b"[]\n"
    docker.mode = "hang-list"
    assert docker_get(docker.path, "/_ping") == b"OK"
    with pytest.raises(TimeoutError):
        docker_get(docker.path, "/containers/json?limit=1")
    docker.mode = "hang"
    with pytest.raises(TimeoutError):
        docker_get(docker.path, "/_ping")
    docker.closed()
    with pytest.raises(ConnectionRefusedError):
        docker_get(docker.path, "/_ping")
    docker.gone()
    with pytest.raises(FileNotFoundError):
        docker_get(docker.path, "/_ping")


def test_systemd_restarts_the_agent_and_tells_of_operators():
    dbus = pytest.importorskip("dbus")
    with Rig(daemon=False, size=2, units=True) as rig:
        bus = dbus.bus.BusConnection(rig.bus_address)
        manager = dbus.Interface(bus.get_object("org.freedesktop.systemd1", "/org/freedesktop/systemd1"),
                                 "org.freedesktop.systemd1.Manager")

        def value(name, unit="ecs.service", interface="Unit"):
            one = bus.get_object("org.freedesktop.systemd1", manager.GetUnit(unit))
            return one.Get(f"org.freedesktop.systemd1.{interface}", name,
                           dbus_interface="org.freedesktop.DBus.Properties")

        assert (value("ActiveState"), value("SubState"), value("UnitFileState")) == ("active", "running", "enabled")
        rig.kill_agent()
        rig.systemd("exit ecs.service 5")
        assert (value("ActiveState"), value("ExecMainStatus", interface="Service")) == ("failed", 5)
        manager.RestartUnit("ecs.service", "replace")
        assert value("Job")[0] != 0
        rig.wait_for(rig.linked, 10, "the restarted agent")
        assert value("ActiveState") == "active" and value("Job")[0] == 0

        rig.systemd("stop docker.service")
        rig.wait_for(lambda: value("ActiveState") == "inactive", 5, "ecs.service to follow docker.service")
        rig.systemd("mask ecs.service")
        assert value("LoadState") == "masked"
        rig.systemd("deny on")
        with pytest.raises(dbus.DBusException) as refused:
            manager.RestartUnit("docker.service", "replace")
        assert refused.value.get_dbus_name().endswith("InteractiveAuthorizationRequired")
        with pytest.raises(dbus.DBusException) as unknown:
            manager.GetUnit("no.service")
        assert unknown.value.get_dbus_name() == "org.freedesktop.systemd1.NoSuchUnit"
        bus.close()
