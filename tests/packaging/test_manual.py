# SPDX-License-Identifier: Apache-2.0
"""Man pages, journal catalog, shell completion and sample: whole, well-formed, and telling what the program has.

$ECS_HEALTH_AGENT_BUILD names the build directory; without it, build/ or what tests/run leaves below it.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
CATALOG = ROOT / "packaging" / "ecs-health-agent.catalog"
PAGES = ["ecs-health-agent.8", "ecs-health-agent.json.5"]
# Each prints what it has against a page, and renders it. Either is enough; machines rarely have both.
LINTERS = {
    "mandoc": ["mandoc", "-T", "lint", "-W", "style"],
    "groff": ["groff", "-man", "-ww", "-z", "-T", "utf8"],
}
RENDERERS = {
    "mandoc": ["mandoc", "-T", "ascii", "-O", "width=78"],
    "groff": ["groff", "-man", "-P", "-c", "-T", "ascii", "-r", "LL=78n"],
}


def build_directory():
    given = os.environ.get("ECS_HEALTH_AGENT_BUILD")
    places = [pathlib.Path(given)] if given else [ROOT / "build" / name for name in ("", "gcc", "asan", "clang")]
    for place in places:
        if (place / "packaging" / PAGES[0]).is_file():
            return place.resolve()
    return None


BUILD = build_directory()
pytestmark = pytest.mark.skipif(BUILD is None, reason="no build with packaging/ in it; set ECS_HEALTH_AGENT_BUILD")


def run(*words, **options):
    return subprocess.run([str(w) for w in words], capture_output=True, text=True, timeout=60, **options)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Runs the program in a world that has no files; gives standard output."""
    root = tmp_path_factory.mktemp("root")
    environment = {"PATH": os.environ["PATH"], "ECS_HEALTH_AGENT_ROOT": str(root), "COLUMNS": "400"}

    def call(*words, status=0):
        done = run(BUILD / "ecs-health-agent", *words, env=environment)
        assert done.returncode == status, done.stderr
        return done.stdout

    return call


def page(name):
    return (BUILD / "packaging" / name).read_text(encoding="ascii")


def tool(tools, name):
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    return tools[name]


def rendered(name):
    for renderer, command in RENDERERS.items():
        if shutil.which(renderer):
            done = run(*command, BUILD / "packaging" / name)
            assert done.returncode == 0, done.stderr
            return re.sub(r".\x08", "", done.stdout)  # bold by overstrike
    pytest.skip("neither mandoc nor groff is installed")


def squeezed(text):
    return " ".join(text.split())


