// SPDX-License-Identifier: MIT
#include "qtest/machine.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <system_error>

#include "support/unix_socket.h"

namespace vgpu::test {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kAnswerLimit = std::chrono::seconds(15);

constexpr std::uint16_t kPciConfigAddress = 0xCF8;
constexpr std::uint16_t kPciConfigData = 0xCFC;

std::string hex(std::uint64_t value) {
    std::ostringstream text;
    text << "0x" << std::hex << value;
    return text.str();
}

char size_letter(unsigned size) {
    switch (size) {
        case 1:
            return 'b';
        case 2:
            return 'w';
        case 4:
            return 'l';
        case 8:
            return 'q';
        default:
            throw std::invalid_argument("an access is 1, 2, 4 or 8 bytes wide");
    }
}

}  // namespace

std::string why_no_qemu() {
    const std::string path = VGPU_QEMU;
    if (path.empty()) {
        return "no QEMU with the device: configure with -DVGPU_QEMU=…/qemu-system-x86_64 "
               "(scripts/build-qemu makes one)";
    }
    return {};
}

std::vector<std::string> qemu_command(const TempDir& dir, const std::string& machine,
                                      const std::vector<std::string>& extra,
                                      const std::string& accelerator) {
    if (!std::filesystem::exists(VGPU_QEMU)) {
        throw std::runtime_error(std::string(VGPU_QEMU) +
                                 " does not exist: build it with scripts/build-qemu");
    }
    // No instruction is ever executed, but QEMU requires an image of a valid firmware size.
    const std::string firmware = dir.file("firmware");
    std::ofstream(firmware) << std::string(65536, '\0');
    std::vector<std::string> command{
        VGPU_QEMU,     "-machine", machine, "-accel",     accelerator, "-display", "none",
        "-nodefaults", "-m",       "32",    "-qtest-log", "/dev/null", "-bios",    firmware};
    command.insert(command.end(), extra.begin(), extra.end());
    return command;
}

bool Machine::Lines::read(std::string& line, Clock::time_point deadline) {
    for (;;) {
        if (const auto end = buffer.find('\n'); end != std::string::npos) {
            line = buffer.substr(0, end);
            buffer.erase(0, end + 1);
            if (!line.empty() && line.back() == '\r') {
                line.pop_back();
            }
            return true;
        }
        if (!wait_readable(fd.get(), deadline)) {
            return false;
        }
        std::array<char, 4096> bytes{};
        const ssize_t got = ::read(fd.get(), bytes.data(), bytes.size());
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return false;
        }
        buffer.append(bytes.data(), static_cast<std::size_t>(got));
    }
}

bool Machine::Lines::write(const std::string& text) const {
    std::size_t done = 0;
    while (done < text.size()) {
        const ssize_t sent = ::send(fd.get(), text.data() + done, text.size() - done, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) {
            continue;
        }
        if (sent <= 0) {
            return false;
        }
        done += static_cast<std::size_t>(sent);
    }
    return true;
}

