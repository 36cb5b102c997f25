# SPDX-License-Identifier: Apache-2.0
"""Everything from outside is hostile: the daemon stays up, changes nothing for it, and says what it cannot see."""

import contextlib
import json
import os
import shutil
import socket
import threading
import time

import fake_introspection
import pytest
from rig import QUICK, Rig, merged, watching

MEGABYTE = 1 << 20


def witness(status, name):
    return next(one for one in status["witnesses"] if one["name"] == name)


OFTEN = {"metrics": {"sample": "200ms"}}  # the witnesses are asked as often


def rounds(rig, number=3):
    """Introspection has been asked so many more times, and so have the other witnesses."""
    there = rig.agent("status")["answered"]
    rig.wait_for(lambda: rig.agent("status")["answered"] >= there + 2 * number, 40, f"{number} more rounds")


def nothing_done(rig):
    assert rig.actions() == [] and not rig.detach_attempts()
    assert rig.daemon.poll() is None
    assert "Sanitizer" not in rig.log() and "runtime error" not in rig.log()


def still_works(rig):
    """What was bad is over: a healthy host again, that can be lost."""
    rig.wait_status(lambda s: s["verdict"]["cause"] == "none" and s["identity"]["group"] == rig.group, 60, "a healthy host")
    nothing_done(rig)
    rig.drop_link()
    rig.check_removed()


# -- introspection --------------------------------------------------------------------------------------------------

def test_wrong_answers_of_introspection_are_not_known_and_no_reason_to_act():
    with watching(OFTEN) as rig:
        for kind in fake_introspection.WRONG:
            rig.agent(f"wrong metadata {kind}")
            if kind in ("null-arn", "no-arn"):  # the agent answers, and says that it is not registered
                expected = "up", "not registered"
            elif kind == "other":
                expected = "up", ""
            else:
                expected = "not known", "not the ECS agent"
            rig.wait_status(lambda s, e=expected: witness(s, "introspection")["reading"] == e[0]
                            and e[1] in witness(s, "introspection")["says"], 30, f"{expected} for metadata {kind}")
            rig.agent("wrong metadata off")
            rig.agent(f"wrong tasks {kind}")
            nothing = kind in ("null-arn", "no-arn", "other", "duplicate")  # /v1/tasks has nothing that is spoilt by it
            rig.wait_status(lambda s, n=nothing: witness(s, "introspection")["reading"] == "up" and (
                "tasks run" if n else "task list cannot be understood") in witness(s, "introspection")["says"], 30,
                f"tasks {kind}")
            nothing_done(rig)
            assert rig.peek()["verdict"]["cause"] == "none" and rig.peek()["stage"]["name"] == "watching", kind
            rig.agent("wrong tasks off")
        rounds(rig)
        rig.wait_status(lambda s: "2 tasks run" in witness(s, "introspection")["says"], 30, "the tasks again")
        still_works(rig)


def test_wrong_answers_beside_a_real_loss_do_not_hide_it():
    with watching() as rig:
        rig.agent("wrong metadata garbage")
        rig.agent("wrong tasks deep")
        rounds(rig)
        rig.drop_link()
        rig.check_removed()


def test_thousands_of_tasks_are_counted_and_a_list_beyond_all_limits_is_not_known():
    with watching() as rig:
        rig.agent("tasks 1000 0 2")
        rig.wait_status(lambda s: s["host"]["tasks_running"] == 1000, 30, "a thousand tasks")
        rig.agent("tasks 20000 0 2")  # some 20 MB
        rig.wait_status(lambda s: s["host"]["tasks_running"] is None, 30, "too many to read")
        rig.holds_for(lambda: rig.peek()["verdict"]["cause"] == "none", 2, "a well agent")
        nothing_done(rig)


HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
BODY = b'{"Cluster":"demo","ContainerInstanceArn":"arn:aws:ecs:us-east-1:123456789012:container-instance/demo/0123","Version":"x"}'
RAW = {
    "closed at once": b"",
    "garbage": bytes(range(256)) * 64,
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "an old protocol": b"HTTP/0.9 200 OK\r\n\r\n" + BODY,
    "endless header": HTTP + b"X: " + b"x" * (8 * MEGABYTE),
    "many headers": HTTP + b"X: y\r\n" * MEGABYTE,
    "a length that is not kept": HTTP + b"Content-Length: 1000000\r\n\r\n" + BODY,
    "a negative length": HTTP + b"Content-Length: -1\r\n\r\n" + BODY,
    "a length beyond all": HTTP + b"Content-Length: 99999999999999999999999\r\n\r\n" + BODY[:50],
    "two lengths": HTTP + b"Content-Length: 5\r\nContent-Length: 120\r\n\r\n" + BODY,
    "a chunk beyond all": HTTP + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + BODY,
    "a chunk that is none": HTTP + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + BODY,
    "a redirect": b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
    "a bomb": HTTP + b"Content-Encoding: gzip\r\nContent-Length: 20\r\n\r\n" + b"\x1f\x8b\x08\x00" + b"\0" * 16,
    "continue for ever": b"HTTP/1.1 100 Continue\r\n\r\n" * 10000,
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n" + b"\0" * 1000,
    "no arn of ours": HTTP + b"Content-Length: 80\r\n\r\n" + b'{"Cluster":"' + b"x" * 66 + b'"}',
}


