# SPDX-License-Identifier: Apache-2.0
"""Settings as people get them wrong, as they are changed under a running daemon, and what systemd hears of it."""

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import time

import pytest
from rig import QUICK, Rig, binary, merged, watching

# name: (text of the file, what the problem must say)
BAD = {
    "unknown key": ('{"graze": "5m"}', ["graze", "unknown", "grace"]),
    "unknown key in a group": ('{"brakes": {"max_sik": "10%"}}', ["brakes.max_sik", "max_sick"]),
    "wrong type": ('{"repair": {"enabled": "maybe"}}', ["repair.enabled", "true"]),
    "wrong type of a group": ('{"brakes": 5}', ["brakes"]),
    "no duration": ('{"grace": "8 parsecs"}', ["grace", "8 parsecs"]),
    "out of range": ('{"brakes": {"max_sick": "101%"}}', ["brakes.max_sick", "101%"]),
    "too large a number": ('{"grace": 1e30}', ["grace"]),
    "negative": ('{"grace": -5}', ["grace"]),
    "not a choice": ('{"action": "destroy"}', ["action", "destroy", "observe"]),
    "a later version's": ('{"notify": {"sns_topic": null}}', ["notify", "does not have it yet"]),
    "syntax": ('{\n  "grace": "5m",\n}', ["line 2"]),
    "empty": ("", ["line 1"]),
    "not an object": ('["grace"]', ["object"]),
    "trailing text": ('{"grace": "5m"} x', ["line 1"]),
    "a key twice": ('{"grace": "5m", "grace": "6m"}', ["grace", "twice"]),
    "invalid UTF-8": (b'{"metrics": {"namespace": "\xff\xfe"}}', ["UTF-8"]),
    "NUL": (b'{"grace": "5m"}\0', ["line 1"]),
    "deep": ("[" * 100000, ["line 1"]),
    "huge": ('{"grace": "5m"' + " " * 300000 + "}", ["256 KiB"]),
    "two that contradict": ('{"grace": "5m", "confirm": {"before": "6m"}}', ["confirm.before", "grace"]),
    "no path": ('{"ecs_agent": {"log": "relative.log"}}', ["ecs_agent.log", "/"]),
    "not this host": ('{"ecs_agent": {"endpoint": "http://10.0.0.1:51678"}}', ["ecs_agent.endpoint", "127.0.0.1"]),
    "no witness": ('{"witnesses": []}', ["witnesses"]),
}
# beyond a floor, which is lifted in the rig
FLOORS = {
    "grace": '{"grace": "179s"}', "grace_dead": '{"grace_dead": "2m"}', "brakes.max_sick": '{"brakes": {"max_sick": "51%"}}',
    "brakes.max_actions": '{"brakes": {"max_actions": "21%"}}', "brakes.window": '{"brakes": {"window": "9m"}}',
    "brakes.turn": '{"brakes": {"turn": "59s"}}', "brakes.boot_grace": '{"brakes": {"boot_grace": "2m"}}',
}
FLOORS_MET = {
    "grace": '{"grace": "180s"}', "grace_dead": '{"grace_dead": "3m"}', "brakes.max_sick": '{"brakes": {"max_sick": "50%"}}',
    "brakes.max_actions": '{"brakes": {"max_actions": "20%"}}', "brakes.window": '{"brakes": {"window": "10m"}}',
    "brakes.turn": '{"brakes": {"turn": "60s"}}', "brakes.boot_grace": '{"brakes": {"boot_grace": "3m"}}',
}


def config_path(rig):
    return rig.root / "etc/ecs-health-agent/config.json"


def write(rig, text):
    """Over the file, in place; an editor's way and a deployment tool's are rename, which rig.write_config() does."""
    config_path(rig).write_bytes(text if isinstance(text, bytes) else text.encode())


def said(rig, words):
    """A line of the log that refuses the settings with all of these words."""
    return any(all(word in line for word in words) and "config.json" in line for line in rig.log().splitlines())


def config_error(rig):
    """Maximum of the last datum of the metric; None before the first."""
    data = rig.fake.metrics_of("config_error", AutoScalingGroupName=rig.group)
    return data[-1].stats["Maximum"] if data else None


def wait_config_error(rig, value, timeout=60):
    rig.wait_for(lambda: config_error(rig) == value, timeout, f"config_error = {value}")


