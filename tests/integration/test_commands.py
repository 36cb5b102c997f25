# SPDX-License-Identifier: Apache-2.0
"""The commands as people and programs use them: help, wrong usage, status, check-config, pause and resume."""

import contextlib
import json
import os
import pathlib
import pty
import re
import signal
import subprocess
import time

import pytest
from rig import QUICK, Rig, binary, merged, watching
from test_settings import BAD, FLOORS, FLOORS_MET, read_terminal

README = pathlib.Path(__file__).resolve().parents[2] / "README.md"
COMMANDS = "run", "status", "check-config", "pause", "resume", "doctor", "metrics", "iam-policy"


@pytest.fixture
def empty(tmp_path):
    """A root with nothing in it, and a way to run commands there: (directory, function)."""
    def run(*arguments, **environment):
        env = {"PATH": os.environ["PATH"], "ECS_HEALTH_AGENT_ROOT": str(tmp_path), **environment}
        return subprocess.run([binary(), *arguments], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=30)

    return tmp_path, run


# -- help and wrong usage -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("help",)] + [(name, "--help") for name in COMMANDS]
                         + [(name, "-h") for name in COMMANDS], ids=" ".join)
def test_help_is_there_for_every_command(empty, arguments):
    done = empty[1](*arguments)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("Usage: ") or "\nUsage: " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120
    if arguments[0] in COMMANDS:
        assert f"ecs-health-agent {arguments[0]}" in done.stdout
    else:
        assert all(f"\n  {name} " in done.stdout for name in COMMANDS)


def test_the_help_of_check_config_names_every_option(empty):
    text = empty[1]("check-config", "--help").stdout
    sample = json.loads(empty[1]("check-config", "--sample").stdout)
    for name in flat(sample):
        assert re.search(rf"^\s*{re.escape(name)}\b", text, re.M), name


def test_version(empty):
    for option in "--version", "-V":
        done = empty[1](option)
        assert done.returncode == 0 and re.fullmatch(r"ecs-health-agent \S+\n", done.stdout)