class Raw:
    """Something else on the introspection port: answers every connection with the same bytes and closes it; with None
    it dribbles for ever."""

    def __init__(self, port, data):
        self.data, self.served = data, 0
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(("127.0.0.1", port))
        self.socket.listen(64)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                one, _ = self.socket.accept()
                threading.Thread(target=self.answer, args=(one,), daemon=True).start()

    def answer(self, one):
        with one, contextlib.suppress(OSError):
            one.settimeout(20)
            if self.data:
                one.recv(4096)
            if self.data is None:
                one.sendall(HTTP + b"Transfer-Encoding: chunked\r\n\r\n")
                while True:
                    one.sendall(b"1\r\n \r\n")
                    time.sleep(0.1)
            self.served += 1
            one.sendall(self.data)

    def stop(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()


def test_something_else_on_the_port_is_not_the_agent():
    with Rig(config=merged(QUICK, OFTEN), agent=None, daemon=False) as rig:
        raw = Raw(rig.introspection_port, b"")
        rig.stack.callback(raw.stop)
        rig.start_daemon()
        for name, raw.data in RAW.items():
            there = raw.served
            rig.wait_for(lambda n=there: raw.served >= n + 4, 60, f"four questions answered by {name}")
            status = rig.peek()
            assert witness(status, "introspection")["reading"] != "up", name
            assert status["identity"]["container_instance"] in (None, ""), name
            nothing_done(rig)
        rig.holds_for(lambda: not rig.actions(), 2, "nothing done")
        raw.stop()
        rig.start_agent()
        rig.wait_for(rig.linked, 20, "the fake agent's link")
        still_works(rig)


def test_an_answer_that_dribbles_for_ever_is_a_hung_one():
    with Rig(config=QUICK, agent=None, daemon=False) as rig:
        raw = Raw(rig.introspection_port, None)
        rig.stack.callback(raw.stop)
        rig.start_daemon()
        rig.wait_status(lambda s: "hangs" in witness(s, "introspection")["says"], 40, "the hang")
        rig.holds_for(lambda: not rig.actions(), 3, "nothing done")
        nothing_done(rig)


def test_an_introspection_that_names_another_instance_changes_nothing_there():
    """Whatever listens on the port may say anything: what is changed at ECS must be this very instance."""
    with Rig(config=QUICK, agent=None, daemon=False) as rig:
        with rig.fake.world.live() as state:
            peer = next(host for host in state.hosts.values() if host.ec2 != rig.instance)
        rig.start_agent("--arn", peer.arn)
        rig.wait_for(lambda: rig.agent("status")["connected"], 20, "the fake agent's link")
        rig.start_daemon()
        rig.wait_status(lambda s: witness(s, "introspection")["reading"] == "up", 30, "its answer")
        rig.drop_link()
        rig.wait_status(lambda s: s["verdict"]["down"], 30, "the loss")
        rig.holds_for(lambda: not [name for name in rig.actions() if " " in name], 8, "nothing done to another")
        assert peer.status == "ACTIVE" and "ecs-health-agent.incident" not in peer.attributes


# -- the agent's log ------------------------------------------------------------------------------------------------

def log_path(rig):
    return rig.root / "var/log/ecs/ecs-agent.log"


def append(rig, data):
    with open(log_path(rig), "ab") as file:
        file.write(data)


LINE = b'level=info time=2026-06-30T10:11:12Z msg="%s" module=x.go\n'
LINES = {
    "a megabyte": b"x" * MEGABYTE + b"\n",
    "a megabyte without an end": b"x" * MEGABYTE,
    "a megabyte of message": LINE % (b"y" * MEGABYTE),
    "a megabyte of JSON": b'{"level":"info","msg":"' + b"z" * MEGABYTE + b'"}\n',
    "binary": os.urandom(256 * 1024),
    "zeros": bytes(MEGABYTE),
    "line ends": b"\n" * MEGABYTE,
    "deep JSON": b"[" * MEGABYTE + b"\n" + b'{"a":' * 100000 + b"\n",
    "not UTF-8": LINE % b"\xff\xfe\xc3\x28 Connected \xf8",
    "quotes": b'level=info msg="' + b'\\"' * 100000 + b"\n" + b'"' * 1000 + b"\n",
    "keys twice": b'level=info level=error msg="a" msg="b" time= time=\n{"msg":"a","msg":"b","level":1}\n',
    "escapes": b'{"msg":"\\u0000\\ud800\\uZZZZ","level":"info","time":"x"}\n' + LINE % b"\x1b]0;x\x07\x1b[31m",
    "times of no day": b'level=info time=9999-99-99T99:99:99Z msg="Connected to ACS endpoint"\n'
                       b'level=info time=0000-00-00T00:00:00Z msg="ACS WebSocket connection closed" error="x"\n'
                       b'level=info time=99999999999999999999 msg="Done waiting; reconnecting to ACS"\n',
}


def test_lines_that_no_agent_writes_are_passed_over():
    with watching(OFTEN) as rig:
        for name, data in LINES.items():
            append(rig, data)
            append(rig, b"\n" + data)
            rig.agent("say info Something harmless")
            rounds(rig, 4)
            if name != "times of no day":  # which say that it is connected, and that it is not
                assert rig.peek()["verdict"]["cause"] == "none", name
            nothing_done(rig)
            append(rig, b"\n")
        rig.agent("reconnect")
        still_works(rig)


def test_a_start_in_the_middle_of_such_a_log_sees_nothing_wrong():
    with Rig(config=merged(QUICK, OFTEN), daemon=False) as rig:
        for name, data in LINES.items():
            append(rig, b"\n" + data * (2 if name != "times of no day" else 1))
            rig.start_daemon()
            rig.wait_status(lambda s: witness(s, "introspection")["reading"] == "up", 30, f"a start with {name}")
            rounds(rig, 4)
            nothing_done(rig)
            rig.kill_daemon()
            append(rig, b"\n")
        rig.start_daemon()
        rig.agent("reconnect")
        still_works(rig)


def fifo(path):
    os.mkfifo(path)


def directory(path):
    path.mkdir()


def loop(path):
    path.symlink_to(path.name)


def sparse(path):
    with open(path, "wb") as file:
        file.truncate(1 << 40)


def nobody(path):
    path.symlink_to("nowhere/at/all")


@pytest.mark.parametrize("make", [fifo, directory, loop, sparse, nobody], ids=lambda make: make.__name__)
def test_a_log_that_is_no_file_is_a_witness_that_cannot_see(make):
    with watching() as rig:
        rig.agent("log off")
        log_path(rig).unlink()
        make(log_path(rig))
        rounds(rig)
        if make not in (sparse, loop):  # which are a file with nothing in it, and the old file under another name
            rig.wait_status(lambda s: witness(s, "agent log")["sight"] != "clear", 30, "blindness")
        assert witness(rig.peek(), "agent log")["reading"] != "down"
        rig.holds_for(lambda: not rig.actions(), 2, "nothing done")
        nothing_done(rig)
        rig.restart_daemon()
        rig.wait_status(lambda s: witness(s, "introspection")["reading"] == "up", 30, "a start with such a log")
        rig.holds_for(lambda: not rig.actions(), 2, "nothing done")
        nothing_done(rig)
        if log_path(rig).is_dir():
            log_path(rig).rmdir()
        else:
            log_path(rig).unlink()
        rig.agent("log on")
        rig.agent("log recreate")
        rig.agent("reconnect")
        still_works(rig)


def test_an_announced_wait_of_a_thousand_years_does_not_disarm():
    """The agent's own back-off ends after minutes; a line that announces more is none of its."""
    with watching() as rig:
        rig.drop_link()
        for delay in (b"8765820h0m0s", b"-5s", b"99999999999999h", b"1e9s", b"NaN"):
            append(rig, b'level=info time=%s msg="Waiting before reconnecting to ACS" reconnectDelay=%s\n'
                   % (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()).encode(), delay))
        rig.check_removed()


