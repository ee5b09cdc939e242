// SPDX-License-Identifier: MIT
#include "vm/fleet.h"

#include <algorithm>
#include <csignal>
#include <fstream>
#include <iomanip>
#include <sstream>
#include <stdexcept>
#include <utility>

namespace vgpu::test {
namespace {

using nlohmann::json;

// Room for the kernel, its unpacked initramfs, and the programs.
constexpr unsigned kGuestMemoryMib = 112;
// All guests boot at once and share the host's cores.
constexpr auto kBootLimit = std::chrono::seconds(120);

// The maximum number of queues in little memory: any VM of the fleet can be the attacker.
constexpr const char* kSharedMemory = ",shm-size=8M,queues=64";

}  // namespace

Fleet::Fleet(std::vector<Member> members) : members_(std::move(members)), vms_(members_.size()) {
    std::ofstream(dir_.file("mediator.toml"))
        << "[admin]\nsocket = \"" << admin_socket() << "\"\n"
        << "[[pool]]\nid = \"A\"\naging_ms = 0\n[[pool]]\nid = \"B\"\naging_ms = 0\n";
}

void Fleet::start_mediator() {
    mediator_ = std::make_unique<Process>(
        std::vector<std::string>{VGPU_MEDIATOR, "--backend", "cpu", "--config",
                                 dir_.file("mediator.toml"), "--socket", dir_.file("m.sock")});
    if (!mediator_->wait_for_output("ready")) {
        throw std::runtime_error("the mediator does not start: " + mediator_->output());
    }
}

void Fleet::kill_mediator() {
    mediator_->signal(SIGKILL);
    if (!mediator_->wait()) {
        throw std::runtime_error("the mediator does not end when it is killed");
    }
}

void Fleet::begin_boot(std::size_t index) {
    const Member& member = members_.at(index);
    vms_.at(index) = std::make_unique<Vm>(
        std::vector<std::string>{
            "vgpu-stub,socket=" + dir_.file("m.sock") + ",pool_id=" + std::string(1, member.pool) +
            ",priority=" + member.priority + ",vm_id=" + std::to_string(index + 1) + kSharedMemory},
        Vm::Options{.on_reset = Vm::OnReset::kBootsAgain,
                    .memory_mib = kGuestMemoryMib,
                    .initramfs = Vm::kTestPrograms});
}

void Fleet::await_boot(std::size_t index) {
    if (!vms_.at(index)->wait_ready(kBootLimit)) {
        throw std::runtime_error("VM " + std::to_string(index + 1) +
                                 " does not come up: " + vms_.at(index)->log());
    }
}

void Fleet::boot_all() {
    for (std::size_t index = 0; index != size(); ++index) {
        begin_boot(index);
    }
    for (std::size_t index = 0; index != size(); ++index) {
        await_boot(index);
    }
}

void Fleet::boot(std::size_t index) {
    begin_boot(index);
    await_boot(index);
}

void Fleet::add_report(VmFigures& figures, const std::string& output) {
    const json report = json::parse(output, nullptr, false);
    if (!report.is_object() || !report.contains("lines")) {
        throw std::runtime_error("vgpu stress did not report: " + output);
    }
    for (const json& line : report["lines"]) {
        const bool add = line["operation"] == "add";
        PathFigures& path =
            figures[add ? line["path"].get<std::string>() : line["operation"].get<std::string>()];
        path.done += line["n"].get<std::uint64_t>();
        path.wrong += line["wrong"].get<std::uint64_t>();
        for (const auto& [name, count] : line["errors"].items()) {
            path.errors[name] += count.get<std::uint64_t>();
        }
        path.p50_us = std::max(path.p50_us, line.value("p50_us", 0.0));
        path.p99_us = std::max(path.p99_us, line.value("p99_us", 0.0));
        path.max_us = std::max(path.max_us, line.value("max_us", 0.0));
        path.open_us = std::max(path.open_us, line.value("open_us", 0.0));
        if (path.first_wrong.empty()) {
            path.first_wrong = line.value("first_wrong", "");
        }
    }
}

std::string Fleet::table(const std::vector<VmFigures>& figures) const {
    std::ostringstream text;
    text << "VM pool priority  path            done  wrong     p50 ms     p99 ms     max ms  "
            "errors\n";
    for (std::size_t index = 0; index != figures.size(); ++index) {
        for (const auto& [name, path] : figures.at(index)) {
            const Member& member = members_.at(index);
            text << std::left << std::setw(3) << index + 1 << std::setw(5) << member.pool
                 << std::setw(10) << member.priority << std::setw(10) << name << std::right
                 << std::setw(10) << path.done << std::setw(7) << path.wrong << std::fixed
                 << std::setprecision(3);
            for (const double us : {path.p50_us, path.p99_us, path.max_us}) {
                text << std::setw(11) << us / 1e3;
            }
            text << "  ";
            for (const auto& [error, count] : path.errors) {
                text << count << " " << error << " ";
            }
            text << (path.errors.empty() ? "none\n" : "\n");
        }
    }
    return text.str();
}

}  // namespace vgpu::test
