# SPDX-License-Identifier: Apache-2.0
"""The package: built by packaging/build-rpm, looked at, and installed, upgraded, downgraded and erased in scratch roots.

Everything that needs root has it in a user namespace only. On Debian this is the smoke build; its scriptlets come from
packaging/debian.macros where Amazon Linux has macros of its own.
"""

import collections
import fcntl
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGING = ROOT / "packaging"
NAME = "ecs-health-agent"
ARCH = platform.machine()
VERSION = re.search(r"^ *version: '(.*)',$", (ROOT / "meson.build").read_text(), re.MULTILINE)[1]
SOURCES = pathlib.Path(os.environ.get("ECS_HEALTH_AGENT_SOURCES", ROOT / "build" / "sources"))
UNIT = f"{NAME}.service"
ENABLED = f"etc/systemd/system/multi-user.target.wants/{UNIT}"

IN_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "--"]


def run(*command, status=0, **options):
    """Runs it, checks its status (None: any), gives back the CompletedProcess with all it said in .stdout."""
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace", stdin=subprocess.DEVNULL, timeout=300, **options)
    assert status is None or done.returncode == status, f"{command}: status {done.returncode}\n{done.stdout[-4000:]}"
    return done


def needs(*programs):
    for program in programs:
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            pytest.skip(f"{program} is not installed")


def build_rpm(*arguments, tree=ROOT, **options):
    return run(tree / "packaging" / "build-rpm", *arguments, **options)


# --- what is built, once for all ----------------------------------------------------------------------------------

Made = collections.namedtuple("Made", "binary source said")


def make(directory, tree, *arguments):
    done = build_rpm("--output", directory, "--sources", SOURCES, *arguments, tree=tree, status=None)
    if "cannot fetch cJSON" in done.stdout:
        pytest.skip("the archive of cJSON is not here and cannot be fetched")
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """Two packages: (the one of this tree, a later one whose sysconfig has another default).

    Workers that run side by side share them.
    """
    needs("rpmbuild", "meson", "ninja", "cpio", "readelf")
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with open(base / "rpm.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (base / "rpm-done").exists():
            make(base / "rpm", ROOT)
            # Its parts alone: what lies beside them (build directories of any name) may be large.
            later = base / "later"
            for part in ("agent", "common", "packaging", "tests"):
                shutil.copytree(ROOT / part, later / part, dirs_exist_ok=True, symlinks=True)
            for part in ("meson.build", "meson_options.txt", "README.md", "LICENSE"):
                shutil.copy2(ROOT / part, later / part)
            with open(later / "packaging" / f"{NAME}.sysconfig", "a", encoding="ascii") as file:
                file.write("\n# New in this release.\n")
            make(base / "rpm-later", later, "--release", "2")
            (base / "rpm-done").touch()

    def found(directory):
        binary, = directory.glob(f"{NAME}-{VERSION}-*.{ARCH}.rpm")
        source, = directory.glob("*.src.rpm")
        return Made(binary, source, (directory / "build.log").read_text(errors="replace"))

    return found(base / "rpm"), found(base / "rpm-later")


@pytest.fixture(scope="session")
def made(packages):
    return packages[0]


@pytest.fixture(scope="session")
def later(packages):
    return packages[1]


def query(package, form):
    return run("rpm", "-qp", "--nosignature", "--qf", form, package).stdout


def unpack(package, directory):
    directory.mkdir(parents=True, exist_ok=True)
    run("sh", "-c", f'rpm2cpio "{package}" | cpio --quiet -idm', cwd=directory)
    return directory


# --- the script ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments, status, words", [
    (["--help"], 0, "usage: packaging/build-rpm"),
    (["--outptu", "x"], 2, "unknown argument --outptu"),
    (["--output"], 2, "--output takes a value"),
    (["--release", "1.rc"], 2, '--release takes a number, not "1.rc"'),
    (["--check"], 2, "--check takes files"),
    (["--check", "/no/such.rpm"], 2, "/no/such.rpm: no such file"),
])
def test_build_rpm_explains_itself(arguments, status, words):
    assert words in build_rpm(*arguments, status=status).stdout


def test_an_archive_that_is_not_the_named_one_is_refused(tmp_path):
    needs("rpmbuild", "meson", "ninja", "cpio", "readelf")
    archive = tmp_path / "cJSON-1.7.19.tar.gz"
    archive.write_bytes(b"something else")
    said = build_rpm("--output", tmp_path / "out", "--sources", tmp_path, status=1).stdout
    assert str(archive) in said and "SHA-256" in said
    assert not list(tmp_path.glob("out/*.rpm"))


