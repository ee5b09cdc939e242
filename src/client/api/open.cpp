// SPDX-License-Identifier: MIT
#include "client/api/open.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "client/core/api_support.h"
#include "client/core/register_transport.h"
#include "client/pci/mmio_window.h"
#include "client/pci/pci_port.h"
#include "client/pci/uio_interrupt.h"
#include "client/unix/socket_transport.h"

namespace vgpu::client {
namespace {

constexpr std::string_view kUnixPrefix = "unix:";
constexpr std::string_view kFilePrefix = "file:";
// Size of vgpu_options without the members for queues, the older ABI.
constexpr std::size_t kFirstOptionsSize = offsetof(vgpu_options, flags);
// A mediator attaches within milliseconds.
constexpr std::chrono::milliseconds kAttachTime{250};
constexpr std::uint32_t kQueueCapabilities = VGPU_CAP_DMA | VGPU_CAP_MULTI_REQUEST;

Failure bad_option(const char* what) {
    return {VGPU_E_ARGUMENT, what, 0};
}

Expected<WaitMode> wait_mode_of(int mode) {
    switch (mode) {
        case VGPU_WAIT_AUTO:
            return WaitMode::kAuto;
        case VGPU_WAIT_POLL:
            return WaitMode::kPoll;
        case VGPU_WAIT_INTERRUPT:
            return WaitMode::kInterrupt;
        default:
            return bad_option("wait_mode is not one of enum vgpu_wait_mode");
    }
}

Expected<UnixSettings> unix_settings_of(const vgpu_options& options, std::string path) {
    const bool letter = (options.pool >= 'A' && options.pool <= 'Z') ||
                        (options.pool >= 'a' && options.pool <= 'z');
    if (!letter) {
        return bad_option("pool is not an ASCII letter");
    }
    if (options.priority >= VGPU_PRIORITY_COUNT) {
        return bad_option("priority is not one of enum vgpu_priority");
    }
    UnixSettings made;
    made.path = std::move(path);
    made.vm_id = options.vm_id;
    made.pool = options.pool;
    made.priority = options.priority;
    made.shm_size = options.shm_size;
    made.queue_count = options.queue_count;
    made.hello_timeout = std::chrono::milliseconds(options.hello_timeout_ms);
    return made;
}

// Returns "integrity" or "confidentiality" if the kernel is locked down, as with Secure Boot; else
// empty. Format of the file: "none [integrity] confidentiality".
std::string lockdown_of(const Roots& roots) {
    std::ifstream file(roots.sysfs + "/kernel/security/lockdown");
    std::string word;
    while (file >> word) {
        if (word.size() > 2 && word.front() == '[' && word.back() == ']' && word != "[none]") {
            return word.substr(1, word.size() - 2);
        }
    }
    return {};
}

// Rewrites the message of VGPU_E_NO_PERMISSION if running as root, which it suggests, would not
// help. Returns other failures unchanged.
Failure explain_refusal(const Roots& roots, Failure failure) {
    if (failure.code != VGPU_E_NO_PERMISSION) {
        return failure;
    }
    // The message without the suggested remedy.
    const std::string what = failure.message.substr(0, failure.message.find(": "));
    const std::string mode = failure.sys_errno == EPERM ? lockdown_of(roots) : std::string();
    if (!mode.empty()) {
        failure.message = what + ": the kernel is locked down (" + mode +
                          "), usually because of Secure Boot, and denies every program, including "
                          "root's, access to PCI device memory: start the VM without Secure Boot, "
                          "or boot a kernel without lockdown";
    } else if (::geteuid() == 0) {
        failure.message =
            what +
            ", though this is root: a container, a security module or kernel lockdown (Secure "
            "Boot) denies it; run outside the container, or check the kernel log";
    }
    return failure;
}

// Locks the registers for this process and returns a transport for version 1 requests.
Expected<std::unique_ptr<Transport>> make_register_transport(const Roots& roots,
                                                             const PciDevice& found, WaitMode mode,
                                                             bool has_queues) {
    auto bar = open_bar(found, BarLock::kExclusive);
    if (!bar) {
        return bar.failure();
    }
    std::unique_ptr<InterruptSource> interrupt;
    if (mode != WaitMode::kPoll) {
        auto uio = UioInterrupt::create(
            roots, found, has_queues ? UioInterrupt::AtEnd::kLeave : UioInterrupt::AtEnd::kMask);
        if (uio) {
            interrupt = std::move(*uio);
        } else if (mode == WaitMode::kInterrupt) {
            return uio.failure();
        }
    }
    auto transport = RegisterTransport::create(std::make_unique<MmioWindow>(std::move(*bar)),
                                               std::move(interrupt), mode, system_clock());
    if (!transport) {
        return transport.failure();
    }
    return std::unique_ptr<Transport>(std::move(*transport));
}

// A device starts its handshake with the mediator only when it is enabled. Waits briefly for it, so
// that the first program that opens the device finds its queues.
void await_attached(RegisterWindow& window) {
    const auto deadline = std::chrono::steady_clock::now() + kAttachTime;
    while ((window.read32(VGPU_REG_SHM_STATE) & VGPU_SHM_ATTACHED) == 0 &&
           std::chrono::steady_clock::now() < deadline) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

Expected<std::unique_ptr<vgpu_device>> open_pci(const OpenSettings& settings) {
    const auto found = choose_device(settings.roots, settings.address);
    if (!found) {
        return found.failure();
    }
    auto device = std::make_unique<vgpu_device>();
    device->address = found->address;
    device->waiting = settings.waiting;
    // Shared with other processes: doorbells and the attachment state.
    auto bar = open_bar(*found, BarLock::kShared);
    if (!bar) {
        return explain_refusal(settings.roots, bar.failure());
    }
    const bool just_enabled = bar->just_enabled;
    auto window = std::make_shared<MmioWindow>(std::move(*bar));
    // Registers of an absent device read as all ones.
    const std::uint32_t version = window->read32(VGPU_REG_PROTOCOL_VER);
    const std::uint32_t capabilities = window->read32(VGPU_REG_CAPABILITIES);
    const bool has_queues = version >> 16 == VGPU_PROTOCOL_VERSION >> 16 &&
                            (capabilities & kQueueCapabilities) == kQueueCapabilities;
    device->make_transport = [roots = settings.roots, pci = *found, mode = settings.waiting.mode,
                              has_queues]() -> Expected<std::unique_ptr<Transport>> {
        auto made = make_register_transport(roots, pci, mode, has_queues);
        if (!made) {
            return explain_refusal(roots, made.failure());
        }
        return made;
    };
    if (!settings.for_queues || !has_queues) {
        if (const auto made = transport_of(*device); !made) {
            return made.failure();
        }
    }
    device->describe = [window](vgpu_properties& properties) {
        describe_registers(*window, properties);
    };
    device->has_interrupt = settings.waiting.mode != WaitMode::kPoll && !found->uio.empty();
    if (!has_queues) {
        device->why_no_queues =
            "the device has no shared memory: start the VM with -device vgpu-stub,shm-size=64M, or "
            "use requests instead of queues";
        return device;
    }
    auto port = PciPort::create(window, settings.roots, *found);
    if (port && just_enabled) {
        await_attached(*window);
    }
    if (port) {
        device->region = std::make_shared<Region>(std::move(*port), system_clock());
    } else if (settings.for_queues && port.failure().code != VGPU_E_NO_QUEUES) {
        return explain_refusal(settings.roots, port.failure());
    } else {
        device->why_no_queues = explain_refusal(settings.roots, port.failure()).message;
    }
    return device;
}

Expected<std::unique_ptr<vgpu_device>> open_unix(const OpenSettings& settings) {
    auto made = UnixLink::create(*settings.unix_socket);
    if (!made) {
        return made.failure();
    }
    const std::shared_ptr<UnixLink> link = *made;
    auto device = std::make_unique<vgpu_device>();
    device->address = std::string(kUnixPrefix) + link->settings().path;
    device->waiting = settings.waiting;
    device->transport = std::make_unique<SocketTransport>(link, settings.waiting.mode);
    device->has_interrupt = settings.waiting.mode != WaitMode::kPoll;
    device->describe = [link](vgpu_properties& properties) {
        properties.pool = link->settings().pool;
        properties.priority = link->settings().priority;
        properties.vm_id = link->settings().vm_id;
        properties.protocol_version = VGPU_PROTOCOL_VERSION;
        properties.capabilities = VGPU_CAP_BASIC_REQUEST | VGPU_CAP_INTERRUPT |
                                  (link->has_memory() ? kQueueCapabilities : 0);
    };
    if (link->has_memory()) {
        device->region = std::make_shared<Region>(std::make_unique<UnixPort>(link), system_clock());
    } else {
        device->why_no_queues = link->current()->why_no_queues;
    }
    return device;
}

Expected<std::unique_ptr<vgpu_device>> open_files(const OpenSettings& settings) {
    if (settings.waiting.mode == WaitMode::kInterrupt) {
        return Failure{VGPU_E_NO_INTERRUPT, "files have no interrupt: wait by polling", 0};
    }
    auto transport = FileTransport::create(*settings.files);
    if (!transport) {
        return transport.failure();
    }
    auto device = std::make_unique<vgpu_device>();
    device->address = std::string(kFilePrefix) + settings.files->directory;
    device->waiting = settings.waiting;
    device->describe = [found = (*transport)->settings()](vgpu_properties& properties) {
        properties.pool = found.pool;
        properties.priority = found.priority;
        properties.vm_id = found.vm_id;
        properties.protocol_version = VGPU_PROTOCOL_VERSION;
        properties.capabilities = VGPU_CAP_BASIC_REQUEST;
    };
    device->transport = std::move(*transport);
    device->why_no_queues =
        "the file protocol has no queues: they need a vgpu device in the VM, or unix:PATH";
    return device;
}

}  // namespace

void describe_registers(RegisterWindow& window, vgpu_properties& properties) {
    properties.pool = static_cast<char>(window.read32(VGPU_REG_POOL_ID) & 0x7F);
    properties.priority = window.read32(VGPU_REG_PRIORITY);
    properties.vm_id = window.read32(VGPU_REG_VM_ID);
    properties.protocol_version = window.read32(VGPU_REG_PROTOCOL_VER);
    properties.capabilities = window.read32(VGPU_REG_CAPABILITIES);
}

Expected<OpenSettings> settings_of(const vgpu_options* given) {
    vgpu_options options = VGPU_OPTIONS_INIT;
    if (given != nullptr) {
        if (given->struct_size != kFirstOptionsSize && given->struct_size != sizeof options) {
            return bad_option(
                "struct_size is wrong: initialize the structure with VGPU_OPTIONS_INIT");
        }
        std::memcpy(&options, given, given->struct_size);
    }
    if ((options.flags & ~VGPU_OPEN_QUEUES) != 0) {
        return bad_option("flags has an unknown bit");
    }
    OpenSettings settings;
    const auto mode = wait_mode_of(options.wait_mode);
    if (!mode) {
        return mode.failure();
    }
    settings.waiting = {*mode, options.spin_us == VGPU_SPIN_ALWAYS
                                   ? kNever
                                   : std::chrono::microseconds(options.spin_us)};
    settings.for_queues = (options.flags & VGPU_OPEN_QUEUES) != 0;
    if (options.sysfs_root != nullptr) {
        settings.roots.sysfs = options.sysfs_root;
    }
    if (options.dev_root != nullptr) {
        settings.roots.dev = options.dev_root;
    }
    const std::string_view address = options.address != nullptr ? options.address : "";
    if (address.starts_with(kUnixPrefix)) {
        auto socket = unix_settings_of(options, std::string(address.substr(kUnixPrefix.size())));
        if (!socket) {
            return socket.failure();
        }
        settings.unix_socket = std::move(*socket);
    } else if (address.starts_with(kFilePrefix)) {
        const auto valid = unix_settings_of(options, {});
        if (!valid) {
            return valid.failure();
        }
        settings.files = FileSettings{.directory = std::string(address.substr(kFilePrefix.size())),
                                      .vm_id = options.vm_id,
                                      .pool = options.pool,
                                      .priority = options.priority};
    } else {
        settings.address = address;
    }
    return settings;
}

Expected<std::unique_ptr<vgpu_device>> open_device(const OpenSettings& settings) {
    if (settings.files) {
        return open_files(settings);
    }
    return settings.unix_socket ? open_unix(settings) : open_pci(settings);
}

Expected<Transport*> transport_of(vgpu_device& device) {
    if (device.transport == nullptr) {
        auto made = device.make_transport();
        if (!made) {
            return made.failure();
        }
        device.transport = std::move(*made);
    }
    return device.transport.get();
}

}  // namespace vgpu::client
