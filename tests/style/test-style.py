#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What the house asks of every file, as TAP: layers, purity of the core, layout, headers, and the linters.

    test-style.py [--build DIRECTORY]...

Each build is looked at for what the core's library leaves open; the first that was made with clang is clang-tidy's.
Runs from anywhere; changes nothing. $STYLE_TREE names the tree that this one is a copy of.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

TOP = {"meson.build", "meson_options.txt", "README.md", "LICENSE", ".ci", ".clang-format", ".clang-tidy", ".editorconfig",
       ".gitignore", "agent", "common", "packaging", "tests"}

# The first row that fits a file says what its #include "..." lines may name.
LAYERS = [
    ("common/", ("common/",)),
    ("agent/decide/", ("agent/decide/", "common/clock.h")),
    ("agent/observe/", ("agent/observe/", "agent/decide/", "common/")),
    ("agent/act/", ("agent/act/", "agent/decide/", "common/")),
    ("agent/", ("agent/", "common/")),
    ("packaging/", ("agent/", "common/")),
    ("tests/", ("tests/", "agent/", "common/")),
]
BOTH_SIDES = "agent/agent.c"  # alone in knowing who observes and who acts
PURE_HEADERS = {"assert.h", "errno.h", "inttypes.h", "limits.h", "stdbool.h", "stddef.h", "stdint.h", "string.h", "strings.h"}

# What the core may leave to others: text and memory, and what compilers and sanitizers put in by themselves.
PURE_SYMBOLS = re.compile(
    r"(mem(cpy|set|cmp|move|chr)|str(cmp|ncmp|casecmp|ncasecmp|len|nlen|chr)|bcmp|__assert_fail|__stack_chk_fail"
    r"|_GLOBAL_OFFSET_TABLE_|__popcount[ds]i2|__(asan|ubsan|sanitizer|sancov)_\w+)(@.*)?")

BYTES = ("tests/data/", "tests/fuzz/corpus/")  # not ours to word


class Tap:
    def __init__(self):
        self.n = self.bad = 0

    def result(self, name, complaints, skip=None):
        self.n += 1
        for line in complaints[:40]:
            print("#", line)
        self.bad += bool(complaints)
        print(f"{'not ok' if complaints else 'ok'} {self.n} - {name}" + (f" # SKIP {skip}" if skip else ""), flush=True)


def files():
    """The project's files: git's, or in a copy without git all but what is built."""
    git = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True) \
        if (ROOT / ".git").exists() and shutil.which("git") else None
    if git and git.returncode == 0:
        names = set(git.stdout.split("\0")) - {""}
    else:
        names = set()
        for directory, below, here in os.walk(ROOT):
            place = os.path.relpath(directory, ROOT)
            below[:] = [b for b in below if b not in ("__pycache__", ".git") and not (place == "." and b.startswith("build"))]
            names.update(os.path.normpath(os.path.join(place, name)) for name in here)
    return sorted(n for n in names if (ROOT / n).is_file())


def text(name):
    return (ROOT / name).read_text(encoding="utf-8", errors="surrogateescape")


def includes(name):
    """(number, own, path) of each #include line."""
    for number, line in enumerate(text(name).splitlines(), 1):
        found = re.match(r'\s*#\s*include\s*(["<])([^">]*)[">]', line)
        if found:
            yield number, found[1] == '"', found[2]


def check_layers(names):
    complaints = []
    for name in names:
        allowed = next(may for layer, may in LAYERS if name.startswith(layer))
        for number, own, path in includes(name):
            if own and not (ROOT / path).is_file():
                complaints.append(f"{name}:{number}: {path} is not written from the root")
            elif own and not path.startswith(allowed):
                complaints.append(f"{name}:{number}: must not include {path}")
            elif not own and (ROOT / path).is_file():
                complaints.append(f"{name}:{number}: {path} is ours, so it stands in quotes")
    return complaints


def check_both_sides(names):
    complaints = []
    for name in names:
        sides = {path.split("/")[1] for _, own, path in includes(name)
                 if own and path.startswith(("agent/observe/", "agent/act/"))}
        if len(sides) > 1 and name.startswith("agent/") and name != BOTH_SIDES:
            complaints.append(f"{name}: includes of both observe/ and act/, as only {BOTH_SIDES} may")
    return complaints


