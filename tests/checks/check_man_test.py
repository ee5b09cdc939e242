# SPDX-License-Identifier: MIT
"""check-man must find pages with formatting errors and every kind of mismatch between a page and
its subject. The cases start from a small, consistent project of programs, configuration and pages
and change one place each."""

import os
import shutil
import sys
import unittest

sys.dont_write_bytecode = True
from tree import run_script, tree  # noqa: E402

HEAD = ".Dd November 1, 2026\n.Dt X {}\n.Os\n.Sh NAME\n.Nm x\n.Nd a page\n"
VGPU_HELP = """cat <<'TEXT'
Options:
  -h,--help        Print
  --json           JSON (unlike --words)

Subcommands:
  add              Add
TEXT
"""
ADD_HELP = "printf 'Options:\\n  -h,--help   Print\\n  -n,--count N  Times\\n'\n"
FILES = {
    "build/src/cli/vgpu/vgpu":
        "#!/bin/sh\nif [ $1 = add ]; then\n" + ADD_HELP + "else\n" + VGPU_HELP + "fi\n",
    "build/src/cli/vgpuctl/vgpuctl":
        "#!/bin/sh\ncase $* in\n*'set '*) echo '  --weight N  Share' ;;\n"
        "*'vm '*) printf 'Subcommands:\\n  set  Change\\n' ;;\n"
        "*) printf '  --json  JSON\\nSubcommands:\\n  vm  VM\\n' ;;\nesac\n",
    "build/src/mediator/vgpu-mediator": "#!/bin/sh\necho '  --socket PATH ...  Listen'\n",
    "config/mediator.toml": '[log]\nburst = 50\non = true\n[[pool]]\nid = "A"\n[[pool]]\nid = "B"\n',
    "device/qemu/vgpu-stub.c": 'DEFINE_PROP_UINT32("vm_id", S, vm_id, 0),\n',
    "src/client/include/vgpu.h": "    VGPU_E_BUSY = 1,\nVGPU_API const char* vgpu_version(void);\n",
    "src/client/include/vgpu_queue.h": "VGPU_API int vgpu_queue_flush(vgpu_queue* queue);\n",
    "docs/man/vgpu.1": HEAD.format(1) + ".Sh COMMANDS\n.Bl -tag -width Ds\n.It Cm add Ar A\nAdds.\n"
        ".It Fl n , Fl -count Ar N\nTimes.\n.It Fl h , Fl -help\nHelp.\n.It Fl -json\nJSON.\n.El\n",
    "docs/man/vgpuctl.1": HEAD.format(1) + ".Sh COMMANDS\n.Bl -tag -width Ds\n.It Cm vm set Ar ID\n"
        "Changes.\n.It Fl -weight Ar N\nShare.\n.It Fl -json\nJSON.\n.El\n",
    "docs/man/vgpu-mediator.8":
        HEAD.format(8) + ".Sh OPTIONS\n.Bl -tag -width Ds\n.It Fl -socket Ar PATH\nListen.\n.El\n",
    "docs/man/vgpu-mediator.toml.5":
        HEAD.format(5) + ".Sh DESCRIPTION\nKeys.\n.Ss [log]\n.Bl -tag -width Ds\n.It Va burst\n"
        "Lines.\nDefault: 50.\n.It Va on\nOn.\nDefault:\n.Li true .\n.El\n.Ss [[pool]]\n"
        ".Bl -tag -width Ds\n.It Va id\nLetter.\nDefaults: A and B.\n.El\n",
    "docs/man/vgpu-stub.7":
        HEAD.format(7) + ".Sh PROPERTIES\n.Bl -tag -width Ds\n.It Va vm_id\nNumber.\n.El\n",
    "docs/man/libvgpu.3":
        HEAD.format(3) + '.Sh SYNOPSIS\n.Ft const char *\n.Fn vgpu_version "void"\n.Sh ERRORS\n'
        ".Bl -tag -width Ds\n.It Dv VGPU_E_BUSY\nBusy.\n.El\n",
    "docs/man/vgpu_queue.3":
        HEAD.format(3) + '.Sh SYNOPSIS\n.Ft int\n.Fn vgpu_queue_flush "vgpu_queue *queue"\n',
}


