# SPDX-License-Identifier: MIT
"""Runs the commands of the documents, with the programs of a build and the CPU backend.

A comment before a fenced block, which a reader of the rendered page does not see, states what the
block is:

    <!-- run -->                                   run it; it must succeed
    <!-- run in the background until: TEXT -->     start it, wait until it prints TEXT; ends the
                                                   background block before it
    <!-- output -->                                what the block before prints: each line in this
                                                   order, with … for any text
    <!-- file: PATH -->                            the content of a file
    <!-- append to the file: PATH -->              more of it
    <!-- not run: REASON -->                       cannot run here

`, needs: files` at the end leaves a block out if the mediator has no file transport. Each block of
language sh must have a mark. A document runs in a temporary folder: its absolute paths below FOLDERS
lead there. `vgpu` without --device or --transport, as in a VM, uses the mediator's socket. What does
not run is listed with its reason. ctest passes the build in VGPU_BUILD.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ["VGPU_BUILD"]
# Document: whether a mediator must run before.
DOCUMENTS = {"docs/quick-start.md": False, "docs/guest.md": True, "docs/migration.md": False,
             "examples/README.md": True, "examples/monitoring/README.md": True}
FOLDERS = ("/run/vgpu", "/etc/vgpu", "/srv/vgpu", "/mnt/vgpu")
LIMIT_S = 90
BLOCK = re.compile(r"^(?P<indent> *)(?:<!-- (?P<mark>[^\n]*?) -->\n\n?(?P=indent))?```(?P<language>\w*)\n"
                   r"(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"(?P<kind>run in the background until|run|output|file|append to the file|not run)"
                  r"(?:: (?P<argument>.*?))?(?:, needs: (?P<needs>\w+))?")


class Block:
    def __init__(self, kind, argument, needs, text, line):
        self.kind, self.argument, self.needs = kind, argument, needs
        self.text, self.line = text, line


def blocks(text):
    """Returns the marked blocks of a document. Raises ValueError for a block without its mark."""
    found = []
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("text")) + 1
        if match.group("mark") is None:
            if match.group("language") == "sh":
                raise ValueError(f"line {line}: a block of commands has no mark")
            continue
        mark = MARK.fullmatch(match.group("mark"))
        if mark is None:
            raise ValueError(f"line {line}: unknown mark '{match.group('mark')}'")
        found.append(Block(mark.group("kind"), mark.group("argument"), mark.group("needs"),
                           textwrap.dedent(match.group("text")), line))
    return found


def missing_line(expected, printed):
    """Returns the first expected line that is not among the printed ones, in order, or None."""
    rest = printed.splitlines()
    for line in expected.splitlines():
        pattern = ".*".join(re.escape(part) for part in line.rstrip().split("…"))
        while rest and not re.fullmatch(pattern, rest[0].rstrip()):
            rest.pop(0)
        if not rest:
            return line
        rest.pop(0)
    return None


class Place:
    """A temporary folder with the programs, in which the commands of one document run."""

    def __init__(self, root):
        self.root = root
        self.bin = os.path.join(root, "bin")
        os.makedirs(self.bin)
        for folder in FOLDERS:
            os.makedirs(root + folder)
        os.rmdir(root + "/run/vgpu")   # the documents create it
        os.makedirs(root + "/srv/vgpu/vm1")
        for name, text in (("request", ""), ("response", "")):
            with open(f"{root}/srv/vgpu/vm1/{name}.txt", "w", encoding="utf-8") as file:
                file.write(text)
        socket = root + "/run/vgpu/mediator.sock"
        self.wrapper("vgpu", "src/cli/vgpu/static/vgpu",
                     'case " $* " in *" --device "* | *" --transport "*) exec "$program" "$@" ;; esac\n'
                     f'exec "$program" --device unix:{socket} "$@"')
        self.wrapper("vgpu-mediator", "src/mediator/vgpu-mediator",
                     'case " $* " in *" --config "*) exec "$program" --backend cpu "$@" ;; esac\n'
                     f'exec "$program" --backend cpu --socket {socket} '
                     f'--admin-socket {root}/run/vgpu/admin.sock "$@"')
        os.symlink(os.path.join(BUILD, "src/cli/vgpuctl/vgpuctl"), os.path.join(self.bin, "vgpuctl"))
        client = os.path.join(BUILD, "src", "client")
        with open(os.path.join(self.bin, "vgpu.pc"), "w", encoding="utf-8") as file:
            file.write(f"Name: vgpu\nDescription: the build's\nVersion: 0\n"
                       f"Cflags: -I{client}/include\nLibs: -L{client} -lvgpu\n")
        self.home = os.path.join(root, "home")
        shutil.copytree(os.path.join(ROOT, "examples"), self.home)
        self.environment = {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}",
                            "PKG_CONFIG_LIBDIR": self.bin, "LD_LIBRARY_PATH": client,
                            "VGPU_ADMIN_SOCKET": root + "/run/vgpu/admin.sock"}

    def wrapper(self, name, program, text):
        path = os.path.join(self.bin, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\nprogram={os.path.join(BUILD, program)}\n{text}\n")
        os.chmod(path, 0o755)

    def here(self, text):
        """Returns a text with the absolute paths of the documents below this folder."""
        for folder in FOLDERS:
            text = re.sub(rf"(?<![\w/.]){folder}\b", self.root + folder, text)
        return text

    def script(self, found, known):
        """Returns the shell script that runs the blocks, and prints a line before each."""
        parts = ["set -euE -o pipefail", "job=",
                 "end_job() { [ -z \"$job\" ] || { kill $job; wait $job || true; job=; }; }",
                 "trap end_job EXIT"]
        for index, block in enumerate(found):
            if block.needs and block.needs not in known:
                continue
            if block.kind in ("file", "append to the file"):
                sign = ">" if block.kind == "file" else ">>"
                parts.append(f"cat {sign} {self.here(block.argument)} <<'END-OF-FILE'\n"
                             f"{self.here(block.text)}END-OF-FILE")
            elif block.kind == "run":
                parts.append(f"echo '@@ {index}'\n{self.here(block.text)}")
            elif block.kind == "run in the background until":
                log = f"{self.root}/log.{index}"
                # The last command is the one that stays: it becomes the job itself.
                lines = self.here(block.text).strip().split("\n")
                lines[-1] = "exec " + lines[-1]
                body = "\n".join(lines)
                parts.append(f"echo '@@ {index}'\nend_job\n({body}) > {log} 2>&1 & job=$!\n"
                             f"for tries in $(seq 300); do grep -q '{block.argument}' {log} && break; "
                             f"kill -0 $job || break; sleep 0.1; done\n"
                             f"cat {log}\ngrep -q '{block.argument}' {log}")
        return "\n".join(parts) + "\necho '@@ end'\n"

    def run(self, script):
        """Runs a script; returns (exit status, output)."""
        with subprocess.Popen(["bash", "-c", script], cwd=self.home, env=self.environment,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, start_new_session=True) as shell:
            try:
                output = shell.communicate(timeout=LIMIT_S)[0]
            except subprocess.TimeoutExpired:
                os.killpg(shell.pid, signal.SIGKILL)
                return None, shell.communicate()[0]
            return shell.returncode, output


def capabilities(place):
    """Returns what the mediator of this build has, of what blocks may need."""
    config = os.path.join(place.root, "files.toml")
    with open(config, "w", encoding="utf-8") as file:
        file.write(f'[files]\ndirectory = "{place.root}/srv/vgpu"\n')
    done = subprocess.run([os.path.join(place.bin, "vgpu-mediator"), "--check-config", "--config",
                           config], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return {"files"} if done.returncode == 0 else set()


def text_of(document):
    with open(os.path.join(ROOT, document), encoding="utf-8") as file:
        return file.read()


class Commands(unittest.TestCase):
    def check(self, document, needs_mediator):
        found = blocks(text_of(document))
        if needs_mediator:
            found.insert(0, Block("run in the background until", "ready", None,
                                  "mkdir -p /run/vgpu\nvgpu-mediator", 0))
        with tempfile.TemporaryDirectory() as root:
            place = Place(root)
            known = capabilities(place)
            status, output = place.run(place.script(found, known))
            output = output.replace(root, "")
        printed = dict(re.findall(r"^@@ (\w+)\n(.*?)(?=^@@ |\Z)", output, re.MULTILINE | re.DOTALL))
        last = max((int(index) for index in printed if index != "end"), default=0)
        self.assertEqual(status, 0, f"{document}:{found[last].line}: status {status}\n{output}")
        self.assertIn("end", printed)
        ran = 0
        for index, block in enumerate(found):
            if block.needs and block.needs not in known:
                print(f"{document}:{block.line}: left out: this mediator has no {block.needs}")
            elif block.kind == "not run":
                print(f"{document}:{block.line}: not run: {block.argument}")
            elif block.kind == "output":
                before = [at for at in range(index) if found[at].kind.startswith("run")][-1]
                missing = missing_line(block.text, printed[str(before)])
                self.assertIsNone(missing, f"{document}:{block.line}: the line is not printed by\n"
                                           f"{found[before].text}which prints\n{printed[str(before)]}")
            ran += block.kind.startswith("run")
        self.assertGreater(ran, 0, "no command of this document runs")


def add_test(document, needs_mediator):
    name = "test_" + re.sub(r"\W", "_", document)
    setattr(Commands, name, lambda self: self.check(document, needs_mediator))


for each, needs in DOCUMENTS.items():
    add_test(each, needs)


class Paths(unittest.TestCase):
    def test_programs_that_are_named_are_built(self):
        documents = [*DOCUMENTS, "README.md", "docs/contributing.md", "docs/benchmarks.md"]
        named = {(document, path) for document in documents
                 for path in re.findall(r"\bbuild/release/([\w./-]*\w)", text_of(document))}
        self.assertGreater(len(named), 3)
        for document, path in sorted(named):
            with self.subTest(document=document, path=path):
                self.assertTrue(os.path.exists(os.path.join(BUILD, path)))


class TheTestItself(unittest.TestCase):
    def test_a_block_without_a_mark_is_an_error(self):
        with self.assertRaises(ValueError):
            blocks("text\n\n```sh\nls\n```\n")
        with self.assertRaises(ValueError):
            blocks("<!-- runs -->\n```sh\nls\n```\n")
        self.assertEqual(blocks("```text\nls\n```\n"), [])

    def test_marks_are_read(self):
        found = blocks("- x\n\n  <!-- run, needs: files -->\n  ```sh\n  ls\n  ```\n"
                       "<!-- not run: needs, well, a VM -->\n```sh\nls\n```\n")
        self.assertEqual([(b.kind, b.argument, b.needs, b.text) for b in found],
                         [("run", None, "files", "ls\n"), ("not run", "needs, well, a VM", None, "ls\n")])

    def test_a_line_that_is_not_printed_is_found(self):
        self.assertIsNone(missing_line("a … c\nd\n", "x\na b c\ny\nd\n"))
        self.assertEqual(missing_line("d\na … c\n", "x\na b c\ny\nd\n"), "a … c")

    def test_a_command_that_fails_fails(self):
        with tempfile.TemporaryDirectory() as root:
            place = Place(root)
            for text in ("false\ntrue\n", "vgpu add 1 2\n", "ls /srv/vgpu/none\n"):
                status, output = place.run(place.script([Block("run", None, None, text, 1)], set()))
                self.assertNotEqual(status, 0, text)
                self.assertNotIn("@@ end", output)


if __name__ == "__main__":
    unittest.main()
