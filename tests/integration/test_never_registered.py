# SPDX-License-Identifier: Apache-2.0
"""An instance whose ECS agent never registered: left alone, and told of, unless act_if_never_registered says otherwise.

Nobody answers on the introspection port, so the daemon knows neither cluster nor container instance.
"""

import contextlib

from rig import QUICK, Rig, merged

ON = {"act_if_never_registered": True}
CLUSTER = "arn:aws:ecs:us-east-1:123456789012:cluster/demo"


@contextlib.contextmanager
def unregistered(config=(), known=False, ecs_config=f"ECS_CLUSTER={CLUSTER}\n", environment=None):
    """A Rig without ECS agent; @known: ECS has a container instance of ours all the same."""
    with Rig(merged(QUICK, dict(config)), agent=None, daemon=False, environment=environment) as rig:
        if not known:
            with rig.fake.world.live() as state:
                del state.hosts[rig.own.arn]
        if ecs_config is not None:
            (rig.root / "etc/ecs").mkdir()
            (rig.root / "etc/ecs/ecs.config").write_text(ecs_config)
        rig.start_daemon()
        yield rig


def own_id(rig):
    return f"ec2InstanceId=='{rig.instance}'"


def searches(rig):
    """Questions to ECS for a container instance of this EC2 instance."""
    return [call for call in rig.fake.calls if call["action"] == "ListContainerInstances"
            and call["params"].get("filter") == own_id(rig)]


def state_changes(rig):
    return [call for call in rig.fake.calls if call["action"] == "UpdateContainerInstancesState" and call["effect"]]


def test_on_it_is_detached_once_and_nothing_is_drained():
    with unregistered(ON) as rig:
        rig.wait_cause("never_registered")
        rig.wait_for(rig.detaches, 60, "a detach")
        status = rig.wait_stage("removed")
        assert status["record"]["cause"] == "never_registered" and status["record"]["removals"] == 1
        assert status["identity"]["cluster"] == "demo" and status["identity"]["container_instance"] == ""
        assert rig.actions() == ["detach"] and len(rig.detach_attempts()) == 1
        assert not rig.fake.calls_of("UpdateContainerInstancesState") and not rig.fake.calls_of("PutAttributes")
        assert len(searches(rig)) >= 3  # confirmed, and then at each look
        assert all(call["params"]["cluster"] == "demo" for call in searches(rig))
        rig.holds_for(lambda: rig.actions() == ["detach"], 2, "nothing more is done")


def test_on_the_settings_name_the_cluster_before_the_agents_own():
    named = merged(ON, {"ecs_agent": {"cluster": "demo"}})
    with unregistered(named, ecs_config="ECS_CLUSTER=elsewhere\n") as rig:
        rig.wait_stage("removed")
        assert rig.actions() == ["detach"]
        assert {call["params"]["cluster"] for call in searches(rig)} == {"demo"}


def test_on_without_a_name_it_is_the_default_cluster_and_without_that_nothing_is_done():
    with unregistered(ON, ecs_config=None) as rig:
        rig.wait_for(lambda: len(searches(rig)) >= 2, 30, "two questions to ECS")
        assert all(call["params"]["cluster"] == "default" and call["code"] == "ClusterNotFoundException"
                   for call in searches(rig))
        rig.holds_for(lambda: not rig.actions() and not rig.detach_attempts(), 2, "nothing is done")
        assert rig.status()["verdict"]["cause"] == "never_registered"


def test_off_nothing_is_done_and_status_says_what_is_wrong():
    with unregistered() as rig:
        rig.wait_cause("never_registered")
        rig.wait_status(lambda status: status["identity"]["cluster"] == "demo", 20, "the cluster")
        rig.wait_for(lambda: rig.fake.metrics, 20, "metrics under the cluster's name")
        rig.holds_for(lambda: not rig.actions() and not searches(rig), 4, "nothing is done or asked")
        status = rig.status()
        assert status["verdict"]["cause"] == "never_registered" and status["stage"]["name"] == "watching"
        assert "never registered" in status["headline"]["what"] and "ECS_CLUSTER" in status["headline"]["do"]
        assert not rig.detach_attempts() and not state_changes(rig)


def test_on_what_ecs_knows_to_be_connected_is_left_alone():
    with unregistered(ON, known=True) as rig:
        rig.fake.world.force_connected(rig.instance, True)
        rig.wait_for(lambda: searches(rig), 30, "a question to ECS")
        rig.wait_status(lambda s: s["identity"]["container_instance"] == rig.own.arn, 20, "its own ARN")
        # ECS knows it: it has registered, and its agent is what is missing
        rig.wait_cause("agent_absent")
        rig.wait_for(lambda: rig.own.attributes.get("ecs-health-agent") == "detach", 10, "its own attribute")
        rig.holds_for(lambda: not rig.actions() and not rig.detach_attempts(), 5, "nothing is done")
        assert not state_changes(rig)

        # from the journal it is known after a restart too
        before = len(searches(rig))
        rig.restart_daemon()
        rig.wait_status(lambda s: s["identity"]["container_instance"] == rig.own.arn, 20, "its own ARN")
        rig.holds_for(lambda: not rig.actions(), 3, "nothing is done")
        assert len(searches(rig)) == before


def test_on_what_ecs_knows_to_be_disconnected_is_drained_as_well():
    with unregistered(ON, known=True) as rig:
        rig.fake.world.force_connected(rig.instance, False)
        rig.check_removed()
        assert rig.own.attributes["ecs-health-agent.incident"].startswith("removing ")


def test_on_a_group_that_never_registered_as_a_whole_is_not_taken_apart():
    with unregistered(ON) as rig:
        with rig.fake.world.live() as state:
            state.hosts.clear()
        rig.wait_held("share")
        assert not rig.actions() and not rig.detach_attempts()
