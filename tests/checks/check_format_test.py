# SPDX-License-Identifier: MIT
"""check-format must report badly formatted files, use the nearest style file above each file, and
change nothing; format must correct them. check-shell must report what shellcheck reports."""

import os
import shutil
import sys
import unittest

sys.dont_write_bytecode = True
from tree import run_script, tree  # noqa: E402

STYLE = "BasedOnStyle: Google\nAllowShortFunctionsOnASingleLine: None\nIndentWidth: {}\n"
TWO, EIGHT = STYLE.format(2), STYLE.format(8)
BODY = "int f(int x) {{\n{}return x;\n}}\n"


@unittest.skipUnless(shutil.which("clang-format"), "clang-format is not installed")
class CheckFormat(unittest.TestCase):
    def test_each_file_has_the_style_nearest_above_it(self):
        files = {".clang-format": TWO, "device/.clang-format": EIGHT,
                 "src/base/a.cpp": BODY.format(" " * 2), "device/b.c": BODY.format(" " * 8)}
        with tree(files) as root:
            status, output = run_script("check-format", "--root", root)
        self.assertEqual(status, 0, output)

    def test_a_difference_is_found_left_alone_and_put_right_on_request(self):
        for path in ("src/base/a.cpp", "device/b.c", "tests/c.h", "src/d.cu"):
            bad = BODY.format(" " * 5)
            with tree({".clang-format": TWO, path: bad}) as root:
                status, output = run_script("check-format", "--root", root)
                self.assertEqual(status, 1, output)
                self.assertIn(path + ":1", output)
                with open(os.path.join(root, path), encoding="utf-8") as file:
                    self.assertEqual(file.read(), bad)
                self.assertEqual(run_script("format", "--root", root)[0], 0)
                with open(os.path.join(root, path), encoding="utf-8") as file:
                    self.assertEqual(file.read(), BODY.format(" " * 2))

    def test_nothing_to_check_is_not_called_good(self):
        with tree({"README.md": "x\n"}) as root:
            self.assertEqual(run_script("check-format", "--root", root)[0], 1)

    def test_usage(self):
        self.assertEqual(run_script("check-format", "--nonsense")[0], 2)


@unittest.skipUnless(shutil.which("shellcheck"), "shellcheck is not installed")
class CheckShell(unittest.TestCase):
    def test_an_unquoted_variable_is_found_whatever_the_file_is_called(self):
        for shell in ("#!/bin/sh", "#!/usr/bin/env bash"):
            with tree({"tools/run": f"{shell}\nrm $1\n", "x.py": "#!/usr/bin/python3\n"}) as root:
                status, output = run_script("check-shell", "--root", root)
            self.assertEqual(status, 1, output)
            self.assertIn("SC2086", output)

    def test_a_good_script_passes(self):
        with tree({"tools/run": '#!/bin/sh\nrm "$1"\n'}) as root:
            status, output = run_script("check-shell", "--root", root)
        self.assertEqual(status, 0, output)


if __name__ == "__main__":
    unittest.main()
