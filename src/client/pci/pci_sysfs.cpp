// SPDX-License-Identifier: MIT
#include "client/pci/pci_sysfs.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <system_error>
#include <utility>

#include "client/include/vgpu.h"

namespace vgpu::client {
namespace {

namespace fs = std::filesystem;

std::string errno_text(int error) {
    return std::generic_category().message(error);
}

// Reads the number in a sysfs attribute ("0x1af4\n").
std::optional<std::uint32_t> read_hex(const std::string& path) {
    std::ifstream file(path);
    std::string text;
    if (!(file >> text) || !text.starts_with("0x")) {
        return std::nullopt;
    }
    std::uint32_t value = 0;
    const auto [end, error] =
        std::from_chars(text.data() + 2, text.data() + text.size(), value, 16);
    if (error != std::errc{} || end != text.data() + text.size()) {
        return std::nullopt;
    }
    return value;
}

bool is_vgpu(const std::string& folder) {
    // `class` is 24 bits wide: class, subclass, programming interface.
    const auto pci_class = read_hex(folder + "/class");
    return read_hex(folder + "/vendor") == VGPU_PCI_VENDOR_ID &&
           read_hex(folder + "/device") == VGPU_PCI_DEVICE_ID && pci_class &&
           *pci_class >> 8 == VGPU_PCI_CLASS && read_hex(folder + "/revision") == VGPU_PCI_REVISION;
}

// Returns the uio device of this PCI device, or empty.
std::string uio_of(const std::string& folder) {
    std::error_code error;
    for (fs::directory_iterator it(folder + "/uio", error), end; !error && it != end;
         it.increment(error)) {
        std::string name = it->path().filename();
        if (name.starts_with("uio")) {
            return name;
        }
    }
    return {};
}

// Returns the process that holds the lock on this file according to /proc/locks, or nullopt.
std::optional<long> lock_holder(int fd) {
    struct stat info {};
    if (::fstat(fd, &info) != 0) {
        return std::nullopt;
    }
    std::array<char, 64> file_id{};
    // The kernel's format: device numbers in hex, the inode in decimal.
    (void)std::snprintf(file_id.data(), file_id.size(), "%02x:%02x:%lu", major(info.st_dev),
                        minor(info.st_dev), static_cast<unsigned long>(info.st_ino));
    std::ifstream locks("/proc/locks");
    std::string line;
    while (std::getline(locks, line)) {
        std::istringstream words(line);
        std::string number;
        std::string kind;
        std::string advisory;
        std::string mode;
        std::string file;
        long pid = 0;
        if (words >> number >> kind >> advisory >> mode >> pid >> file && kind == "FLOCK" &&
            file == file_id.data() && pid > 0) {
            return pid;
        }
    }
    return std::nullopt;
}

Failure in_use(const PciDevice& device, int fd) {
    std::string who = "another process";
    if (const auto pid = lock_holder(fd)) {
        who = "process " + std::to_string(*pid);
        std::ifstream comm("/proc/" + std::to_string(*pid) + "/comm");
        std::string name;
        if (std::getline(comm, name)) {
            who += " (" + name + ")";
        }
    }
    return {VGPU_E_IN_USE,
            "the device " + device.address + " is in use by " + who +
                ": wait for it to exit, or use another device",
            EWOULDBLOCK};
}

Failure no_permission(const std::string& path, int error) {
    return {VGPU_E_NO_PERMISSION,
            "no permission on " + path + " (" + errno_text(error) +
                "): run as root, or give your user read and write access to this file",
            error};
}

Failure system_failure(const std::string& what, int error) {
    return {VGPU_E_SYSTEM, what + ": " + errno_text(error), error};
}

bool is_refusal(int error) {
    return error == EACCES || error == EPERM;
}

// Enables the device, which turns on memory decoding. Returns whether it was disabled.
Expected<bool> enable(const PciDevice& device) {
    const std::string path = device.folder + "/enable";
    int enabled = 0;
    if (!(std::ifstream(path) >> enabled)) {
        return system_failure("cannot read " + path, EIO);
    }
    if (enabled != 0) {
        return false;
    }
    const Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!file || ::write(file.get(), "1", 1) != 1) {
        const int error = errno;
        if (is_refusal(error)) {
            return Failure{
                VGPU_E_NO_PERMISSION,
                "the device " + device.address +
                    " is disabled, and only root can enable it: run as root once, or write 1 to " +
                    path,
                error};
        }
        return system_failure("cannot write " + path, error);
    }
    return true;
}

// Returns whether the kernel assigned address space to BAR `bar`. Its line in `resource` has the
// first and last address and the flags, all 0 if unassigned.
bool is_assigned(const PciDevice& device, int bar) {
    constexpr std::uint64_t kUnset = 0x20000000;  // IORESOURCE_UNSET
    std::ifstream file(device.folder + "/resource");
    std::string line;
    for (int i = 0; i <= bar; ++i) {
        if (!std::getline(file, line)) {
            return true;  // unknown
        }
    }
    std::istringstream words(line);
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    std::uint64_t flags = 0;
    words >> std::hex >> first >> last >> flags;
    return words.fail() || (last > first && (flags & kUnset) == 0);
}

// Opens the file of a BAR and checks that it has at least `size` bytes.
Expected<Fd> open_resource(const std::string& path, std::uint64_t size) {
    Fd file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!file) {
        const int error = errno;
        return is_refusal(error) ? no_permission(path, error)
                                 : system_failure("cannot open " + path, error);
    }
    struct stat info {};
    if (::fstat(file.get(), &info) != 0 || static_cast<std::uint64_t>(info.st_size) < size) {
        return Failure{VGPU_E_SYSTEM,
                       path + " is smaller than the device's " + std::to_string(size) +
                           " bytes: update the host's QEMU",
                       0};
    }
    return file;
}

