# SPDX-License-Identifier: Apache-2.0
"""AWS's conventions: proxies with a password, private certificates, FIPS and dual-stack names, partitions.

No name is resolved here: every host name that AWS has goes to a proxy, which leads it to the fake.
"""

import contextlib
import json
import pathlib
import subprocess

import fake_aws
import fake_imds
import pytest
from fake_proxy import FakeProxy
from rig import QUICK, Rig, merged

DOMAINS = ("amazonaws.com", "amazonaws.com.cn", "amazonaws.eu", "c2s.ic.gov", "api.aws", "api.aws.ic.gov", "example.test")
LOGIN = ("some one", "p@ss/wörd:100%")
NOWHERE = "xx-moon-1"  # a region that nobody knows, in a domain that no name server knows
ENCODED = "some%20one:p%40ss%2Fw%C3%B6rd%3A100%25"
SECRETS = ("p@ss", "p%40ss", "c29tZSBvbmU6")  # plain, as in the URL, and the beginning of what is sent


def make_ca(directory):
    """A certificate authority of our own, and a server's certificate by it. Return (ca, (certificate, key))."""
    ca, ca_key = directory / "ca.pem", directory / "ca-key.pem"
    certificate, key = directory / "server.pem", directory / "server-key.pem"
    names = ",".join(["IP:127.0.0.1", "DNS:localhost"] + [f"DNS:*.{region}.{domain}" for domain in DOMAINS for region in (
        "us-east-1", "eu-west-1", "us-gov-west-1", "cn-north-1", "us-iso-east-1", NOWHERE)])
    extensions = directory / "extensions"
    extensions.write_text(f"subjectAltName={names}\n")
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for command in (
            ["req", "-x509", *new, "-days", "2", "-subj", "/CN=private", "-keyout", ca_key, "-out", ca],
            ["req", *new, "-subj", "/CN=server", "-keyout", key, "-out", directory / "request"],
            ["x509", "-req", "-in", directory / "request", "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2",
             "-extfile", extensions, "-out", certificate]):
        subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)
    return ca, (str(certificate), str(key))


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return make_ca(tmp_path_factory.mktemp("ca"))


class ProxiedRig(Rig):
    """A Rig whose AWS is far away: real names, a certificate by a private authority, a proxy on the way.
    @login: what the proxy wants; @proxy_login: what the daemon is told, as in a URL; @proxy_tls: it speaks TLS;
    @ecs_config: the file names the proxy, not the environment; @domain: what the metadata service says, None: 404."""

    def __init__(self, authority, login=None, proxy_login="", proxy_tls=False, ecs_config=False, environment=None,
                 domain="amazonaws.com", **options):
        self.ca, self.pair = authority
        self.domain = domain
        self.wanted, self.given, self.proxy_tls, self.ecs_config = login, proxy_login, proxy_tls, ecs_config
        self.proxy = None
        super().__init__(merged(QUICK, {}), environment=environment, daemon=False, tls="all", **options)

    def _tree(self):
        super()._tree()
        # the endpoints of AWS get the private authority's certificate instead of one for loopback only
        self.stack.enter_context(pytest.MonkeyPatch.context()).setattr("rig.make_certificate", lambda _: self.pair)

    def _build(self):
        super()._build()
        self.proxy = FakeProxy(("127.0.0.1", self.fake.port), self.wanted,
                               self.pair if self.proxy_tls else None).start()
        self.stack.callback(self.proxy.stop)
        self.fake.imds.values["/latest/meta-data/services/domain"] = self.domain
        own = {"AWS_ENDPOINT_URL": None, "AWS_CA_BUNDLE": str(self.ca)}
        url = self.proxy.url(self.given, "localhost" if self.proxy_tls else "127.0.0.1")
        if self.ecs_config:
            (self.root / "etc/ecs").mkdir(parents=True)
            (self.root / "etc/ecs/ecs.config").write_text(f"ECS_CLUSTER=demo\nHTTP_PROXY={url.split('://')[1]}\n"
                                                          "NO_PROXY=169.254.169.254,/var/run/docker.sock\n")
        else:
            own["HTTPS_PROXY"] = url
        self.extra = {**own, **self.extra}

    def wait_problem(self, *words):
        """Wait until status says with all @words why a call of AWS has failed; return what it says."""
        def told(status):
            return [one for one in (status["metrics"]["problem"], status["self"]["last_call"])
                    if all(word in (one or "") for word in words)]

        return told(self.wait_status(told, 40, f"a failed call with {words}"))[0]

    def check_no_secret(self):
        shown = {"log": self.log(), "status": json.dumps(self.status(), ensure_ascii=False),
                 "text": self.run_command("status").stdout,
                 "cmdline": pathlib.Path(f"/proc/{self.daemon.pid}/cmdline").read_text()}
        for where, text in shown.items():
            assert text, where
            for secret in SECRETS:
                assert secret not in text, where


