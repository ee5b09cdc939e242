# SPDX-License-Identifier: MIT
"""A real libvirtd defines and starts the domain of device/hosts/libvirt/domain.xml, with QEMU as
libvirt's own user, and the guest gets its result from a mediator whose socket that user may use.

Everything runs in namespaces of its own (mount, PID, network): /etc and /var are overlays, /run is
empty, so that a libvirtd of the system is neither seen nor changed, and all processes end with the
first one. Exit status 77, with the reason, where this is not possible."""

import glob
import grp
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ET

sys.dont_write_bytecode = True
from confinement import (  # noqa: E402
    GUEST, LIMIT, MEDIATOR, QEMU, QEMU_DATA, SKIPPED, read, wait_for, what_is_not_built, why_no_root)

os.environ["PATH"] += ":/usr/sbin:/sbin"
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
KIT = os.path.join(ROOT, "device", "hosts", "libvirt")
INSIDE = "VGPU_LIBVIRT_TEST_FOLDER"  # set within the namespaces: the test's folder
NAMESPACES = ["unshare", "--mount", "--pid", "--net", "--fork", "--kill-child", "--mount-proc",
              "--propagation", "private"]
QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
# Commands of the guest: waits for an event of the power button.
BUTTON = ("insmod /modules/evdev.ko && insmod /modules/button.ko && "
          "event=$(grep -A 5 Power.Button /proc/bus/input/devices | grep -o event[0-9]*) && "
          "echo waiting for $event && dd if=/dev/input/$event of=/dev/null bs=24 count=1 && "
          "echo button pressed")