def check_pure_headers(names):
    return [f"{name}:{number}: the core has no use for <{path}>" for name in names if name.startswith("agent/decide/")
            for number, own, path in includes(name) if not own and path not in PURE_HEADERS]


def check_core_symbols(build):
    library = build / "libdecide.a"
    shown = subprocess.run(["nm", "-A", str(library)], capture_output=True, text=True)
    if shown.returncode != 0:
        return [f"{library}: {shown.stderr.strip()}"]
    opened, defined = {}, set()
    for line in shown.stdout.splitlines():
        place, kind, symbol = re.match(r"(.*?):\s*(?:[0-9a-f]+)?\s+(\S) (\S+)", line).groups()
        if kind in "Uwv":
            opened.setdefault(symbol, place.split(":")[-1])
        else:
            defined.add(symbol)
    if not defined:
        return [f"{library} defines nothing"]
    return [f"{place}: {symbol}" for symbol, place in sorted(opened.items())
            if symbol not in defined and not PURE_SYMBOLS.fullmatch(symbol)]


def check_core_globals(build):
    """Nothing that can be written to; constants that hold addresses lie in .data.rel.ro, and are none."""
    library = build / "libdecide.a"
    shown = subprocess.run(["size", "-A", str(library)], capture_output=True, text=True)
    if shown.returncode != 0:
        return [f"{library}: {shown.stderr.strip()}"]
    complaints, member = [], ""
    for line in shown.stdout.splitlines():
        words = line.split()
        if line.endswith(":") or "(ex " in line:
            member = words[0]
        elif len(words) >= 2 and re.fullmatch(r"\.t?(data|bss)(\.(?!rel\.ro).*)?", words[0]) and words[1] != "0":
            complaints.append(f"{member}: {words[1]} bytes of {words[0]}")
    return complaints


def check_top(names):
    return [f"{name}: the top level holds only {', '.join(sorted(TOP))}"
            for name in sorted({n.split("/")[0] for n in names} - TOP)]


def check_licence(names):
    complaints = []
    for name in names:
        head = text(name)[:400].splitlines()[:3]
        if name.endswith((".c", ".h")):
            good = head[:1] == ["/* SPDX-License-Identifier: Apache-2.0 */"]
        else:
            good = "# SPDX-License-Identifier: Apache-2.0" in head
        if not good:
            complaints.append(f"{name}: does not open with the SPDX line")
    return complaints


def check_leftovers(names):
    """Notes to oneself, and paths that are only here."""
    words = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")
    places = sorted({str(ROOT), os.environ.get("STYLE_TREE") or str(ROOT), str(pathlib.Path.home())} - {"/", "/root", "/nonexistent"})
    complaints = []
    for name in names:
        if name.startswith(BYTES) or name == "LICENSE":
            continue
        for number, line in enumerate(text(name).splitlines(), 1):
            if words.search(line):
                complaints.append(f"{name}:{number}: {words.search(line)[0]}")
            for place in places:
                if re.search(re.escape(place) + r"(?![\w.-])", line):
                    complaints.append(f"{name}:{number}: {place} is a path of one machine")
    return complaints


def check_listed(names):
    """What meson.build does not name is not built, and so not tested."""
    top, tests = text("meson.build"), text("tests/meson.build")
    lists = {kind: re.search(rf"^{kind}\w* = \[(.*?)^\]", tests, re.DOTALL | re.MULTILINE)[1]
             for kind in ("unit", "sim", "fuzz")}
    complaints = []
    for name in names:
        path = pathlib.PurePath(name)
        if path.suffix != ".c":
            continue
        if name.startswith(("common/", "agent/")):
            good = f"'{name}'" in top
        elif path.parent.name in ("unit", "sim", "fuzz"):
            word = re.sub(r"^(test|fuzz)-", "", path.stem)
            good = f"'{word}'" in lists[path.parent.name] or f"'{path.parent.name}/{path.name}'" in tests
        else:
            continue
        if not good:
            complaints.append(f"{name}: not in meson.build")
    return complaints


