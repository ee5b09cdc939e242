// SPDX-License-Identifier: MIT
//
// Attacks by a compromised QEMU through the descriptors it shares with the mediator: making
// close(2), write(2) or a memory load block.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/eventfd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <optional>
#include <stdexcept>
#include <system_error>
#include <thread>

#include "attack.h"
#include "hellos.h"
#include "lingering.h"
#include "support/mapped_page.h"
#include "support/memory_peer.h"
#include "support/wire_peer.h"

namespace vgpu::attack {
namespace {

using ring::SharedMemory;
using test::MemoryPeer;

MemoryPeer attach(const Attacker& attacker, const MemoryPeer::Options& options) {
    MemoryPeer peer(options);
    const auto reply = peer.attach(attacker.place.socket);
    if (!reply || reply->status != VGPU_HELLO_TAKEN) {
        throw std::runtime_error("the mediator did not take the shared memory");
    }
    return peer;
}

// The ways in which a descriptor can reach the mediator.

void linger_as_memory(MemoryPeer& peer, Lingering& lingering, const std::string& socket) {
    peer.connect(socket);
    Fd foreign = lingering.make();
    peer.send_hello(peer.hello(), std::array{foreign.get()});
    // The mediator keeps it until the handshake completes, so this is not the last close.
    foreign.reset();
    for (std::uint32_t i = 0; i < peer.layout().queue_count; ++i) {
        peer.send_hello_queue(i, std::array{peer.doorbell(i), peer.interrupt(i)});
    }
}

void linger_as_doorbell(MemoryPeer& peer, Lingering& lingering, const std::string& socket) {
    peer.connect(socket);
    peer.send_hello(peer.hello(), std::array{peer.memory()});
    for (std::uint32_t i = 0; i < peer.layout().queue_count; ++i) {
        Fd foreign = i == 0 ? lingering.make() : Fd();
        peer.send_hello_queue(
            i, std::array{foreign ? foreign.get() : peer.doorbell(i), peer.interrupt(i)});
    }
}

// On a connection without a handshake, where no descriptors are expected.
void linger_with_ping(MemoryPeer& peer, Lingering& lingering, const std::string& socket) {
    peer.connect(socket);
    const vgpu_msg_header ping = peer.wire().header(VGPU_MSG_PING, 1);
    peer.wire().send(ping);
    if (!peer.wire().receive(std::chrono::seconds(1))) {
        return;
    }
    Fd foreign = lingering.make();
    test::send_with_descriptors(peer.wire(), ping, {}, std::array{foreign.get()});
    close_elsewhere(std::move(foreign));
}

// After more malformed bytes than the mediator reads at once: it closes the connection along with
// the unread data.
void linger_unread(MemoryPeer& peer, Lingering& lingering, const std::string& socket) {
    static const std::vector<std::uint8_t> bad(std::size_t{100} * 1024, 0xFF);
    Fd foreign = lingering.make();
    peer.connect(socket);
    if (!peer.wire().send_raw(bad) ||
        !test::send_with_descriptors(peer.wire(), peer.wire().header(VGPU_MSG_PING, 1), {},
                                     std::array{foreign.get()})) {
        Lingering::forget(foreign);
        return;
    }
    close_elsewhere(std::move(foreign));
}

void pass_lingering_sockets(Attacker& attacker) {
    constexpr std::array kWays{linger_as_memory, linger_as_doorbell, linger_with_ping,
                               linger_unread};
    Lingering lingering;
    MemoryPeer peer({.queues = 2, .vm_id = kAttackerVm});
    attacker.ready();
    for (std::size_t i = 0;; ++i) {
        kWays.at(i % kWays.size())(peer, lingering, attacker.place.socket);
        peer.disconnect();
        attacker.count();
    }
}

// Slow enough that the mediator does not close the connections before it reads them: a process may
// open 100 a second.
void leave_lingering_unread(Attacker& attacker) {
    constexpr std::size_t kAtOnce = 16;
    constexpr std::size_t kHellos = 8;
    static constexpr std::chrono::milliseconds kPause{250};
    const std::string& socket = attacker.place.socket;
    std::vector<MemoryPeer> peers;
    for (std::size_t i = 0; i < kAtOnce; ++i) {
        peers.emplace_back(
            MemoryPeer::Options{.queues = 1, .vm_id = kAttackerVm + static_cast<std::uint32_t>(i)});
    }
    attacker.ready();
    // On its own thread, because making a lingering socket may wait.
    const std::jthread hellos([&socket](const std::stop_token& stop) {
        Hellos some(socket,
                    {.connections = kHellos, .queue_count = 2 * VGPU_QUEUES_MAX, .pause = kPause});
        while (!stop.stop_requested()) {
            some.step();
        }
    });
    Lingering lingering;
    for (;;) {
        for (MemoryPeer& peer : peers) {
            linger_unread(peer, lingering, socket);
        }
        attacker.count(kAtOnce);
        std::this_thread::sleep_for(kPause);
    }
}

void block_interrupt(Attacker& attacker) {
    attacker.ready();
    for (;;) {
        MemoryPeer peer = attach(attacker, {.queues = 1, .vm_id = kAttackerVm});
        if (!peer.start()) {
            continue;
        }
        const int interrupt = peer.interrupt();
        eventfd_t count = 0;
        ::eventfd_read(interrupt, &count);
        ::eventfd_write(interrupt, UINT64_MAX - 1);
        ::fcntl(interrupt, F_SETFL, 0);
        // Request an interrupt, as a guest that sleeps until this command completes.
        SharedMemory::store_relaxed(peer.control().wake_at, peer.queue().submitted() + 1);
        SharedMemory::fence();
        vgpu_record command{};
        command.opcode = VGPU_OP_NOP;
        peer.submit(command);
        constexpr std::chrono::milliseconds kPatience{500};
        peer.wire().wait_closed(kPatience);
        attacker.count();
    }
}

// Attaches the largest memory that the mediator accepts, with a running queue.
MemoryPeer largest_memory(const Attacker& attacker) {
    for (std::uint64_t size = VGPU_SHM_SIZE_MAX; size >= VGPU_SHM_SIZE_MIN; size /= 2) {
        MemoryPeer peer({.size = size, .queues = 1, .vm_id = kAttackerVm});
        const auto reply = peer.attach(attacker.place.socket);
        if (reply && reply->status == VGPU_HELLO_TAKEN && peer.start()) {
            return peer;
        }
        if (!reply || reply->status != VGPU_HELLO_NO_RESOURCES) {
            break;
        }
    }
    throw std::runtime_error("the mediator did not take the shared memory");
}

void fill(const MemoryPeer& peer) {
    if (::fallocate(peer.memory(), 0, 0, static_cast<off_t>(peer.layout().size)) != 0) {
        throw std::system_error(errno, std::generic_category(), "fallocate");
    }
}

// The kernel blocks a thread that touches such a page until the whole punch is done.
void punch_holes(Attacker& attacker) {
    MemoryPeer peer = largest_memory(attacker);
    fill(peer);
    attacker.ready();
    // Makes the mediator poll the queue, even while the other thread is in the kernel.
    std::jthread ringer([&peer](const std::stop_token& stop) {
        constexpr std::chrono::microseconds kPause{100};
        while (!stop.stop_requested()) {
            peer.ring();
            std::this_thread::sleep_for(kPause);
        }
    });
    for (;;) {
        ::fallocate(peer.memory(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                    static_cast<off_t>(peer.layout().size));
        attacker.count();
        fill(peer);
    }
}

// The same with one page that is mapped 60,000 times, so that each punch takes milliseconds.
// Another VM id and memory after the mediator has closed the connection.
void punch_a_mapped_page(Attacker& attacker) {
    constexpr std::chrono::milliseconds kResetsEvery{30};
    for (std::uint32_t vm_id = kFirstOfMany;; ++vm_id) {
        MemoryPeer peer({.size = VGPU_SHM_SIZE_MIN, .queues = 1, .vm_id = vm_id});
        const test::MappedPage page(peer.memory());
        peer.attach(attacker.place.socket);
        if (vm_id == kFirstOfMany) {
            attacker.ready();
        }
        // A reset makes the mediator write to the page.
        std::atomic<bool> closed = false;
        const std::jthread resets([&] {
            while (peer.send_reset()) {
                std::this_thread::sleep_for(kResetsEvery);
            }
            closed = true;
        });
        while (!closed) {
            page.punch();
            attacker.count();
        }
    }
}

constexpr std::array kAttacks{
    Attack{.name = "linger",
           .description = "TCP sockets with unsent data and SO_LINGER passed as descriptors",
           .run = pass_lingering_sockets},
    Attack{.name = "linger-unread",
           .description = "16 such at a time behind a violation, so that they are not read; 8 more "
                          "connections pass descriptors in hellos; a newcomer must be served at "
                          "the end",
           .run = leave_lingering_unread,
           .newcomer = true},
    Attack{.name = "interrupt",
           .description = "an interrupt eventfd that blocks and is full; reconnects",
           .run = block_interrupt},
    Attack{.name = "punch",
           .description = "holes punched into all of the shared memory while its queue is in use",
           .run = punch_holes},
    Attack{.name = "punch-mapped",
           .description = "holes punched into one page that is mapped 60,000 times, while resets "
                          "make the mediator write to it; reconnects",
           .run = punch_a_mapped_page},
};

}  // namespace

std::span<const Attack> descriptor_attacks() {
    return kAttacks;
}

}  // namespace vgpu::attack
