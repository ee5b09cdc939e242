// SPDX-License-Identifier: MIT
//
// Fleet: several guests on one mediator (CPU backend), in pools A and B with three priorities, for
// the test of many VMs and for the soak. The mediator's pools are strict, without aging, on a
// device with one slot, which is what OrderCheck needs. Not to be shared between threads.
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

// A VM of the fleet. Its id is its place in the fleet, from 1 on.
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

// What `vgpu stress` reported of one path and operation, summed over its runs.
struct PathFigures {
    std::uint64_t done = 0;
    std::uint64_t wrong = 0;
    std::map<std::string, std::uint64_t> errors;  // by their names
    double p50_us = 0;                            // the greatest of the runs
    double p99_us = 0;                            // the greatest of the runs
    double max_us = 0;
    double open_us = 0;  // the longest that taking a queue took
    std::string first_wrong;
};
// By "registers", "queue" and "matmul".
using VmFigures = std::map<std::string, PathFigures>;

class Fleet {
  public:
    // Why a fleet cannot run here, or empty.
    static std::string missing() { return Vm::missing(Vm::kTestPrograms); }

    explicit Fleet(std::vector<Member> members);

    // Both throw std::runtime_error if it fails.
    void start_mediator();
    void kill_mediator();
    [[nodiscard]] Process& mediator() { return *mediator_; }
    [[nodiscard]] std::string admin_socket() const { return dir_.file("admin.sock"); }

    [[nodiscard]] std::size_t size() const { return members_.size(); }
    [[nodiscard]] const Member& member(std::size_t index) const { return members_.at(index); }
    [[nodiscard]] Vm& vm(std::size_t index) { return *vms_.at(index); }

    // Boots all guests at once, or one of them again. Throws std::runtime_error.
    void boot_all();
    void boot(std::size_t index);
    // Ends a guest's QEMU.
    void stop(std::size_t index) { vms_.at(index).reset(); }

    // Adds the report of `vgpu stress --json`. Throws std::runtime_error if it is none.
    static void add_report(VmFigures& figures, const std::string& output);
    // A table of all VMs, one line for each path.
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