# -- what AWS answers -----------------------------------------------------------------------------------------------

LAUGHS = (b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY l0 "lol">' + b"".join(
    b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 12)) + b"]><lolz>&l11;</lolz>")
XML = {
    "laughs": LAUGHS,
    "an external entity": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
    "deep": b"<a>" * 200000,
    "many": b"<r>" + b"<member/>" * 100000 + b"</r>",
    "UTF-16": '<?xml version="1.0" encoding="UTF-16"?><a>\u20ac</a>'.encode("utf-16"),
    "another answer": b"<OtherResponse><OtherResult/></OtherResponse>",
    "cut": b"<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScalingGroups><member>",
    "a page of HTML": b"<!DOCTYPE html><html><body><p>Log in<br></body></html>",
    "garbage": bytes(range(256)) * 100,
    "empty": b"",
    "huge": b"<a>" + b"x" * (20 * MEGABYTE) + b"</a>",
}
JSON = {
    "deep": b'{"clusters":' + b"[" * 200000,
    "garbage": bytes(range(256)) * 100,
    "empty": b"",
    "null": b"null",
    "an array": b"[]",
    "nothing": b"{}",
    "other types": b'{"clusters":{},"containerInstances":"x","containerInstanceArns":5,"failures":true,"nextToken":[]}',
    "odd members": b'{"clusters":[1],"containerInstances":[null],"containerInstanceArns":[{}],"failures":["x"]}',
    "keys twice": b'{"containerInstances":[],"containerInstances":[],"clusters":[],"clusters":[],'
                  b'"containerInstanceArns":[],"containerInstanceArns":[]}',
    "not UTF-8": b'{"clusters":["\xff"],"containerInstances":["\xff"],"containerInstanceArns":["\xff"]}',
    "an XML bomb": LAUGHS,
    "huge": b'{"x":"' + b"x" * (20 * MEGABYTE) + b'"}',
    "a word that is none": b'{"containerInstances":[{"containerInstanceArn":"x","agentConnected":"false"}],'
                           b'"clusters":[{"status":1}],"containerInstanceArns":[""]}',
}
SCALING = ("DescribeAutoScalingInstances", "DescribeAutoScalingGroups", "DescribeInstanceRefreshes",
           "DescribeScalingActivities")
CLUSTER = ("DescribeClusters", "ListContainerInstances", "DescribeContainerInstances")


def look_again(rig):
    """Settings that have changed make a held incident look at once."""
    rig.looks = getattr(rig, "looks", 0) + 1
    rig.write_config(merged(rig.config, {"metrics": {"max_series": 100 + rig.looks}}))


@pytest.mark.parametrize("action", SCALING + CLUSTER)
def test_an_answer_that_is_not_understood_holds(action):
    """Nothing is changed while a read that decides is nonsense, and it goes on when it is good again."""
    with watching() as rig:
        first = True
        for name, body in (XML if action in SCALING else JSON).items():
            rig.fake.clear()
            fault = rig.fake.fault(action, "body", body=body)
            asked = len(rig.fake.calls_of(action))
            if first:
                rig.drop_link()
            first = False
            look_again(rig)
            rig.wait_for(lambda n=asked: len(rig.fake.calls_of(action)) > n, 60, f"a question answered by {name}")
            assert fault in rig.fake.faults.list
            if action == "DescribeContainerInstances":
                status = rig.wait_status(lambda s: s["verdict"]["down"], 20, "the loss")
                assert status["headline"]["state"] in ("ill", "grace", "held"), name
            else:
                status = rig.wait_status(lambda s: s["stage"]["name"] == "held" and "blind" in {
                    one["name"] for one in s["brakes"]}, 40, f"held by blind for {name}")
                assert not status["ok"] and action in status["self"]["last_call"], name
            nothing_done(rig)
        rig.holds_for(lambda: not rig.actions(), 2, "nothing done")
        rig.fake.clear()
        rig.check_removed()