@pytest.mark.parametrize("curl", ["exit 6", 'for last; do :; done; [ "${last#https}" != "$last" ] && echo no > "$out"'])
def test_without_the_archive_it_is_said_what_to_place_where(tmp_path, curl):
    """No network; and one that answers everything, but with something else."""
    needs("rpmbuild", "meson", "ninja", "cpio", "readelf")
    fake = tmp_path / "bin" / "curl"
    fake.parent.mkdir()
    fake.write_text('#!/bin/bash\nfor a; do [ "$before" = --output ] && out=$a; before=$a; done\n' + curl + "\n")
    fake.chmod(0o755)
    said = build_rpm("--output", tmp_path / "out", "--sources", tmp_path / "sources", status=1,
                     env={**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}"}).stdout
    assert f"at {tmp_path}/sources/cJSON-1.7.19.tar.gz" in said
    assert not list((tmp_path / "sources").glob("*"))  # nothing half-fetched is left to be believed


def test_the_names_fit_the_image_recipe(made):
    """Amazon's recipe for ECS images takes additional packages by the end of their names."""
    is_amazon = "amzn" in pathlib.Path("/etc/os-release").read_text()
    kind = "amzn2023" if is_amazon else "smoke"
    assert made.binary.name == f"{NAME}-{VERSION}-1.{kind}.{ARCH}.rpm"
    assert made.source.name == f"{NAME}-{VERSION}-1.{kind}.src.rpm"


def test_the_source_package_holds_the_tree_and_nothing_else(made, later, tmp_path):
    for package in (made, later):
        place = unpack(package.source, tmp_path / package.source.stem)
        names = run("tar", "-tzf", place / f"{NAME}-{VERSION}.tar.gz").stdout.split()
        inside = {n.split("/")[1] for n in names}
        assert {"agent", "common", "meson.build", "packaging", "tests", "LICENSE"} <= inside
        assert not {".git", "build"} & inside
        assert not [n for n in names if "packagecache" in n or "__pycache__" in n or "/cJSON-" in n or n.endswith(".rpm")]
        spec = (place / f"{NAME}.spec").read_text()
        assert f"Version:        {VERSION}\n" in spec and "@VERSION@" not in spec
        for copy in ("sysusers", "tmpfiles"):
            assert (place / f"{NAME}.{copy}").read_text() == (PACKAGING / f"{NAME}.{copy}").read_text()


def test_spec_and_wrap_name_the_same_cjson():
    wrap = dict(re.findall(r"^(\w+) = (.*)$", (PACKAGING / "subprojects" / "cjson.wrap").read_text(), re.MULTILINE))
    spec = (PACKAGING / f"{NAME}.spec").read_text()
    version = re.search(r"%global cjson_version (\S+)", spec)[1]
    source = re.search(r"^Source1: +(\S+)$", spec, re.MULTILINE)[1].replace("%{cjson_version}", version)
    assert source == f"{wrap['source_url']}#/{wrap['source_filename']}"
    assert wrap["directory"] == f"cJSON-{version}"
    overlay = PACKAGING / "subprojects" / "packagefiles" / wrap["patch_directory"] / "meson.build"
    assert f"version: '{version}'" in overlay.read_text()


@pytest.mark.parametrize("target, good", [("x86_64-linux", True), ("aarch64-linux", True), ("armv7hl-linux", False)])
def test_one_spec_serves_both_architectures(made, tmp_path, target, good):
    place = unpack(made.source, tmp_path)
    command = ["rpmbuild", "--nodeps", "--target", target, "--define", f"_sourcedir {place}", "--define", f"_topdir {tmp_path}",
               "--define", "sysusers_create_package() %{nil}", "--define", "tmpfiles_create_package() %{nil}", "--nobuild", "-bp",
               place / f"{NAME}.spec"]
    said = run(*command, status=None).stdout
    assert ("Architecture is not included" not in said) == good, said


# --- the gates ----------------------------------------------------------------------------------------------------

def program_asking(directory, soname="libexpat.so.1", version=None, flags=()):
    """A program that asks the library SONAME for a function, of VERSION if given."""
    library, script = directory / "lib.so", directory / "map"
    script.write_text(f"{version} {{ global: wanted; }};\n" if version else "")
    stub = directory / "stub.c"
    stub.write_text("int wanted(void) { return 0; }\n")
    run("cc", "-shared", "-fPIC", "-nostdlib", f"-Wl,-soname,{soname}",
        *([f"-Wl,--version-script={script}"] if version else []), "-o", library, stub)
    source = directory / "main.c"
    source.write_text("int wanted(void);\nint main(void) { return wanted(); }\n")
    run("cc", "-o", directory / "program", source, library, *flags)
    return directory / "program"


@pytest.mark.parametrize("asked, complaint", [
    (dict(), None),
    (dict(soname="libcurl.so.4"), None),
    (dict(soname="libcurl.so.4", version="CURL_OPENSSL_4"), "asks libcurl.so.4 for CURL_OPENSSL_4"),
    (dict(version="GLIBC_2.34"), None),
    (dict(version="GLIBC_2.9"), None),  # older than 2.34, though not as a text
    (dict(version="GLIBC_2.35"), "for GLIBC_2.35: newer"),
    (dict(version="GLIBC_ABI_DT_RELR"), "for GLIBC_ABI_DT_RELR"),
    (dict(version="GLIBC_PRIVATE"), "for GLIBC_PRIVATE"),
    (dict(soname="libsystemd.so.0", version="LIBSYSTEMD_252"), None),
    (dict(soname="libsystemd.so.0", version="LIBSYSTEMD_253"), "for LIBSYSTEMD_253: newer"),
    (dict(soname="libcrypto.so.3", version="OPENSSL_3.0.0"), None),
    (dict(soname="libcrypto.so.3", version="OPENSSL_3.0.1"), "for OPENSSL_3.0.1: newer"),
    (dict(soname="libcjson.so.1"), "needs libcjson.so.1: cJSON has to be linked in"),
    (dict(soname="libzstd.so.1"), "needs libzstd.so.1, which is not known"),
    (dict(flags=["-Wl,-rpath,/somewhere"]), "looks for libraries where it was built"),
    (dict(flags=["-Wl,-rpath,/somewhere,--disable-new-dtags"]), "looks for libraries where it was built"),
])
def test_the_check_of_a_program(tmp_path, asked, complaint):
    needs("cc", "readelf")
    done = build_rpm("--check", program_asking(tmp_path, **asked), status=1 if complaint else 0)
    assert (complaint in done.stdout) if complaint else len(done.stdout.splitlines()) == 1, done.stdout


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF" + bytes(60)])
def test_the_check_refuses_what_is_no_program(tmp_path, content):
    needs("readelf")
    (tmp_path / "file").write_bytes(content)
    assert "not a dynamically linked program" in build_rpm("--check", tmp_path / "file", status=1).stdout


def test_the_check_passes_the_package_and_refuses_others(made, tmp_path):
    assert len(build_rpm("--check", made.binary).stdout.splitlines()) == 1

    spec = tmp_path / "other.spec"
    spec.write_text("Name: other\nVersion: 1\nRelease: 1\nSummary: x\nLicense: x\nBuildArch: noarch\n%description\nx\n"
                    "%post\n%sysusers_of_another_system x\n%files\n")
    run("rpmbuild", "--nodeps", "--define", f"_topdir {tmp_path}", "--define", f"_dbpath {tmp_path}/db", "-bb", spec)
    other, = tmp_path.glob("RPMS/*/*.rpm")
    said = build_rpm("--check", other, status=1).stdout
    assert f"/usr/bin/{NAME} is missing" in said and "%sysusers_of_another_system is left in the scripts" in said


# --- what is in it ------------------------------------------------------------------------------------------------

def test_rpmlint_finds_nothing_that_is_not_explained(made, tmp_path):
    needs("rpmlint")
    place = unpack(made.source, tmp_path)
    files = [made.binary, made.source, place / f"{NAME}.spec"]
    said = run("rpmlint", "-c", PACKAGING / "rpmlint.toml", *files).stdout
    assert re.search(r" 2 packages and 1 specfiles checked; 0 errors, 0 warnings", said), said


def test_rpmlint_is_told_of_nothing_that_it_does_not_find(made, tmp_path):
    """An explanation that nothing needs would hide the next finding of its name."""
    needs("rpmlint")
    place = unpack(made.source, tmp_path)
    said = run("rpmlint", made.binary, made.source, place / f"{NAME}.spec", status=None).stdout
    block = (PACKAGING / "rpmlint.toml").read_text().split("Filters = [")[1]
    filters = re.findall(r"'([^']+)'", re.sub(r"^ *#.*$", "", block, flags=re.MULTILINE))
    assert filters and [f for f in filters if not re.search(f, said)] == []


FILES = {
    "/etc/ecs-health-agent": "drwxr-xr-x",
    f"/etc/sysconfig/{NAME}": "-rw-------",
    f"/run/{NAME}": "drwxr-xr-x",
    f"/usr/bin/{NAME}": "-rwxr-xr-x",
    f"/usr/lib/systemd/catalog/{NAME}.catalog": "-rw-r--r--",
    f"/usr/lib/systemd/system-preset/90-{NAME}.preset": "-rw-r--r--",
    f"/usr/lib/systemd/system/{UNIT}": "-rw-r--r--",
    f"/usr/lib/sysusers.d/{NAME}.conf": "-rw-r--r--",
    f"/usr/lib/tmpfiles.d/{NAME}.conf": "-rw-r--r--",
    f"/usr/share/bash-completion/completions/{NAME}": "-rw-r--r--",
    f"/usr/share/doc/{NAME}": "drwxr-xr-x",
    f"/usr/share/doc/{NAME}/README.md": "-rw-r--r--",
    f"/usr/share/doc/{NAME}/config.sample.json": "-rw-r--r--",
    f"/usr/share/{NAME}": "drwxr-xr-x",
    f"/usr/share/{NAME}/cloudformation": "drwxr-xr-x",
    f"/usr/share/{NAME}/cloudformation/ecs-health-agent-alarms.yaml": "-rw-r--r--",
    f"/usr/share/{NAME}/cloudformation/ecs-health-agent-stack.yaml": "-rw-r--r--",
    f"/usr/share/{NAME}/user-data": "drwxr-xr-x",
    f"/usr/share/{NAME}/user-data/baked.sh": "-rw-r--r--",
    f"/usr/share/{NAME}/user-data/from-file.sh": "-rw-r--r--",
    f"/usr/share/{NAME}/user-data/from-s3.sh": "-rw-r--r--",
    f"/usr/share/{NAME}/user-data/multipart.txt": "-rw-r--r--",
    f"/usr/share/licenses/{NAME}": "drwxr-xr-x",
    f"/usr/share/licenses/{NAME}/LICENSE": "-rw-r--r--",
    f"/usr/share/licenses/{NAME}/LICENSE.cJSON": "-rw-r--r--",
    f"/usr/share/man/man5/{NAME}.json.5.gz": "-rw-r--r--",
    f"/usr/share/man/man8/{NAME}.8.gz": "-rw-r--r--",
    f"/usr/share/polkit-1/rules.d/50-{NAME}.rules": "-rw-r--r--",
    f"/var/lib/{NAME}": "drwxr-x---",
}


def test_files_and_modes_are_those_that_are_listed(made):
    lines = query(made.binary, r"[%{FILENAMES}\t%{FILEMODES:perms}\t%{FILEUSERNAME}\t%{FILEFLAGS:fflags}\n]").splitlines()
    found = {name: (mode, user, flags) for name, mode, user, flags in (line.split("\t") for line in lines)}
    assert {name: mode for name, (mode, _, _) in found.items()} == FILES
    assert {name for name, (_, user, _) in found.items() if user != "root"} == {f"/run/{NAME}", f"/var/lib/{NAME}"}
    assert {name for name, (_, _, flags) in found.items() if "g" in flags} == {f"/run/{NAME}", f"/var/lib/{NAME}"}
    assert [name for name, (_, _, flags) in found.items() if "c" in flags] == [f"/etc/sysconfig/{NAME}"]
    assert found[f"/etc/sysconfig/{NAME}"][2] == "cn"  # noreplace


def test_the_program_says_the_packages_version(made, tmp_path):
    place = unpack(made.binary, tmp_path)
    assert VERSION in run(place / "usr" / "bin" / NAME, "--version").stdout


# What Amazon Linux 2023's core has: glibc 2.34, systemd 252, OpenSSL 3, libcurl and expat without versions.
LOADER = {"x86_64": [], "aarch64": ["ld-linux-aarch64.so.1()(64bit)", "ld-linux-aarch64.so.1(GLIBC_2.17)(64bit)"]}
AMAZON = (
    ["/bin/sh", "systemd = 252.23", "coreutils", "ca-certificates", "rtld(GNU_HASH)", "libc.so.6()(64bit)",
     "libcurl.so.4()(64bit)", "libexpat.so.1()(64bit)", "libsystemd.so.0()(64bit)"]
    + [f"lib{n}.so.3{v}(64bit)" for n in ("crypto", "ssl") for v in ("()", "(OPENSSL_3.0.0)")]
    + [f"libc.so.6(GLIBC_2.{v})(64bit)" for v in ["2.5", "3.2", "3.3", "3.4", *range(2, 35)]]
    + [f"libsystemd.so.0(LIBSYSTEMD_{v})(64bit)" for v in [209, 211, 214, *range(216, 253)]]
    + LOADER.get(ARCH, [])
)


def repository(directory, package, provides):
    """A repository of our package and one that provides what the distribution would."""
    spec = directory / "distribution.spec"
    spec.write_text("Name: distribution\nVersion: 2023\nRelease: 1\nSummary: x\nLicense: x\nBuildArch: noarch\n"
                    + "".join(f"Provides: {p}\n" for p in provides) + "%description\nx\n%files\n")
    run("rpmbuild", "--nodeps", "--define", f"_topdir {directory}", "--define", f"_dbpath {directory}/db",
        "--define", f"_rpmdir {directory}/repo", "-bb", spec)
    shutil.copy(package, directory / "repo")
    run("createrepo_c", "--quiet", directory / "repo")
    return directory / "repo"


def dnf_install(directory, repo, status):
    (directory / "root").mkdir()
    return run(*IN_NAMESPACE, "dnf", f"--installroot={directory}/root", f"--repofrompath=l,file://{repo}", "--repo=l",
               "--nogpgcheck", "--releasever=2023", "--setopt=tsflags=noscripts", f"--setopt=cachedir={directory}/cache",
               f"--setopt=logdir={directory}", "-y", "install", NAME, status=status).stdout


@pytest.mark.parametrize("missing", [
    None, "libcurl.so.4()(64bit)", "libc.so.6(GLIBC_2.34)(64bit)", "libsystemd.so.0(LIBSYSTEMD_243)(64bit)", "systemd = 252.23",
    "ca-certificates"])
def test_dnf_finds_all_it_requires_in_the_core_repository(made, namespace, tmp_path, missing):
    needs("dnf", "createrepo_c")
    repo = repository(tmp_path, made.binary, [p for p in AMAZON if p != missing])
    if missing:
        assert f"nothing provides {missing.split(' ')[0]}" in dnf_install(tmp_path, repo, status=1)
    else:
        dnf_install(tmp_path, repo, status=0)
        assert (tmp_path / "root" / "usr" / "bin" / NAME).exists()


def test_without_its_list_of_provides_the_distribution_is_not_enough(made, namespace, tmp_path):
    needs("dnf", "createrepo_c")
    said = dnf_install(tmp_path, repository(tmp_path, made.binary, []), status=1)
    for soname in ("libcurl.so.4", "libssl.so.3", "libexpat.so.1", "libsystemd.so.0", "libc.so.6"):
        assert f"nothing provides {soname}" in said


def test_nothing_of_ecs_docker_or_cjson_is_required(made):
    required = run("rpm", "-qp", "--nosignature", "--requires", made.binary).stdout
    assert not re.search(r"docker|ecs-init|cjson|CURL_|polkit", required)
    assert "polkit" in run("rpm", "-qp", "--nosignature", "--recommends", made.binary).stdout
    assert "bundled(cjson)" in run("rpm", "-qp", "--nosignature", "--provides", made.binary).stdout


# --- a scratch root -----------------------------------------------------------------------------------------------

@pytest.fixture(scope="session")
def namespace():
    needs("unshare")
    if run(*IN_NAMESPACE, "mount", "-t", "tmpfs", "none", "/mnt", status=None).returncode != 0:
        pytest.skip("no user namespaces here")


SYSTEMCTL = """#!/bin/sh
echo "$*" >>/calls
case "$*" in
*preset*|*is-enabled*|*disable*) ;;
*) exit 0 ;;
esac
SYSTEMD_OFFLINE=1 exec /usr/bin/systemctl.real "$@"
"""


class ScratchRoot:
    """A root with just enough in it for the scriptlets: a shell, and the real systemd tools where they work offline."""

    def __init__(self, path, booted):
        self.path = path
        for directory in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "dev", "proc", "run", "var/lib/systemd/catalog"):
            (path / directory).mkdir(parents=True)
        for link in ("bin", "sbin", "lib", "lib64"):
            (path / link).symlink_to(f"usr/{link}")
        (path / "dev" / "null").touch()
        for program in ("/bin/sh", "cat", "rm", "systemd-sysusers", "systemd-tmpfiles", "journalctl"):
            self.copy(shutil.which(program), f"usr/bin/{pathlib.Path(program).name}")
        self.copy(shutil.which("systemctl"), "usr/bin/systemctl.real")
        (path / "usr/bin/systemctl").write_text(SYSTEMCTL)
        (path / "usr/bin/systemctl").chmod(0o755)
        if booted:
            (path / "run/systemd/system").mkdir(parents=True)
        presets = path / "usr/lib/systemd/system-preset/99-default-disable.preset"
        presets.parent.mkdir(parents=True)
        presets.write_text("disable *\n")

    def copy(self, program, to):
        shutil.copy(os.path.realpath(program), self.path / to)
        for library in re.findall(r"(/\S+) \(0x", run("ldd", program).stdout):
            place = self.path / library.lstrip("/")
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(os.path.realpath(library), place)

    def rpm(self, *arguments, status=0):
        """Runs rpm in the root, where its scriptlets find the machine's /proc."""
        return run(*IN_NAMESPACE, "sh", "-ec", 'mount --rbind /proc "$0/proc"; exec rpm --root "$0" "$@"', self.path,
                   "--define", "_dbpath /var/lib/rpm", *arguments, status=status).stdout

    def install(self, package):
        return self.rpm("-i", "--nodeps", package)

    def upgrade(self, package, *options, status=0):
        return self.rpm("-U", "--nodeps", *options, package, status=status)

    def calls(self):
        """What systemctl was called with since this was last asked."""
        calls = self.path / "calls"
        said = calls.read_text().splitlines() if calls.exists() else []
        calls.unlink(missing_ok=True)
        return said

    def write(self, name, text):
        place = self.path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def read(self, name):
        return (self.path / name).read_text()

    def files(self):
        return {str(p.relative_to(self.path)) for p in self.path.rglob("*")}


