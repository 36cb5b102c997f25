#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# User data: installs ecs-health-agent from an RPM that is on the instance already, put there by the image or by lines of
# your own before these.
#
# Change: rpm. Everything happens in a subshell, so it can be pasted between other lines, whatever options they set. If it
# fails, it says so in /var/log/cloud-init-output.log, on the console and in the journal, and the rest goes on: the ECS
# agent waits for the end of user data, not for its success. It may be run again.

health_agent_install() (
        rpm=/opt/ecs-health-agent/ecs-health-agent-0.1.0-1.amzn2023.$(uname -m).rpm

        fail() {
                echo "ecs-health-agent: NOT INSTALLED: $*" >&2
                logger -t ecs-health-agent-install -p daemon.err "NOT INSTALLED: $*" || :
                exit 1
        }

        [ -s "$rpm" ] || fail "there is no file $rpm"

        package=$(rpm -qp --qf '%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}' "$rpm") || fail "$rpm is no RPM"
        # Without a repository, as it has to be in a subnet without a way out; dnf only if something else is missing.
        # --oldpackage: what is asked for here is what runs, also when an image has a newer one.
        rpm -q --quiet "$package" || timeout 120 rpm -U --oldpackage "$rpm" || timeout 120 dnf -y install "$rpm" ||
                fail "neither rpm nor dnf installs $package"
        # --no-block: nothing in user data may wait for a unit that could wait for the end of user data.
        systemctl enable --now --no-block ecs-health-agent.service || fail "ecs-health-agent.service cannot be enabled"
        echo "ecs-health-agent: $package is installed"
)
health_agent_install || :
