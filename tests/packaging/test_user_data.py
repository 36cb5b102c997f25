# SPDX-License-Identifier: Apache-2.0
"""The user-data scripts, really run: as they are but for the lines that their heads tell to change.

PATH holds the tools they may use and nothing else; rpm, dnf, systemctl, logger, sleep and uname are recorded stand-ins,
the metadata service and S3 are fakes. Paths below /etc and /opt are put below a directory of the test.
"""

import email
import hashlib
import os
import pathlib
import re
import shutil
import subprocess

import fake_aws
import fake_imds
import pytest
from fake_aws import FakeAws
from fake_control_plane import make_certificate
from fake_proxy import FakeProxy
from fake_s3 import FakeS3
from rig import binary

SCRIPTS = pathlib.Path(__file__).resolve().parents[2] / "packaging" / "user-data"
TOOLS = ("sh", "bash", "dash", "curl", "sed", "sha256sum", "mktemp", "rm", "cat", "grep", "tail", "mkdir", "chmod", "mv",
         "timeout", "touch", "cp", "head")
RPM = b"RPM!" + bytes(range(256)) * 40
PACKAGE = "ecs-health-agent-0.1.0-1.amzn2023.x86_64"
BUCKET, KEY = "packages-of-mine", f"ecs-health-agent/{PACKAGE}.rpm"
ENABLED = "systemctl enable --now --no-block ecs-health-agent.service"

STANDINS = {
    "rpm": f"""
case $1 in
-qp) [ "$(head -c 4 "$4")" = RPM! ] && printf %s {PACKAGE} ;;
-q) [ -e installed ] ;;
-U) [ ! -e rpm-fails ] && cp "$3" installed ;;
*) exit 9 ;;
esac""",
    "dnf": "[ ! -e dnf-fails ] && cp \"$3\" installed",
    "systemctl": "[ ! -e systemctl-fails ]",
    "logger": "exit 0",
    "sleep": "exit 0",
    "uname": "echo x86_64",
}


class Host:
    """A directory that stands for an instance: .root its /, .calls() what its stand-ins were called with."""

    def __init__(self, directory):
        self.root = directory
        self.bin = directory / "bin"
        self.bin.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        for name, body in STANDINS.items():
            self.standin(name, body)
        # The real one, but for a record of its arguments.
        (self.bin / "curl").unlink()
        self.standin("curl", f"exec {shutil.which('curl')} \"$@\"")
        (directory / "tmp").mkdir()
        self.environment = {"PATH": str(self.bin), "HOME": str(directory), "CURL_HOME": str(directory), "LANG": "C",
                            "TMPDIR": str(directory / "tmp")}

    def standin(self, name, body):
        path = self.bin / name
        path.write_text(f"#!/bin/sh\ncd {self.root} || exit 9\necho \"{name} $*\" >>calls\n{body}\n")
        path.chmod(0o755)

    def calls(self, *names):
        path = self.root / "calls"
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return [line for line in lines if line.split()[0] in names or not names]

    def installed(self):
        path = self.root / "installed"
        return path.read_bytes() if path.exists() else None

    def run(self, text, shell="sh"):
        """Run a script as cloud-init does, all words of it in one text. Return (status, output)."""
        script = self.root / "part-001"
        script.write_text(re.sub(r"(?<![\w./])/(etc|opt)/", rf"{self.root}/\1/", text))
        done = subprocess.run([*shell.split(), str(script)], env=self.environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, cwd=self.root)
        return done.returncode, done.stdout

    def refused(self, output):
        """Assert that nothing was installed, and that this was said where somebody will see it; return what."""
        assert self.installed() is None and not self.calls("systemctl")
        told = re.search(r"^ecs-health-agent: (NOT INSTALLED: .*)", output, re.MULTILINE)
        assert told, output
        assert any(told[1] in line for line in self.calls("logger"))
        return told[1]


def changed(name, **values):
    """A script's text with "variable=..." lines changed, each of which must be there."""
    text = (SCRIPTS / name).read_text()
    for variable, value in values.items():
        text, n = re.subn(rf"^(\s*){variable}=\S*", lambda m, to=f"{variable}={value}": m[1] + to, text, 1, re.M)
        assert n == 1, variable
    return text


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


