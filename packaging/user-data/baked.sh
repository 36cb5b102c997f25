#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# User data for an image that has ecs-health-agent already: the RPM was put into additional-packages/ of the recipe of the
# ECS-optimized image, or installed in a build of your own. Nothing is installed here; the service is enabled in the image.
#
# Change: the cluster's name. Settings of ecs-health-agent belong into the CloudFormation metadata of the group or into
# the image; where neither will do, write them here: they win over the metadata. It may be run again.

ecs_config() { # a line for the ECS agent, once
        grep -qxF "$1" /etc/ecs/ecs.config 2>/dev/null && return
        # A last line without an end would swallow ours.
        [ -z "$(tail -c 1 /etc/ecs/ecs.config 2>/dev/null)" ] || echo >>/etc/ecs/ecs.config
        printf '%s\n' "$1" >>/etc/ecs/ecs.config
}

mkdir -p /etc/ecs
ecs_config ECS_CLUSTER=example-cluster
# Keeps tasks in awsvpc mode from the role of the instance, and so from the rights of ecs-health-agent:
ecs_config ECS_AWSVPC_BLOCK_IMDS=true

health_agent_settings() (
        settings= # empty: none; else JSON, such as '{"action": "observe", "grace": "10m"}'

        [ -n "$settings" ] || exit 0
        new=$(mktemp /etc/ecs-health-agent/.config.json.XXXXXX) && printf '%s\n' "$settings" >"$new" &&
                ecs-health-agent check-config "$new" >/dev/null && chmod 0644 "$new" &&
                mv -f "$new" /etc/ecs-health-agent/config.json && exit 0
        [ -z "$new" ] || rm -f "$new"
        echo "ecs-health-agent: the settings in user data are NOT IN FORCE" >&2
        logger -t ecs-health-agent-install -p daemon.err "the settings in user data are not in force" || :
)
health_agent_settings || :