@pytest.mark.parametrize("name", XML)
def test_a_detach_whose_answer_is_not_understood_has_happened_and_is_not_repeated(name):
    with watching() as rig:
        rig.fake.fault("DetachInstances", "body", body=XML[name], where=lambda params: params["InstanceIds"] == [rig.instance])
        rig.drop_link()
        rig.check_removed()


@pytest.mark.parametrize("action", ["UpdateContainerInstancesState", "PutAttributes"])
def test_a_drain_whose_answer_is_not_understood_is_never_left_behind(action):
    """Whether it was carried out is not known: it is undone, or it leads to the one detach."""
    with watching() as rig:
        for name in "garbage", "empty", "huge", "deep", "an array":
            rig.fake.fault(action, "body", body=JSON[name], count=2, where=lambda params: rig.own.arn in str(params))
        rig.drop_link()
        rig.wait_for(rig.detaches, 120, "the detach")
        rig.wait_stage("removed")
        actions = rig.actions()
        assert actions[-2:] == ["drain", "detach"] and actions.count("detach") == 1
        assert len(rig.detach_attempts()) == 1 and not [name for name in actions if " " in name]


# -- the metadata service -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind, options", [
    ("status", {"status": 401}), ("status", {"status": 403}), ("status", {"status": 404}), ("status", {"status": 500}),
    ("status", {"status": 503}), ("slow", {"seconds": 12}), ("hang", {}), ("cut", {}), ("html", {}), ("garbage", {}),
    ("empty", {}), ("huge", {"size": 20 * MEGABYTE})], ids=lambda value: str(value.get("status", "")) if isinstance(
        value, dict) else value)
def test_without_a_metadata_service_nothing_is_done_and_that_is_said(kind, options):
    with Rig(config=QUICK, daemon=False) as rig:
        rig.fake.fault("imds", kind, **options)
        rig.drop_link()
        rig.start_daemon()
        status = rig.wait_status(lambda s: s["verdict"]["down"], 40, "the loss")
        rig.holds_for(lambda: not rig.actions(), 3, "nothing done")
        nothing_done(rig)
        assert not rig.fake.calls_of("DetachInstances") and not rig.fake.calls_of("PutMetricData")
        status = rig.wait_status(lambda s: witness(s, "metadata service")["sight"] in ("failed", "denied", "not looked yet")
                                 and s["identity"]["instance_id"] in (None, ""), 60, "no metadata service")
        assert not status["ok"]
        text = rig.run_command("status").stdout
        assert "metadata service" in text
        if kind in ("status", "hang"):
            rig.fake.clear()
            rig.wait_for(rig.detaches, 120, "a detach, now that it is there")


def test_a_metadata_service_that_is_not_there_at_all():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        gone = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with Rig(config=QUICK, environment={"AWS_EC2_METADATA_SERVICE_ENDPOINT": gone}) as rig:
            status = rig.wait_status(lambda s: witness(s, "metadata service")["sight"] in ("failed", "absent"), 60,
                                     "no metadata service")
            rig.drop_link()
            rig.wait_status(lambda s: s["verdict"]["down"], 40, "the loss")
            rig.holds_for(lambda: not rig.actions(), 4, "nothing done")
            nothing_done(rig)
            assert not status["identity"]["instance_id"] and not rig.fake.calls


META = "/latest/meta-data/"


