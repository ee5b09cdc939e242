// SPDX-License-Identifier: MIT
//
// Machine: a real QEMU without a guest. Its vCPU never runs; the test makes every memory and port
// access itself over QEMU's qtest socket, moves the virtual clock by hand, and gives orders to QEMU
// over a QMP socket. What is tested is therefore the device in the binary that users run.
//
// One thread uses a Machine. Errors of the machine itself (it does not start, it does not answer)
// throw std::runtime_error with QEMU's output in the text.
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

// Why no QEMU can be run here; empty if one can. For GTEST_SKIP.
std::string why_no_qemu();

// The command line of a QEMU without guest and firmware: `machine` is q35 or pc, `extra` is added.
// `dir` gets a file that stands in for the firmware. With another accelerator than qtest the vCPU
// runs, unless -S is among the extra arguments.
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
    // A block, in whatever pieces QEMU chooses.
    void write_block(std::uint64_t address, std::span<const std::uint8_t> bytes);
    std::vector<std::uint8_t> read_block(std::uint64_t address, std::size_t size);

    // Port accesses of 1, 2 or 4 bytes.
    std::uint32_t in(std::uint16_t port, unsigned size);
    void out(std::uint16_t port, unsigned size, std::uint32_t value);

    // PCI configuration space of function 0 in `slot` of bus 0; offset + size within one dword.
    std::uint32_t config_read(unsigned slot, unsigned offset, unsigned size);
    void config_write(unsigned slot, unsigned offset, unsigned size, std::uint32_t value);

    // Moves the virtual clock on and runs the timers that are due.
    void clock_step(std::chrono::nanoseconds by);

    // From now on interrupt lines into the I/O APIC are reported instead of delivered.
    void intercept_interrupts();
    // True once some line is raised (`level`) or all are low (not `level`); false at the limit.
    bool wait_interrupt(bool level, std::chrono::milliseconds limit = std::chrono::seconds(10));
    // True if some line is raised now, by all that QEMU has reported up to its answer to this.
    bool interrupt_raised();

    // A QMP command. The whole reply: has "return" or "error".
    nlohmann::json qmp(const std::string& command,
                       const nlohmann::json& arguments = nlohmann::json::object());
    // Waits for a QMP event of this name (those that came earlier count, each once).
    bool wait_event(const std::string& name,
                    std::chrono::milliseconds limit = std::chrono::seconds(10));

    Process& process() { return *process_; }

  private:
    // A socket on which QEMU talks in lines.
    struct Lines {
        Fd fd;
        std::string buffer;
        // False at the limit or at the end.
        bool read(std::string& line, std::chrono::steady_clock::time_point deadline);
        bool write(const std::string& text) const;
    };

    // Sends a qtest command; the words after OK.
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
