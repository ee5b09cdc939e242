// SPDX-License-Identifier: MIT
//
// Attacks by a single guest through the queues of its shared memory.
#include <fmt/format.h>
#include <poll.h>

#include <array>
#include <optional>
#include <stdexcept>
#include <string>

#include "attack.h"
#include "load_device.h"
#include "ring/producer.h"
#include "support/http_peer.h"
#include "support/memory_peer.h"

namespace vgpu::attack {
namespace {

using test::MemoryPeer;

constexpr std::uint32_t kQueues = VGPU_QUEUES_MAX;

// Attaches a VM with the maximum number of queues, all running.
MemoryPeer start_queues(const Attacker& attacker) {
    MemoryPeer peer({.size = std::uint64_t{8} << 20, .queues = kQueues, .vm_id = kAttackerVm});
    const auto reply = peer.attach(attacker.place.socket);
    if (!reply || reply->status != VGPU_HELLO_TAKEN) {
        throw std::runtime_error("the mediator did not take the shared memory");
    }
    for (std::uint32_t queue = 0; queue < kQueues; ++queue) {
        if (!peer.start(queue)) {
            throw std::runtime_error(fmt::format("queue {} did not start", queue));
        }
    }
    return peer;
}

// Keeps all rings full of commands without a reply.
[[noreturn]] void refill(const Attacker& attacker, MemoryPeer& peer, std::uint32_t opcode) {
    vgpu_record command{};
    command.opcode = opcode;
    for (;;) {
        for (std::uint32_t i = 0; i < kQueues; ++i) {
            ring::Producer& queue = peer.queue(i);
            std::uint64_t pushed = 0;
            auto last = queue.push(command);
            for (; last == ring::Push::kDone; last = queue.push(command)) {
                ++pushed;
            }
            if (last != ring::Push::kFull) {
                throw std::runtime_error(fmt::format("queue {} does not run any more", i));
            }
            if (queue.publish()) {
                peer.ring(i);
            }
            attacker.count(pushed);
        }
    }
}

void run_full_queues(Attacker& attacker, std::uint32_t opcode) {
    MemoryPeer peer = start_queues(attacker);
    attacker.ready();
    refill(attacker, peer, opcode);
}

void send_unknown(Attacker& attacker) {
    run_full_queues(attacker, 0xFFFF);
}

void synchronize(Attacker& attacker) {
    run_full_queues(attacker, VGPU_OP_SYNCHRONIZE);
}

void exceed_limit(Attacker& attacker) {
    run_full_queues(attacker, VGPU_OP_NOP);
}

void go_on_in_quarantine(Attacker& attacker) {
    MemoryPeer peer = start_queues(attacker);
    auto admin = test::HttpPeer::connect(attacker.place.admin_socket);
    const auto answer = admin.call("POST", fmt::format("/v1/vms/{}/quarantine", kAttackerVm),
                                   R"({"reason": "it attacks"})");
    if (answer.status != 200) {
        throw std::runtime_error(fmt::format("POST quarantine: HTTP status {}", answer.status));
    }
    attacker.ready();
    refill(attacker, peer, VGPU_OP_NOP);
}

void reset_queues(Attacker& attacker) {
    MemoryPeer peer = start_queues(attacker);
    attacker.ready();
    for (;;) {
        for (std::uint32_t i = 0; i < kQueues; ++i) {
            if (peer.queue(i).request_reset()) {
                peer.ring(i);
            }
        }
        attacker.count(kQueues);
    }
}

void ring_doorbells(Attacker& attacker) {
    const MemoryPeer peer = start_queues(attacker);
    attacker.ready();
    for (;;) {
        for (std::uint32_t i = 0; i < kQueues; ++i) {
            peer.ring(i);
        }
        attacker.count(kQueues);
    }
}

// Rows without columns require no data.
void multiply_nothing(Attacker& attacker) {
    constexpr std::uint32_t kRows = UINT32_MAX;
    MemoryPeer peer({.queues = 1, .vm_id = kAttackerVm});
    bench::LoadDevice device(attacker.place.socket, kAttackerVm + 1, VGPU_PRIORITY_MEDIUM);
    const auto reply = peer.attach(attacker.place.socket);
    if (!reply || reply->status != VGPU_HELLO_TAKEN || !peer.start()) {
        throw std::runtime_error("the queue did not start");
    }
    std::array<std::uint32_t, 3> buffers{};
    for (std::uint32_t& buffer : buffers) {
        buffer = device.ask(VGPU_OP_MEMORY_ALLOC, std::array{64U, 0U}).first_result;
    }
    const std::array<std::uint32_t, 7> request{VGPU_TYPE_F32, buffers[0], buffers[1], buffers[2],
                                               kRows,         0,          0};
    vgpu_record command{};
    command.opcode = VGPU_OP_MATMUL;
    command.flags = VGPU_FLAG_HEAP_OPERANDS;
    const auto place = static_cast<std::uint32_t>(peer.data_offset());
    constexpr std::uint32_t kHeap = VGPU_OPERAND_HI_HEAP;
    attacker.ready();
    for (;;) {
        while (peer.submit(command, {VGPU_TYPE_F32, place, kHeap, place + 64, kHeap, place + 128,
                                     kHeap, kRows, 0, 0})) {
            attacker.count();
        }
        if (device.under_way() == 0) {
            device.send(VGPU_OP_MATMUL, request);
            attacker.count();
        }
        constexpr int kPollMs = 1;
        pollfd answered{.fd = device.fd(), .events = POLLIN, .revents = 0};
        if (::poll(&answered, 1, kPollMs) > 0) {
            static_cast<void>(device.receive());
        }
    }
}

constexpr std::array kAttacks{
    Attack{.name = "unknown",
           .description = "64 queues full of unknown opcodes, refilled without pause",
           .run = send_unknown},
    Attack{.name = "synchronize",
           .description = "64 queues full of SYNCHRONIZE, refilled without pause",
           .run = synchronize},
    Attack{.name = "limited",
           .description = "64 queues full of commands over the VM's requests_per_second",
           .run = exceed_limit,
           .config = "[[vm]]\nid = 66\nrequests_per_second = 10\nburst = 10\n"},
    Attack{.name = "quarantined",
           .description = "64 queues full of commands of a VM in quarantine",
           .run = go_on_in_quarantine},
    Attack{.name = "reset-queues",
           .description = "64 queues that ask for a reset without pause",
           .run = reset_queues},
    Attack{.name = "doorbells",
           .description = "64 doorbells rung without pause, nothing in the queues",
           .run = ring_doorbells},
    Attack{.name = "matmul",
           .description = "MATMUL of 2^32-1 rows without columns, by request and by queue",
           .run = multiply_nothing},
};

}  // namespace

std::span<const Attack> queue_attacks() {
    return kAttacks;
}

}  // namespace vgpu::attack