# -- refused --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", BAD)
def test_a_service_with_bad_settings_starts_and_only_observes(name):
    text, words = BAD[name]
    with Rig(daemon=False) as rig:
        write(rig, text)
        rig.drop_link()
        rig.start_daemon()
        status = rig.wait_status(lambda s: s["time"], 30, "a status")
        assert not status["settings"]["ok"] and status["settings"]["action"] == "observe" and not status["ok"]
        assert any("Settings were refused" in one for one in status["problems"])
        assert said(rig, words), f"{words} in: {rig.log()}"
        assert "what remains is in force, with action: observe" in rig.log()
        assert rig.daemon.poll() is None


@pytest.mark.parametrize("name", FLOORS)
def test_a_typo_beyond_a_floor_arms_nothing(name):
    with Rig(daemon=False, agent=None, environment={"ECS_HEALTH_AGENT_UNSAFE": None}) as rig:
        write(rig, FLOORS[name])
        rig.start_daemon()
        status = rig.wait_status(lambda s: s["time"], 30, "a status")
        assert not status["settings"]["ok"] and status["settings"]["action"] == "observe"
        assert said(rig, [name])
        # and the twin that just meets it
        write(rig, FLOORS_MET[name])
        rig.wait_status(lambda s: s["settings"]["ok"] and s["settings"]["action"] == "detach", 30, "good settings")


def test_bad_settings_of_a_service_are_a_metric():
    """The defaults publish once a minute, so this takes one to two."""
    with Rig() as rig:
        rig.wait_ready()
        rig.kill_daemon(signal.SIGTERM)
        write(rig, '{"graze": "5m"}')
        rig.start_daemon()
        rig.drop_link()
        wait_config_error(rig, 1, 180)
        assert rig.actions() == [] and rig.peek()["settings"]["action"] == "observe"
        # mended: applied, and counted no more
        rig.write_config()
        rig.wait_for(lambda: "New settings are in force" in rig.log(), 30, "the new settings")
        wait_config_error(rig, 0)
        rig.check_removed()


def test_a_directory_or_a_fifo_in_the_place_of_the_file_is_refused():
    for make in config_directory, config_fifo:
        with Rig(daemon=False, agent=None) as rig:
            config_path(rig).unlink()
            make(config_path(rig))
            rig.start_daemon()
            status = rig.wait_status(lambda s: s["time"], 30, "a status")
            assert status["settings"]["action"] == "observe" and not status["settings"]["ok"], make.__name__


def config_directory(path):
    path.mkdir()


def config_fifo(path):
    os.mkfifo(path)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused():
    with Rig(daemon=False, agent=None) as rig:
        config_path(rig).chmod(0)
        rig.start_daemon()
        status = rig.wait_status(lambda s: s["time"], 30, "a status")
        assert status["settings"]["action"] == "observe" and "permission" in str(status["settings"]["problems"])


def test_no_file_at_all_is_a_valid_configuration():
    with Rig(config=None, agent=None) as rig:
        # until the metadata service has said that there is no stack, it only observes
        status = rig.wait_status(lambda s: s["settings"]["action"] == "detach", 30, "the defaults")
        assert status["settings"]["ok"] and status["cloudformation"]["state"] == "none"


@pytest.mark.parametrize("text, status", [('{"graze": "5m"}', 2), ('{"grace": "5m"', 2), ('{"grace": "5m"}', None)],
                         ids=["unknown key", "syntax", "good"])
def test_a_start_on_a_terminal_is_refused(text, status):
    with Rig(daemon=False, agent=None) as rig:
        write(rig, text)
        ours, its = pty.openpty()
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, ours)
            daemon = subprocess.Popen([binary(), "run"], env=rig.environment(), stdin=its, stdout=its, stderr=its)
            stack.callback(daemon.wait)
            stack.callback(daemon.kill)
            os.close(its)
            seen = read_terminal(ours, daemon, b"watches http://" if status is None else None)
            if status is None:
                assert b"watches http://" in seen and daemon.poll() is None
            else:
                assert daemon.wait(20) == status
                assert b"config.json" in seen and b"nothing was started" in seen


def read_terminal(fd, daemon, until, timeout=30):
    """What the daemon writes until it ends, or until it has written @until."""
    seen, ends = b"", time.monotonic() + timeout
    while time.monotonic() < ends and not (until and until in seen):
        if select.select([fd], [], [], 0.1)[0]:
            try:
                part = os.read(fd, 65536)
            except OSError:  # EIO: the other end is closed
                break
            if not part:
                break
            seen += part
        elif daemon.poll() is not None:
            break
    return seen