def answered(rig):
    """Calls that AWS has got. All of them have gone through the proxy: nobody resolves these names here."""
    return [call for call in rig.fake.calls if call["status"] == 200]


@contextlib.contextmanager
def region(name):
    """The fakes are in another region."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (fake_aws, fake_imds):
            patch.setattr(module, "REGION", name)
        yield


# -- proxies ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("how", ["environment", "ecs.config", "tls"])
def test_a_loss_is_dealt_with_through_an_authenticating_proxy(authority, how):
    with ProxiedRig(authority, LOGIN, ENCODED, proxy_tls=how == "tls", ecs_config=how == "ecs.config") as rig:
        rig.start_daemon()
        rig.wait_ready()
        rig.wait_for(lambda: rig.fake.metrics_of("heartbeat"), 20, "a metric")
        rig.drop_link()
        rig.wait_for(rig.detaches, 40, "a detach")
        names = {"monitoring", "ecs", "autoscaling"}
        assert {f"{name}.us-east-1.amazonaws.com" for name in names} <= rig.proxy.hosts()
        assert all(login == ":".join(LOGIN) for _, login, _ in rig.proxy.asked)
        # the metadata service and the ECS agent were asked, but not there
        assert rig.fake.imds.calls
        assert not [name for name, _, _ in rig.proxy.asked if name.startswith(("127.", "localhost", "169.", "["))]
        rig.check_no_secret()


@pytest.mark.parametrize("given, problem, words", [
    ("", None, ["407", "wants a user and a password"]),
    ("some%20one:p%40ss-no", None, ["407", "does not take this user and password"]),
    (ENCODED, "status:403", ["answered 403 to CONNECT ", ".us-east-1.amazonaws.com:443"]),
    (ENCODED, "status:502", ["answered 502 to CONNECT"]),
    (ENCODED, "garbage", ["proxy 127.0.0.1:"]),
    (ENCODED, "close", ["proxy 127.0.0.1:"]),
])
def test_a_proxy_that_does_not_let_us_through_is_named_without_its_password(authority, given, problem, words):
    with ProxiedRig(authority, LOGIN, given) as rig:
        rig.proxy.problem = problem
        rig.start_daemon()
        rig.wait_problem(f"proxy 127.0.0.1:{rig.proxy.port}", *words)
        assert not answered(rig)
        rig.check_no_secret()
        # ... and nobody is removed by it
        assert not rig.detach_attempts()


def test_a_proxy_that_is_mended_is_used_without_a_restart(authority):
    with ProxiedRig(authority, LOGIN) as rig:
        rig.start_daemon()
        rig.wait_problem("answered 407")
        rig.proxy.login = None
        rig.wait_for(lambda: rig.fake.metrics_of("heartbeat"), 60, "a metric")


def test_a_proxy_that_hangs_is_named_and_holds_up_nothing_else(authority):
    with ProxiedRig(authority, LOGIN, ENCODED) as rig:
        rig.proxy.problem = "hang"
        rig.start_daemon()
        # what needs no proxy goes on: the identity, the verdict
        status = rig.wait_status(lambda s: s["verdict"]["cause"] == "none" and s["identity"]["instance_id"], 20)
        assert status["identity"]["instance_id"] == rig.instance
        rig.wait_for(lambda: len(rig.proxy.asked) > 1, 20, "a request to the proxy")
        assert not answered(rig)
        rig.check_no_secret()


def test_no_proxy_is_obeyed(authority):
    with region(NOWHERE), ProxiedRig(authority, LOGIN, ENCODED, environment={"NO_PROXY": ".example.test"},
                                     domain="example.test") as rig:
        rig.start_daemon()
        # the names are resolved here now, and do not exist
        assert "proxy" not in rig.wait_problem("cannot resolve", f".{NOWHERE}.example.test")
        assert not rig.proxy.asked and not answered(rig)


@pytest.mark.parametrize("value, shown", [
    ("socks5://some%20one:p%40ss@127.0.0.1:1", '"socks5://***@127.0.0.1:1"'),
    ("http://some%20one:p%40ss@", '"http://***@"'),
])
def test_what_is_no_proxy_is_complained_of_without_its_password(authority, value, shown):
    with region(NOWHERE), ProxiedRig(authority, environment={"HTTPS_PROXY": value}, domain="example.test") as rig:
        rig.start_daemon()
        rig.wait_status(lambda s: s["verdict"]["cause"] == "none", 20)
        complaints = [line for line in rig.log().splitlines() if "HTTPS_PROXY is" in line]
        assert len(complaints) == 1 and shown in complaints[0] and "http://HOST:PORT" in complaints[0]
        rig.check_no_secret()


# -- certificates -------------------------------------------------------------------------------------------------

def test_a_private_authority_is_trusted_by_its_bundle_only(authority):
    with ProxiedRig(authority, environment={"AWS_CA_BUNDLE": None}) as rig:
        rig.start_daemon()
        rig.wait_problem("certificate")
        assert rig.proxy.hosts() and not rig.fake.calls
        rig.kill_daemon(15)
        rig.extra["AWS_CA_BUNDLE"] = str(rig.ca)
        rig.start_daemon()
        rig.wait_for(lambda: rig.fake.metrics_of("heartbeat"), 20, "a metric")


@pytest.mark.parametrize("text, why", [
    (None, "No such file or directory"),
    ("", "it holds no certificates in PEM form"),
    ("-----BEGIN NOTHING-----\n", "it holds no certificates in PEM form"),
])
def test_a_bundle_that_is_none_is_named_at_the_start_and_in_status(authority, tmp_path, text, why):
    bundle = tmp_path / "bundle.pem"
    if text is not None:
        bundle.write_text(text)
    with ProxiedRig(authority, environment={"AWS_CA_BUNDLE": str(bundle)}) as rig:
        rig.start_daemon()
        rig.wait_for(lambda: f'AWS_CA_BUNDLE is "{bundle}": {why}' in rig.log(), 20, "the complaint")
        rig.wait_problem(f"CA bundle {bundle}: {why}")
        assert not rig.fake.calls
        # the host is watched all the same, and a bundle that comes late is taken
        assert rig.peek()["verdict"]["cause"] == "none"
        if text is None:
            bundle.write_bytes(rig.ca.read_bytes())
            rig.wait_for(lambda: rig.fake.metrics_of("heartbeat"), 60, "a metric")


# -- names --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, domain, flags, pattern, ecs", [
    ("us-gov-west-1", None, "fips", "{}.us-gov-west-1.amazonaws.com", "ecs-fips"),
    ("cn-north-1", None, "", "{}.cn-north-1.amazonaws.com.cn", "ecs"),
    ("us-iso-east-1", None, "", "{}.us-iso-east-1.c2s.ic.gov", "ecs"),
    ("us-iso-east-1", None, "dualstack", "{}.us-iso-east-1.api.aws.ic.gov", "ecs"),
    ("eu-west-1", None, "fips dualstack", "{}-fips.eu-west-1.api.aws", "ecs"),
    (NOWHERE, "example.test", "", "{}.xx-moon-1.example.test", "ecs"),
])
def test_each_partition_is_asked_by_its_own_names(authority, name, domain, flags, pattern, ecs):
    environment = {f"AWS_USE_{flag.upper()}_ENDPOINT": "true" for flag in flags.split()}
    with region(name), ProxiedRig(authority, environment=environment, domain=domain) as rig:
        rig.start_daemon()
        rig.wait_ready()
        rig.wait_for(lambda: rig.fake.metrics_of("heartbeat"), 20, "a metric")
        always = {pattern.format(one) for one in ("monitoring", "autoscaling", ecs)}
        # these two are asked by some settings only
        sometimes = {pattern.format(one) for one in ("ec2", "cloudformation")}
        assert always <= rig.proxy.hosts() <= always | sometimes
        assert rig.proxy.statuses() == {200}


def test_an_unknown_region_without_a_domain_says_what_to_set(authority):
    with region(NOWHERE), ProxiedRig(authority, domain=None) as rig:
        rig.start_daemon()
        rig.wait_problem('"xx-moon-1"', "AWS_ENDPOINT_URL_")
        assert not rig.proxy.asked


def test_an_endpoint_that_is_none_is_named(authority):
    with ProxiedRig(authority, environment={"AWS_ENDPOINT_URL_CLOUDWATCH": "vpce-1.example.test"}) as rig:
        rig.start_daemon()
        rig.wait_problem('AWS_ENDPOINT_URL_CLOUDWATCH is "vpce-1.example.test"')
        # the other services are not concerned
        rig.wait_for(lambda: rig.fake.calls_of("DescribeContainerInstances") or rig.fake.calls_of("DescribeClusters")
                     or rig.fake.calls_of("DescribeAutoScalingInstances"), 20, "a call of another service")
        assert not rig.fake.metrics