LIFECYCLE, ROLES = META + "autoscaling/target-lifecycle-state", META + "iam/security-credentials/"
NONSENSE = {
    META + "instance-id": ["../../etc/passwd", "i-" + "0" * 5000, "<html>", "", b"\xff\xfe\0"],
    META + "placement/region": ["evil.example/", "us-east-1@evil.example#", "", b"\xff"],
    META + "services/domain": ["evil.example/?", "amazonaws.com\r\nX: y"],
    LIFECYCLE: ["Dancing", "x" * 60000, b"\xff"],
    ROLES: ["../../../x", "a b\r\nX: y", ""],
    ROLES + "ecsInstanceRole": [
        "{", '{"Code":"Success"}',
        '{"Code":"Success","AccessKeyId":"a\\r\\nb","SecretAccessKey":"s","Token":"t\\u0000","Expiration":"never"}',
        '{"Code":"Success","AccessKeyId":5,"SecretAccessKey":null,"Token":[],"Expiration":{}}',
        '{"Code":"Success","AccessKeyId":"' + "A" * 60000 + '"}'],
}


@pytest.mark.parametrize("path", NONSENSE)
def test_nonsense_from_the_metadata_service_is_no_identity_and_no_key(path):
    with Rig(config=merged(QUICK, OFTEN), daemon=False) as rig:
        rig.drop_link()
        for text in NONSENSE[path]:
            rig.fake.imds.values[path] = text
            rig.fake.imds.calls.clear()
            rig.start_daemon()
            rig.wait_for(lambda: any(call["path"] == path for call in rig.fake.imds.calls), 20, "the question")
            rig.wait_status(lambda s: s["verdict"]["down"] or s["verdict"]["fault"] == "intended", 40, "the loss")
            rig.holds_for(lambda: not rig.actions(), 3, "nothing done")
            nothing_done(rig)
            rig.kill_daemon()
            for name in "run/ecs-health-agent", "var/lib/ecs-health-agent":
                shutil.rmtree(rig.root / name)
        del rig.fake.imds.values[path]
        rig.start_daemon()
        rig.check_removed()


# -- others on the host ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("mode", ["garbage", "error", "hang", "slow"])
def test_a_container_runtime_that_talks_nonsense_is_no_lost_connection(mode):
    with watching(docker=True) as rig:
        rig.docker.mode = mode
        there = len(rig.docker.asked)
        rig.wait_for(lambda: len(rig.docker.asked) >= there + 2, 60, "two pings")
        rig.holds_for(lambda: rig.peek()["verdict"]["cause"] == "none", 3, "a well agent")
        nothing_done(rig)
        rig.docker.mode = "good"
        still_works(rig)


def test_a_host_without_anything_to_look_at_stays_up():
    """No proc, no log directory, no docker, no bus, no agent."""
    with Rig(config=QUICK, agent=None, daemon=False) as rig:
        for name in "proc", "var/log":
            shutil.rmtree(rig.root / name)
        rig.start_daemon()
        status = rig.wait_status(lambda s: all(witness(s, name)["sight"] != "not looked yet" for name in (
            "memory", "disks", "container runtime", "introspection")), 40, "all that could be looked at")
        assert {witness(status, name)["sight"] for name in ("memory", "container runtime")} == {"absent"}
        rig.holds_for(lambda: not rig.actions(), 3, "nothing done")
        nothing_done(rig)
        assert "agent log" in rig.run_command("status").stdout


def test_everything_wrong_at_once_is_survived():
    with Rig(config=merged(QUICK, {"metrics": {"period": "1s", "sample": "100ms"}}), docker=True) as rig:
        rig.wait_ready()
        rig.fake.fault("*", "garbage")
        rig.fake.fault("imds", "garbage")
        rig.docker.mode = "garbage"
        rig.agent("wrong metadata garbage")
        rig.agent("wrong tasks deep")
        for path in (rig.root / "proc").rglob("*"):
            if path.is_file() and path.name != "boot_id":
                path.write_bytes(os.urandom(5000))
        for name in LINES:
            append(rig, LINES[name])
        (rig.root / "etc/ecs-health-agent/config.json").write_bytes(os.urandom(5000))
        (rig.root / "var/lib/ecs-health-agent/journal").write_bytes(os.urandom(5000))
        rig.drop_link()
        rig.holds_for(lambda: not rig.actions(), 5, "nothing done")
        nothing_done(rig)
        assert json.loads(rig.run_command("status", "--json").stdout)["running"]
        rig.restart_daemon()
        rig.holds_for(lambda: not rig.actions(), 3, "nothing done")
        nothing_done(rig)
