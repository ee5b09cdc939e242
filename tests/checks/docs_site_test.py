# SPDX-License-Identifier: MIT
"""Tests of the tools that build the documentation site: what they must reject, and that the API
reference is complete. Parts that need Doxygen are skipped without it, with exit status 77."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SITE = os.path.join(ROOT, "docs", "site")
sys.path.insert(0, SITE)
import check_site  # noqa: E402
import doxygen_filter  # noqa: E402
import stage  # noqa: E402

INCLUDE = os.path.join(ROOT, "src", "client", "include")


def read(*path):
    with open(os.path.join(*path), encoding="utf-8") as file:
        return file.read()


class Filter(unittest.TestCase):
    HEADER = ("/* SPDX-License-Identifier: MIT */\n/*\n * vgpu.h: the C API.\n *\n *   code();\n *\n"
              " * More.\n */\n#ifndef X\n#define X\n\n/* Bits: of a word. */\n#define A 1 /* one */\n"
              "#define B 2 /* two */\n\nstruct s {\n    int x; /* a number */\n};\n\n"
              "/*\n * Adds.\n *\n * a, b: the operands\n * sum: [out] the result\n *\n * Errors: none.\n */\n"
              "VGPU_API int vgpu_add(vgpu_device* device, uint32_t a, uint32_t b, uint32_t timeout_ms,\n"
              "                      uint32_t* sum, struct vgpu_failure* why);\n#endif /* X */\n")

    def setUp(self):
        self.result = doxygen_filter.convert(self.HEADER, "vgpu.h")

    def test_the_number_of_lines_stays(self):
        self.assertEqual(self.result.count("\n"), self.HEADER.count("\n"))
        for folder, name in [(INCLUDE, name) for name in sorted(os.listdir(INCLUDE))] + \
                [(os.path.join(ROOT, "protocol"), "vgpu_protocol.h")]:
            with self.subTest(header=name):
                text = read(folder, name)
                self.assertEqual(doxygen_filter.convert(text, name).count("\n"), text.count("\n"))

    def test_only_comments_change(self):
        def code(text):
            return re.sub(r"\s+", " ", re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.DOTALL))
        for name in sorted(os.listdir(INCLUDE)):
            with self.subTest(header=name):
                text = read(INCLUDE, name)
                self.assertEqual(code(doxygen_filter.convert(text, name)), code(text))

    def test_comments_become_documentation(self):
        self.assertIn("@file vgpu.h @brief The C API.", self.result)
        self.assertIn("@verbatim\n  code();\n@endverbatim", self.result)
        self.assertIn("#define A 1 /**< one */", self.result)
        self.assertIn("@groupname{Bits}", self.result)
        self.assertIn("int x; /**< a number */", self.result)
        self.assertIn("#endif /* X */", self.result)

    def test_parameters_are_complete(self):
        for name, text in (("a", "the operands"), ("b", "the operands"), ("device", "Open device."),
                           ("timeout_ms", "Time-out in milliseconds")):
            self.assertIn(f"@param {name} {text}", self.result)
        self.assertIn("@param[out] sum the result", self.result)
        self.assertIn("@param[out] why ", self.result)
        self.assertIn("@return VGPU_OK", self.result)
        self.assertRegex(self.result, r"@sample\{api\.c add\}")
        # Without its errors a function has no return value for Doxygen, which then fails.
        silent = doxygen_filter.convert(self.HEADER.replace(" * Errors: none.\n", " *\n"), "vgpu.h")
        self.assertNotIn("@return", silent)

    def test_a_function_without_an_example_names_a_block_that_does_not_exist(self):
        self.assertEqual(doxygen_filter.example_of("vgpu_none", False), "api.c vgpu_none")
        self.assertEqual(doxygen_filter.example_of("vgpu_add", False), "api.c add")
        self.assertTrue(doxygen_filter.example_of("Queue::add", True).startswith("api.cpp Queue"))
        self.assertTrue(doxygen_filter.example_of("Device::add", True).startswith("api.cpp Device"))


class Doxygen(unittest.TestCase):
    def run_on(self, change):
        """Runs Doxygen on the headers of a copy, after change(folder). Returns (status, output)."""
        with tempfile.TemporaryDirectory() as folder:
            for path in ("src/client/include", "docs/site", "examples"):
                shutil.copytree(os.path.join(ROOT, path), os.path.join(folder, path))
            os.makedirs(os.path.join(folder, "protocol"))
            shutil.copy(os.path.join(ROOT, "protocol", "vgpu_protocol.h"),
                        os.path.join(folder, "protocol"))
            change(folder)
            done = subprocess.run(["doxygen", "-"], cwd=folder, check=False, text=True,
                                  input=read(SITE, "Doxyfile") + "OUTPUT_DIRECTORY = out\n",
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            return done.returncode, done.stdout

    def change(self, name, old, new):
        def apply(folder):
            path = os.path.join(folder, name)
            text = read(path)
            self.assertEqual(text.count(old), 1, old)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text.replace(old, new))
        return apply

    def test_gaps_are_errors(self):
        if shutil.which("doxygen") is None:
            self.skipTest("there is no doxygen: scripts/setup docs")
        self.assertEqual(self.run_on(lambda folder: None), (0, ""))
        header = "src/client/include/vgpu.h"
        for name, old, new, message in (
                (header, " * sum: [out] a + b modulo 2^32\n", "", "parameter 'sum'"),
                (header, "struct vgpu_failure {\n    int code;  ", "struct vgpu_failure {\n    int extra;\n    int code;  ",
                 "Member extra"),
                ("examples/api.c", "vgpu_drain(gpu, LIMIT_MS, &why)", "0", "[vgpu_drain]"),
                ("protocol/vgpu_protocol.h", "#define VGPU_REGS_END ", "#define VGPU_UNKNOWN 1\n#define VGPU_REGS_END ",
                 "VGPU_UNKNOWN")):
            with self.subTest(message):
                status, output = self.run_on(self.change(name, old, new))
                self.assertNotEqual(status, 0, output)
                self.assertIn(message, output)


class Stage(unittest.TestCase):
    def problems_of(self, text):
        with tempfile.TemporaryDirectory() as folder:
            os.makedirs(os.path.join(folder, "src"))
            with open(os.path.join(folder, "a.md"), "w", encoding="utf-8") as file:
                file.write(text)
            made = stage.Stage(folder, os.path.join(folder, "out"), folder)
            made.document("a.md")
            return made, list(made.problems), read(folder, "out", "a.md")

    def test_links(self):
        made, problems, text = self.problems_of("[x](none.md) `[y](z)`\n\n    [code](none)\n\n[s](src) "
                                                "[w](https://example.org)\n")
        self.assertEqual(problems, ["a.md:1: the link's target does not exist: none.md"])
        self.assertIn("\ns [w](https://example.org)", text)
        self.assertEqual(made.external, 1)

    def test_every_document_is_in_the_contents(self):
        made = stage.Stage(ROOT, "unused", "unused")
        made.check_contents()
        self.assertEqual(list(made.problems), [])
        made.pages.remove("docs/troubleshooting.md")
        made.check_contents()
        self.assertEqual(len(made.problems), 1)


class CheckSite(unittest.TestCase):
    def problems_of(self, html, css=""):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in (("a.html", html), ("b.html", "<p id='there'>"), ("a.css", css)):
                with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                    file.write(text)
            return check_site.check(folder)[0]

    def test_broken_links_and_foreign_resources_are_found(self):
        self.assertEqual(self.problems_of("<a href='b.html#there'><a href='https://x.org/y'>"), [])
        self.assertEqual(len(self.problems_of("<a href='c.html'>")), 1)
        self.assertEqual(len(self.problems_of("<a href='b.html#gone'>")), 1)
        self.assertEqual(len(self.problems_of("<script src='https://cdn.org/x.js'></script>")), 1)
        self.assertEqual(len(self.problems_of("<link rel='stylesheet' href='//fonts.org/x.css'>")), 1)
        self.assertEqual(len(self.problems_of("", "@import url(https://fonts.org/x.css);")), 1)
        self.assertEqual(self.problems_of("", "a { background: url(data:image/png;base64,x) }"), [])


if __name__ == "__main__":
    outcome = unittest.main(exit=False).result
    for _, reason in outcome.skipped:
        print(f"skipped: {reason}")
    sys.exit(1 if not outcome.wasSuccessful() else 77 if outcome.skipped else 0)
