// SPDX-License-Identifier: MIT
//
// vgpu-attacker: a hostile program, part of the test guest only. It maps the device's memory
// without libvgpu's locks and keeps every queue full of commands that the mediator completes
// immediately, or resets the queues continuously. It never waits for a reply.
//
//   vgpu-attacker KIND [QUEUES [SECONDS]]
//
// KIND: unknown (an invalid opcode), synchronize, reset, mixed (all three), or spin, which keeps
// the processor busy and does not use the device. Prints "attacking" at the start and the number of
// commands at the end. Exit status: 0 success, 1 failure, 2 wrong usage.
#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/number.h"
#include "base/program.h"
#include "client/include/vgpu.hpp"
#include "ring/layout.h"
#include "ring/producer.h"

namespace {

using Clock = std::chrono::steady_clock;

enum class Kind : std::uint8_t { kUnknown, kSynchronize, kReset, kMixed, kSpin };

constexpr std::uint32_t kUnknownOpcode = 0x7777;
constexpr std::uint32_t kSynchronizeOpcode = VGPU_OP_SYNCHRONIZE;
// Commands published per batch.
constexpr int kBatch = 16;
// Turns between two reads of the clock.
constexpr unsigned kTurns = 256;

std::optional<Kind> kind_named(const std::string& name) {
    const std::pair<const char*, Kind> kinds[] = {{"unknown", Kind::kUnknown},
                                                  {"synchronize", Kind::kSynchronize},
                                                  {"reset", Kind::kReset},
                                                  {"mixed", Kind::kMixed},
                                                  {"spin", Kind::kSpin}};
    for (const auto& [known, kind] : kinds) {
        if (name == known) {
            return kind;
        }
    }
    return std::nullopt;
}

// Maps a BAR of the device.
std::byte* map_bar(const std::string& folder, const char* bar, std::size_t size) {
    const std::string path = folder + "/" + bar;
    const vgpu::Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    void* const mapped =
        fd ? ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0) : MAP_FAILED;
    if (mapped == MAP_FAILED) {
        std::perror(path.c_str());
        std::exit(1);
    }
    return static_cast<std::byte*>(mapped);
}

class Attack {
  public:
    explicit Attack(const std::string& folder) : registers_(map_bar(folder, "resource0", 4096)) {
        const std::uint64_t size =
            read(VGPU_REG_SHM_SIZE_LO) | std::uint64_t{read(VGPU_REG_SHM_SIZE_HI)} << 32U;
        const auto layout = vgpu::ring::Layout::compute(size, read(VGPU_REG_QUEUE_COUNT));
        if (!layout) {
            std::cerr << "vgpu-attacker: the device has no queues\n";
            std::exit(1);
        }
        std::byte* const memory = map_bar(folder, "resource2", size);
        for (std::uint32_t queue = 0; queue != layout->queue_count; ++queue) {
            queues_.emplace_back(layout->queue(memory, queue));
            reset(queue);
        }
    }

    [[nodiscard]] std::uint32_t queue_count() const {
        return static_cast<std::uint32_t>(queues_.size());
    }
    [[nodiscard]] std::uint64_t commands() const { return commands_; }
    [[nodiscard]] std::uint64_t resets() const { return resets_; }

    void reset(std::uint32_t queue) {
        if (queues_[queue].request_reset()) {
            ring_doorbell(queue);
        }
        ++resets_;
    }

    // Pushes as many commands as fit, up to one batch. Resets a stopped queue.
    void fill(std::uint32_t queue, std::uint32_t opcode) {
        Producer& producer = queues_[queue];
        if (producer.reset_progress() == vgpu::ring::Reset::kPending) {
            return;
        }
        vgpu_record command{};
        command.opcode = opcode;
        int pushed = 0;
        auto result = vgpu::ring::Push::kDone;
        while (pushed != kBatch && (result = producer.push(command)) == vgpu::ring::Push::kDone) {
            ++pushed;
        }
        commands_ += static_cast<std::uint64_t>(pushed);
        if (pushed != 0 && producer.publish()) {
            ring_doorbell(queue);
        }
        if (producer.status().state == VGPU_QUEUE_STOPPED) {
            reset(queue);
        }
    }

  private:
    using Producer = vgpu::ring::Producer;

    [[nodiscard]] std::uint32_t read(std::size_t offset) const {
        return *reinterpret_cast<volatile std::uint32_t*>(registers_ + offset);
    }
    void ring_doorbell(std::uint32_t queue) {
        *reinterpret_cast<volatile std::uint32_t*>(registers_ + VGPU_REG_QUEUE_DOORBELL +
                                                   std::size_t{queue} * 4) = 1;
    }

    std::byte* registers_;
    std::vector<Producer> queues_;
    std::uint64_t commands_ = 0;
    std::uint64_t resets_ = 0;
};

// Runs one turn over the queues.
void attack_once(Attack& attack, Kind kind, std::uint32_t queues) {
    for (std::uint32_t queue = 0; queue != queues; ++queue) {
        const Kind now = kind != Kind::kMixed ? kind : static_cast<Kind>(queue % 3);
        if (now == Kind::kReset) {
            attack.reset(queue);
        } else {
            attack.fill(queue, now == Kind::kUnknown ? kUnknownOpcode : kSynchronizeOpcode);
        }
    }
}

int run(Kind kind, std::uint32_t queues, double seconds) {
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    if (kind == Kind::kSpin) {
        std::cout << "attacking" << std::endl;
        while (Clock::now() < end) {
        }
        return 0;
    }
    std::string folder;
    {
        // Finds and enables the device.
        vgpu::OpenOptions options;
        options.for_queues = true;
        auto device = vgpu::Device::open(options);
        if (!device) {
            std::cerr << "vgpu-attacker: " << device.failure().message << '\n';
            return 1;
        }
        folder = std::string("/sys/bus/pci/devices/") + device->properties().address;
    }
    Attack attack(folder);
    queues = std::min(queues, attack.queue_count());
    std::cout << "attacking" << std::endl;
    for (unsigned turn = 0; turn % kTurns != 0 || Clock::now() < end; ++turn) {
        attack_once(attack, kind, queues);
    }
    std::cout << attack.commands() << " commands, " << attack.resets() << " resets" << std::endl;
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const auto kind = argc > 1 ? kind_named(argv[1]) : std::nullopt;
    const auto queues = argc > 2 ? vgpu::parse_number(argv[2]) : 64;
    const auto seconds = argc > 3 ? vgpu::parse_fraction(argv[3]) : 10;
    if (!kind || argc > 4 || !queues || *queues == 0 || *queues > 64 || !seconds || *seconds <= 0) {
        std::cerr
            << "usage: vgpu-attacker unknown|synchronize|reset|mixed|spin [QUEUES [SECONDS]]\n";
        return 2;
    }
    return vgpu::program::run(
        "vgpu-attacker", [&] { return run(*kind, static_cast<std::uint32_t>(*queues), *seconds); });
}