# -- changed at run time --------------------------------------------------------------------------------------------

def test_bad_settings_at_run_time_leave_the_last_good_ones_in_force():
    with watching() as rig:
        pid = rig.daemon.pid
        wait_config_error(rig, 0)
        for text, words in (BAD["unknown key"], BAD["syntax"], BAD["out of range"]):
            write(rig, text)
            rig.wait_for(lambda w=words: said(rig, w), 20, f"{words} in the log")
        assert rig.log().count("the last good ones stay in force") == 3
        wait_config_error(rig, 1)
        status = rig.peek()
        assert not status["settings"]["ok"] and status["settings"]["action"] == "detach"
        # the good ones of before still act, within their own times
        rig.drop_link()
        rig.check_removed()
        # mended
        rig.write_config(merged(rig.config, {"cooldown": "1s"}))
        wait_config_error_of_host(rig, 0)
        assert rig.peek()["settings"]["ok"] and rig.daemon.pid == pid


def wait_config_error_of_host(rig, value):
    """A host that is out of its group publishes only itself."""
    def there():
        data = rig.fake.metrics_of("config_error", InstanceId=rig.instance)
        return data and data[-1].stats["Maximum"] == value

    rig.wait_for(there, 60, f"config_error = {value}")


def test_mended_settings_are_applied_and_clear_the_error():
    with watching() as rig:
        write(rig, '{"graze": 1}')
        wait_config_error(rig, 1)
        rig.write_config(merged(rig.config, {"action": "observe"}))
        wait_config_error(rig, 0)
        status = rig.peek()
        assert status["settings"]["ok"] and status["settings"]["action"] == "observe"
        rig.wait_for(lambda: rig.own.attributes.get("ecs-health-agent") == "observe", 30, "the attribute at ECS")


def test_the_same_bad_settings_are_complained_of_once():
    with watching() as rig:
        for _ in range(5):
            write(rig, '{"graze": 1}')
            rig.daemon.send_signal(signal.SIGHUP)
            time.sleep(0.1)
        rig.wait_for(lambda: said(rig, ["graze"]), 20, "the refusal")
        assert rig.log().count("the last good ones stay in force") == 1


def test_a_file_that_is_being_written_is_not_read_before_it_is_closed():
    with watching() as rig:
        config_path(rig).unlink()
        rig.wait_status(lambda s: s["settings"]["ok"] and "New settings" in rig.log(), 20, "the defaults")
        with open(config_path(rig), "w", encoding="ascii") as file:
            file.write('{"action": ')
            file.flush()
            time.sleep(0.5)
            assert "refused" not in rig.log()
            file.write('"observe"}')
        rig.wait_status(lambda s: s["settings"]["action"] == "observe", 20, "the new settings")
        assert "refused" not in rig.log()


@pytest.mark.parametrize("how", ["in place", "rename", "symlink", "hard link"])
def test_every_way_of_replacing_the_file_is_noticed(how):
    with watching() as rig:
        path = config_path(rig)
        text = json.dumps(merged(json.loads(path.read_text()), {"action": "observe"}))
        if how == "in place":
            write(rig, text)
        elif how == "rename":
            path.with_suffix(".new").write_text(text)
            path.with_suffix(".new").rename(path)
        elif how == "hard link":
            path.unlink()
            path.with_suffix(".new").write_text(text)
            os.link(path.with_suffix(".new"), path)
        else:  # as configuration managers switch between versions
            (path.parent / "v2").mkdir()
            (path.parent / "v2/config.json").write_text(text)
            path.with_suffix(".link").symlink_to("v2/config.json")
            path.with_suffix(".link").rename(path)
        rig.wait_status(lambda s: s["settings"]["action"] == "observe", 30, "the new settings")


def test_a_removed_file_means_the_defaults():
    with watching({"action": "observe"}) as rig:
        config_path(rig).unlink()
        status = rig.wait_status(lambda s: s["settings"]["action"] == "detach", 30, "the defaults")
        assert status["settings"]["ok"]