@pytest.mark.parametrize("arguments, says", [
    ((), "Usage: "), (("stauts",), 'did you mean "status"'), (("fly",), 'unknown command "fly"'),
    (("--fly",), 'unknown option "--fly"'), (("",), "unknown command"),
    (("run", "now"), '"now"'), (("run", "--fast"), '"--fast"'), (("run", "-x"), '"-x"'),
    (("status", "now"), '"now"'), (("status", "--jsno"), '"--jsno"'), (("status", "--json=1"), "--json"),
    (("check-config", "a", "b"), '"b"'), (("check-config", "--sample", "a"), '"a"'),
    (("check-config", "--json", "--sample"), "exclude each other"),
    (("pause", "2h"), "--for"), (("pause", "--for"), "needs a value"), (("pause", "--for", "soon"), '"soon"'),
    (("pause", "--for", "0"), '"0"'), (("pause", "--for", "-1h"), '"-1h"'), (("pause", "--for", "366d"), "365d"),
    (("pause", "--reason"), "needs a value"), (("resume", "now"), '"now"'), (("resume", "--for", "1h"), "--for"),
], ids=lambda value: "_".join(value) if isinstance(value, tuple) else "")
def test_wrong_usage_exits_2_and_says_what_to_try(empty, arguments, says):
    done = empty[1](*arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert says in done.stderr and "--help" in done.stderr
    assert not any(empty[0].iterdir()), "wrong usage has changed something"


def test_output_that_cannot_be_written_is_a_problem(empty):
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run([binary(), "check-config", "--sample"], stdout=full, stderr=subprocess.PIPE, text=True,
                              env={"ECS_HEALTH_AGENT_ROOT": str(empty[0])}, timeout=30)
    assert done.returncode == 1 and "standard output" in done.stderr


# -- status ---------------------------------------------------------------------------------------------------------

def test_status_without_a_daemon_is_a_problem_and_says_how_to_start_it(empty):
    done = empty[1]("status")
    assert done.returncode == 1 and "The daemon does not run" in done.stderr and "systemctl start" in done.stderr
    done = empty[1]("status", "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == 1 and answer["running"] is False and answer["ok"] is False and answer["problem"]


def test_status_of_a_daemon_that_was_killed_is_that_of_none():
    with Rig(agent=None) as rig:
        rig.wait_status(lambda s: s["time"], 30, "a status")
        rig.kill_daemon(signal.SIGKILL)
        done = rig.run_command("status")
        assert done.returncode == 1 and "The daemon does not run" in done.stderr


def test_status_of_a_daemon_that_hangs_ends_in_time():
    with Rig(agent=None) as rig:
        rig.wait_status(lambda s: s["time"], 30, "a status")
        rig.daemon.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        done = rig.run_command("status", timeout=30)
        rig.daemon.send_signal(signal.SIGCONT)
        assert done.returncode == 1 and "does not answer" in done.stderr
        assert time.monotonic() - began < 15


def test_status_of_a_healthy_host():
    with watching(docker=True) as rig:
        rig.wait_status(lambda s: s["metrics"]["sent"] > 0, 30, "metrics")
        done = rig.run_command("status")
        text = done.stdout
        assert done.returncode == 0 and done.stderr == ""
        for word in (rig.instance, rig.group, "demo", "introspection", "agent log", "memory", "disks", "ECS/InstanceHealth"):
            assert word in text, word
        assert "\033[" not in text  # no terminal, no colours
        assert "null" not in text and "(?)" not in text
        done = rig.run_command("status", "--json")
        status = json.loads(done.stdout)
        assert done.returncode == 0 and done.stdout.endswith("\n")
        assert status["running"] and status["ok"] and status["problems"] == []
        assert status["headline"]["state"] == "healthy"
        assert status["identity"]["instance_id"] == rig.instance and status["identity"]["group"] == rig.group
        assert status["identity"]["container_instance"] == rig.own.arn
        assert status["credentials"]["state"] == "good"
        assert rig.fake.keys.secret_access_key not in done.stdout + text
        assert rig.fake.keys.token not in done.stdout + text + rig.log()


def test_status_of_a_host_that_is_held_says_why_and_what_to_do():
    with watching() as rig:
        with rig.fake.world.live() as state:
            state.groups[rig.group].tags["ecs-health-agent"] = "off"
        rig.drop_link()
        status = rig.wait_held("off")
        assert not status["ok"] and status["headline"]["state"] == "held"
        done = rig.run_command("status")
        assert done.returncode == 1
        lines = done.stdout.splitlines()
        assert "off" in done.stdout and "tag" in done.stdout
        assert any("lost its connection" in line for line in lines[:6]), "the first lines are what a tired reader sees"
        assert max(map(len, lines)) <= 100


def test_status_after_the_removal_is_that():
    with watching() as rig:
        rig.drop_link()
        rig.check_removed()
        done = rig.run_command("status")
        assert "out of its Auto Scaling group" in done.stdout or "removed" in done.stdout


def test_status_watch_goes_on_until_it_is_told_to_stop():
    with watching() as rig:
        with contextlib.ExitStack() as stack:
            one = subprocess.Popen([binary(), "status", "--watch", "--json"], env=rig.environment(), text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            stack.callback(one.wait)
            stack.callback(one.kill)
            times = [json.loads(one.stdout.readline())["time"] for _ in range(3)]
            assert times == sorted(times)
            # the daemon goes and comes back: so does the answer
            rig.kill_daemon(signal.SIGTERM)
            rig.wait_for(lambda: json.loads(one.stdout.readline())["running"] is False, 20, "no daemon")
            rig.start_daemon()
            rig.wait_for(lambda: json.loads(one.stdout.readline())["running"], 20, "a daemon")
            one.send_signal(signal.SIGINT)
            one.stdout.read()
            assert one.wait(20) in (0, 1)


def test_status_watch_ends_when_its_reader_does():
    with Rig(agent=None) as rig:
        rig.wait_status(lambda s: s["time"], 30, "a status")
        one = subprocess.Popen([binary(), "status", "--watch"], env=rig.environment(), stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL)
        one.stdout.readline()
        one.stdout.close()
        try:
            assert one.wait(20) != 0
        finally:
            one.kill()


def test_status_on_a_terminal_has_colours_unless_told_otherwise():
    with watching() as rig:
        for more, wanted in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
            ours, its = pty.openpty()
            one = subprocess.Popen([binary(), "status"], env={**rig.environment(), "TERM": "xterm", **more}, stdin=its,
                                   stdout=its, stderr=its)
            os.close(its)
            seen = read_terminal(ours, one, None)
            one.wait(20)
            os.close(ours)
            assert (b"\033[" in seen) == wanted, more


def test_many_clients_of_the_status_socket_do_no_harm():
    """Some that never read, some that leave at once, and still one is answered."""
    with watching() as rig:
        many = [subprocess.Popen([binary(), "status", "--json"], env=rig.environment(), stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL) for _ in range(30)]
        for one in many[::2]:
            one.kill()
        for one in many:
            one.wait(60)
        rig.wait_for(lambda: rig.run_command("status", "--json").returncode == 0, 30, "an answer")
        assert rig.daemon.poll() is None


# -- check-config ---------------------------------------------------------------------------------------------------

def flat(value, before=""):
    """{"brakes.window": "30m", ...}"""
    found = {}
    for key, one in value.items():
        if isinstance(one, dict):
            found.update(flat(one, f"{before}{key}."))
        else:
            found[before + key] = one
    return found


def test_check_config_without_a_file_shows_the_defaults(empty):
    directory, run = empty
    done = run("check-config")
    assert done.returncode == 0 and "is not there, which is fine" in done.stdout
    done = run("check-config", "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == 0 and answer["ok"] and not answer["there"]
    sample = flat(json.loads(run("check-config", "--sample").stdout))
    assert set(answer["settings"]) == set(sample)
    assert {one["source"] for one in answer["settings"].values()} == {"default"}
    assert answer["path"] == str(directory / "etc/ecs-health-agent/config.json")


def test_the_sample_is_fine_and_means_the_defaults(empty):
    directory, run = empty
    sample = run("check-config", "--sample")
    assert sample.returncode == 0
    path = directory / "sample.json"
    path.write_text(sample.stdout)
    done = run("check-config", str(path), "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == 0 and answer["ok"] and answer["there"] and not answer["unsafe"]
    defaults = json.loads(run("check-config", "--json").stdout)["settings"]
    assert {name: one["value"] for name, one in answer["settings"].items()} == \
        {name: one["value"] for name, one in defaults.items()}
    assert {one["source"] for one in answer["settings"].values()} == {str(path)}
    assert run("check-config", str(path)).returncode == 0


def test_check_config_tells_where_each_value_comes_from(empty):
    directory, run = empty
    path = directory / "etc/ecs-health-agent/config.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"grace": "4m", "drain": "false", "metrics": {"max_series": "50"}, "brakes": {"max_sick": "10%"}}')
    answer = json.loads(run("check-config", "--json").stdout)["settings"]
    assert answer["grace"] == {"value": "4m", "source": str(path)}
    # CloudFormation makes texts of numbers and booleans
    assert answer["drain"] == {"value": False, "source": str(path)}
    assert answer["metrics.max_series"] == {"value": 50, "source": str(path)}
    assert answer["cooldown"]["source"] == "default"
    text = run("check-config").stdout
    assert re.search(rf"^grace\s+\S*4m\S*\s+{re.escape(str(path))}$", text, re.M)


def test_a_shorter_grace_alone_is_enough(empty):
    """A default that no longer fits gives way, and that is shown."""
    directory, run = empty
    path = directory / "c.json"
    path.write_text('{"grace": "3m", "metrics": {"period": "10s", "sample": "10s"}}')
    done = run("check-config", str(path), "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == 0
    assert answer["settings"]["confirm.before"]["source"] == "half of grace"


@pytest.mark.parametrize("name", BAD)
def test_check_config_refuses_with_place_expectation_and_exit_2(empty, name):
    directory, run = empty
    text, words = BAD[name]
    path = directory / "config.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    done = run("check-config", str(path))
    assert done.returncode == 2 and done.stdout == ""
    assert all(word in done.stderr for word in words), done.stderr
    assert str(path) in done.stderr.splitlines()[0]
    done = run("check-config", str(path), "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == 2 and answer["ok"] is False and answer["problems"]
    assert all(any(word in one for one in answer["problems"]) for word in words)


def test_check_config_names_all_problems_at_once(empty):
    directory, run = empty
    path = directory / "config.json"
    path.write_text('{"graze": 1, "cooldown": "x", "repair": {"wait": "2d"}, "brakes": {"trun": "1m"}}')
    done = run("check-config", str(path))
    assert done.returncode == 2
    for name in "graze", "cooldown", "repair.wait", "brakes.trun":
        assert name in done.stderr
    assert "4 problems" in done.stderr
    path.write_text(json.dumps({f"key{number}": 1 for number in range(100)}))
    done = run("check-config", str(path))
    assert done.returncode == 2 and "100 problems" in done.stderr and "more" in done.stderr


@pytest.mark.parametrize("name", FLOORS)
def test_floors_hold_unless_lifted(empty, name):
    directory, run = empty
    path = directory / "config.json"
    path.write_text(FLOORS[name])
    done = run("check-config", str(path))
    assert done.returncode == 2 and name in done.stderr
    assert run("check-config", str(path), ECS_HEALTH_AGENT_UNSAFE="0").returncode == 2
    done = run("check-config", str(path), ECS_HEALTH_AGENT_UNSAFE="1")
    assert done.returncode == 0 and "floors are lifted" in done.stdout
    path.write_text(FLOORS_MET[name])
    assert run("check-config", str(path)).returncode == 0


def test_check_config_of_a_file_that_is_not_there(empty):
    done = empty[1]("check-config", str(empty[0] / "none.json"))
    assert done.returncode == 2 and "no such file" in done.stderr


def test_the_readme_has_the_options_as_they_are(empty):
    if not README.exists():
        pytest.skip("no README.md")
    match = re.search(r"^<!-- options -->\n(.*?)^<!-- /options -->$", README.read_text(), re.M | re.S)
    assert match, "README.md has no region of options"
    assert match[1].strip() == empty[1]("check-config", "--markdown").stdout.strip()


# -- pause and resume -----------------------------------------------------------------------------------------------

def test_pause_and_resume_without_a_daemon(empty):
    directory, run = empty
    done = run("pause", "--reason", "just so", "--for", "2h", SUDO_USER="ann")
    assert done.returncode == 0 and "Paused until" in done.stdout and "does not run now" in done.stdout
    pause = json.loads((directory / "var/lib/ecs-health-agent/pause.json").read_text())
    assert pause["reason"] == "just so" and pause["by"] == "ann" and pause["until"] > pause["since"]
    done = run("pause")
    assert done.returncode == 0 and "replaces the pause by ann" in done.stdout and "until resumed" in done.stdout
    done = run("resume")
    assert done.returncode == 0 and "Resumed" in done.stdout
    done = run("resume")
    assert done.returncode == 0 and "not paused, and the daemon does not run" in done.stdout
    assert not (directory / "var/lib/ecs-health-agent/pause.json").exists()


def test_resume_reaches_the_daemon_of_a_host_that_is_not_paused():
    with watching() as rig:
        done = rig.run_command("resume")
        assert done.returncode == 0 and "not paused" in done.stdout and 'Released: the brake "loop"' in done.stdout
        assert not (rig.root / "var/lib/ecs-health-agent/pause.json").exists()
        assert not rig.status()["pause"]["paused"] and "Paused" not in rig.log(), "not even for a moment"


def test_a_pause_that_cannot_be_written_is_a_problem(empty):
    directory, run = empty
    (directory / "var").write_text("")  # no directory can be made here
    done = run("pause")
    assert done.returncode == 1 and "cannot write" in done.stderr


def test_a_pause_holds_is_shown_everywhere_survives_a_restart_and_ends_by_resume():
    with watching() as rig:
        done = rig.run_command("pause", "--reason", "kernel debugging, ann")
        assert done.returncode == 0 and "does not run" not in done.stdout
        status = rig.wait_status(lambda s: s["pause"]["paused"], 20, "the pause")
        assert status["pause"]["reason"] == "kernel debugging, ann" and status["pause"]["until"] is None
        rig.wait_for(lambda: rig.own.attributes.get("ecs-health-agent.hold") == "paused", 30, "the attribute at ECS")
        assert "Paused by" in rig.log() and "kernel debugging, ann" in rig.log()
        assert "kernel debugging, ann" in rig.run_command("status").stdout
        rig.drop_link()
        rig.wait_held("paused")
        rig.wait_for(lambda: [one for one in rig.fake.metrics_of("remediation_held") if one.dims.get("Brake") == "paused"],
                     30, "the brake's series")
        rig.restart_daemon()
        status = rig.wait_held("paused")
        assert status["pause"]["paused"] and "kernel debugging, ann" in rig.run_command("status").stdout
        assert rig.actions() == []
        assert "Resumed" in rig.run_command("resume").stdout
        rig.wait_for(lambda: "ecs-health-agent.hold" not in rig.own.attributes, 30, "no attribute at ECS")
        rig.check_removed()


def test_a_pause_for_a_time_ends_by_itself():
    with watching() as rig:
        rig.run_command("pause", "--for", "6s")
        rig.wait_status(lambda s: s["pause"]["paused"] and s["pause"]["until_seconds"] <= 6, 20, "the pause")
        began = time.monotonic()
        rig.drop_link()
        rig.wait_held("paused", looks=1)
        rig.check_removed()
        assert time.monotonic() - began > 3
        assert not rig.peek()["pause"]["paused"]


def test_a_pause_that_has_ended_while_no_daemon_ran_is_none():
    with watching() as rig:
        rig.kill_daemon(signal.SIGTERM)
        rig.run_command("pause", "--for", "1s")
        path = rig.root / "var/lib/ecs-health-agent/pause.json"
        ends = json.loads(path.read_text())["until"]
        rig.wait_for(lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) > ends, 20, "its end")
        rig.start_daemon()
        rig.drop_link()
        rig.check_removed()


@pytest.mark.parametrize("text", ["", "{", "nonsense", '{"until": "tomorrow"}', "[]", "\xff", "x" * 100000],
                         ids=["empty", "cut", "text", "no time", "list", "binary", "huge"])
def test_a_pause_file_that_cannot_be_understood_pauses(text):
    with watching() as rig:
        (rig.root / "var/lib/ecs-health-agent/pause.json").write_text(text, encoding="latin-1")
        rig.wait_status(lambda s: s["pause"]["paused"], 20, "the pause")
        rig.drop_link()
        rig.wait_held("paused", looks=1)
        assert rig.actions() == []
        rig.run_command("resume")
        rig.check_removed()


def test_a_pause_between_drain_and_detach_undoes_the_drain():
    with Rig(config=merged(QUICK, {})) as rig:
        rig.wait_ready()
        seen = []

        def third(_):
            seen.append(1)
            return len(seen) == 3

        rig.fake.fault("DescribeClusters", "slow", seconds=3, where=third)  # the look after the drain
        rig.drop_link()
        rig.wait_for(rig.drains, 30, "the drain")
        rig.run_command("pause")
        rig.wait_for(rig.undrains, 30, "the undoing")
        assert rig.own.status == "ACTIVE" and not rig.detach_attempts()
        rig.wait_held("paused", looks=1)
        rig.run_command("resume")
        rig.wait_for(rig.detaches, 40, "the detach")
        rig.wait_stage("removed")
        assert rig.actions() == ["drain", "undrain", "drain", "detach"]


def test_a_second_daemon_on_the_host_is_refused():
    with Rig() as rig:
        rig.wait_for(rig.status, 20, "an answer of the first")
        second = rig.run_command("run")
        assert second.returncode == 1
        assert "Another ecs-health-agent runs on this host" in second.stderr
        assert rig.status()["verdict"]["cause"] == "none"
        # and what died does not keep its place
        rig.kill_daemon()
        rig.start_daemon()
        rig.wait_for(rig.status, 20, "an answer of the next")
