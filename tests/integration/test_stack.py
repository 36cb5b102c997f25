# SPDX-License-Identifier: Apache-2.0
"""Settings from the metadata of the CloudFormation stack: read, applied without a restart, refused, kept, overruled."""

import base64
import contextlib
import http.client
import json
import os
import signal
import threading
import time

import pytest
from fake_aws import FakeAws
from rig import QUICK, Rig, merged

# What the metadata say in the rig; the file of these tests says nothing of it, for it would win.
BASE = merged({"action": "detach", "cooldown": "0s", "repair": {"enabled": False},
               "brakes": {"turn": "1s", "settle": "1s", "boot_grace": "0s"}}, QUICK)
TIMES = {key: value for key, value in BASE.items() if key != "action"}
REFRESH = {"cloudformation": {"refresh": "500ms"}}
DESCRIBE = "DescribeStackResource"


@contextlib.contextmanager
def host(metadata=(), file=(), start=True, **options):
    """A Rig that has its settings from the stack. @metadata: over BASE, or as set_metadata() takes them; False: there is no
    stack; @file: over REFRESH. Readings come every half a second, but not before a second for each member has passed."""
    with Rig(daemon=False, **options) as rig:
        if metadata is not False:
            rig.set_metadata(merged(BASE, metadata) if isinstance(metadata, dict) else metadata or BASE)
        rig.write_config(merged(REFRESH, dict(file)))
        group = rig.fake.world.group(rig.group)
        group.detach_seconds = group.launch_seconds = 0.2
        if start:
            rig.start_daemon()
        yield rig


def state(rig, name, timeout=40):
    """Wait until the stack's reader is in this state. Return the status."""
    return rig.wait_status(lambda s: s["cloudformation"]["state"] == name, timeout, f"cloudformation: {name}")


def settled(rig, **values):
    """Wait until members of "cloudformation" in the status have these values. Return the status."""
    return rig.wait_status(lambda s: all(s["cloudformation"][key] == value for key, value in values.items()), 40, str(values))


def publishes_as(rig, namespace):
    """What is in force, as the metrics show it."""
    rig.wait_for(lambda: rig.fake.metrics_of("heartbeat", namespace), 40, f"metrics in {namespace}")


def wait_config_error(rig, value):
    def there():
        data = rig.fake.metrics_of("config_error", AutoScalingGroupName=rig.group)
        return data and data[-1].stats["Maximum"] == value

    rig.wait_for(there, 60, f"config_error = {value}")


def calls(rig, by=None):
    return [one for one in rig.fake.calls_of(DESCRIBE) if by in (None, one["by"])]


def refused(rig, words):
    """A line of the log that refuses what the stack says, with all of these words."""
    return any("CloudFormation metadata" in line and all(word in line for word in words) for line in rig.log().splitlines())


# -- read and applied -----------------------------------------------------------------------------------------------

def test_ten_lines_of_metadata_need_no_right_and_no_file():
    """Out of the box: no file at all, nothing of CloudFormation in the role."""
    with Rig(daemon=False, config=None) as rig:
        rig.fake.deny(DESCRIBE, "DescribeTags")
        rig.set_metadata({"action": "observe", "grace": "5m"})
        rig.start_daemon()
        status = state(rig, "read")
        assert not status["cloudformation"]["by_role"] and not status["cloudformation"]["problem"]
        assert status["cloudformation"]["resource"] == "AutoScalingGroup" and ":stack/demo-stack/" in status["cloudformation"]["stack"]
        rig.wait_status(lambda s: s["settings"]["action"] == "observe" and s["settings"]["ok"], 20, "the metadata's action")
        assert {one["by"] for one in calls(rig)} == {"identity"} and not rig.fake.calls_of("DescribeTags")


def test_metadata_change_grace_on_the_running_daemon():
    """Longer, and shorter: a loss that has begun gets the new time. No restart, no second process, no word from anybody."""
    with host({"grace": "20s"}) as rig:
        rig.wait_ready()
        pid = rig.daemon.pid
        rig.drop_link()
        assert 10 < rig.wait_stage("grace")["grace"]["ends_in_seconds"] <= 20
        rig.set_metadata(merged(BASE, {"grace": "2h"}))
        rig.wait_status(lambda s: s["grace"]["ends_in_seconds"] > 6600, 20, "two hours of grace")
        assert rig.actions() == []
        rig.set_metadata(BASE)
        rig.check_removed()
        assert rig.daemon.pid == pid and rig.starts == 1