@pytest.fixture
def scratch(namespace, tmp_path):
    needs("rpm", "systemd-sysusers", "systemd-tmpfiles", "journalctl", "systemctl")
    return lambda booted=True: ScratchRoot(tmp_path / ("booted" if booted else "image"), booted)


# In a namespace with a single user nothing can be given to another one; rpm cannot be asked about that either.
VERIFY = ["-V", "--nodeps", "--nouser", "--nogroup", NAME]


def test_installed_it_is_enabled_started_and_verifies(made, scratch):
    root = scratch()
    root.install(made.binary)
    assert root.calls() == [f"--no-reload preset {UNIT}", "daemon-reload", f"--quiet is-enabled {UNIT}",
                            f"--no-block start {UNIT}"]
    assert (root.path / ENABLED).is_symlink()
    assert root.rpm(*VERIFY) == ""
    assert (root.path / "var/lib/systemd/catalog/database").stat().st_size > 0
    assert not (root.path / "etc" / NAME / "config.json").exists()

    (root.path / "usr/bin" / NAME).write_text("broken")
    assert f"/usr/bin/{NAME}" in root.rpm(*VERIFY, status=1)


def test_the_user_has_no_shell_and_the_two_groups(made, scratch):
    root = scratch()
    root.install(made.binary)
    user, = [line.split(":") for line in root.read("etc/passwd").splitlines() if line.startswith(NAME + ":")]
    assert user[1] == "x" and user[6].endswith("/nologin") and 0 < int(user[2]) < 1000
    assert user[5] == f"/var/lib/{NAME}"
    members = {line.split(":")[0]: line.split(":")[3] for line in root.read("etc/group").splitlines()}
    assert members["docker"] == members["systemd-journal"] == NAME
    assert {group for group, who in members.items() if NAME in who.split(",")} == {"docker", "systemd-journal"}
    assert (root.path / "run" / NAME).is_dir() and (root.path / "var/lib" / NAME).stat().st_mode & 0o777 == 0o750