Expected<Bar> map_resource(const std::string& path, Fd file, std::uint64_t size) {
    auto mapping = Mapping::create(file.get(), size, PROT_READ | PROT_WRITE);
    if (!mapping) {
        const int error = mapping.error().sys_errno;
        return is_refusal(error) ? no_permission(path, error)
                                 : system_failure("cannot map " + path, error);
    }
    return Bar{std::move(file), std::move(*mapping)};
}

}  // namespace

Expected<std::vector<PciDevice>> find_devices(const Roots& roots) {
    const std::string bus = roots.sysfs + "/bus/pci/devices";
    std::vector<PciDevice> found;
    std::error_code error;
    fs::directory_iterator it(bus, error);
    if (error == std::errc::no_such_file_or_directory) {
        // A machine without PCI lacks only this directory; without sysfs the root is missing.
        if (fs::exists(roots.sysfs, error)) {
            return found;
        }
        return Failure{VGPU_E_SYSTEM, "there is no " + roots.sysfs + ": mount sysfs there", ENOENT};
    }
    for (const fs::directory_iterator end; !error && it != end; it.increment(error)) {
        std::string folder = it->path();
        if (is_vgpu(folder)) {
            std::string uio = uio_of(folder);
            found.push_back({it->path().filename(), std::move(folder), std::move(uio)});
        }
    }
    if (error) {
        return system_failure("cannot read " + bus, error.value());
    }
    std::sort(found.begin(), found.end(),
              [](const auto& a, const auto& b) { return a.address < b.address; });
    return found;
}

Expected<PciDevice> choose_device(const Roots& roots, const std::string& address) {
    auto devices = find_devices(roots);
    if (!devices) {
        return devices.failure();
    }
    if (address.empty() && !devices->empty()) {
        return devices->front();
    }
    for (const auto& device : *devices) {
        if (device.address == address || device.address == "0000:" + address) {
            return device;
        }
    }
    if (devices->empty()) {
        return Failure{VGPU_E_NO_DEVICE, vgpu_code_text(VGPU_E_NO_DEVICE), 0};
    }
    std::string message =
        "there is no vGPU device at PCI address " + address + "; this VM has one at";
    for (const auto& device : *devices) {
        message += " " + device.address;
    }
    return Failure{VGPU_E_NO_DEVICE, message, 0};
}

Expected<Bar> open_bar(const PciDevice& device, BarLock lock) {
    const std::string path = device.folder + "/resource0";
    auto file = open_resource(path, VGPU_BAR0_SIZE);
    if (!file) {
        return file.failure();
    }
    if (lock == BarLock::kExclusive && ::flock(file->get(), LOCK_EX | LOCK_NB) != 0) {
        const int error = errno;
        return error == EWOULDBLOCK ? in_use(device, file->get())
                                    : system_failure("cannot lock " + path, error);
    }
    const auto enabled = enable(device);
    if (!enabled) {
        return enabled.failure();
    }
    auto bar = map_resource(path, std::move(*file), VGPU_BAR0_SIZE);
    if (bar) {
        bar->just_enabled = *enabled;
    }
    return bar;
}

Expected<Bar> open_shared_memory(const PciDevice& device, std::uint64_t size) {
    if (!is_assigned(device, 2)) {
        const std::uint64_t mib = size >> 20;
        return Failure{
            VGPU_E_NO_QUEUES,
            "the guest kernel assigned no address space to the device's " + std::to_string(mib) +
                " MiB of shared memory (BAR 2 of " + device.address +
                "): on the host, reserve some in the port that it is plugged into with -device "
                "pcie-root-port,pref64-reserve=" +
                std::to_string(2 * mib) +
                "M, or give the device a smaller shm-size; requests work without shared memory",
            0};
    }
    const std::string path = device.folder + "/resource2";
    auto file = open_resource(path, size);
    if (!file) {
        return file.failure();
    }
    return map_resource(path, std::move(*file), size);
}

}  // namespace vgpu::client