def check_fuzz_corpora(names):
    targets = {pathlib.PurePath(n).stem[len("fuzz-"):] for n in names if re.fullmatch(r"tests/fuzz/fuzz-[^/]*\.c", n)}
    corpora = {n.split("/")[3] for n in names if n.startswith("tests/fuzz/corpus/")}
    return [f"tests/fuzz: {name} has only {'a target' if name in targets else 'a corpus'}" for name in sorted(targets ^ corpora)]


def check_scripts(names):
    complaints = []
    for name in names:
        if name.startswith(BYTES):
            continue
        first = text(name).split("\n", 1)[0]
        if name.endswith(".py") or re.match(r"#!.*python", first):
            try:
                compile(text(name), name, "exec")
            except (SyntaxError, ValueError) as error:
                complaints.append(f"{name}: {error}")
        elif re.match(r"#!.*\b(ba|da)?sh\b", first):
            done = subprocess.run(["bash", "-n", name], cwd=ROOT, capture_output=True, text=True)
            complaints += done.stderr.splitlines()
        else:
            continue
        if first.startswith("#!") and not os.access(ROOT / name, os.X_OK):
            complaints.append(f"{name}: says how to be run and cannot be")
    return complaints


def format_file(name):
    done = subprocess.run(["clang-format", "--dry-run", "-Werror", name], cwd=ROOT, capture_output=True, text=True)
    places = [line for line in done.stderr.splitlines() if " error: " in line]
    return places or (["clang-format: " + done.stderr.strip()] if done.returncode else [])


def tidy_file(build, name):
    done = subprocess.run(["clang-tidy", "--quiet", "-p", str(build), name], cwd=ROOT, capture_output=True, text=True)
    places = [line.replace(str(ROOT) + "/", "") for line in done.stdout.splitlines() if re.search(r" (error|warning): ", line)]
    return places or ([done.stderr.strip()[-500:]] if done.returncode else [])


def compiled_with_clang(build):
    """The names that clang compiles there, none where another compiler does."""
    try:
        commands = json.loads((build / "compile_commands.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return sorted({os.path.relpath(os.path.join(c["directory"], c["file"]), ROOT) for c in commands
                   if re.match(r"\S*clang", c["command"])})


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--build", action="append", default=[], type=pathlib.Path)
    builds = [b.resolve() for b in parser.parse_args().build]
    names, tap = files(), Tap()
    sources = [n for n in names if n.endswith((".c", ".h"))]
    programs = sources + [n for n in names if n.endswith((".py", "meson.build")) or n in ("tests/run", "tests/demo", ".ci/run")]
    layered = [n for n in sources if n.startswith(tuple(layer for layer, _ in LAYERS))]

    tap.result("includes follow the layers", check_layers(layered))
    tap.result("only the wiring includes both sides", check_both_sides(layered))
    tap.result("the core includes nothing that does I/O", check_pure_headers(layered))
    for build in builds:
        tap.result(f"the core leaves nothing open in {build.name}", check_core_symbols(build))
        tap.result(f"the core keeps nothing between calls in {build.name}", check_core_globals(build))
    tap.result("the top level is as it is listed", check_top(names))
    tap.result("every file names its licence", check_licence(programs))
    tap.result("no notes to oneself, no paths of one machine", check_leftovers(names))
    tap.result("every source is built", check_listed(names))
    tap.result("every fuzz target has a corpus", check_fuzz_corpora(names))
    tap.result("every script can be read", check_scripts(names))

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for name, complaints in zip(sources, pool.map(format_file, sources)):
            tap.result(f"clang-format {name}", complaints)
        build = next((b for b in builds if compiled_with_clang(b)), None)
        if not build:
            tap.result("clang-tidy", [], skip="no build with clang was named")
        else:
            tidied = compiled_with_clang(build)
            for name, complaints in zip(tidied, pool.map(lambda name: tidy_file(build, name), tidied)):
                tap.result(f"clang-tidy {name}", complaints)

    print(f"1..{tap.n}")
    return 1 if tap.bad else 0


if __name__ == "__main__":
    sys.exit(main())