def test_grace_is_changed_while_it_runs():
    """Shorter: it ends at once. Longer: what has begun gets the longer time. No restart in either case."""
    with watching({"grace": "40s"}) as rig:
        rig.drop_link()
        status = rig.wait_stage("grace")  # once ECS is asked for a second opinion, after a quarter of it
        assert 20 < status["grace"]["ends_in_seconds"] <= 40
        pid = rig.daemon.pid
        rig.write_config(merged(rig.config, {"grace": "2h"}))
        rig.wait_status(lambda s: s["grace"]["ends_in_seconds"] > 6600, 20, "the longer grace")
        assert rig.actions() == []
        rig.write_config(merged(rig.config, {"grace": "1s"}))
        rig.check_removed()
        assert rig.daemon.pid == pid and rig.starts == 1


def test_action_observe_at_run_time_holds_and_detach_lets_go():
    with watching() as rig:
        rig.write_config(merged(rig.config, {"action": "observe"}))
        rig.wait_status(lambda s: s["settings"]["action"] == "observe", 20, "the new settings")
        rig.drop_link()
        rig.wait_held("observe")
        assert rig.actions() == []
        rig.write_config(merged(rig.config, {"action": "detach"}))
        rig.check_removed()


def test_a_flood_of_changes_is_survived():
    with watching() as rig:
        for number in range(100):
            rig.write_config(merged(rig.config, {"grace": f"{3600 + number}s", "metrics": {"sample": f"{500 + number}ms"}}))
        rig.write_config(merged(rig.config, {"action": "observe"}))
        rig.wait_status(lambda s: s["settings"]["action"] == "observe" and s["verdict"]["cause"] == "none", 40,
                        "the last of the settings")
        assert rig.actions() == []


# -- witnesses ------------------------------------------------------------------------------------------------------

NAMES = {"introspection": "introspection", "log": "agent log", "sockets": "agent sockets", "units": "units",
         "docker": "container runtime", "path": "path", "disks": "disks", "memory": "memory", "metadata": "metadata service"}


def sights(status):
    return {one["name"]: one["sight"] for one in status["witnesses"]}


def test_witnesses_that_are_switched_off_are_not_asked():
    on = ["introspection", "log", "sockets"]
    with watching({"witnesses": on}, docker=True) as rig:
        status = rig.peek()
        for option, name in NAMES.items():
            assert (sights(status)[name] == "off") == (option not in on), name
        time.sleep(2)
        assert not rig.docker.asked
        names = {one.name for one in rig.fake.metrics}
        assert not {"mem_used_percent", "disk_used_percent", "container_runtime_ping_time"} & names
        rig.drop_link()
        rig.check_removed()


def test_switching_witnesses_at_run_time_is_no_reason_to_act():
    with watching(docker=True) as rig:
        # the log tells the port of the control plane, which is not the usual one here
        for on in (["introspection", "log", "sockets"], ["log", "sockets"], ["introspection", "log"], "all"):
            rig.write_config(merged(rig.config, {"witnesses": on}))
            off = {name for option, name in NAMES.items() if on != "all" and option not in on} - {"path"}
            rig.wait_status(lambda s, off=off: {name for name, sight in sights(s).items() if sight == "off"} - {"path"} == off, 20,
                            f"{on} alone")
            rig.wait_status(lambda s: s["verdict"]["cause"] == "none", 20, "a well agent")
        assert rig.actions() == [] and rig.peek()["record"]["incident"] == 0
        rig.drop_link()
        rig.check_removed()


def test_one_witness_alone_does_not_act_against_the_word_of_ecs():
    with watching({"witnesses": ["introspection", "log"]}) as rig:
        rig.fake.world.force_connected(rig.instance, True)
        rig.drop_link()
        rig.wait_status(lambda s: any(one["reading"] == "down" for one in s["witnesses"]), 20, "the log's word")
        rig.holds_for(lambda: not rig.actions(), 5, "nothing done")
        rig.fake.world.force_connected(rig.instance, None)
        rig.check_removed()


def test_a_loss_that_nothing_looks_for_is_not_acted_on():
    with Rig(config=merged(QUICK, {"witnesses": ["disks", "memory", "metadata"], "ecs_agent": {"cluster": "demo"}})) as rig:
        rig.wait_status(lambda s: s["verdict"]["cause"] == "not_known", 30, "not known")
        rig.drop_link()
        rig.holds_for(lambda: not rig.actions(), 5, "nothing done")
        assert rig.peek()["verdict"]["cause"] == "not_known"


