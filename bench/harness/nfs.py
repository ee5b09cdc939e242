# SPDX-License-Identifier: MIT
"""A real NFS server for the comparison: nfs-ganesha, which needs no kernel module on the host,
unpacked from Debian's packages by scripts/fetch-nfs-server."""

import os
import shutil
import socket
import subprocess
import tempfile

from harness.guest import Server, Skipped

# tmpfs, the fastest file system: the cost of a disk does not count against NFS.
FAST_PLACE = "/dev/shm"

# The server must not cache file state: the old system's mediator accesses the files locally. Only
# loopback clients may connect.
CONFIG = """
NFS_CORE_PARAM {{
    NFS_Port = {port};
    Bind_addr = 127.0.0.1;
    Protocols = 4;
    NFS_Protocols = 4;
    Enable_NLM = false;
    Enable_RQUOTA = false;
    Plugins_Dir = "{plugins}";
}}
NFSv4 {{ Graceless = true; RecoveryBackend = fs; Delegations = false; }}
NFS_KRB5 {{ Active_krb5 = false; }}
EXPORT_DEFAULTS {{ Access_Type = RW; Squash = No_Root_Squash; SecType = sys; }}
EXPORT {{
    Export_Id = 1;
    Path = {path};
    Pseudo = /vgpu;
    Filesystem_Id = 1.1;
    Attr_Expiration_Time = 0;
    FSAL {{ Name = VFS; }}
    CLIENT {{ Clients = 127.0.0.1; }}
}}
LOG {{ Default_Log_Level = EVENT; }}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def may_open_by_handle():
    """Whether this process has CAP_DAC_READ_SEARCH, in no user namespace of its own."""
    with open("/proc/self/status", encoding="utf-8") as status:
        capabilities = int(next(line.split()[1] for line in status
                                if line.startswith("CapEff:")), 16)
    with open("/proc/self/uid_map", encoding="utf-8") as uid_map:
        whole = uid_map.read().split() == ["0", "0", "4294967295"]
    return whole and capabilities >> 2 & 1 == 1


class NfsServer:
    """Exports a folder of its own, `path`, on `port` of the loopback interface, as /vgpu."""

    def __init__(self, build):
        self.tree = f"{build}/nfs"
        self.program = f"{self.tree}/usr/bin/ganesha.nfsd"
        if not os.path.isfile(self.program):
            raise Skipped(f"there is no {self.program}: scripts/fetch-nfs-server gets it")
        if os.geteuid() != 0 or not may_open_by_handle():
            raise Skipped("the NFS server opens files by handle, which root alone may: run as root")
        if subprocess.run(["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/run"],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                          check=False).returncode != 0:
            raise Skipped("the NFS server needs mounts of its own, which are not permitted here")
        self.env = dict(os.environ, LD_LIBRARY_PATH=f"{self.tree}/usr/lib/ganesha")
        missing = [line.split()[0] for line in
                   subprocess.run(["ldd", self.program], env=self.env, stdout=subprocess.PIPE,
                                  text=True, check=False).stdout.splitlines()
                   if "not found" in line]
        if missing:
            raise Skipped(f"the NFS server lacks {', '.join(missing)}: run scripts/setup test")

    def __enter__(self):
        place = FAST_PLACE if os.path.isdir(FAST_PLACE) else None
        self.folder = tempfile.mkdtemp(prefix="vgpu-nfs.", dir=place)
        try:
            self.path, self.port = f"{self.folder}/export", free_port()
            os.mkdir(self.path)
            plugins = f"{self.tree}/usr/lib/x86_64-linux-gnu/ganesha"
            with open(f"{self.folder}/nfs.conf", "w", encoding="utf-8") as file:
                file.write(CONFIG.format(port=self.port, plugins=plugins, path=self.path))
            # Private mounts for its state in /run and /var/lib, which disappear with it.
            command = ["unshare", "--mount", "sh", "-c",
                       "mount -t tmpfs none /run && mount -t tmpfs none /var/lib && mkdir -p /var/lib/nfs/ganesha/v4recov/node0 && exec \"$@\"",
                       "sh", self.program, "-F", "-L", "STDOUT", "-f", f"{self.folder}/nfs.conf",
                       "-p", f"{self.folder}/pid"]
            self.server = Server("the NFS server", command, "NFS SERVER INITIALIZED", env=self.env)
            self.server.__enter__()
        except Exception:
            shutil.rmtree(self.folder)
            raise
        return self

    def __exit__(self, *_):
        self.server.__exit__()
        shutil.rmtree(self.folder)
