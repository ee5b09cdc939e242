// SPDX-License-Identifier: MIT
#include "client/pci/uio_interrupt.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <system_error>

#include "client/include/vgpu.h"

namespace vgpu::client {
namespace {

constexpr off_t kCommandRegister = 0x04;
constexpr std::uint16_t kIntxDisable = 1U << 10;

Failure open_failure(const std::string& path, int error) {
    const std::string reason = std::generic_category().message(error);
    if (error == EACCES || error == EPERM) {
        return {VGPU_E_NO_PERMISSION,
                "no permission on " + path + " (" + reason +
                    "): interrupts need it; run as root, or use polling",
                error};
    }
    return {VGPU_E_SYSTEM, "cannot open " + path + ": " + reason, error};
}

}  // namespace

Expected<std::unique_ptr<UioInterrupt>> UioInterrupt::create(const Roots& roots,
                                                             const PciDevice& device,
                                                             AtEnd at_end) {
    if (device.uio.empty()) {
        return Failure{VGPU_E_NO_INTERRUPT, vgpu_code_text(VGPU_E_NO_INTERRUPT), 0};
    }
    const std::string uio_path = roots.dev + "/" + device.uio;
    Fd uio(::open(uio_path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
    if (!uio) {
        return open_failure(uio_path, errno);
    }
    const std::string config_path = device.folder + "/config";
    Fd config(::open(config_path.c_str(), O_RDWR | O_CLOEXEC));
    if (!config) {
        return open_failure(config_path, errno);
    }
    return std::unique_ptr<UioInterrupt>(
        new UioInterrupt(std::move(uio), std::move(config), at_end));
}

UioInterrupt::~UioInterrupt() {
    if (at_end_ == AtEnd::kMask) {
        (void)set_masked(true);
    }
}

bool UioInterrupt::set_masked(bool masked) const {
    std::uint16_t command = 0;
    if (::pread(config_.get(), &command, sizeof command, kCommandRegister) != sizeof command) {
        return false;
    }
    const auto wanted =
        static_cast<std::uint16_t>(masked ? command | kIntxDisable : command & ~kIntxDisable);
    return wanted == command ||
           ::pwrite(config_.get(), &wanted, sizeof wanted, kCommandRegister) == sizeof wanted;
}

Expected<void> UioInterrupt::arm() {
    if (!set_masked(false)) {
        const int error = errno;
        return Failure{VGPU_E_SYSTEM,
                       "cannot unmask the device's interrupt in its configuration space: " +
                           std::generic_category().message(error),
                       error};
    }
    return {};
}

Expected<bool> UioInterrupt::wait(Nanoseconds limit) {
    // Rounds up, so that a wait for less than a millisecond does not spin. Limited to one day; the
    // caller polls and waits again.
    constexpr auto kLongest =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::hours(24));
    const auto ms =
        limit >= kLongest ? kLongest : std::chrono::ceil<std::chrono::milliseconds>(limit);
    pollfd entry{.fd = uio_.get(), .events = POLLIN, .revents = 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(std::max<long>(ms.count(), 0)));
    if (ready < 0 && errno != EINTR) {
        const int error = errno;
        return Failure{VGPU_E_SYSTEM,
                       "cannot wait for the interrupt: " + std::generic_category().message(error),
                       error};
    }
    if (ready <= 0) {
        return false;
    }
    std::uint32_t count = 0;
    const ssize_t n = ::read(uio_.get(), &count, sizeof count);
    if (n == sizeof count) {
        return true;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    return Failure{VGPU_E_DEVICE_LOST, "the device was unbound from uio_pci_generic: reopen it",
                   n < 0 ? errno : 0};
}

}  // namespace vgpu::client