def section(text, title):
    """What stands below a heading of a rendered page; the page's own margin is taken off."""
    found = re.search(rf"^{re.escape(title)}\n(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"no section {title}"
    lines = found[1].splitlines()
    margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "\n".join(line[margin:] for line in lines)


def entries(text):
    """{head: body} of a list of definitions. A short head has its body beside it, in the column of all bodies."""
    found, head = {}, None
    for line in text.splitlines():
        if line[:1].strip() and line[6:7] == " " and " " not in line[:6].strip():
            head = line[:6].strip()
            found[head] = line[7:]
        elif line[:1].strip():
            head = line
            found[head] = ""
        elif head:
            found[head] += " " + line
    return {head: squeezed(body) for head, body in found.items()}


# --- man pages ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("linter", LINTERS)
def test_page_is_clean(linter, name):
    done = run(*tool(LINTERS, linter), BUILD / "packaging" / name)
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("linter", LINTERS)
def test_linters_complain_of_a_broken_page(linter, tmp_path):
    broken = tmp_path / PAGES[0]
    broken.write_text(page(PAGES[0]).replace(".SH COMMANDS", ".XY COMMANDS\n\\[nonesuch]"), encoding="ascii")
    done = run(*tool(LINTERS, linter), broken)
    assert done.stdout + done.stderr


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_terminal(name):
    assert [line for line in rendered(name).splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("name", PAGES)
def test_page_has_no_marker_left(name):
    assert "@" not in page(name)
    assert "0.0.0" not in page(name) and re.search(r'"ecs\\-health\\-agent \d+\.\d+\.\d+"', page(name))


def usage(program, title):
    """{name: meaning} of a section of --help; a long name has its meaning in the next line."""
    text = re.search(rf"^{title}:\n(.*?)\n\n", program("--help"), re.MULTILINE | re.DOTALL)[1]
    found, name = {}, None
    for line in text.splitlines():
        if line.startswith("   "):
            found[name] = line.strip()
        else:
            name, _, meaning = line.strip().partition("  ")
            found[name] = meaning.strip()
    return found


def commands(program):
    """{name: arguments}; ahead of the summary, the program pads to a column that arguments may touch."""
    found = {}
    for line in re.search(r"^Commands:\n(.*?)\n\n", program("--help"), re.MULTILINE | re.DOTALL)[1].splitlines():
        words = re.match(r"  ([a-z-]+)((?: \[[^]]*\])*)\s", line + " ")
        if words and not words[1].startswith("--"):
            found[words[1]] = words[2].strip()
    return found


def long_options(program, command):
    """{option: what the command's own --help says of it}"""
    found = re.search(r"^Options:\n(.*?)(?:\n\n|\Z)", program(command, "--help"), re.MULTILINE | re.DOTALL)
    options, name = {}, None
    for line in found[1].splitlines() if found else ():
        begin = re.match(r" +(--[a-z-]+)(?: \S+)?  +(.*)", line)
        if begin:
            name = begin[1]
            options[name] = begin[2]
        else:
            options[name] += " " + line.strip()
    return options


def test_page_has_every_command_with_its_options(program):
    whole = squeezed(section(rendered(PAGES[0]), "COMMANDS"))
    told = {}  # name of a command: what stands between its head and the next
    for part in re.split(r"(?<!\S)ecs-health-agent (?=[a-z-]+ )", whole)[1:]:
        told.setdefault(part.split()[0], part)
    assert {"run", "status", "check-config", "pause", "resume"} <= set(commands(program))
    for name, arguments in commands(program).items():
        assert told[name].startswith(squeezed(f"{name} {arguments} "))
        assert len(told[name].split()) > 15, f"{name} has no words of its own"
        for option, meaning in long_options(program, name).items():
            assert re.search(rf"{option}( \S+)? {re.escape(meaning[0].upper() + meaning[1:])}", whole), option


def test_page_has_every_setting_with_default_and_range(program):
    told = entries(section(rendered(PAGES[1]), "OPTIONS"))
    settings = json.loads(program("check-config", "--json"))["settings"]
    rows = re.findall(r"^\| `([a-z_.]+)` \| `(.*?)` \| (.*?) \| (.*) \|$", program("check-config", "--markdown"),
                      re.MULTILINE)
    assert {row[0] for row in rows} == set(settings) == set(told)
    assert len(rows) > 30
    for name, standard, allowed, meaning in rows:
        assert told[name] == squeezed(f"{meaning} Default: {standard}. Allowed: {allowed}.")


def test_page_shows_a_refusal_as_the_program_words_it(program, tmp_path):
    told = squeezed(section(rendered(PAGES[1]), "ERRORS"))
    bad = tmp_path / "bad.json"
    bad.write_text('{ "grcae": "5m", "brakes": { "max_sick": "80%" } }', encoding="ascii")
    done = json.loads(program("check-config", bad, "--json", status=2))
    assert len(done["problems"]) == 2
    for problem in done["problems"]:
        assert squeezed(problem.replace(str(bad), "/etc/ecs-health-agent/config.json")) in told


def test_page_has_every_variable_of_the_environment(program):
    told = squeezed(section(rendered(PAGES[0]), "ENVIRONMENT"))
    rows = {}
    for line, meaning in usage(program, "Environment").items():
        name = line if meaning else line.split(" ")[0]
        rows[name] = meaning or line[len(name) + 1:]
    assert len(rows) > 8
    for name, meaning in rows.items():
        assert f"{name} {meaning[0].upper()}{meaning[1:]}." in told


def test_page_has_every_metric():
    told = entries(section(rendered(PAGES[0]), "METRICS"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \|$", readme.partition("<!-- metrics -->")[2]
                      .partition("<!-- /metrics -->")[0], re.MULTILINE)
    assert len(rows) > 15
    for name, unit, meaning in rows:
        assert told[f"{name} ({unit})"] == squeezed(meaning)


def test_page_has_every_brake_and_stage():
    told = entries(section(rendered(PAGES[0]), "BRAKES"))
    brakes = re.findall(r'^\s+\[BRAKE_\w+\] = \{ "(\w+)"', (ROOT / "agent/decide/brakes.c").read_text(), re.MULTILINE)
    assert len(brakes) > 10
    assert [b for b in brakes if len(told.get(b, "")) < 20] == []
    names = re.findall(r'\[STAGE_\w+\] = "(\w+)"', (ROOT / "agent/decide/names.c").read_text())
    numbers = dict(re.findall(r"STAGE_(\w+) = (\d+),", (ROOT / "agent/decide/core.h").read_text()))
    assert len(names) == len(numbers) > 10
    stages = squeezed(section(rendered(PAGES[0]), "HOW IT DECIDES"))
    assert [n for n in names if f"{numbers[n.upper()]} {n}" not in stages] == []


REFUSED = [
    ("page", "@NONESUCH@\n", "unknown marker"),
    ("page", "fine\n@COMMAND nonesuch@\n", "nonesuch"),
    ("completion", "@OPTIONS@\n", "unknown marker"),
]


@pytest.mark.parametrize("kind, text, named", REFUSED)
def test_generator_refuses_a_template_that_it_cannot_fill(tmp_path, kind, text, named):
    template = tmp_path / "template"
    template.write_text(text, encoding="ascii")
    done = run(BUILD / "packaging" / "manual", kind, template)
    assert done.returncode == 1
    assert f"{template}:{text.count(chr(10))}:" in done.stderr and named in done.stderr


def test_generator_tells_of_a_command_without_words_of_its_own(tmp_path, program):
    template = tmp_path / "template"
    template.write_text("@COMMAND status@\nWords.\n@COMMANDS@\nend\n", encoding="ascii")
    text = run(BUILD / "packaging" / "manual", "page", template).stdout.replace("\\-", "-")
    assert [text.count(f"\\fBecs-health-agent {name}\\fR") for name in commands(program)] == [1] * len(commands(program))
    assert text.endswith("end\n")


# --- catalog ------------------------------------------------------------------------------------------------------

def message_ids():
    return dict(re.findall(r'^#define (MESSAGE_\w+)\s+"([0-9a-f]{32})"', (ROOT / "agent/messages.h").read_text(),
                           re.MULTILINE))


def catalog(text):
    """{id: (headers, body)}; strict, for systemd quietly leaves out what it does not understand."""
    found = {}
    for part in re.split(r"^-- ", text, flags=re.MULTILINE)[1:]:
        first, _, rest = part.partition("\n")
        head, blank, body = rest.partition("\n\n")
        assert re.fullmatch(r"[0-9a-f]{32}", first), f"bad ID {first!r}"
        assert first not in found, f"{first} stands twice"
        assert blank, f"{first} has no body"
        headers = {}
        for line in head.splitlines():
            name, colon, value = line.partition(": ")
            assert colon and value and name not in headers, f"{first}: bad line {line!r}"
            headers[name] = value
        found[first] = headers, body
    return found


def attached_fields():
    """{MESSAGE_...: the HEALTH_ fields that each of its records carries}, read from the calls of log_event()."""
    found = {}
    for path in sorted((ROOT / "agent").rglob("*.c")):
        text = path.read_text(encoding="utf-8")
        for call in re.finditer(r"\blog_event\(", text):
            depth, end = 1, call.end()
            while depth:
                depth += {"(": 1, ")": -1}.get(text[end], 0)
                end += 1
            call = text[call.end():end]
            fields = set(re.findall(r'\{ "(HEALTH_\w+)"', call))
            for name in re.findall(r"\bMESSAGE_\w+", call):
                found[name] = found.get(name, fields) & fields
    return found


def stray_fields(text):
    """(id, field) of what an entry substitutes and its records may lack: journalctl would show the bare name."""
    names = {number: name for name, number in message_ids().items()}
    fields = attached_fields()
    return [(number, field) for number, (headers, body) in catalog(text).items()
            for field in re.findall(r"@(\w+)@", headers["Subject"] + body)
            if field not in fields.get(names.get(number), ())]


def test_catalog_has_each_message_and_no_other():
    assert len(message_ids()) > 10
    names = {number: name for name, number in message_ids().items()}
    told = set(catalog(CATALOG.read_text(encoding="ascii")))
    assert {names[number] for number in set(names) - told} == set(), "without an entry"
    assert told - set(names) == set(), "of no message"


def test_catalog_entries_are_whole():
    for number, (headers, body) in catalog(CATALOG.read_text(encoding="ascii")).items():
        assert list(headers) == ["Subject", "Defined-By", "Support"], number
        assert headers["Defined-By"] == "ecs-health-agent"
        assert re.fullmatch(r"man:(\S+)\((\d)\)", headers["Support"])
        assert re.sub(r"man:(\S+)\((\d)\)", r"\1.\2", headers["Support"]) in PAGES
        assert len(body.split()) > 25, f"{number} does not say what it means and what to do"
        assert [line for line in body.splitlines() if len(line) > 88] == []


def test_catalog_names_fields_that_the_records_carry():
    assert attached_fields()["MESSAGE_HELD"] == {"HEALTH_BRAKES", "HEALTH_INCIDENT"}
    text = CATALOG.read_text(encoding="ascii")
    assert stray_fields(text) == []
    assert stray_fields(text.replace("@HEALTH_BRAKES@", "@HEALTH_WITNESSES@")) != []


def test_catalog_explains_every_brake():
    body = catalog(CATALOG.read_text(encoding="ascii"))[message_ids()["MESSAGE_HELD"]][1]
    brakes = re.findall(r'^\s+\[BRAKE_\w+\] = \{ "(\w+)"', (ROOT / "agent/decide/brakes.c").read_text(), re.MULTILINE)
    assert [b for b in brakes if not re.search(rf"^  .*\b{b}\b", body, re.MULTILINE)] == []


def test_journalctl_takes_the_catalog(tmp_path):
    if not shutil.which("journalctl"):
        pytest.skip("journalctl is not installed")
    directory = tmp_path / "usr/lib/systemd/catalog"
    directory.mkdir(parents=True)
    shutil.copy(CATALOG, directory)
    made = run("journalctl", f"--root={tmp_path}", "--update-catalog")
    assert (made.returncode, made.stderr) == (0, "")
    shown = run("journalctl", f"--root={tmp_path}", "--dump-catalog")
    assert shown.returncode == 0, shown.stderr
    squeeze = {number: (headers, body.strip()) for number, (headers, body) in catalog(shown.stdout).items()}
    assert squeeze == {number: (headers, body.strip())
                       for number, (headers, body) in catalog(CATALOG.read_text(encoding="ascii")).items()}


# --- completion ---------------------------------------------------------------------------------------------------

def complete(*words, cwd=ROOT):
    """What bash offers for the last of the words."""
    script = ('source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ecs_health_agent; '
              'printf "%s\\n" "${COMPREPLY[@]}"')
    done = run("bash", "--norc", "-c", script, "bash", BUILD / "packaging" / "ecs-health-agent", "ecs-health-agent", *words,
               cwd=cwd)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return [line for line in done.stdout.splitlines() if line]


def test_completion_is_valid_and_bound_to_the_command():
    path = BUILD / "packaging" / "ecs-health-agent"
    done = run("bash", "-n", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert run("bash", "--norc", "-c", 'source "$1"; complete -p ecs-health-agent', "bash", path).stdout == \
        "complete -F _ecs_health_agent ecs-health-agent\n"


def test_completion_is_clean_for_shellcheck():
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    done = run("shellcheck", "-s", "bash", BUILD / "packaging" / "ecs-health-agent")
    assert done.returncode == 0, done.stdout


def test_completion_knows_every_command_and_its_options(program):
    assert set(complete("")) == set(commands(program)) | {"--help", "--version"}
    for name in commands(program):
        offered = set(complete(name, "--"))
        assert offered == set(long_options(program, name)) | {"--help"}, name
        assert offered >= set(re.findall(r"--[a-z-]+", commands(program)[name])), name


COMPLETIONS = [
    (["st"], ["status"]),
    (["--v"], ["--version"]),
    (["status", "--w"], ["--watch"]),
    (["status", "--json", "--"], ["--watch", "--help"]),  # not what stands there already
    (["status", "x"], []),
    (["pause", "--for", "2"], ["2h"]),
    (["pause", "--for", "=", "2"], ["2h"]),  # as bash splits --for=2
    (["pause", "--for", "="], ["15m", "30m", "1h", "2h", "4h", "8h", "1d"]),
    (["pause", "--reason", ""], []),
    (["pause", "--reason", "--"], []),
    (["nonesuch", "--"], []),
    (["resume", "--help", "--"], []),
]


@pytest.mark.parametrize("words, offered", COMPLETIONS)
def test_completion_offers(words, offered):
    assert complete(*words) == offered


def test_completion_offers_files_where_one_is_read(tmp_path):
    (tmp_path / "new settings.json").write_text("{}")
    assert complete("check-config", "ne", cwd=tmp_path) == ["new settings.json"]
    assert complete("check-config", "--s", cwd=tmp_path) == ["--sample"]
    assert complete("status", "ne", cwd=tmp_path) == []


# --- sample -------------------------------------------------------------------------------------------------------

def test_sample_is_taken_and_says_the_defaults(program):
    sample = BUILD / "packaging" / "config.sample.json"
    assert sample.read_text(encoding="ascii") == program("check-config", "--sample")
    read = json.loads(program("check-config", sample, "--json"))
    defaults = json.loads(program("check-config", "--json"))
    assert read["ok"] and not defaults["there"]
    assert {name: row["value"] for name, row in read["settings"].items()} == \
        {name: row["value"] for name, row in defaults["settings"].items()}
    assert {row["source"] for row in read["settings"].values()} == {str(sample)}


# --- installation -------------------------------------------------------------------------------------------------

def test_all_of_it_is_installed_where_it_is_looked_for():
    plan = json.loads((BUILD / "meson-info" / "intro-install_plan.json").read_text(encoding="utf-8"))
    places = {row["destination"] for kind in plan.values() for row in kind.values()}
    for place in ("man/man8/ecs-health-agent.8", "man/man5/ecs-health-agent.json.5",
                  "lib/systemd/catalog/ecs-health-agent.catalog", "doc/ecs-health-agent/config.sample.json",
                  "bash-completion/completions/ecs-health-agent"):
        assert any(known.endswith("/" + place) for known in places), place
