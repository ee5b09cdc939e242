// SPDX-License-Identifier: MIT
//
// Machine: a real QEMU without a guest. Its vCPU never runs; the test performs every memory and
// port access over QEMU's qtest socket, advances the virtual clock, and controls QEMU over QMP.
// Thus the device is tested in the binary that users run.
//
// Not thread-safe. Errors of the machine itself (it does not start or respond) throw
// std::runtime_error with QEMU's output in the text.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "support/process.h"
#include "support/temp_dir.h"

namespace vgpu::test {

// Returns why QEMU cannot be run here, or an empty string. For GTEST_SKIP.
std::string why_no_qemu();

// Returns the command line of a QEMU without guest and firmware: `machine` is q35 or pc, `extra` is
// appended. Creates a placeholder firmware file in `dir`. With an accelerator other than qtest the
// vCPU runs, unless `extra` contains -S.
std::vector<std::string> qemu_command(const TempDir& dir, const std::string& machine,
                                      const std::vector<std::string>& extra,
                                      const std::string& accelerator = "qtest");

class Machine {
  public:
    // Starts QEMU and waits until both its sockets are connected.
    explicit Machine(const std::vector<std::string>& extra, const std::string& machine = "q35",
                     const std::string& accelerator = "qtest");
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;
    // Kills QEMU.
    ~Machine() = default;

    // Memory accesses of 1, 2, 4 or 8 bytes, at any address.
    std::uint64_t read(std::uint64_t address, unsigned size);
    void write(std::uint64_t address, unsigned size, std::uint64_t value);
    // Block accesses, in whatever pieces QEMU chooses.
    void write_block(std::uint64_t address, std::span<const std::uint8_t> bytes);
    std::vector<std::uint8_t> read_block(std::uint64_t address, std::size_t size);

    // Port accesses of 1, 2 or 4 bytes.
    std::uint32_t in(std::uint16_t port, unsigned size);
    void out(std::uint16_t port, unsigned size, std::uint32_t value);

    // PCI configuration space of function 0 in `slot` of bus 0; offset + size within one dword.
    std::uint32_t config_read(unsigned slot, unsigned offset, unsigned size);
    void config_write(unsigned slot, unsigned offset, unsigned size, std::uint32_t value);

    // Advances the virtual clock and runs the timers that are due.
    void clock_step(std::chrono::nanoseconds by);

    // Reports interrupt lines into the I/O APIC instead of delivering them.
    void intercept_interrupts();
    // Waits until a line is raised (or, without `level`, all are low). Returns false on time-out.
    bool wait_interrupt(bool level, std::chrono::milliseconds limit = std::chrono::seconds(10));
    // Returns true if a line is raised, including all reports up to QEMU's reply to this.
    bool interrupt_raised();

    // Runs a QMP command. Returns the whole reply, with "return" or "error".
    nlohmann::json qmp(const std::string& command,
                       const nlohmann::json& arguments = nlohmann::json::object());
    // Waits for a QMP event of this name; each earlier event counts once.
    bool wait_event(const std::string& name,
                    std::chrono::milliseconds limit = std::chrono::seconds(10));

    Process& process() { return *process_; }

  private:
    // A line-based connection to QEMU.
    struct Lines {
        Fd fd;
        std::string buffer;
        // Returns false on time-out or at end of file.
        bool read(std::string& line, std::chrono::steady_clock::time_point deadline);
        bool write(const std::string& text) const;
    };

    // Sends a qtest command; returns the words after OK.
    std::string command(const std::string& text);
    bool take_interrupt(const std::string& line);
    [[nodiscard]] bool any_raised() const;
    [[noreturn]] void fail(const std::string& what);

    TempDir dir_;
    std::unique_ptr<Process> process_;
    Lines qtest_;
    Lines qmp_;
    std::map<int, bool> lines_;
    std::vector<nlohmann::json> events_;
};

}  // namespace vgpu::test
