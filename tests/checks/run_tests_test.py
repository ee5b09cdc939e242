# SPDX-License-Identifier: MIT
"""run-tests must count correctly, print the reasons of skips, and never report success wrongly. The
folders used here contain a hand-written list of tests in CMake's format."""

import sys
import unittest

sys.dont_write_bytecode = True
from tree import run_script, tree  # noqa: E402

PASS = 'add_test({0} "/bin/true")\n'
FAIL = 'add_test({0} "/bin/false")\n'
MISSING = 'add_test({0} "/nonexistent/program")\n'
SKIP = ('add_test({0} "/bin/echo" "x_test.cpp:7: Skipped\nthere is no QEMU here\n'
        '[  SKIPPED ] A.b (0 ms)")\n'
        'set_tests_properties({0} PROPERTIES SKIP_REGULAR_EXPRESSION "\\\\[  SKIPPED \\\\]")\n')


def build_folder(*tests):
    return tree({"CTestTestfile.cmake":
                 "".join(text.format(f"t{index}") for index, text in enumerate(tests))})


class RunTests(unittest.TestCase):
    def assert_result(self, tests, status, last_line, options=()):
        with build_folder(*tests) as folder:
            found, output = run_script("run-tests", folder, *options)
        self.assertEqual(output.splitlines()[-1], last_line, output)
        self.assertEqual(found, status, output)
        return output

    def test_all_pass(self):
        self.assert_result([PASS, PASS], 0, "2 passed, 0 failed")

    def test_one_fails(self):
        output = self.assert_result([PASS, FAIL], 1, "1 passed, 1 failed")
        self.assertIn("FAILED t1\n", output)

    def test_a_missing_program_is_a_failure(self):
        self.assert_result([PASS, MISSING], 1, "1 passed, 1 failed")

    def test_a_skip_is_counted_and_its_reason_given(self):
        output = self.assert_result([PASS, SKIP], 0, "1 passed, 0 failed, 1 skipped")
        self.assertIn("SKIPPED t1: there is no QEMU here\n", output)

    def test_only_skips_is_not_called_good(self):
        self.assert_result([SKIP], 1, "0 passed, 0 failed, 1 skipped")

    def test_no_tests_is_not_called_good(self):
        self.assert_result([], 1, "0 passed, 0 failed")

    def test_options_go_to_ctest(self):
        self.assert_result([PASS, FAIL], 0, "1 passed, 0 failed", ["-R", "^t0$"])

    def test_a_selection_that_names_nothing_is_not_called_good(self):
        self.assert_result([PASS], 1, "0 passed, 0 failed", ["-R", "no such test"])

    def test_several_folders_are_summed(self):
        with build_folder(PASS, SKIP) as first, build_folder(PASS, FAIL) as second:
            status, output = run_script("run-tests", first, second)
        self.assertEqual(status, 1)
        self.assertEqual(output.splitlines()[-1], "2 passed, 1 failed, 1 skipped")

    def test_usage(self):
        self.assertEqual(run_script("run-tests")[0], 2)
        self.assertEqual(run_script("run-tests", "/nonexistent")[0], 2)
        self.assertEqual(run_script("run-tests", "--help")[0], 0)


if __name__ == "__main__":
    unittest.main()