def test_a_group_docker_that_is_there_is_joined(made, scratch):
    root = scratch()
    root.write("etc/group", "root:x:0:\ndocker:x:990:somebody\n")
    root.install(made.binary)
    docker, = re.findall(r"^docker:x:990:(.*)$", root.read("etc/group"), re.MULTILINE)
    assert set(docker.split(",")) == {"somebody", NAME}


def test_in_an_image_it_is_enabled_and_not_started(made, scratch):
    root = scratch(booted=False)
    root.install(made.binary)
    assert root.calls() == [f"--no-reload preset {UNIT}"]
    assert (root.path / ENABLED).is_symlink()


def test_a_preset_of_the_site_overrules_ours(made, scratch):
    root = scratch()
    root.write("etc/systemd/system-preset/10-site.preset", f"disable {UNIT}\n")
    root.install(made.binary)
    assert not (root.path / ENABLED).exists()
    assert not [call for call in root.calls() if "start" in call]


OURS = {
    f"etc/{NAME}/config.json": '{"grace": "9m"}\n',
    f"var/lib/{NAME}/journal": "an incident\n",
    f"run/{NAME}/journal": "the same, newer\n",
}


def test_an_upgrade_keeps_what_people_and_the_daemon_wrote_and_restarts(made, later, scratch):
    root = scratch()
    root.install(made.binary)
    for name, text in OURS.items():
        root.write(name, text)
    root.write(f"etc/sysconfig/{NAME}", "HTTPS_PROXY=http://proxy:3128\n")
    root.calls()

    root.upgrade(later.binary)
    assert root.calls() == ["daemon-reload", f"try-restart {UNIT}"]  # after the new files are there; never stopped for good
    assert {name: root.read(name) for name in OURS} == OURS
    assert root.read(f"etc/sysconfig/{NAME}") == "HTTPS_PROXY=http://proxy:3128\n"
    assert "New in this release" in root.read(f"etc/sysconfig/{NAME}.rpmnew")
    assert (root.path / ENABLED).is_symlink()
    assert "S.5....T.  c /etc/sysconfig/" in root.rpm(*VERIFY, status=1)
    assert root.rpm("-q", NAME).count("\n") == 1