# -- systemd --------------------------------------------------------------------------------------------------------

class Notified:
    """The service manager's end of sd_notify()."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.path = str(path)
        self.messages = []

    def read(self):
        while select.select([self.socket], [], [], 0)[0]:
            self.messages.append(self.socket.recv(65536).decode())
        return self.messages

    def lines(self):
        return [line for message in self.read() for line in message.splitlines()]

    def close(self):
        self.socket.close()


@pytest.fixture
def notified(tmp_path):
    one = Notified(tmp_path / "notify")
    yield one
    one.close()


def test_systemd_hears_of_ready_status_reload_and_stop(notified):
    with Rig(config=QUICK, environment={"NOTIFY_SOCKET": notified.path}) as rig:
        rig.wait_for(lambda: "READY=1" in notified.lines(), 30, "READY=1")
        rig.wait_for(lambda: any(line.startswith("STATUS=The ECS agent is connected.") for line in notified.lines()), 30,
                     "a status")
        before = len(notified.messages)
        began = time.clock_gettime(time.CLOCK_MONOTONIC)
        rig.daemon.send_signal(signal.SIGHUP)
        rig.wait_for(lambda: notified.read()[before:].count("READY=1") == 1, 20, "READY=1 after a reload")
        later = [message for message in notified.messages[before:] if not message.startswith(("STATUS=", "WATCHDOG="))]
        assert len(later) == 2 and later[1] == "READY=1"
        match = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", later[0])
        assert match, later
        assert began <= int(match[1]) / 1e6 <= time.clock_gettime(time.CLOCK_MONOTONIC)
        # a word on what is going on, whenever that changes
        rig.drop_link()
        rig.wait_for(lambda: any("lost its connection" in line and line.startswith("STATUS=") for line in notified.lines()),
                     20, "the loss in the status")
        rig.check_removed()
        rig.wait_for(lambda: any("Stage: removed" in line for line in notified.lines()), 20, "the end in the status")
        rig.daemon.send_signal(signal.SIGTERM)
        assert rig.daemon.wait(20) == 0
        assert "STOPPING=1" in notified.lines()


def test_the_watchdog_is_fed(notified):
    environment = {"NOTIFY_SOCKET": notified.path, "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": None}
    with Rig(environment=environment) as rig:
        rig.wait_for(lambda: notified.lines().count("WATCHDOG=1") >= 4, 30, "four signs of life")
        # and not by the helper or a timer of its own when the loop stands still
        rig.daemon.send_signal(signal.SIGSTOP)
        notified.read()
        there = len(notified.messages)
        time.sleep(2)
        assert len(notified.read()) == there
        rig.daemon.send_signal(signal.SIGCONT)
        rig.wait_for(lambda: len(notified.read()) > there, 20, "a sign of life")


def test_bad_settings_do_not_keep_a_service_from_being_ready(notified):
    with Rig(daemon=False, agent=None, environment={"NOTIFY_SOCKET": notified.path}) as rig:
        write(rig, '{"graze": 1}')
        rig.start_daemon()
        rig.wait_for(lambda: "READY=1" in notified.lines(), 30, "READY=1")


def test_sighup_reads_a_file_in_a_directory_that_was_not_there():
    with Rig(config=QUICK, daemon=False) as rig:
        text = config_path(rig).read_text()
        config_path(rig).unlink()
        config_path(rig).parent.rmdir()
        rig.start_daemon()
        rig.wait_status(lambda s: s["settings"]["ok"], 30, "the defaults")
        config_path(rig).parent.mkdir()
        write(rig, json.dumps(merged(json.loads(text), {"action": "observe"})))
        rig.daemon.send_signal(signal.SIGHUP)
        rig.wait_status(lambda s: s["settings"]["action"] == "observe", 20, "the new settings")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_quick_and_orderly(number):
    with watching() as rig:
        rig.fake.fault("*", "hang")
        rig.fake.fault("imds", "hang")
        rig.agent("hang metadata")
        rig.drop_link()
        rig.wait_cause("link_lost")
        began = time.monotonic()
        rig.daemon.send_signal(number)
        assert rig.daemon.wait(30) == 0
        assert time.monotonic() - began < 10  # with the sanitizers' look for leaks
        assert not (rig.root / "run/ecs-health-agent/status.sock").exists() or rig.peek() is None