def users():
    """Returns libvirt's user for QEMU, or None."""
    for name in ("libvirt-qemu", "qemu"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    return None


def reason_to_skip():
    """Returns why the test cannot run here; None if it can."""
    missing = why_no_root() or what_is_not_built()
    if missing:
        return missing
    for program in ("libvirtd", "virsh", "unshare", "mount", "cpio"):
        if not shutil.which(program):
            return f"{program} is not installed (Debian: libvirt-daemon-system, libvirt-clients)"
    if users() is None:
        return "libvirt's user for QEMU does not exist (Debian: libvirt-daemon-system)"
    trial = subprocess.run(
        [*NAMESPACES, "sh", "-ec", "mount -t tmpfs tmpfs /run; mkdir /run/u /run/w; mount -t overlay "
         "-o lowerdir=/etc,upperdir=/run/u,workdir=/run/w overlay /etc"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if trial.returncode != 0:
        return "this process may not make namespaces and overlays: " + " ".join(trial.stdout.split())
    return None


def call(*command):
    """Runs a command; returns (exit status, output)."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False, timeout=LIMIT)
    return done.returncode, done.stdout


def make_world(folder):
    """Makes /etc, /var and /run private. `folder` is outside of them."""
    world = os.path.join(folder, "world")
    os.mkdir(world)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", world], check=True)
    for place in ("etc", "var"):
        upper, work = os.path.join(world, place), os.path.join(world, f"{place}.work")
        os.mkdir(upper)
        os.mkdir(work)
        subprocess.run(["mount", "-t", "overlay", "-o",
                        f"lowerdir=/{place},upperdir={upper},workdir={work}", "overlay",
                        f"/{place}"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"], check=True)
    # No domain, network or setting of the system is taken over; the settings are the defaults but
    # for polkit and virtlogd, which would be further daemons, and the host's control groups.
    shutil.rmtree("/etc/libvirt", ignore_errors=True)
    for place in ("lib", "cache", "log"):
        shutil.rmtree(f"/var/{place}/libvirt", ignore_errors=True)
    os.makedirs("/etc/libvirt")
    os.makedirs("/var/lib/libvirt/boot")
    os.makedirs("/var/lib/libvirt/images")
    with open("/etc/libvirt/libvirtd.conf", "w", encoding="utf-8") as file:
        file.write('auth_unix_ro = "none"\nauth_unix_rw = "none"\n'
                   f'log_outputs = "2:file:{folder}/libvirtd.log"\n')
    with open("/etc/libvirt/qemu.conf", "w", encoding="utf-8") as file:
        file.write('stdio_handler = "file"\ncgroup_controllers = [ ]\n')
    # What an operator does with groupadd and usermod.
    user = users().pw_name
    with open("/etc/group", encoding="utf-8") as file:
        lines = [line for line in file if not line.startswith("vgpu:")]
    number = next(number for number in range(64100, 65000)
                  if not any(entry.gr_gid == number for entry in grp.getgrall()))
    with open("/etc/group", "w", encoding="utf-8") as file:
        file.writelines([*lines, f"vgpu:x:{number}:{user}\n"])


def make_guest(folder):
    """Copies the guest to where libvirt's user may read it, and QEMU; adds the modules of the power
    button if the guest was built here. Returns whether it has them."""
    boot = "/var/lib/libvirt/boot"
    shutil.copy(f"{GUEST}/vmlinuz", boot)
    shutil.copy(f"{GUEST}/initramfs.cpio.gz", f"{boot}/initramfs")
    shutil.copy(QEMU, "/var/lib/libvirt/qemu-system-x86_64")
    shutil.copytree(QEMU_DATA, "/var/lib/libvirt/data")
    modules = [found for name in ("evdev", "button") for found in glob.glob(
        f"{GUEST}/parts/kernel/lib/modules/*/kernel/drivers/*/{name}.ko")]
    if len(modules) != 2:
        return False
    part = os.path.join(folder, "part")
    os.makedirs(f"{part}/modules")
    for module in modules:
        shutil.copy(module, f"{part}/modules")
    archive = subprocess.run("find . | cpio --quiet --create --format=newc | gzip -n", shell=True, cwd=part,
                             check=True, stdout=subprocess.PIPE).stdout
    with open(f"{boot}/initramfs", "ab") as file:
        file.write(archive)
    return True


class Libvirt(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = os.environ[INSIDE]
        make_world(cls.folder)
        cls.has_button = make_guest(cls.folder)
        cls.user = users()
        log = open(f"{cls.folder}/libvirtd.out", "wb")  # pylint: disable=consider-using-with
        cls.addClassCleanup(log.close)
        cls.libvirtd = cls.start_program(["libvirtd"], log)
        wait_for(lambda: call("virsh", "-c", "qemu:///system", "list")[0] == 0
                 or cls.libvirtd.poll() is not None, "answer of libvirtd")
        if cls.libvirtd.poll() is not None:
            raise AssertionError("libvirtd ended: " + read(log.name) +
                                 read(f"{cls.folder}/libvirtd.log"))

    @classmethod
    def start_program(cls, command, output):
        """Starts a program; it is ended after the tests."""
        program = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output,  # pylint: disable=consider-using-with
                                   stderr=subprocess.STDOUT)

        def end():
            program.terminate()
            try:
                program.wait(20)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()
        cls.addClassCleanup(end)
        return program

    def virsh(self, *arguments, status=0):
        found, output = call("virsh", "-c", "qemu:///system", *arguments)
        self.assertEqual(found, status, f"virsh {' '.join(arguments)}: {output}\n{self.logs()}")
        print(f"$ virsh {' '.join(arguments)}\n{output.strip()}", flush=True)
        return output.strip()

    def logs(self):
        return "\n".join(f"{path}:\n{read(path)}" for path in [
            f"{self.folder}/libvirtd.log", *glob.glob("/var/log/libvirt/qemu/*.log"),
            *glob.glob("/var/lib/libvirt/*.console"), *glob.glob(f"{self.folder}/mediator.*")])

    def start_mediator(self, name, *options):
        os.makedirs("/run/vgpu", exist_ok=True)
        with open(f"{self.folder}/mediator.{name}", "wb") as log:
            program = self.start_program([MEDIATOR, "--backend", "cpu", *options], log)
        wait_for(lambda: "ready" in read(log.name) or program.poll() is not None, "mediator")
        self.assertIsNone(program.poll(), read(log.name))
        return program

    def domain(self, name, commands):
        """Writes the kit's domain, with this guest instead of a disk and a network; returns its
        path. The vgpu device is the kit's own, unchanged."""
        kit = read(f"{KIT}/domain.xml")
        ET.register_namespace("qemu", QEMU_NAMESPACE)
        tree = ET.fromstring(kit)
        tree.set("type", "qemu")  # no KVM needed
        tree.find("name").text = name
        tree.find("memory").text = "192"
        tree.find("vcpu").text = "1"
        boot = tree.find("os")
        boot.remove(boot.find("boot"))
        for key, text in (("kernel", "/var/lib/libvirt/boot/vmlinuz"),
                          ("initrd", "/var/lib/libvirt/boot/initramfs"),
                          ("cmdline", f'console=ttyS0 quiet panic=-1 vgpu.run="{commands}"')):
            ET.SubElement(boot, key).text = text
        devices = tree.find("devices")
        devices.find("emulator").text = "/var/lib/libvirt/qemu-system-x86_64"
        for kind in ("disk", "interface", "serial", "console"):
            devices.remove(devices.find(kind))
        # The small QEMU of these tests has no USB and no memory balloon.
        ET.SubElement(devices, "controller", type="usb", model="none")
        ET.SubElement(devices, "memballoon", model="none")
        serial = ET.SubElement(devices, "serial", type="file")
        ET.SubElement(serial, "source", path=f"/var/lib/libvirt/{name}.console")
        line = tree.find(f"{{{QEMU_NAMESPACE}}}commandline")
        self.assertIn("vgpu-stub,socket=/run/vgpu/mediator.sock", ET.tostring(line).decode())
        for value in ("-L", "/var/lib/libvirt/data"):
            ET.SubElement(line, f"{{{QEMU_NAMESPACE}}}arg", value=value)
        path = f"{self.folder}/{name}.xml"
        ET.ElementTree(tree).write(path)
        return path

    def start_domain(self, name, commands):
        self.virsh("define", self.domain(name, commands))
        self.virsh("start", name)
        return lambda text: wait_for(
            lambda: re.search(text, read(f"/var/lib/libvirt/{name}.console"), re.MULTILINE),
            f"'{text}' of the guest").group(0)

    def pid_of(self, name):
        return int(read(f"/run/libvirt/qemu/{name}.pid"))

    def wait_shut_off(self, name):
        wait_for(lambda: "shut off" in call("virsh", "-c", "qemu:///system", "domstate", name)[1],
                 f"end of {name}; {self.logs()}")

    def test_the_kits_domain_computes_and_shuts_down(self):
        mediator = self.start_mediator("log")
        after = BUTTON if self.has_button else "sleep 600"
        console = self.start_domain("vgpu-guest",
                                    f"vgpu info; vgpu add 100 200; {after}")
        self.assertEqual(console(r"^100 \+ 200 = \d+$"), "100 + 200 = 300")
        # The fast path, too: the device passed its memory from within libvirt's confinement.
        self.assertIn("served by the mediator", console(r"^shared memory .*$"))
        print(read("/var/lib/libvirt/vgpu-guest.console"), flush=True)

        status = read(f"/proc/{self.pid_of('vgpu-guest')}/status")
        uid, groups = (re.search(rf"^{key}:\s*(.*)$", status, re.MULTILINE).group(1).split()
                       for key in ("Uid", "Groups"))
        print("QEMU: uid", uid[0], "groups", *groups, "-",
              re.search(r"^Seccomp:.*$", status, re.MULTILINE).group(0), "-",
              re.search(r"^CapEff:.*$", status, re.MULTILINE).group(0))
        self.assertEqual(set(uid), {str(self.user.pw_uid)})
        self.assertIn(str(grp.getgrnam("vgpu").gr_gid), groups)
        # Which security driver was active: "none", or one whose lines were needed as well.
        models = re.findall(r"<secmodel>\s*<model>(\w+)</model>",
                            call("virsh", "-c", "qemu:///system", "capabilities")[1])
        print("security models of libvirtd:", *models)

        if self.has_button:
            console(r"^waiting for event")
            self.virsh("shutdown", "vgpu-guest")
            console(r"^button pressed$")
            self.wait_shut_off("vgpu-guest")
        else:
            print("the guest has no modules of the power button: build it with guest/build")
            self.virsh("destroy", "vgpu-guest")
        self.virsh("undefine", "vgpu-guest")
        mediator.terminate()
        self.assertEqual(mediator.wait(20), 0)

    def test_a_socket_that_libvirts_user_may_not_use(self):
        with open(f"{self.folder}/closed.toml", "w", encoding="utf-8") as file:
            file.write('[mediator]\nsocket_group = ""\nsocket_mode = "0600"\n')
        mediator = self.start_mediator("closed", "--config", file.name)
        console = self.start_domain("vgpu-closed", "vgpu add 100 200")
        self.assertEqual(console(r"^vgpu-guest: exit status \d+$"), "vgpu-guest: exit status 1")
        self.wait_shut_off("vgpu-closed")
        self.assertIn("cannot connect to the mediator at /run/vgpu/mediator.sock: Permission denied",
                      read("/var/log/libvirt/qemu/vgpu-closed.log"))
        self.virsh("undefine", "vgpu-closed")
        mediator.terminate()
        self.assertEqual(mediator.wait(20), 0)

    def test_the_apparmor_rules_compile_in_libvirts_profiles(self):
        base = "/etc/apparmor.d"
        if not shutil.which("apparmor_parser") or not os.path.exists(
                f"{base}/abstractions/libvirt-qemu"):
            self.leave("apparmor_parser or libvirt's AppArmor profiles are not installed")
        os.makedirs(f"{base}/local/abstractions", exist_ok=True)
        with open(f"{base}/local/abstractions/libvirt-qemu", "a", encoding="utf-8") as file:
            file.write(read(f"{KIT}/apparmor-libvirt-qemu"))
        with open(f"{base}/local/usr.sbin.libvirtd", "a", encoding="utf-8") as file:
            file.write("/usr/local/bin/qemu-system-x86_64 PUx,\n")
        profile = f"{self.folder}/profile"
        with open(profile, "w", encoding="utf-8") as file:
            file.write("#include <tunables/global>\nprofile libvirt-vm {\n"
                       "  #include <abstractions/libvirt-qemu>\n}\n")
        for path in (profile, f"{base}/usr.sbin.libvirtd"):
            status, output = call("apparmor_parser", "--skip-kernel-load", "--skip-cache", path)
            self.assertEqual(status, 0, output)
        self.assertIn("/run/vgpu/mediator.sock rw,",
                      call("apparmor_parser", "--preprocess", "--skip-kernel-load", profile)[1])

    def test_the_selinux_module_compiles(self):
        if not shutil.which("checkmodule") or not shutil.which("semodule_package"):
            self.leave("checkmodule or semodule_package is not installed")
        module = f"{self.folder}/vgpu"
        for command in (["checkmodule", "-M", "-m", "-o", f"{module}.mod", f"{KIT}/vgpu.te"],
                        ["semodule_package", "-o", f"{module}.pp", "-m", f"{module}.mod", "-f",
                         f"{KIT}/vgpu.fc"]):
            status, output = call(*command)
            self.assertEqual(status, 0, output)

    def leave(self, reason):
        print(f"SKIPPED {self.id()}: {reason}", flush=True)
        self.skipTest(reason)


def run_as_init():
    """Runs the tests in a child and reaps processes until it ends: a QEMU that libvirt has started
    becomes a child of the namespace's first process, and libvirt waits until its PID is free."""
    tests = os.fork()
    if tests == 0:
        unittest.main()
    while True:
        pid, status = os.wait()
        if pid == tests:
            return os.waitstatus_to_exitcode(status)


def main():
    if INSIDE in os.environ:
        return run_as_init()
    reason = reason_to_skip()
    if reason:
        print(f"SKIPPED: {reason}")
        return SKIPPED
    with tempfile.TemporaryDirectory(prefix="vgpu-libvirt-") as folder:
        return subprocess.run([*NAMESPACES, sys.executable, os.path.abspath(__file__), *sys.argv[1:]],
                              env={**os.environ, INSIDE: folder}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