def test_an_upgrade_takes_the_new_default_where_nobody_changed_it(made, later, scratch):
    root = scratch()
    root.install(made.binary)
    root.upgrade(later.binary)
    assert "New in this release" in root.read(f"etc/sysconfig/{NAME}")
    assert not (root.path / f"etc/sysconfig/{NAME}.rpmnew").exists()
    assert root.rpm(*VERIFY) == ""


def test_an_upgrade_does_not_enable_what_an_operator_disabled(made, later, scratch):
    root = scratch()
    root.install(made.binary)
    (root.path / ENABLED).unlink()
    root.calls()
    root.upgrade(later.binary)
    assert not (root.path / ENABLED).exists()
    assert root.calls() == ["daemon-reload", f"try-restart {UNIT}"]


def test_a_downgrade_is_asked_for_and_keeps_as_much(made, later, scratch):
    root = scratch()
    root.install(later.binary)
    for name, text in OURS.items():
        root.write(name, text)
    root.calls()
    assert "newer" in root.upgrade(made.binary, status=2)
    root.upgrade(made.binary, "--oldpackage")
    assert root.calls() == ["daemon-reload", f"try-restart {UNIT}"]
    assert {name: root.read(name) for name in OURS} == OURS
    assert root.rpm(*VERIFY) == ""


