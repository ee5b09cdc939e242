# SPDX-License-Identifier: MIT
"""check-tidy must report what clang-tidy reports, check a clean file once, and check it again when
any of its dependencies changes."""

import json
import os
import shutil
import sys
import unittest

sys.dont_write_bytecode = True
from tree import run_script, tree  # noqa: E402

CONFIG = "---\nChecks: '-*,modernize-use-nullptr'\nWarningsAsErrors: '*'\nHeaderFilterRegex: '.*'\n"
GOOD_HEADER = "inline int* none() { return nullptr; }\n"
BAD_HEADER = "inline int* none() { return 0; }\n"
SOURCE = '#include "base/none.h"\n\nint* f() { return none(); }\n'


def write(root, path, text):
    with open(os.path.join(root, path), "w", encoding="utf-8") as file:
        file.write(text)


@unittest.skipUnless(shutil.which("clang-tidy"), "clang-tidy is not installed")
class CheckTidy(unittest.TestCase):
    def project(self, header):
        """Returns a tree with one source, one header and a compile database in build/."""
        return tree({".clang-tidy": CONFIG, "src/base/none.h": header, "src/base/f.cpp": SOURCE,
                     "build/compile_commands.json": "[]"})

    def check(self, root, *options):
        build = os.path.join(root, "build")
        write(root, "build/compile_commands.json", json.dumps([{
            "directory": build, "file": os.path.join(root, "src/base/f.cpp"),
            "command": f"c++ {' '.join(options)} -I{root}/src -c {root}/src/base/f.cpp"}]))
        return run_script("check-tidy", "--root", root, build)

    def test_a_finding_in_a_header_of_ours_is_reported_each_time(self):
        with self.project(BAD_HEADER) as root:
            for _ in range(2):
                status, output = self.check(root)
                self.assertEqual(status, 1, output)
                self.assertIn("src/base/none.h:1:29", output)
                self.assertIn("modernize-use-nullptr", output)

    def test_a_clean_file_is_checked_once(self):
        with self.project(GOOD_HEADER) as root:
            status, output = self.check(root)
            self.assertEqual(status, 0, output)
            self.assertIn("1 to check", output)
            status, output = self.check(root)
            self.assertEqual(status, 0, output)
            self.assertIn("0 to check", output)

    def test_what_is_recorded_as_clean_is_not_checked_in_another_clone_unless_told_to(self):
        with self.project(GOOD_HEADER) as root:
            self.assertEqual(self.check(root)[0], 0)
            os.makedirs(os.path.join(root, ".ci"), exist_ok=True)
            status, output = run_script("check-tidy", "--root", root, "--record",
                                        os.path.join(root, "build"))
            self.assertEqual(status, 0, output)
            self.assertIn("1 of 1 files recorded", output)
            with open(os.path.join(root, ".ci/tidy-clean"), encoding="utf-8") as file:
                record = file.read()
        with self.project(GOOD_HEADER) as clone:
            os.makedirs(os.path.join(clone, ".ci"), exist_ok=True)
            write(clone, ".ci/tidy-clean", record)
            self.assertIn("0 to check", self.check(clone)[1])
            status, output = run_script("check-tidy", "--root", clone, "--all",
                                        os.path.join(clone, "build"))
            self.assertIn("1 to check", output)
            write(clone, "src/base/none.h", BAD_HEADER)
            self.assertEqual(self.check(clone)[0], 1)

    def test_and_again_when_a_header_the_command_or_the_configuration_changes(self):
        with self.project(GOOD_HEADER) as root:
            self.assertEqual(self.check(root)[0], 0)
            self.assertIn("1 to check", self.check(root, "-DX=1")[1])
            self.assertIn("0 to check", self.check(root, "-DX=1")[1])
            write(root, ".clang-tidy", CONFIG + "# changed\n")
            self.assertIn("1 to check", self.check(root, "-DX=1")[1])
            write(root, "src/base/none.h", BAD_HEADER)
            self.assertEqual(self.check(root, "-DX=1")[0], 1)

    def test_code_that_does_not_compile_is_not_called_clean(self):
        with self.project("#error broken\n") as root:
            self.assertEqual(self.check(root)[0], 1)

    def test_a_database_without_our_files_is_not_called_clean(self):
        with self.project(GOOD_HEADER) as root:
            status, output = run_script("check-tidy", "--root", root, os.path.join(root, "build"))
        self.assertEqual(status, 1, output)

    def test_a_folder_that_is_no_build_folder_is_a_usage_error(self):
        with self.project(GOOD_HEADER) as root:
            self.assertEqual(run_script("check-tidy", "--root", root, root)[0], 2)


if __name__ == "__main__":
    unittest.main()