def test_numbers_and_booleans_come_as_texts_and_count_as_what_they_are():
    with host({"grace": 20, "repair": {"enabled": False}, "metrics": {"max_series": 90}}) as rig:
        settled(rig, state="read", problem="")
        rig.wait_ready()
        assert rig.peek()["settings"]["ok"]
        text = json.loads(cache_of(rig).read_text())["text"]
        assert '"grace":"20"' in text and '"enabled":"false"' in text and '"max_series":"90"' in text
        rig.drop_link()
        assert 10 < rig.wait_stage("grace")["grace"]["ends_in_seconds"] <= 20


def test_a_key_that_is_taken_away_means_the_defaults():
    with host({"action": "observe"}) as rig:
        rig.wait_status(lambda s: s["settings"]["action"] == "observe" and s["cloudformation"]["state"] == "read", 40, "observe")
        rig.set_metadata(None)
        status = rig.wait_status(lambda s: s["settings"]["action"] == "detach", 20, "the default action")
        assert status["settings"]["ok"] and status["cloudformation"]["state"] == "read"


def test_the_file_wins_over_the_metadata():
    with host({"action": "detach", "metrics": {"namespace": "FromStack"}}, {"action": "observe"}) as rig:
        publishes_as(rig, "FromStack")  # what the file leaves open is the stack's
        assert rig.peek()["settings"]["action"] == "observe"
        rig.write_config(merged(REFRESH, {"metrics": {"namespace": "FromFile"}}))
        publishes_as(rig, "FromFile")
        rig.wait_status(lambda s: s["settings"]["action"] == "detach", 20, "the stack's action")


def test_the_stack_and_the_resource_may_be_named_in_the_settings():
    with host(False, {"cloudformation": {"stack": "other", "resource": "Fleet"}}, start=False) as rig:
        other = rig.set_metadata({"action": "observe"}, stack="other", resource="Fleet", tags=False, imds_tags=False)
        rig.start_daemon()
        # the identity of an instance that the stack has not made is not let in, the role is
        status = settled(rig, state="read", by_role=True)
        assert status["cloudformation"]["stack"] == "other" and status["cloudformation"]["resource"] == "Fleet"
        rig.wait_status(lambda s: s["settings"]["action"] == "observe", 20, "the metadata's action")
        assert not rig.fake.calls_of("DescribeTags")
        assert all(one["params"]["StackName"] == other.name for one in calls(rig))
        # another one, named while it runs
        rig.set_metadata(BASE, stack="third", resource="Fleet", tags=False, imds_tags=False)
        rig.write_config(merged(REFRESH, {"cloudformation": {"stack": "third", "resource": "Fleet"}}))
        rig.wait_status(lambda s: s["cloudformation"]["stack"] == "third" and s["settings"]["action"] == "detach", 20, "the third")


def test_without_tags_in_the_metadata_service_ec2_is_asked_once():
    with host(start=False) as rig:
        rig.fake.imds.tags = False
        rig.start_daemon()
        state(rig, "read")
        rig.wait_for(lambda: len(calls(rig)) >= 3, 20, "three readings")
        assert len(rig.fake.calls_of("DescribeTags")) == 1


def test_an_instance_of_no_stack_asks_nothing_and_acts_by_the_defaults():
    with host(False, BASE) as rig:
        status = state(rig, "none")
        assert status["cloudformation"]["problem"] == "" and status["cloudformation"]["next_seconds"] is None
        rig.wait_ready()
        rig.drop_link()
        rig.check_removed()
        assert calls(rig) == [] and len(rig.fake.calls_of("DescribeTags")) == 1


def test_it_can_be_switched_off_and_on():
    with host({"action": "observe"}, {"cloudformation": {"enabled": False}}, size=1) as rig:
        state(rig, "off")
        rig.wait_ready()
        assert rig.peek()["settings"]["action"] == "detach" and calls(rig) == [] and not rig.fake.calls_of("DescribeTags")
        rig.write_config(REFRESH)
        rig.wait_status(lambda s: s["settings"]["action"] == "observe", 20, "the stack's action")
        rig.write_config(merged(REFRESH, {"cloudformation": {"enabled": False}}))
        rig.wait_status(lambda s: s["settings"]["action"] == "detach", 20, "the default action")
        state(rig, "off")


