// SPDX-License-Identifier: MIT
//
// Fleet: several guests on one mediator (CPU backend), in pools A and B with three priorities, for
// the multi-VM test and the soak. The mediator's pools are strict, without aging, on a device with
// one slot, as OrderCheck requires. Not thread-safe.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/process.h"
#include "support/temp_dir.h"
#include "vm/vm.h"

namespace vgpu::test {

// A VM of the fleet. Its VM id is its index in the fleet plus 1.
struct Member {
    char pool;
    const char* priority;
};
inline constexpr std::array<Member, 7> kSeven{{{'A', "high"},
                                               {'A', "medium"},
                                               {'A', "low"},
                                               {'B', "high"},
                                               {'B', "medium"},
                                               {'B', "low"},
                                               {'A', "low"}}};

// Results of `vgpu stress` for one path and operation, summed over its runs.
struct PathFigures {
    std::uint64_t done = 0;
    std::uint64_t wrong = 0;
    std::map<std::string, std::uint64_t> errors;  // by error name
    double p50_us = 0;                            // maximum over the runs
    double p99_us = 0;                            // maximum over the runs
    double max_us = 0;
    double open_us = 0;  // maximum time to take a queue
    std::string first_wrong;
};
// Keys: "registers", "queue" and "matmul".
using VmFigures = std::map<std::string, PathFigures>;

class Fleet {
  public:
    // Returns why a fleet cannot run here, or an empty string.
    static std::string missing() { return Vm::missing(Vm::kTestPrograms); }

    explicit Fleet(std::vector<Member> members);

    // Both throw std::runtime_error on failure.
    void start_mediator();
    void kill_mediator();
    [[nodiscard]] Process& mediator() { return *mediator_; }
    [[nodiscard]] std::string admin_socket() const { return dir_.file("admin.sock"); }

    [[nodiscard]] std::size_t size() const { return members_.size(); }
    [[nodiscard]] const Member& member(std::size_t index) const { return members_.at(index); }
    [[nodiscard]] Vm& vm(std::size_t index) { return *vms_.at(index); }

    // Boot all guests at once, or reboot one. Throw std::runtime_error.
    void boot_all();
    void boot(std::size_t index);
    // Kills a guest's QEMU.
    void stop(std::size_t index) { vms_.at(index).reset(); }

    // Adds a report of `vgpu stress --json`. Throws std::runtime_error if it is malformed.
    static void add_report(VmFigures& figures, const std::string& output);
    // Returns a table of all VMs, one line per path.
    [[nodiscard]] std::string table(const std::vector<VmFigures>& figures) const;

  private:
    void begin_boot(std::size_t index);
    void await_boot(std::size_t index);

    TempDir dir_;
    std::vector<Member> members_;
    std::unique_ptr<Process> mediator_;
    std::vector<std::unique_ptr<Vm>> vms_;
};

}  // namespace vgpu::test