class Cloud:
    """A metadata service with a role, and an S3 that knows its keys and holds the RPM."""

    def __init__(self, host, region="us-east-1", domain=None, tls=False):
        self.patch = pytest.MonkeyPatch()
        for module in (fake_aws, fake_imds):
            self.patch.setattr(module, "REGION", region)
        self.aws = FakeAws()
        self.aws.start()
        self.aws.populate(size=1)
        self.imds = self.aws.imds
        if domain:
            self.imds.values["/latest/meta-data/services/domain"] = domain
        self.s3 = FakeS3(self.aws.all_keys, region, make_certificate(host.root) if tls else None)
        self.s3.objects[f"{BUCKET}/{KEY}"] = RPM
        host.environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = self.imds.url
        if not tls:
            host.environment["AWS_ENDPOINT_URL_S3"] = self.s3.url

    def stop(self):
        self.s3.stop()
        self.aws.stop()
        self.patch.undo()

    def secrets(self):
        keys = self.aws.keys
        return [keys.secret_access_key, keys.token, *self.imds.tokens]


@pytest.fixture
def cloud(host):
    one = Cloud(host)
    yield one
    one.stop()


def from_s3(sha256=None, **values):
    """from-s3.sh, filled in."""
    text = changed("from-s3.sh", bucket=values.pop("bucket", BUCKET), **values)
    text, n = re.subn(r"(x86_64\) sha256=)0{64}", lambda m: m[1] + (sha256 or hashlib.sha256(RPM).hexdigest()), text)
    assert n == 1
    return text


# -- from S3 ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shell", ["dash", "bash", "bash --posix", "bash -eux", "dash -eux"])
def test_the_package_comes_from_s3_by_curl_alone(host, cloud, shell):
    status, output = host.run(from_s3(), shell)
    assert (status, host.installed()) == (0, RPM), output
    assert host.calls("rpm")[-1].startswith("rpm -U --oldpackage ") and not host.calls("dnf", "sleep", "logger")
    assert host.calls("systemctl") == [ENABLED]
    assert f"{PACKAGE} is installed" in output
    assert cloud.s3.statuses() == [200]
    # neither in the log, a trace included, nor where every process can read it
    for secret in cloud.secrets():
        assert secret not in output
        assert not any(secret in line for line in host.calls())
    assert not list((host.root / "tmp").iterdir())


def test_a_second_run_installs_nothing_again(host, cloud):
    for _ in range(2):
        assert host.run(from_s3())[0] == 0
    assert sum(line.startswith("rpm -U") for line in host.calls("rpm")) == 1
    assert host.calls("systemctl") == [ENABLED] * 2


def test_another_checksum_is_refused(host, cloud):
    cloud.s3.objects[f"{BUCKET}/{KEY}"] = RPM[:-1] + b"?"
    status, output = host.run(from_s3())
    told = host.refused(output)
    assert status == 0 and not host.calls("rpm", "sleep")
    assert hashlib.sha256(RPM).hexdigest() in told and hashlib.sha256(RPM[:-1] + b"?").hexdigest() in told


def test_the_checksums_must_be_filled_in(host, cloud):
    status, output = host.run(changed("from-s3.sh", bucket=BUCKET))
    assert status == 0 and "0" * 64 in host.refused(output)


def test_what_is_no_package_is_refused(host, cloud):
    cloud.s3.objects[f"{BUCKET}/{KEY}"] = b"<html>"
    status, output = host.run(from_s3(hashlib.sha256(b"<html>").hexdigest()))
    assert status == 0 and "is no RPM" in host.refused(output)


@pytest.mark.parametrize("trouble, installed, pauses", [
    ([500, 503], True, ["2", "4"]),
    ([403] * 4, True, ["2", "4", "8", "16"]),
    ([403] * 5, False, ["2", "4", "8", "16"]),
    ([500] * 5, False, ["2", "4", "8", "16"]),
    ([301] * 5, False, ["2", "4", "8", "16"]),
])
def test_a_troubled_s3_is_asked_five_times(host, cloud, trouble, installed, pauses):
    cloud.s3.trouble = list(trouble)
    status, output = host.run(from_s3())
    assert status == 0
    assert [line.split()[1] for line in host.calls("sleep")] == pauses
    if installed:
        assert host.installed() == RPM and host.calls("systemctl") == [ENABLED]
        assert cloud.s3.statuses() == [*trouble, 200]
    else:
        assert f"s3://{BUCKET}/{KEY} cannot be fetched" in host.refused(output)
    # the reason is told each time
    for one in set(trouble):
        assert output.count(f"{KEY}: status {one} In trouble.") == trouble.count(one)