def test_an_erase_leaves_what_people_wrote_and_nothing_else(made, scratch):
    root = scratch()
    root.rpm("--initdb")
    before = root.files()
    root.install(made.binary)
    for name, text in OURS.items():
        root.write(name, text)
    root.write(f"etc/sysconfig/{NAME}", "AWS_REGION=eu-west-1\n")
    root.calls()

    root.rpm("-e", NAME)
    assert root.calls() == [f"--no-reload disable --now {UNIT}", "daemon-reload"]
    left = {f for f in root.files() - before if NAME in f}
    assert left == {f"etc/{NAME}", f"etc/{NAME}/config.json", f"etc/sysconfig/{NAME}.rpmsave"}
    assert NAME in root.read("etc/passwd")  # its number must not go to another


def test_an_erase_of_what_nobody_touched_leaves_nothing(made, scratch):
    root = scratch(booted=False)
    root.install(made.binary)
    root.rpm("-e", NAME)
    assert [f for f in root.files() if NAME in f] == []


def test_an_erase_does_not_follow_a_link_out_of_its_directories(made, scratch):
    root = scratch()
    root.install(made.binary)
    root.write("precious/file", "kept\n")
    (root.path / "var/lib" / NAME / "link").symlink_to("/precious")
    root.rpm("-e", NAME)
    assert root.read("precious/file") == "kept\n"
    assert not (root.path / "var/lib" / NAME).exists()