Machine::Machine(const std::vector<std::string>& extra, const std::string& machine,
                 const std::string& accelerator) {
    const std::string qtest_path = dir_.file("qtest");
    const std::string qmp_path = dir_.file("qmp");
    const Fd qtest_listener = listen_unix(qtest_path, 1);
    const Fd qmp_listener = listen_unix(qmp_path, 1);
    auto command = qemu_command(dir_, machine, extra, accelerator);
    command.insert(command.end(),
                   {"-qtest", "unix:" + qtest_path, "-chardev", "socket,id=qmp,path=" + qmp_path,
                    "-mon", "chardev=qmp,mode=control"});
    process_ = std::make_unique<Process>(command);

    const auto accept = [this](const Fd& listener) {
        const auto deadline = Clock::now() + kAnswerLimit;
        // Polls in short intervals to detect early QEMU exit.
        while (!wait_readable(listener.get(), Clock::now() + std::chrono::milliseconds(50))) {
            if (process_->wait(std::chrono::milliseconds(0)) || Clock::now() > deadline) {
                fail("QEMU did not start");
            }
        }
        return Fd(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    };
    qmp_.fd = accept(qmp_listener);
    qtest_.fd = accept(qtest_listener);
    std::string greeting;
    if (!qmp_.read(greeting, Clock::now() + kAnswerLimit)) {
        fail("QEMU's monitor did not greet");
    }
    if (!qmp("qmp_capabilities").contains("return")) {
        fail("QEMU's monitor refused to talk");
    }
}

void Machine::fail(const std::string& what) {
    throw std::runtime_error(what + "; its output: " + process_->output());
}

bool Machine::take_interrupt(const std::string& line) {
    std::istringstream words(line);
    std::string irq;
    std::string verb;
    int number = 0;
    words >> irq >> verb >> number;
    if (irq != "IRQ") {
        return false;
    }
    lines_[number] = verb == "raise";
    return true;
}

bool Machine::any_raised() const {
    return std::any_of(lines_.begin(), lines_.end(), [](const auto& line) { return line.second; });
}

std::string Machine::command(const std::string& text) {
    if (!qtest_.write(text + "\n")) {
        fail("QEMU is gone");
    }
    const auto deadline = Clock::now() + kAnswerLimit;
    std::string line;
    do {
        if (!qtest_.read(line, deadline)) {
            fail("QEMU did not answer '" + text + "'");
        }
    } while (take_interrupt(line));
    if (line.rfind("OK", 0) != 0) {
        fail("QEMU answered '" + text + "' with '" + line + "'");
    }
    return line.size() > 3 ? line.substr(3) : std::string();
}

std::uint64_t Machine::read(std::uint64_t address, unsigned size) {
    return std::stoull(command(std::string("read") + size_letter(size) + " " + hex(address)),
                       nullptr, 0);
}

void Machine::write(std::uint64_t address, unsigned size, std::uint64_t value) {
    command(std::string("write") + size_letter(size) + " " + hex(address) + " " + hex(value));
}

void Machine::write_block(std::uint64_t address, std::span<const std::uint8_t> bytes) {
    static constexpr std::string_view kDigits = "0123456789abcdef";
    std::string text = "write " + hex(address) + " " + hex(bytes.size()) + " 0x";
    for (const std::uint8_t byte : bytes) {
        text += kDigits[byte >> 4];
        text += kDigits[byte & 15];
    }
    command(text);
}

std::vector<std::uint8_t> Machine::read_block(std::uint64_t address, std::size_t size) {
    const std::string text = command("read " + hex(address) + " " + hex(size));
    std::vector<std::uint8_t> bytes;
    for (std::size_t i = 2; i + 1 < text.size(); i += 2) {
        bytes.push_back(static_cast<std::uint8_t>(std::stoul(text.substr(i, 2), nullptr, 16)));
    }
    return bytes;
}

std::uint32_t Machine::in(std::uint16_t port, unsigned size) {
    return static_cast<std::uint32_t>(
        std::stoul(command(std::string("in") + size_letter(size) + " " + hex(port)), nullptr, 0));
}

void Machine::out(std::uint16_t port, unsigned size, std::uint32_t value) {
    command(std::string("out") + size_letter(size) + " " + hex(port) + " " + hex(value));
}

std::uint32_t Machine::config_read(unsigned slot, unsigned offset, unsigned size) {
    out(kPciConfigAddress, 4, 0x80000000U | slot << 11 | (offset & ~3U));
    return in(static_cast<std::uint16_t>(kPciConfigData + offset % 4), size);
}

void Machine::config_write(unsigned slot, unsigned offset, unsigned size, std::uint32_t value) {
    out(kPciConfigAddress, 4, 0x80000000U | slot << 11 | (offset & ~3U));
    out(static_cast<std::uint16_t>(kPciConfigData + offset % 4), size, value);
}

void Machine::clock_step(std::chrono::nanoseconds by) {
    command("clock_step " + std::to_string(by.count()));
}

void Machine::intercept_interrupts() {
    command("irq_intercept_in ioapic");
}

bool Machine::wait_interrupt(bool level, std::chrono::milliseconds limit) {
    const auto deadline = Clock::now() + limit;
    while (interrupt_raised() != level) {
        std::string line;
        if (!qtest_.read(line, deadline)) {
            return false;
        }
        take_interrupt(line);
    }
    return true;
}

bool Machine::interrupt_raised() {
    command("endianness");  // any command: reports come before its reply
    return any_raised();
}

nlohmann::json Machine::qmp(const std::string& command, const nlohmann::json& arguments) {
    const nlohmann::json request{{"execute", command}, {"arguments", arguments}};
    if (!qmp_.write(request.dump() + "\n")) {
        fail("QEMU is gone");
    }
    const auto deadline = Clock::now() + kAnswerLimit;
    std::string line;
    while (qmp_.read(line, deadline)) {
        auto reply = nlohmann::json::parse(line);
        if (!reply.contains("event")) {
            return reply;
        }
        events_.push_back(std::move(reply));
    }
    fail("QEMU's monitor did not answer '" + command + "'");
}

bool Machine::wait_event(const std::string& name, std::chrono::milliseconds limit) {
    const auto deadline = Clock::now() + limit;
    for (;;) {
        const auto found = std::find_if(events_.begin(), events_.end(),
                                        [&](const auto& event) { return event["event"] == name; });
        if (found != events_.end()) {
            events_.erase(found);
            return true;
        }
        std::string line;
        if (!qmp_.read(line, deadline)) {
            return false;
        }
        events_.push_back(nlohmann::json::parse(line));
    }
}

}  // namespace vgpu::test
