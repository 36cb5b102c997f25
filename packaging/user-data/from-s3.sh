#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# User data: fetches the RPM of ecs-health-agent from S3, checks it and installs it. The ECS-optimized image has neither
# awscli nor jq; curl will do. Where aws is there, it is used.
#
# Change: bucket, region, key and the checksums (sha256sum *.rpm). The instance role needs s3:GetObject on the RPM.
# Behind a proxy, put "export https_proxy=http://HOST:PORT" before it; the metadata service is never asked through it.
# AWS_ENDPOINT_URL_S3 and AWS_EC2_METADATA_SERVICE_ENDPOINT name other endpoints.
# In CloudFormation: Fn::Base64 without Fn::Sub, which would take ${...} for its own.
#
# Everything happens in a subshell, so it can be pasted between other lines, whatever options they set. If it fails, it
# says so in /var/log/cloud-init-output.log, on the console and in the journal, and the rest goes on: the ECS agent waits
# for the end of user data, not for its success. An S3 that does not answer is given up after about three minutes. It may
# be run again.

health_agent_install() (
        bucket=example-bucket
        region= # of the bucket; empty: that of the instance
        key=ecs-health-agent/ecs-health-agent-0.1.0-1.amzn2023.$(uname -m).rpm # letters, digits and / . _ - only
        case $(uname -m) in
        x86_64) sha256=0000000000000000000000000000000000000000000000000000000000000000 ;;
        aarch64) sha256=0000000000000000000000000000000000000000000000000000000000000000 ;;
        esac

        { set +x; } 2>/dev/null # or credentials would be in the log
        imds=${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}
        imds=${imds%/}
        nothing=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 # SHA-256 of an empty body

        complain() {
                echo "ecs-health-agent: $*" >&2
                logger -t ecs-health-agent-install -p daemon.err "$*" || :
        }

        fail() {
                complain "NOT INSTALLED: $*"
                exit 1
        }

        # Secrets go to curl by its standard input: arguments can be read by everybody on the host.
        metadata() {
                token=$(curl -fsS --noproxy '*' -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' \
                        "$imds/latest/api/token") &&
                        printf 'header = "X-aws-ec2-metadata-token: %s"\n' "$token" |
                        curl -K - -fsS --noproxy '*' -m 5 "$imds/latest/meta-data/$1"
        }

        field() { # a member of the credentials' document
                printf '%s' "$credentials" | sed -n "s/.*\"$1\"[ ]*:[ ]*\"\\([^\"]*\\)\".*/\\1/p"
        }

        locate() { # sets region and url
                region=${region:-$(metadata placement/region)}
                [ -n "$region" ] || return 1
                if [ -n "${AWS_ENDPOINT_URL_S3:-}" ]; then
                        url=${AWS_ENDPOINT_URL_S3%/}/$bucket/$key
                        return
                fi
                domain=$(metadata services/domain) # amazonaws.com, in China amazonaws.com.cn, ...
                [ -n "$domain" ] || return 1
                case $bucket in
                *.*) url=https://s3.$region.$domain/$bucket/$key ;; # no certificate fits a name with more dots
                *) url=https://$bucket.s3.$region.$domain/$key ;;
                esac
        }

        fetch() {
                locate || return
                if command -v aws >/dev/null; then
                        timeout 30 aws s3 cp --only-show-errors --region "$region" "s3://$bucket/$key" "$rpm"
                        return
                fi
                role=$(metadata iam/security-credentials/) || role=
                if [ -z "$role" ]; then
                        complain "the instance has no role (yet)"
                        return 1
                fi
                credentials=$(metadata "iam/security-credentials/$role") || return
                status=$(printf 'user = "%s:%s"\nheader = "X-Amz-Security-Token: %s"\n' \
                        "$(field AccessKeyId)" "$(field SecretAccessKey)" "$(field Token)" |
                        curl -K - -sS --aws-sigv4 "aws:amz:$region:s3" -H "x-amz-content-sha256: $nothing" \
                                --connect-timeout 10 -m 30 -o "$rpm" -w '%{http_code}' "$url") && [ "$status" = 200 ] &&
                        return
                complain "$url: status $status $(sed -n 's/.*<Message>\([^<]*\)<.*/\1/p' "$rpm" 2>/dev/null)"
                return 1
        }

        directory=$(mktemp -d) || fail "no directory for temporary files"
        trap 'rm -rf "$directory"' EXIT
        rpm=$directory/${key##*/}

        # Right after the start of an instance its role may not be there yet, and a new policy not in force everywhere.
        for pause in 2 4 8 16 0; do
                fetch && break
                [ "$pause" = 0 ] && fail "s3://$bucket/$key cannot be fetched; the reasons are above"
                sleep "$pause"
        done
        sum=$(sha256sum <"$rpm")
        [ "${sum%% *}" = "$sha256" ] || fail "s3://$bucket/$key has the SHA-256 ${sum%% *}, expected $sha256"

        package=$(rpm -qp --qf '%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}' "$rpm") || fail "$key is no RPM"
        # Without a repository, as it has to be in a subnet without a way out; dnf only if something else is missing.
        # --oldpackage: what is asked for here is what runs, also when an image has a newer one.
        rpm -q --quiet "$package" || timeout 120 rpm -U --oldpackage "$rpm" || timeout 120 dnf -y install "$rpm" ||
                fail "neither rpm nor dnf installs $package"
        # --no-block: nothing in user data may wait for a unit that could wait for the end of user data.
        systemctl enable --now --no-block ecs-health-agent.service || fail "ecs-health-agent.service cannot be enabled"
        echo "ecs-health-agent: $package is installed"
)
health_agent_install || :
