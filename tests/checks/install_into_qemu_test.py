# SPDX-License-Identifier: MIT
"""install-into-qemu.sh must install the device into every kind of QEMU tree, find every difference,
and revert to the byte; it must not overwrite a local change. The trees used here hold only the
files that it needs, in the shape of each build system. scripts/device-matrix does the same with
real trees, and compiles."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT = os.path.join(ROOT, "device", "install-into-qemu.sh")
INSTALLED = ("vgpu-stub.c", "vgpu-compat.h", "vgpu-hello.h", "vgpu-link.h", "vgpu-regs.h",
             "vgpu-wire.h", "vgpu_protocol.h")
MAKE = ("Makefile.objs", "common-obj-$(CONFIG_EDU) += edu.o\n\n",
        "common-obj-$(CONFIG_VGPU_STUB) += vgpu-stub.o")
OLD_MESON = ("meson.build", "softmmu_ss.add(when: 'CONFIG_EDU', if_true: files('edu.c'))\n\n",
             "softmmu_ss.add(when: 'CONFIG_VGPU_STUB', if_true: files('vgpu-stub.c'))")
NEW_MESON = ("meson.build", "system_ss.add(when: 'CONFIG_EDU', if_true: files('edu.c'))\n\n",
             "system_ss.add(when: 'CONFIG_VGPU_STUB', if_true: files('vgpu-stub.c'))")
VERSIONS = {"4.2.1": MAKE, "5.1.0": MAKE, "5.2.0": OLD_MESON, "7.2.22": OLD_MESON,
            "8.0.5": OLD_MESON, "8.1.0": NEW_MESON, "10.0.13": NEW_MESON, "10.2.0": NEW_MESON}
KCONFIG = "config EDU\n    bool\n    default y if TEST_DEVICES\n\nsource macio/Kconfig\n"
TRACES = "# edu.c\nedu_read(uint64_t at) \"at 0x%\" PRIx64\n"


def snapshot(tree):
    """Returns {path: (mode, link target or content)} of everything in a folder."""
    found = {}
    for folder, folders, names in os.walk(tree):
        for name in folders + names:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                content = os.readlink(path)
            elif stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    content = file.read()
            else:
                content = None
            found[os.path.relpath(path, tree)] = (mode, content)
    return found


class InstallIntoQemu(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.tree = None

    def make_tree(self, version="7.2.22", change=lambda text: text, name="qemu tree"):
        """Creates a tree; `change` changes the bytes of its build files."""
        self.tree = os.path.join(self.folder, name)
        shutil.rmtree(self.tree, ignore_errors=True)
        build_file, text, _ = VERSIONS[version]
        os.makedirs(os.path.join(self.tree, "hw", "misc"))
        self.write("VERSION", f"{version}\n".encode())
        self.write("hw/misc/edu.c", b"/* edu */\n")
        for name, content in (("Kconfig", KCONFIG), (build_file, text), ("trace-events", TRACES)):
            self.write(f"hw/misc/{name}", change(content.encode()))
        return self.tree

    def path(self, name):
        return os.path.join(self.tree, name)

    def write(self, name, content):
        with open(self.path(name), "wb") as file:
            file.write(content)

    def append(self, name, content):
        with open(self.path(name), "ab") as file:
            file.write(content)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def run_script(self, *arguments, script=SCRIPT, **options):
        done = subprocess.run([script, *arguments], stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.STDOUT, check=False, **options)
        return done.returncode, done.stdout

    def expect(self, status, *arguments, text="", **options):
        found, output = self.run_script(*arguments, **options)
        self.assertEqual(found, status, output)
        self.assertIn(text, output)
        return output

    def assert_untouched(self, status, *arguments, text):
        """The call must fail, name the cause, and change nothing."""
        before = snapshot(self.tree)
        self.expect(status, *arguments, text=text)
        self.assertEqual(snapshot(self.tree), before)

    def test_each_build_system(self):
        for version, (build_file, _, line) in VERSIONS.items():
            with self.subTest(version=version):
                tree = self.make_tree(version)
                before = snapshot(tree)
                self.expect(1, "--check", tree, text="hw/misc/vgpu-stub.c is missing")
                self.assertEqual(snapshot(tree), before)
                self.expect(0, tree)
                self.expect(0, "--check", tree)
                for name in INSTALLED:
                    self.assertTrue(os.path.isfile(self.path(f"hw/misc/{name}")), name)
                self.assertIn(line, self.read(f"hw/misc/{build_file}").decode().splitlines())
                self.assertIn("config VGPU_STUB", self.read("hw/misc/Kconfig").decode())
                self.assertIn("vgpu_stub_read(", self.read("hw/misc/trace-events").decode())
                self.expect(0, "--revert", tree)
                self.assertEqual(snapshot(tree), before)
                self.expect(0, "--revert", tree)
                self.assertEqual(snapshot(tree), before)

    def test_the_sources_are_those_of_the_project(self):
        self.expect(0, self.make_tree())
        for name in INSTALLED:
            homes = [os.path.join(ROOT, place, name)
                     for place in ("device/qemu", "device/model", "protocol")]
            with open(next(home for home in homes if os.path.exists(home)), "rb") as file:
                self.assertEqual(self.read(f"hw/misc/{name}"), file.read())

    def test_a_second_run_changes_nothing_not_even_times(self):
        tree = self.make_tree()
        self.expect(0, tree)
        times = {name: os.stat(self.path(f"hw/misc/{name}")).st_mtime_ns
                 for name in os.listdir(self.path("hw/misc"))}
        self.expect(0, tree)
        self.assertEqual(times, {name: os.stat(self.path(f"hw/misc/{name}")).st_mtime_ns
                                 for name in os.listdir(self.path("hw/misc"))})

    def test_line_endings_and_last_lines(self):
        cases = {"no newline at the end": lambda text: text.rstrip(b"\n"),
                 "several newlines at the end": lambda text: text + b"\n\n",
                 "empty": lambda text: b"",
                 "CRLF": lambda text: text.replace(b"\n", b"\r\n"),
                 "CRLF, no newline at the end": lambda text: text.replace(b"\n", b"\r\n")[:-2],
                 "a lone CR at the end": lambda text: text[:-1] + b"\r",
                 "not UTF-8": lambda text: b"# \xff\xfe\n" + text}
        for case, change in cases.items():
            for version in ("4.2.1", "7.2.22", "10.0.13"):
                build_file, _, line = VERSIONS[version]
                with self.subTest(case=case, version=version):
                    if case == "empty" and build_file == "meson.build":
                        continue  # a meson.build that names no source set is no QEMU's
                    tree = self.make_tree(version, change)
                    before = snapshot(tree)
                    self.expect(0, tree)
                    self.expect(0, "--check", tree)
                    # The section is on lines of its own, in the file's own line endings.
                    text = self.read(f"hw/misc/{build_file}")
                    self.assertIn(line.encode(), [text.rstrip(b"\r")
                                                  for text in text.split(b"\n")])
                    if case.startswith("CRLF"):
                        self.assertEqual(text.count(b"\n"), text.count(b"\r\n"))
                    self.expect(0, tree)
                    self.expect(0, "--revert", tree)
                    self.assertEqual(snapshot(tree), before)

    def test_lines_that_others_added_after_the_section_stay(self):
        for case, change in (("newline", lambda text: text), ("none", lambda text: text[:-1])):
            with self.subTest(last_line=case):
                tree = self.make_tree("7.2.22", change)
                self.expect(0, tree)
                self.append("hw/misc/Kconfig", b"config OTHER\n    bool\n")
                self.expect(0, "--check", tree)
                with_other = self.read("hw/misc/Kconfig")
                self.expect(0, tree)
                self.assertEqual(self.read("hw/misc/Kconfig"), with_other)
                self.expect(0, "--revert", tree)
                self.assertEqual(self.read("hw/misc/Kconfig").decode(),
                                 KCONFIG + "config OTHER\n    bool\n")

    def test_modes_are_kept(self):
        tree = self.make_tree()
        os.chmod(self.path("hw/misc/Kconfig"), 0o664)
        before = snapshot(tree)
        self.expect(0, tree)
        self.assertEqual(stat.S_IMODE(os.stat(self.path("hw/misc/Kconfig")).st_mode), 0o664)
        self.expect(0, "--revert", tree)
        self.assertEqual(snapshot(tree), before)

    def test_a_hard_linked_copy_is_not_changed(self):
        tree = self.make_tree()
        before = snapshot(tree)
        copy = os.path.join(self.folder, "copy")
        shutil.copytree(tree, copy, copy_function=os.link)
        self.expect(0, copy)
        self.assertEqual(snapshot(tree), before)

    def test_check_finds_every_difference(self):
        cases = {
            "a source": (lambda: self.append("hw/misc/vgpu-regs.h", b"\n"),
                         "hw/misc/vgpu-regs.h differs"),
            "line endings": (lambda: self.write("hw/misc/vgpu-stub.c", self.read(
                "hw/misc/vgpu-stub.c").replace(b"\n", b"\r\n")), "hw/misc/vgpu-stub.c differs"),
            "no source": (lambda: os.remove(self.path("hw/misc/vgpu_protocol.h")),
                          "hw/misc/vgpu_protocol.h is missing"),
            "a section": (lambda: self.write("hw/misc/Kconfig", self.read(
                "hw/misc/Kconfig").replace(b"default y if PCI", b"default n if PCI")),
                          "hw/misc/Kconfig: the section of vgpu-stub differs"),
            "no section": (lambda: self.write("hw/misc/meson.build", b"softmmu_ss.add()\n"),
                           "hw/misc/meson.build has no section"),
            "half a section": (lambda: self.write("hw/misc/trace-events", self.read(
                "hw/misc/trace-events").replace(b"# vgpu-stub end", b"")),
                               "hw/misc/trace-events: the marks"),
        }
        for case, (change, text) in cases.items():
            with self.subTest(case=case):
                tree = self.make_tree()
                self.expect(0, tree)
                change()
                self.assert_untouched(1, "--check", tree, text=text)

    def test_a_local_change_is_not_overwritten_and_not_removed(self):
        for name in ("vgpu-stub.c", "vgpu_protocol.h"):
            for mode in ([], ["--revert"]):
                with self.subTest(name=name, mode=mode):
                    tree = self.make_tree()
                    before = snapshot(tree)
                    self.expect(0, tree)
                    self.append(f"hw/misc/{name}", b"/* mine */\n")
                    self.assert_untouched(1, *mode, tree, text=f"hw/misc/{name} is not a file that")
                    self.expect(0, *mode, "--force", tree)
                    if mode:
                        self.assertEqual(snapshot(tree), before)
                    else:
                        self.expect(0, "--check", tree)

    def test_a_changed_section_is_not_overwritten_and_not_removed(self):
        for mode in ([], ["--revert"]):
            with self.subTest(mode=mode):
                tree = self.make_tree()
                before = snapshot(tree)
                self.expect(0, tree)
                self.write("hw/misc/Kconfig", self.read("hw/misc/Kconfig").replace(
                    b"default y if PCI", b"default n if PCI"))
                self.assert_untouched(1, *mode, tree, text="hw/misc/Kconfig: the section")
                self.expect(0, *mode, "--force", tree)
                if mode:
                    self.assertEqual(snapshot(tree), before)

    def test_somebody_elses_file_of_the_same_name_is_not_overwritten(self):
        tree = self.make_tree("4.2.1")
        self.write("hw/misc/vgpu-stub.c", b"/* another device of this name */\n")
        self.assert_untouched(1, tree, text="hw/misc/vgpu-stub.c is not a file that this script")
        self.assert_untouched(1, "--revert", tree, text="hw/misc/vgpu-stub.c is not a file that")

    def test_lines_that_were_added_by_hand_are_not_doubled(self):
        tree = self.make_tree("4.2.1")
        # Enough text after the line that a reader which stops at it would break the pipe.
        self.append("hw/misc/Makefile.objs", b"common-obj-y += vgpu-stub.o\n" + b"# more\n" * 50000)
        self.assert_untouched(1, tree, text="hw/misc/Makefile.objs mentions vgpu-stub outside")

    def test_marks_that_do_not_match(self):
        cases = {"no end": b"# vgpu-stub begin\nconfig A\n", "no begin": b"# vgpu-stub end\n",
                 "wrong order": b"# vgpu-stub end\n# vgpu-stub begin\n",
                 "twice": b"# vgpu-stub begin\n# vgpu-stub end\n" * 2}
        for case, text in cases.items():
            for mode in ([], ["--revert"], ["--force"], ["--revert", "--force"]):
                with self.subTest(case=case, mode=mode):
                    tree = self.make_tree()
                    self.append("hw/misc/Kconfig", text)
                    self.assert_untouched(1, *mode, tree, text="do not match")

    def older_release(self):
        """Returns the script of a release whose device differs, and has one file more."""
        release = os.path.join(self.folder, "older release")
        shutil.copytree(os.path.join(ROOT, "device"), os.path.join(release, "device"))
        shutil.copytree(os.path.join(ROOT, "protocol"), os.path.join(release, "protocol"))
        script = os.path.join(release, "device", "install-into-qemu.sh")
        with open(script, encoding="utf-8") as file:
            text = file.read()
        changed = text.replace('"$here/model/vgpu-hello.h"',
                               '"$here/model/vgpu-hello.h" "$here/model/vgpu-gone.h"')
        self.assertNotEqual(changed, text)
        with open(script, "w", encoding="utf-8") as file:
            file.write(changed)
        for name, text in (("model/vgpu-gone.h", "/* old */\n"), ("model/vgpu-regs.h", "/* old */\n"),
                           ("qemu/Kconfig", "config VGPU_STUB\n    bool\n")):
            with open(os.path.join(release, "device", name), "w", encoding="utf-8") as file:
                file.write(text)
        return script

    def test_an_older_version_is_updated_without_force(self):
        tree = self.make_tree()
        before = snapshot(tree)
        older = self.older_release()
        self.expect(0, tree, script=older)
        self.expect(0, "--check", tree, script=older)
        output = self.expect(1, "--check", tree, text="vgpu-regs.h is of another version")
        self.assertIn("vgpu-gone.h is of another version", output)
        self.expect(0, tree)
        self.expect(0, "--check", tree)
        self.assertFalse(os.path.exists(self.path("hw/misc/vgpu-gone.h")))
        self.expect(0, tree, script=older)
        self.expect(0, "--revert", tree)
        self.assertEqual(snapshot(tree), before)

    def test_a_release_without_git_and_a_caller_in_another_folder(self):
        older = self.older_release()
        self.assertFalse(os.path.exists(os.path.join(os.path.dirname(older), "..", ".git")))
        self.make_tree(name="-tree")
        self.expect(0, "--", "-tree", script=older, cwd=self.folder,
                    env={**os.environ, "CDPATH": "/tmp"})
        self.expect(0, "--check", "--", "-tree", script=older, cwd=self.folder)

    def test_a_release_without_its_files(self):
        older = self.older_release()
        os.remove(os.path.join(os.path.dirname(older), "..", "protocol", "vgpu_protocol.h"))
        self.make_tree()
        before = snapshot(self.tree)
        self.expect(1, self.tree, script=older, text="vgpu_protocol.h is missing")
        self.assertEqual(snapshot(self.tree), before)

    def test_an_interrupted_update_can_be_repeated_and_reverted(self):
        older = self.older_release()
        for script in (SCRIPT, older):
            for mode in ([], ["--revert"]):
                with self.subTest(then=script, mode=mode):
                    tree = self.make_tree()
                    before = snapshot(tree)
                    self.expect(0, tree, script=older)
                    self.stop_in_the_middle(SCRIPT)
                    self.expect(1, "--check", tree)
                    self.expect(0, *mode, tree, script=script)
                    if mode:
                        self.assertEqual(snapshot(tree), before)
                    else:
                        self.expect(0, "--check", tree, script=script)

    def stop_in_the_middle(self, script):
        """Runs an installation whose third rename fails."""
        programs = os.path.join(self.folder, "programs")
        shutil.rmtree(programs, ignore_errors=True)
        os.mkdir(programs)
        counter = os.path.join(self.folder, "count")
        with open(os.path.join(programs, "mv"), "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\necho >> "{counter}"\n[ "$(wc -l < "{counter}")" -lt 3 ] || exit 1\n'
                       f'exec {shutil.which("mv")} "$@"\n')
        os.chmod(os.path.join(programs, "mv"), 0o755)
        self.expect(1, self.tree, script=script,
                    env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"})
        os.remove(counter)
        self.assertEqual([name for name in os.listdir(self.path("hw/misc"))
                          if name.startswith(".vgpu-stub.")], [])

    def test_what_is_not_a_qemu_tree(self):
        self.make_tree()
        cases = {"no such folder": (lambda: shutil.rmtree(self.tree), "is not a folder"),
                 "a file": (lambda: (shutil.rmtree(self.tree), open(self.tree, "w").close()),
                            "is not a folder"),
                 "no VERSION": (lambda: os.remove(self.path("VERSION")), "it has no VERSION"),
                 "an empty VERSION": (lambda: self.write("VERSION", b""), "VERSION is empty"),
                 "a strange VERSION": (lambda: self.write("VERSION", b"$(touch /x); 7.2\n"),
                                       "does not hold a version number"),
                 "too old": (lambda: self.write("VERSION", b"4.1.1\n"), "needs QEMU 4.2 or later"),
                 "no Kconfig": (lambda: os.remove(self.path("hw/misc/Kconfig")), "no hw/misc/Kconfig"),
                 "no build file": (lambda: os.remove(self.path("hw/misc/meson.build")),
                                   "no hw/misc/meson.build")}
        for case, (change, text) in cases.items():
            for mode in ([], ["--check"], ["--revert"]):
                with self.subTest(case=case, mode=mode):
                    if os.path.isfile(self.tree):
                        os.remove(self.tree)
                    self.make_tree()
                    change()
                    self.expect(2, *mode, self.tree, text=text)

    def test_a_version_with_a_windows_line_ending_or_none(self):
        for text in (b"7.2.22\r\n", b"7.2.22"):
            self.make_tree()
            self.write("VERSION", text)
            self.expect(0, self.tree)

    def test_a_newer_qemu_is_tried_with_a_warning(self):
        tree = self.make_tree("10.2.0")
        self.write("VERSION", b"11.0.0\n")
        self.expect(0, tree, text="not known to compile in QEMU 11.0.0")

    def test_links_and_folders_in_the_way(self):
        elsewhere = os.path.join(self.folder, "elsewhere")
        with open(elsewhere, "w", encoding="utf-8") as file:
            file.write("keep\n")
        cases = {"a dangling link": lambda path: os.symlink("/nonexistent/x", path),
                 "a link": lambda path: os.symlink(elsewhere, path),
                 "a folder": os.mkdir, "a pipe": os.mkfifo}
        for case, make in cases.items():
            for name in ("vgpu-stub.c", "vgpu-stub.manifest"):
                for mode in ([], ["--force"], ["--revert", "--force"]):
                    with self.subTest(case=case, name=name, mode=mode):
                        tree = self.make_tree()
                        make(self.path(f"hw/misc/{name}"))
                        self.assert_untouched(1, *mode, tree, text="is not a regular file")
        tree = self.make_tree()
        os.rename(self.path("hw/misc/Kconfig"), self.path("Kconfig.real"))
        os.symlink("../../Kconfig.real", self.path("hw/misc/Kconfig"))
        self.assert_untouched(1, tree, text="hw/misc/Kconfig is a symbolic link")
        with open(elsewhere, encoding="utf-8") as file:
            self.assertEqual(file.read(), "keep\n")

    def test_a_manifest_cannot_name_other_files(self):
        tree = self.make_tree()
        before = snapshot(tree)
        self.expect(0, tree)
        digest = subprocess.run(["sha256sum"], input=b"/* edu */\n", check=True,
                                stdout=subprocess.PIPE).stdout.split()[0]
        for name in (b"edu.c", b"../misc/edu.c", b"../../VERSION", b"vgpu-x/../edu.c"):
            self.append("hw/misc/vgpu-stub.manifest", digest + b"  " + name + b"\n")
        self.expect(0, "--revert", tree)
        self.assertEqual(snapshot(tree), before)

    def test_a_tree_that_cannot_be_written(self):
        tree = self.make_tree()
        before = snapshot(tree)
        if os.geteuid() != 0:
            os.chmod(self.path("hw/misc"), 0o555)
            self.addCleanup(os.chmod, self.path("hw/misc"), 0o755)
            self.expect(1, tree, text="is not writable")
            return
        # Modes do not stop root: a read-only mount does, where this process may mount.
        command = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$2" "$1"'
        mounted = subprocess.run(["unshare", "-m", "sh", "-c", "mount --bind / /mnt"], check=False,
                                 stderr=subprocess.DEVNULL).returncode == 0
        if not mounted:
            self.skipTest("root may not mount here, and modes do not stop it")
        done = subprocess.run(["unshare", "-m", "sh", "-c", command, "sh", tree, SCRIPT], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("is not writable", done.stdout)
        self.assertEqual(snapshot(tree), before)

    def test_usage(self):
        self.assertIn("--revert", self.expect(0, "--help"))
        self.expect(2)
        self.expect(2, "")
        self.expect(2, "one", "two")
        self.expect(2, "--remove", "tree", text="there is no option '--remove'")
        self.expect(2, "--check", "--revert", "tree", text="give --check or --revert, not both")


if __name__ == "__main__":
    unittest.main()