# --- the unit -----------------------------------------------------------------------------------------------------

def unit_settings():
    settings = collections.defaultdict(list)
    for line in (PACKAGING / UNIT).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, value = line.split("=", 1)
            settings[name].append(value)
    return settings


def verify(directory, extra=""):
    # Not installed here: a program that is, so that nothing else is complained of.
    text = (PACKAGING / UNIT).read_text().replace(f"/usr/bin/{NAME} run", "/bin/true")
    (directory / UNIT).write_text(text.replace("[Install]", extra + "\n[Install]"))
    return run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", directory / UNIT, status=None).stdout


def test_systemd_understands_the_unit(tmp_path):
    needs("systemd-analyze")
    assert verify(tmp_path) == ""
    assert "PretectSystem" in verify(tmp_path, "PretectSystem=strict")


def exposure(directory, text):
    (directory / UNIT).write_text(text)
    said = run("systemd-analyze", "security", "--offline=yes", directory / UNIT, status=None).stdout
    return float(re.search(r"Overall exposure level for .*: ([0-9.]+)", said)[1])


def test_the_unit_is_exposed_to_less_than_two(tmp_path):
    needs("systemd-analyze")
    text = (PACKAGING / UNIT).read_text()
    assert exposure(tmp_path, text) < 2.0
    assert exposure(tmp_path, text.replace("CapabilityBoundingSet=\n", "")) > 2.0


def test_the_unit_starts_early_and_hangs_on_nobody():
    settings = unit_settings()
    assert settings["After"] == ["network.target"]
    assert not {"Requires", "Requisite", "BindsTo", "PartOf", "Wants", "Conflicts", "Before", "Upholds"} & set(settings)
    assert settings["WantedBy"] == ["multi-user.target"]
    assert settings["Restart"] == ["always"] and settings["StartLimitIntervalSec"] == ["0"]