def test_an_object_that_is_not_there_is_named(host, cloud):
    cloud.s3.objects.clear()
    status, output = host.run(from_s3())
    assert status == 0 and KEY in host.refused(output) and "status 404" in output


def test_an_instance_without_a_role_says_so(host, cloud):
    for path in ("iam/security-credentials", "iam/security-credentials/"):
        cloud.imds.values[f"/latest/meta-data/{path}"] = None
    status, output = host.run(from_s3())
    host.refused(output)
    assert status == 0 and "the instance has no role" in output
    assert len(host.calls("sleep")) == 4 and not cloud.s3.calls


def test_a_role_that_comes_late_is_waited_for(host, cloud):
    cloud.imds.values["/latest/meta-data/iam/security-credentials/"] = None
    # the pause after the first try brings it
    host.standin("sleep", "touch role")
    role = host.root / "role"
    item = cloud.imds.item
    cloud.imds.item = lambda path: fake_imds.ROLE if path.endswith("credentials/") and role.exists() else item(path)
    assert host.run(from_s3())[0] == 0
    assert host.installed() == RPM and len(host.calls("sleep")) == 1


def test_a_slow_metadata_service_is_waited_for(host, cloud):
    cloud.aws.fault("imds", "slow", seconds=0.7)
    assert host.run(from_s3())[0] == 0
    assert host.installed() == RPM


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 503}, {"kind": "html"}, {"kind": "garbage"}, {"kind": "cut"}])
def test_a_broken_metadata_service_is_given_up(host, cloud, fault):
    cloud.aws.fault("imds", **fault)
    status, output = host.run(from_s3())
    host.refused(output)
    assert status == 0 and len(host.calls("sleep")) == 4


def test_keys_that_s3_refuses_are_no_keys(host, cloud):
    cloud.aws.keys.expired = True
    status, output = host.run(from_s3())
    host.refused(output)
    assert status == 0 and cloud.s3.statuses() == [403] * 5


@pytest.mark.parametrize("region, good", [("eu-central-1", True), ("", False)])
def test_a_bucket_elsewhere_needs_its_region(host, cloud, region, good):
    cloud.s3.region = "eu-central-1"
    status, output = host.run(from_s3(region=region))
    assert status == 0 and (host.installed() == RPM) is good, output


@pytest.mark.parametrize("region, domain, bucket, name", [
    ("us-east-1", None, BUCKET, f"{BUCKET}.s3.us-east-1.amazonaws.com"),
    ("us-gov-west-1", "amazonaws.com", BUCKET, f"{BUCKET}.s3.us-gov-west-1.amazonaws.com"),
    ("cn-north-1", "amazonaws.com.cn", BUCKET, f"{BUCKET}.s3.cn-north-1.amazonaws.com.cn"),
    ("us-iso-east-1", "c2s.ic.gov", BUCKET, f"{BUCKET}.s3.us-iso-east-1.c2s.ic.gov"),
    ("eu-west-1", "amazonaws.com", "a.bucket", "s3.eu-west-1.amazonaws.com"),
])
def test_each_partition_has_its_own_names(host, region, domain, bucket, name):
    cloud = Cloud(host, region, domain, tls=True)
    try:
        cloud.s3.objects[f"{bucket}/{KEY}"] = RPM
        # the name leads to the fake; whether certificates are checked is curl's own test
        (host.root / ".curlrc").write_text(f'connect-to = "{name}:443:127.0.0.1:{cloud.s3.port}"\ninsecure\n')
        status, output = host.run(from_s3(bucket=bucket))
        assert (status, host.installed()) == (0, RPM), output
        assert [host for host, _, _ in cloud.s3.calls] == [name]
    finally:
        cloud.stop()


def test_a_proxy_is_used_for_s3_and_not_for_the_metadata_service(host):
    cloud = Cloud(host, "eu-west-1", tls=True)
    proxy = FakeProxy(("127.0.0.1", cloud.s3.port)).start()
    try:
        (host.root / ".curlrc").write_text("insecure\n")
        host.environment.update(https_proxy=proxy.url(), http_proxy=proxy.url(), HTTPS_PROXY=proxy.url())
        status, output = host.run(from_s3())
        assert (status, host.installed()) == (0, RPM), output
        assert proxy.asked == [(f"{BUCKET}.s3.eu-west-1.amazonaws.com:443", None, 200)]
    finally:
        proxy.stop()
        cloud.stop()