class CheckMan(unittest.TestCase):
    def run_check(self, check, path=None, old="", new=""):
        """Runs check-man with `old` in `path` replaced by `new`; returns (status, output)."""
        files = dict(FILES)
        if path:
            self.assertIn(old, files[path])
            files[path] = files[path].replace(old, new)
        with tree(files) as root:
            for program in ("cli/vgpu/vgpu", "cli/vgpuctl/vgpuctl", "mediator/vgpu-mediator"):
                os.chmod(os.path.join(root, "build/src", program), 0o755)
            arguments = [os.path.join(root, "build")] if check == "content" else []
            return run_script("check-man", "--root", root, check, *arguments)

    def assert_found(self, path, old, new, *lines):
        status, output = self.run_check("content", path, old, new)
        self.assertEqual(status, 1, output)
        self.assertEqual(output.splitlines(), list(lines))

    def test_pages_that_agree_pass(self):
        self.assertEqual(self.run_check("content"), (0, "man content: 7 pages, nothing found\n"))

    def test_an_option_of_the_program(self):
        page = "docs/man/vgpu.1"
        self.assert_found(page, ".It Fl -json\nJSON.\n", "", f"{page}: option --json is missing")
        self.assert_found("build/src/cli/vgpu/vgpu", "  --json ", "  --xml ",
                          f"{page}: option --xml is missing",
                          f"{page}: option --json does not exist")

    def test_an_option_of_a_command(self):
        page = "docs/man/vgpu.1"
        self.assert_found(page, " , Fl -count", "", f"{page}: option --count is missing")
        self.assert_found(page, "Fl n , ", "", f"{page}: option -n is missing")

    def test_an_option_of_a_command_of_a_command(self):
        page = "docs/man/vgpuctl.1"
        self.assert_found(page, "Fl -weight", "Fl -height", f"{page}: option --weight is missing",
                          f"{page}: option --height does not exist")

    def test_an_option_named_in_the_text_only(self):
        for text in (".Fl -nonsense\n", "\\-\\-nonsense\n"):
            page = "docs/man/vgpu-mediator.8"
            self.assert_found(page, "Listen.\n", f"Listen.\n{text}",
                              f"{page}: option --nonsense is named and does not exist")

    def test_a_command(self):
        page = "docs/man/vgpu.1"
        self.assert_found(page, "Cm add", "Cm sub", f"{page}: command add is missing",
                          f"{page}: command sub does not exist")

    def test_a_key_and_its_table(self):
        page = "docs/man/vgpu-mediator.toml.5"
        self.assert_found(page, "Va burst", "Va bursts", f"{page}: key [log] burst is missing",
                          f"{page}: key [log] bursts does not exist")
        self.assert_found(page, "Ss [log]", "Ss [logs]", f"{page}: key [log] burst is missing",
                          f"{page}: key [log] on is missing",
                          f"{page}: key [logs] burst does not exist",
                          f"{page}: key [logs] on does not exist")

    def test_a_default(self):
        page = "docs/man/vgpu-mediator.toml.5"
        self.assert_found(page, "50", "500", f"{page}: key [log] burst: the default 50 is not told")
        self.assert_found(page, "Li true", "Li false",
                          f"{page}: key [log] on: the default true is not told")
        self.assert_found(page, "A and B", "A",
                          f"{page}: key [[pool]] id: the default B is not told")

    def test_a_property(self):
        page = "docs/man/vgpu-stub.7"
        self.assert_found(page, "vm_id", "vm", f"{page}: property vm_id is missing",
                          f"{page}: property vm does not exist")

    def test_a_function_and_a_code(self):
        page = "docs/man/libvgpu.3"
        self.assert_found(page, "vgpu_version", "vgpu_age",
                          f"{page}: function vgpu_version is missing",
                          f"{page}: function vgpu_age does not exist")
        self.assert_found(page, "VGPU_E_BUSY", "VGPU_E_IDLE", f"{page}: code VGPU_E_BUSY is missing",
                          f"{page}: code VGPU_E_IDLE does not exist")

    def test_a_function_of_queues(self):
        page = "docs/man/vgpu_queue.3"
        self.assert_found(page, "vgpu_queue_flush", "vgpu_queue_empty",
                          f"{page}: function vgpu_queue_flush is missing",
                          f"{page}: function vgpu_queue_empty does not exist")

    def test_programs_that_are_not_built_are_not_called_good(self):
        with tree(FILES) as root:
            status, output = run_script("check-man", "--root", root, "content", root)
        self.assertEqual(status, 1, output)
        self.assertIn("build it first", output)

    def test_an_empty_tree_is_not_called_good(self):
        with tree({}) as root:
            self.assertEqual(run_script("check-man", "--root", root, "format")[0], 1)

    def test_usage(self):
        self.assertEqual(run_script("check-man", "nonsense")[0], 2)

    @unittest.skipUnless(shutil.which("groff") or shutil.which("mandoc"), "no formatter")
    def test_formatting(self):
        self.assertEqual(self.run_check("format"), (0, "man format: 7 pages, nothing found\n"))
        page = "docs/man/vgpu-stub.7"
        for wrong in (".Nonsense\n", ".It Va\n", ".Bl -tag -width Ds\n"):
            status, output = self.run_check("format", page, "Number.\n.El\n",
                                            f"Number.\n.El\n{wrong}")
            self.assertEqual(status, 1, f"{wrong}: {output}")
            self.assertTrue(output.startswith(page + ": "), output)

    def test_without_a_formatter_it_says_so(self):
        path = os.environ["PATH"]
        with tree(FILES) as root:
            os.symlink(sys.executable, os.path.join(root, "python3"))
            os.environ["PATH"] = root
            try:
                status, output = run_script("check-man", "--root", root, "format")
            finally:
                os.environ["PATH"] = path
        self.assertEqual(status, 77, output)
        self.assertIn("SKIPPED", output)


if __name__ == "__main__":
    unittest.main()