@pytest.mark.parametrize("name, refused", [
    ("ProtectHome", {"yes", "tmpfs"}),  # hides file systems that are to be measured
    ("ProtectProc", {"invisible", "noaccess", "ptraceable"}),  # hides /proc/1/mountinfo
    ("ProcSubset", {"pid"}),  # hides /proc/meminfo and /proc/pressure
    ("PrivateNetwork", {"yes"}),
    ("PrivateTmp", {"yes"}),  # cannot be made on a full disk
    ("PrivateDevices", {"yes"}),
])
def test_the_sandbox_leaves_sight(name, refused):
    assert not refused & set(unit_settings()[name])


def test_the_unit_and_the_package_agree():
    settings = unit_settings()
    assert settings["User"] == settings["Group"] == [NAME]
    assert f"u {NAME} " in (PACKAGING / f"{NAME}.sysusers").read_text()
    assert settings["EnvironmentFile"] == [f"-/etc/sysconfig/{NAME}"] and f"/etc/sysconfig/{NAME}" in FILES
    for kind, place, mode in (("Runtime", f"/run/{NAME}", "0755"), ("State", f"/var/lib/{NAME}", "0750")):
        assert settings[kind + "Directory"] == [NAME]
        assert settings.get(kind + "DirectoryMode", ["0755"]) == [mode]
        assert f"d {place} {mode} {NAME} {NAME} -" in (PACKAGING / f"{NAME}.tmpfiles").read_text()
    assert settings["RuntimeDirectoryPreserve"] == ["yes"]
    assert settings["LimitMEMLOCK"] == ["infinity"] and settings["OOMScoreAdjust"] == ["-900"]


def test_the_sample_environment_is_all_comments_and_known_names():
    """A line that somebody only has to uncomment must be one that means something."""
    lines = (PACKAGING / f"{NAME}.sysconfig").read_text().splitlines()
    assert not [line for line in lines if line and not line.startswith("#")]
    names = [m[1] for m in (re.match(r"#([A-Z][A-Z0-9_]*)=", line) for line in lines) if m]
    sources = "".join(p.read_text() for part in ("agent", "common") for p in (ROOT / part).rglob("*.c"))
    assert len(names) > 5
    assert [n for n in names if f'"{n}"' not in sources and not n.startswith("AWS_ENDPOINT_URL_")] == []


# --- polkit -------------------------------------------------------------------------------------------------------

POLKIT = """
var rules = [];
var polkit = { addRule: function (f) { rules.push(f); },
               Result: { YES: "yes", NO: "no", AUTH_ADMIN: "auth_admin", NOT_HANDLED: null } };
%s
var cases = %s;
var answers = cases.map(function (c) {
        var action = { id: c[0], lookup: function (key) { return { unit: c[2], verb: c[3] }[key]; } };
        return rules.map(function (rule) { return rule(action, { user: c[1], groups: [], isInGroup: function () { return true; } }); });
});
(typeof print === "function" ? print : console.log)(JSON.stringify(answers));
"""

MANAGE_UNITS = "org.freedesktop.systemd1.manage-units"


@pytest.mark.parametrize("case, answer", [
    ([MANAGE_UNITS, NAME, "ecs.service", "restart"], "yes"),
    ([MANAGE_UNITS, NAME, "ecs.service", "stop"], None),
    ([MANAGE_UNITS, NAME, "ecs.service", "start"], None),
    ([MANAGE_UNITS, NAME, "docker.service", "restart"], None),
    ([MANAGE_UNITS, NAME, "ecs.service.d", "restart"], None),
    ([MANAGE_UNITS, NAME, None, None], None),  # an older systemd does not say which
    ([MANAGE_UNITS, "somebody", "ecs.service", "restart"], None),
    (["org.freedesktop.systemd1.manage-unit-files", NAME, "ecs.service", "restart"], None),
    (["org.freedesktop.systemd1.reload-daemon", NAME, "ecs.service", "restart"], None),
])
def test_polkit_lets_one_user_restart_one_unit(tmp_path, case, answer):
    engine = next(filter(None, map(shutil.which, ("duk", "qjs", "node"))), None)
    if not engine:
        pytest.skip("no JavaScript interpreter (duk, qjs or node)")
    rule = (PACKAGING / f"50-{NAME}.rules").read_text()
    script = tmp_path / "rule.js"
    script.write_text(POLKIT % (rule, json.dumps([case])))
    answers, = json.loads(run(engine, script).stdout)
    assert answers == [answer]