@pytest.mark.parametrize("good", [True, False])
def test_awscli_is_used_where_it_is(host, cloud, good):
    (host.root / "object").write_bytes(RPM)
    host.standin("aws", "cp object \"$7\"" if good else "echo 'An error occurred (403)' >&2; exit 1")
    status, output = host.run(from_s3())
    calls = host.calls("aws")
    assert status == 0 and len(calls) == (1 if good else 5)
    assert calls[0].startswith(f"aws s3 cp --only-show-errors --region us-east-1 s3://{BUCKET}/{KEY} ")
    assert not cloud.s3.calls
    if good:
        assert host.installed() == RPM
    else:
        host.refused(output)
        assert "An error occurred (403)" in output


# -- the end that all have in common ------------------------------------------------------------------------------

def prepared(host, cloud, name):
    """The text of a script that will work, and its RPM in place."""
    if name == "from-s3.sh":
        return from_s3()
    place = host.root / "opt/ecs-health-agent" / f"{PACKAGE}.rpm"
    place.parent.mkdir(parents=True)
    place.write_bytes(RPM)
    return changed(name)


BOTH = pytest.mark.parametrize("name", ["from-file.sh", "from-s3.sh"])


@BOTH
def test_dnf_is_the_second_choice(host, cloud, name):
    (host.root / "rpm-fails").touch()
    assert host.run(prepared(host, cloud, name))[0] == 0
    assert host.installed() == RPM and len(host.calls("dnf")) == 1 and host.calls("systemctl") == [ENABLED]


@BOTH
def test_a_package_that_does_not_install_is_no_silent_matter(host, cloud, name):
    for one in ("rpm-fails", "dnf-fails"):
        (host.root / one).touch()
    status, output = host.run(prepared(host, cloud, name))
    assert status == 0 and PACKAGE in host.refused(output)


@BOTH
def test_a_service_that_cannot_be_enabled_is_no_silent_matter(host, cloud, name):
    (host.root / "systemctl-fails").touch()
    status, output = host.run(prepared(host, cloud, name))
    assert status == 0 and "NOT INSTALLED: ecs-health-agent.service cannot be enabled" in output


@BOTH
@pytest.mark.parametrize("shell", ["bash -eux", "dash -eux", "bash -o pipefail -eu"])
def test_what_stands_around_it_is_neither_stopped_nor_changed(host, cloud, name, shell):
    for one in ("rpm-fails", "dnf-fails"):
        (host.root / one).touch()
    before = "rpm=mine region=mine directory=mine\nset -- one two\n"
    after = "\necho \"after: $rpm $region $directory $# $- $PWD\"\n"
    status, output = host.run(before + prepared(host, cloud, name) + after, shell)
    assert status == 0, output
    host.refused(output)
    told = re.search(r"^after: mine mine mine 2 (\S*) (.*)$", output, re.MULTILINE)
    assert told and "e" in told[1] and "u" in told[1] and ("x" in told[1]) == ("x" in shell.split()[-1])
    assert told[2] == str(host.root)


# -- from a file --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shell", ["dash", "bash", "bash --posix", "bash -eux"])
def test_the_package_comes_from_a_file(host, cloud, shell):
    text = prepared(host, cloud, "from-file.sh")
    for _ in range(2):
        status, output = host.run(text, shell)
        assert (status, host.installed()) == (0, RPM), output
    assert sum(line.startswith("rpm -U") for line in host.calls("rpm")) == 1
    assert host.calls("systemctl") == [ENABLED] * 2
    assert not host.calls("curl", "dnf", "logger")


@pytest.mark.parametrize("content, told", [(None, "there is no file"), (b"", "there is no file"), (b"text", "is no RPM")])
def test_a_file_that_is_no_package_is_named(host, cloud, content, told):
    text = prepared(host, cloud, "from-file.sh")
    place = host.root / "opt/ecs-health-agent" / f"{PACKAGE}.rpm"
    place.unlink() if content is None else place.write_bytes(content)
    status, output = host.run(text)
    said = host.refused(output)
    assert status == 0 and told in said and str(place) in said


