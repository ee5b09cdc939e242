// SPDX-License-Identifier: MIT
#include "vm/vm.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include "support/unix_socket.h"

namespace vgpu::test {
namespace {

const std::string kQemu = VGPU_QEMU;
const std::string kQemuData = VGPU_QEMU_DATA;
const std::string kGuest = VGPU_GUEST_DIR;

// Returns kvm or tcg; guest/accel caches its result next to the guest.
std::string accelerator() {
    auto [status, output] =
        run_program({VGPU_ACCEL_SCRIPT, kQemu, kQemuData, kGuest}, std::chrono::seconds(60));
    if (status != 0) {
        throw std::runtime_error("guest/accel failed: " + output);
    }
    output.erase(std::remove(output.begin(), output.end(), '\n'), output.end());
    return output;
}

std::string make_token() {
    std::random_device random;
    std::ostringstream text;
    text << std::hex << random() << random();
    return text.str();
}

}  // namespace

std::string Vm::missing(const std::string& initramfs) {
    const std::array<std::pair<const char*, std::string>, 3> needed{
        {{"VGPU_QEMU", kQemu},
         {"VGPU_QEMU_DATA", kQemuData.empty() ? "" : kQemuData + "/bios-256k.bin"},
         {"VGPU_GUEST_DIR", kGuest.empty() ? "" : kGuest + "/" + initramfs}}};
    for (const auto& [name, file] : needed) {
        if (file.empty()) {
            return std::string(name) + " is not set: run make test, which builds QEMU and a guest";
        }
        if (!std::filesystem::exists(file)) {
            return "there is no " + file + ": run make test, which builds QEMU and a guest";
        }
    }
    return {};
}

Vm::Vm(const std::vector<std::string>& devices, const Options& options)
    : listener_(listen_unix(dir_.file("serial"), 1)) {
    std::vector<std::string> argv{kQemu,
                                  "-L",
                                  kQemuData,
                                  "-accel",
                                  accelerator(),
                                  "-nodefaults",
                                  "-no-user-config",
                                  "-display",
                                  "none",
                                  "-m",
                                  std::to_string(options.memory_mib),
                                  "-kernel",
                                  kGuest + "/vmlinuz",
                                  "-initrd",
                                  kGuest + "/" + options.initramfs,
                                  "-append",
                                  "console=ttyS0 quiet panic=-1",
                                  "-serial",
                                  "file:" + dir_.file("console"),
                                  "-chardev",
                                  "socket,id=commands,path=" + dir_.file("serial"),
                                  "-serial",
                                  "chardev:commands"};
    if (options.on_reset == OnReset::kEnds) {
        argv.emplace_back("-no-reboot");
    }
    for (const auto& device : devices) {
        argv.emplace_back("-device");
        argv.push_back(device);
    }
    qemu_ = std::make_unique<Process>(argv);
}

bool Vm::wait_ready(std::chrono::milliseconds limit) {
    const auto deadline = Clock::now() + limit;
    // A QEMU that rejects its arguments never connects.
    while (!serial_) {
        if (wait_readable(listener_.get(),
                          std::min(deadline, Clock::now() + std::chrono::seconds(1)))) {
            serial_.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        } else if (Clock::now() >= deadline || qemu_->wait(std::chrono::milliseconds(0))) {
            return false;
        }
    }
    return read_until("vgpu-guest ready", 0, deadline).has_value();
}

bool Vm::reset(std::chrono::milliseconds limit) {
    start("reboot -f");
    return wait_for_output("vgpu-guest ready", limit);
}

Vm::Result Vm::run(const std::string& command, std::chrono::milliseconds limit) {
    start(command);
    return finish(limit);
}

void Vm::start(const std::string& command) {
    token_ = make_token();
    received_.clear();
    output_begin_ = 0;
    const std::string line = token_ + " " + command + "\n";
    for (std::size_t sent = 0; sent < line.size();) {
        const ssize_t n =
            ::send(serial_.get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) {
            throw std::system_error(errno, std::generic_category(), "the guest's serial port");
        }
        sent += n > 0 ? static_cast<std::size_t>(n) : 0;
    }
}

bool Vm::wait_for_output(const std::string& text, std::chrono::milliseconds limit) {
    return read_until(text, 0, Clock::now() + limit).has_value();
}

Vm::Result Vm::finish(std::chrono::milliseconds limit) {
    const auto deadline = Clock::now() + limit;
    const std::string begin = "<<" + token_ + "\n";
    const std::string end = "\n>>" + token_ + " ";
    const auto output_at = read_until(begin, 0, deadline);
    const auto end_at = output_at ? read_until(end, *output_at, deadline) : std::nullopt;
    const auto line_end = end_at ? read_until("\n", *end_at + end.size(), deadline) : std::nullopt;
    if (!line_end) {
        return {-1, received_};
    }
    const std::size_t from = *output_at + begin.size();
    // Without output, the end mark directly follows the begin mark and shares its newline.
    const std::size_t length = *end_at > from ? *end_at - from : 0;
    return {static_cast<int>(std::strtol(received_.c_str() + *end_at + end.size(), nullptr, 10)),
            received_.substr(from, length)};
}

std::optional<std::size_t> Vm::read_until(const std::string& text, std::size_t from,
                                          Clock::time_point deadline) {
    for (;;) {
        const std::size_t at = received_.find(text, from);
        if (at != std::string::npos) {
            return at;
        }
        std::array<char, 4096> buffer{};
        if (!wait_readable(serial_.get(), deadline)) {
            return std::nullopt;
        }
        const ssize_t n = ::recv(serial_.get(), buffer.data(), buffer.size(), 0);
        if (n == 0 || (n < 0 && errno != EINTR)) {
            return std::nullopt;
        }
        received_.append(buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    }
}

std::string Vm::log() {
    std::ifstream console(dir_.file("console"));
    std::ostringstream text;
    text << console.rdbuf();
    return "console:\n" + text.str() + "\nQEMU:\n" + qemu_->output() + "\nserial:\n" + received_;
}

}  // namespace vgpu::test