def test_sighup_reads_the_stack_soon():
    with host(file={"cloudformation": {"refresh": "2h"}}) as rig:
        state(rig, "read")
        before = len(calls(rig))
        rig.set_metadata(merged(BASE, {"action": "observe"}))
        rig.daemon.send_signal(signal.SIGHUP)
        rig.wait_status(lambda s: s["settings"]["action"] == "observe", 20, "the new settings")
        assert len(calls(rig)) == before + 1


def test_the_way_of_cfn_init_works_as_well():
    """Files of AWS::CloudFormation::Init are written to a neighbour and renamed; the old one stays as .bak."""
    with host({"grace": "2h"}) as rig:
        rig.wait_ready()
        path = rig.root / "etc/ecs-health-agent/config.json"
        new = path.with_name("config.json.tmp")
        new.write_text(json.dumps(merged(json.loads(path.read_text()), {"action": "observe"})))
        os.rename(path, path.with_name("config.json.bak"))
        os.rename(new, path)
        rig.wait_status(lambda s: s["settings"]["action"] == "observe" and s["settings"]["ok"], 20, "the file's settings")
        assert rig.starts == 1 and rig.daemon.poll() is None


# -- refused --------------------------------------------------------------------------------------------------------

BAD = {
    "unknown key": ({"graze": "5m"}, ["graze", "unknown", "grace"]),
    "out of range": ({"brakes": {"max_sick": "101%"}}, ["brakes.max_sick", "101%"]),
    "wrong type": ({"repair": {"enabled": "maybe"}}, ["repair.enabled", "maybe"]),
    "no duration": ({"grace": "8 parsecs"}, ["grace", "8 parsecs"]),
    "not an object": ('{"ECSHealthAgent": "5m"}', ["object"]),
    "where it stands": ({"cloudformation": {"stack": "other"}}, ["cloudformation.stack", "config.json"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_metadata_change_nothing_and_are_published(name):
    bad, words = BAD[name]
    with host(size=1) as rig:
        rig.wait_ready()
        wait_config_error(rig, 0)
        rig.set_metadata(bad)
        rig.wait_for(lambda: refused(rig, words), 20, f"{words} in the log")
        wait_config_error(rig, 1)
        status = rig.peek()
        assert not status["settings"]["ok"] and status["settings"]["action"] == "detach"
        assert rig.log().count("stay in force") == 1
        # mended
        rig.set_metadata(merged(BASE, {"action": "observe"}))
        rig.wait_status(lambda s: s["settings"]["ok"] and s["settings"]["action"] == "observe", 20, "the mended settings")
        wait_config_error(rig, 0)


def test_bad_metadata_from_the_start_observe():
    with host({"graze": "5m"}, TIMES) as rig:
        rig.wait_for(lambda: refused(rig, ["graze"]), 40, "the refusal")
        status = rig.wait_status(lambda s: not s["settings"]["ok"], 20, "the refusal in the status")
        assert status["settings"]["action"] == "observe"
        wait_config_error(rig, 1)
        rig.drop_link()
        rig.wait_cause("link_lost")
        rig.holds_for(lambda: not rig.actions(), 3, "nothing done")
        assert not (rig.root / "var/lib/ecs-health-agent/cloudformation.json").exists()
        rig.set_metadata(BASE)
        rig.check_removed()


def test_bad_metadata_after_a_restart_leave_what_was_kept():
    with host({"action": "detach", "grace": "2h"}) as rig:
        state(rig, "read")
        rig.wait_for((rig.root / "var/lib/ecs-health-agent/cloudformation.json").exists, 20, "the cache")
        rig.kill_daemon(signal.SIGTERM)
        rig.set_metadata({"graze": "5m"})
        rig.start_daemon()
        rig.wait_for(lambda: refused(rig, ["graze"]), 40, "the refusal")
        status = rig.wait_status(lambda s: not s["settings"]["ok"], 20, "the refusal in the status")
        assert status["settings"]["action"] == "detach"
        assert '"grace":"2h"' in json.loads((rig.root / "var/lib/ecs-health-agent/cloudformation.json").read_text())["text"]


# -- rights ---------------------------------------------------------------------------------------------------------

def test_where_the_identity_is_refused_the_role_reads():
    with host({"action": "observe"}, start=False) as rig:
        rig.fake.world.refuse_identity = True
        rig.start_daemon()
        settled(rig, state="read", by_role=True, problem="")
        rig.wait_status(lambda s: s["settings"]["action"] == "observe" and s["settings"]["ok"], 20, "the metadata's action")
        rig.wait_for(lambda: len(calls(rig, "role")) >= 3, 20, "three readings")
        assert len(calls(rig, "identity")) == 1


@pytest.mark.parametrize("tags", ["readable", "denied"])
def test_where_both_are_denied_it_acts_as_usual_by_its_defaults(tags):
    """The rights table: CloudFormation denied, acts as usual."""
    with host({"action": "observe"}, TIMES, start=False) as rig:
        rig.fake.world.refuse_identity = True
        rig.fake.deny(DESCRIBE)
        if tags == "denied":
            rig.fake.imds.tags = False
            rig.fake.deny("DescribeTags")
        rig.start_daemon()
        status = state(rig, "denied" if tags == "readable" else "none")
        right = "cloudformation:DescribeStackResource" if tags == "readable" else "ec2:DescribeTags"
        assert right in status["cloudformation"]["problem"]
        rig.wait_ready()
        assert rig.peek()["settings"]["action"] == "detach"
        rig.drop_link()
        rig.check_removed()


def test_a_right_that_is_taken_away_later_takes_nothing_back():
    with host({"metrics": {"namespace": "FromStack"}}) as rig:
        publishes_as(rig, "FromStack")
        rig.fake.world.refuse_identity = True
        rig.fake.deny(DESCRIBE)
        status = rig.wait_status(lambda s: s["cloudformation"]["problem"], 40, "the problem")
        assert status["cloudformation"]["state"] == "read" and status["settings"]["ok"]
        there = len(rig.fake.metrics_of("heartbeat", "FromStack"))
        rig.wait_for(lambda: len(rig.fake.metrics_of("heartbeat", "FromStack")) > there + 2, 20, "more of the same")
        # and what comes with it again is applied
        rig.fake.clear()
        rig.set_metadata(merged(BASE, {"metrics": {"namespace": "Later"}}))
        publishes_as(rig, "Later")
        assert rig.peek()["cloudformation"]["problem"] == ""


def test_a_stack_that_does_not_exist_is_named():
    with host(file={"cloudformation": {"stack": "typo", "resource": "Fleet"}}) as rig:
        status = state(rig, "denied")
        assert "typo" in status["cloudformation"]["problem"] and "does not exist" in status["cloudformation"]["problem"]


# -- trouble --------------------------------------------------------------------------------------------------------

TROUBLE = {
    "throttled": {"kind": "throttled"}, "500": {"kind": "status", "status": 500}, "503": {"kind": "status", "status": 503},
    "a portal's page": {"kind": "html"}, "cut": {"kind": "cut"}, "cut before": {"kind": "cut_before_effect"},
    "truncated": {"kind": "truncated"}, "garbage": {"kind": "garbage"}, "empty": {"kind": "empty"}, "huge": {"kind": "huge"},
}


@pytest.mark.parametrize("name", TROUBLE)
def test_trouble_before_the_first_answer_observes_and_says_so(name):
    with host(start=False) as rig:
        options = dict(TROUBLE[name])
        rig.fake.fault(DESCRIBE, options.pop("kind"), **options)
        rig.drop_link()
        rig.start_daemon()
        status = rig.wait_status(lambda s: s["cloudformation"]["problem"], 60, "the problem")
        assert status["cloudformation"]["state"] == "waiting" and status["settings"]["action"] == "observe"
        assert any("CloudFormation" in one for one in status["problems"]), status["problems"]
        rig.wait_cause("link_lost")
        rig.holds_for(lambda: not rig.actions(), 2, "nothing done")
        rig.fake.clear()
        state(rig, "read")
        rig.check_removed()


def test_a_dead_endpoint_observes_until_it_is_known():
    with host(file=TIMES, start=False,
              environment={"AWS_ENDPOINT_URL_CLOUDFORMATION": "http://127.0.0.1:1"}) as rig:
        rig.drop_link()
        rig.start_daemon()
        status = rig.wait_status(lambda s: s["cloudformation"]["problem"], 60, "the problem")
        assert status["cloudformation"]["state"] == "waiting" and status["settings"]["action"] == "observe"
        rig.wait_held("observe")
        assert rig.actions() == []


@pytest.mark.parametrize("name", ["throttled", "cut", "a portal's page"])
def test_trouble_later_changes_nothing(name):
    with host({"grace": "2h"}) as rig:
        rig.wait_ready()
        options = dict(TROUBLE[name])
        rig.fake.fault(DESCRIBE, options.pop("kind"), **options)
        status = rig.wait_status(lambda s: s["cloudformation"]["problem"], 40, "the problem")
        assert status["cloudformation"]["state"] == "read" and status["settings"]["action"] == "detach"
        wait_config_error(rig, 0)
        rig.fake.clear()
        settled(rig, state="read", problem="")


def test_a_service_that_never_answers_holds_up_nothing():
    with host({"action": "detach"}, BASE, start=False) as rig:
        rig.fake.fault(DESCRIBE, "hang")
        rig.start_daemon()
        rig.drop_link()
        rig.check_removed()  # the file says all that is needed, action included
        began = time.monotonic()
        rig.daemon.send_signal(signal.SIGTERM)
        assert rig.daemon.wait(20) == 0 and time.monotonic() - began < 10


# -- kept -----------------------------------------------------------------------------------------------------------

def cache_of(rig):
    path = rig.root / "var/lib/ecs-health-agent/cloudformation.json"
    rig.wait_for(path.exists, 20, "the cache")
    return path


def test_after_a_restart_without_cloudformation_the_last_text_counts():
    with host({"action": "detach", "metrics": {"namespace": "FromStack"}}) as rig:
        state(rig, "read")
        cache_of(rig)
        rig.kill_daemon(signal.SIGTERM)
        before = len(rig.fake.metrics_of("heartbeat", "FromStack"))
        rig.fake.fault(DESCRIBE, "cut_before_effect")
        rig.start_daemon()
        status = rig.wait_status(lambda s: s["cloudformation"]["problem"], 40, "the problem")
        assert status["cloudformation"]["state"] == "read" and status["cloudformation"]["from_cache"]
        assert status["settings"]["action"] == "detach" and status["settings"]["ok"]
        rig.wait_for(lambda: len(rig.fake.metrics_of("heartbeat", "FromStack")) > before + 1, 40, "metrics in its namespace")
        rig.fake.clear()
        settled(rig, from_cache=False, problem="")
        rig.drop_link()
        rig.check_removed()


@pytest.mark.parametrize("how", ["another instance", "damaged", "unreadable"])
def test_a_cache_that_is_not_ours_or_damaged_is_ignored(how):
    with host({"action": "detach", "grace": "2h"}) as rig:
        state(rig, "read")
        path = cache_of(rig)
        rig.kill_daemon(signal.SIGTERM)
        cache = json.loads(path.read_text())
        assert cache["instance_id"] == rig.instance
        if how == "another instance":  # a machine that was started from a copy of this disk
            path.write_text(json.dumps(dict(cache, instance_id="i-0fedcba9876543210")))
        elif how == "damaged":
            path.write_bytes(path.read_bytes()[:-20])
        else:
            path.unlink()
            path.mkdir()
        rig.fake.fault(DESCRIBE, "cut_before_effect")
        rig.start_daemon()
        status = rig.wait_status(lambda s: s["cloudformation"]["problem"], 40, "the problem")
        assert status["cloudformation"]["state"] == "waiting" and status["settings"]["action"] == "observe"
        if how == "unreadable":
            path.rmdir()
        rig.fake.clear()
        settled(rig, state="read", from_cache=False)
        rig.wait_status(lambda s: s["settings"]["action"] == "detach", 20, "the stack's action")
        rig.wait_for(lambda: path.is_file() and json.loads(path.read_text())["instance_id"] == rig.instance, 20, "the new cache")


# -- secrets and pace -----------------------------------------------------------------------------------------------

def test_no_identity_and_no_key_reaches_log_status_or_disk():
    with host({"action": "observe"}) as rig:
        state(rig, "read")
        identity = rig.fake.calls_of(DESCRIBE)[0]["headers"]["Authorization"].partition(" ")[2]
        document, _, signature = identity.partition(":")
        rig.fake.world.refuse_identity = True
        rig.fake.fault(DESCRIBE, "refuse", message=f"bad header CFN_V1 {identity} or token {rig.fake.keys.token}")
        rig.wait_status(lambda s: s["cloudformation"]["problem"], 40, "the problem")
        seen = rig.log() + json.dumps(rig.peek()) + cache_of(rig).read_text()
        for secret in (signature, document, rig.fake.keys.token, rig.fake.keys.secret_access_key):
            for at in range(0, len(secret) - 64, 32):
                assert secret[at:at + 64] not in seen


def test_refreshes_are_spread():
    with host(file={"cloudformation": {"refresh": "1s"}}, size=1) as rig:
        rig.wait_for(lambda: len(calls(rig)) >= 8, 60, "eight readings")
        times = [one["time"] for one in calls(rig)]
        waits = [later - earlier for earlier, later in zip(times, times[1:])]
        assert min(waits) > 0.4 and max(waits) - min(waits) > 0.1, waits


def test_many_changes_in_a_row_end_with_the_last():
    with host(size=1) as rig:
        rig.wait_ready()
        stop = threading.Event()

        def churn():
            number = 0
            while not stop.is_set():
                number += 1
                rig.set_metadata(merged(BASE, {"grace": f"{3600 + number}s"}))
                stop.wait(0.05)

        thread = threading.Thread(target=churn)
        thread.start()
        rig.wait_for(lambda: len(calls(rig)) >= 5, 60, "five readings")
        stop.set()
        thread.join()
        rig.set_metadata(merged(BASE, {"action": "observe"}))
        rig.wait_status(lambda s: s["settings"]["action"] == "observe" and s["verdict"]["cause"] == "none", 40, "the last")
        assert rig.actions() == []


# -- the fake itself ------------------------------------------------------------------------------------------------

def ask(fake, target, **headers):
    """(status, body) of a GET of the fake's."""
    connection = http.client.HTTPConnection("127.0.0.1", fake.port, timeout=10)
    try:
        connection.request("GET", target, headers={"Accept": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_the_fake_lets_in_its_own_instances_with_a_true_identity_only():
    with FakeAws() as fake:
        fake.populate(size=2)
        owner = fake.set_metadata({"ECSHealthAgent": {"grace": 300, "drain": True}})
        fake.set_metadata({}, stack="other", tags=False)
        document = fake.imds.item("/latest/dynamic/instance-identity/document").encode()
        signature = fake.imds.item("/latest/dynamic/instance-identity/signature").replace("\n", "")
        proof = f"CFN_V1 {base64.b64encode(document).decode()}:{signature}"
        forged = base64.b64encode(document.replace(fake.imds.instance.encode(), b"i-0fedcba9876543210")).decode()
        target = f"/?Action=DescribeStackResource&StackName={owner.arn}&LogicalResourceId=AutoScalingGroup" \
                 "&ContentType=JSON&Version=2010-05-15"
        status, body = ask(fake, target, Authorization=proof)
        detail = body["DescribeStackResourceResponse"]["DescribeStackResourceResult"]["StackResourceDetail"]
        assert status == 200 and json.loads(detail["Metadata"]) == {"ECSHealthAgent": {"grace": "300", "drain": "true"}}
        for change, headers, code in (
                (target, {}, "MissingAuthenticationToken"),
                (target, {"Authorization": proof[:-8] + "AAAAAA=="}, "AccessDenied"),
                (target, {"Authorization": f"CFN_V1 {forged}:{signature}"}, "AccessDenied"),
                (target, {"Authorization": "CFN_V1 e30=:x"}, "IncompleteSignature"),
                (target.replace(owner.arn, "other"), {"Authorization": proof}, "AccessDenied"),
                (target.replace(owner.arn, "typo"), {"Authorization": proof}, "ValidationError"),
                (target.replace("=AutoScalingGroup", "=Fleet"), {"Authorization": proof}, "ValidationError"),
                (target.replace("2010-05-15", "2011-01-01"), {"Authorization": proof}, "NoSuchVersion"),
                (target.replace("ContentType=JSON", "ContentType=XML"), {"Authorization": proof}, "InvalidParameterValue")):
            status, body = ask(fake, change, **headers)
            assert status >= 400 and body["Error"]["Code"] == code, (change, headers, body)
        fake.world.refuse_identity = True
        assert ask(fake, target, Authorization=proof)[1]["Error"]["Code"] == "AccessDenied"