# -- a baked image ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("before, after", [
    (None, ""),
    ("", ""),
    ("ECS_LOGLEVEL=info\n", "ECS_LOGLEVEL=info\n"),
    ("ECS_LOGLEVEL=info", "ECS_LOGLEVEL=info\n"),
    ("ECS_CLUSTER=example-cluster-2\n", "ECS_CLUSTER=example-cluster-2\n"),
])
@pytest.mark.parametrize("shell", ["dash", "bash -eu"])
def test_the_ecs_agent_gets_its_lines_once(host, before, after, shell):
    path = host.root / "etc/ecs/ecs.config"
    if before is not None:
        path.parent.mkdir(parents=True)
        path.write_text(before)
    for _ in range(2):
        status, output = host.run(changed("baked.sh"), shell)
        assert (status, output) == (0, "")
        assert path.read_text() == after + "ECS_CLUSTER=example-cluster\nECS_AWSVPC_BLOCK_IMDS=true\n"
    assert not host.calls()


def with_settings(host, settings):
    """Run baked.sh with @settings and the real check of them. Return (output, what config.json holds)."""
    if not pathlib.Path(binary()).exists():
        pytest.skip(f"no {binary()} to check settings by")
    (host.bin / "ecs-health-agent").symlink_to(binary())
    directory = host.root / "etc/ecs-health-agent"
    directory.mkdir(parents=True)
    path = directory / "config.json"
    path.write_text("{}\n")
    status, output = host.run(changed("baked.sh", settings=f"'{settings}'" if settings else ""))
    assert status == 0
    assert os.listdir(directory) == ["config.json"]
    assert path.stat().st_mode & 0o777 == 0o644
    return output, path.read_text()


def test_good_settings_are_put_in_force(host):
    settings = '{"action":"observe","grace":"10m"}'
    assert with_settings(host, settings) == ("", settings + "\n")


def test_without_settings_the_file_is_left_alone(host):
    assert with_settings(host, "") == ("", "{}\n")


@pytest.mark.parametrize("settings, told", [('{"action":"observ"}', "did you mean"), ("{", "line 2, column")])
def test_bad_settings_change_nothing_and_are_told(host, settings, told):
    output, kept = with_settings(host, settings)
    assert kept == "{}\n" and "NOT IN FORCE" in output and told in output
    assert any("not in force" in line for line in host.calls("logger"))


# -- several parts ------------------------------------------------------------------------------------------------

def parts(text):
    """(type, file name, content) of each part, found as cloud-init finds them."""
    assert "mime-version:" in text[:4096].lower()
    return [(part.get_content_type(), part.get_filename(), part.get_payload(decode=True).decode())
            for part in email.message_from_string(text).walk() if part.get_content_maintype() != "multipart"]


def test_the_parts_are_scripts_that_run_in_their_order(host, cloud):
    found = parts((SCRIPTS / "multipart.txt").read_text())
    assert [(kind, name) for kind, name, _ in found] == [
        ("text/x-shellscript", "10-ecs-config.sh"), ("text/x-shellscript", "20-ecs-health-agent.sh")]
    assert found[1][2].rstrip("\n") == (SCRIPTS / "from-s3.sh").read_text().rstrip("\n")
    for _ in range(2):
        for _, _, content in sorted(found, key=lambda part: part[1]):
            assert content.startswith("#!/bin/sh\n")
            if "bucket=" in content:
                content = content.replace("example-bucket", BUCKET).replace("0" * 64, hashlib.sha256(RPM).hexdigest(), 1)
            (host.root / "etc/ecs").mkdir(parents=True, exist_ok=True)
            assert host.run(content)[0] == 0
        assert (host.root / "etc/ecs/ecs.config").read_text() == (
            "ECS_CLUSTER=example-cluster\nECS_AWSVPC_BLOCK_IMDS=true\n")
        assert host.installed() == RPM


# -- all of them --------------------------------------------------------------------------------------------------

def test_user_data_may_be_that_large():
    for path in SCRIPTS.iterdir():
        assert path.stat().st_size < 16384, path  # before base64; EC2's limit
        path.read_bytes().decode("ascii")


def test_shellcheck_finds_nothing():
    if not shutil.which("shellcheck"):
        pytest.skip("no shellcheck here")
    scripts = sorted(str(path) for path in SCRIPTS.glob("*.sh"))
    assert len(scripts) == 3
    done = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
