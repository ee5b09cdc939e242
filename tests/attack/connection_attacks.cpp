// SPDX-License-Identifier: MIT
//
// Attacks by short-lived connections.
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <stdexcept>
#include <string>
#include <system_error>

#include "attack.h"
#include "child.h"
#include "flood.h"
#include "hellos.h"
#include "support/memory_peer.h"
#include "support/unix_socket.h"
#include "support/wire_peer.h"

namespace vgpu::attack {
namespace {

[[noreturn]] void connect_to(Attacker& attacker, const std::string& path) {
    attacker.ready();
    for (;;) {
        static_cast<void>(test::connect_unix(path));
        attacker.count();
    }
}

void connect_and_close(Attacker& attacker) {
    connect_to(attacker, attacker.place.socket);
}

void hello_and_close(Attacker& attacker) {
    test::MemoryPeer peer(
        {.size = std::uint64_t{8} << 20, .queues = VGPU_QUEUES_MAX, .vm_id = kAttackerVm});
    const auto reply = peer.attach(attacker.place.socket);
    if (!reply || reply->status != VGPU_HELLO_TAKEN) {
        throw std::runtime_error("the mediator did not take the shared memory");
    }
    attacker.ready();
    for (;;) {
        peer.disconnect();
        static_cast<void>(peer.attach(attacker.place.socket));
        attacker.count();
    }
}

// The same, with a new VM id each time.
void hello_of_many(Attacker& attacker) {
    test::MemoryPeer peer({.size = std::uint64_t{8} << 20, .queues = VGPU_QUEUES_MAX});
    attacker.ready();
    for (std::uint32_t vm_id = kFirstOfMany;; ++vm_id) {
        peer.set_vm_id(vm_id);
        static_cast<void>(peer.attach(attacker.place.socket));
        peer.disconnect();
        attacker.count();
    }
}

// Sends one malformed request, which counts as a fault.
void send_malformed_as(const Attacker& attacker, std::uint32_t vm_id) {
    constexpr vgpu_request kMalformed{};
    auto peer = test::WirePeer::connect(attacker.place.socket);
    peer.vm_id = vm_id;
    const auto message =
        repeat(peer.header(VGPU_MSG_REQUEST, 1), std::as_bytes(std::span(&kMalformed, 1)), 1);
    peer.send_raw({reinterpret_cast<const std::uint8_t*>(message.data()), message.size()});
    // One at a time: the number of connections is not part of this attack.
    static_cast<void>(peer.receive(std::chrono::seconds(1)));
    attacker.count();
}

// One connection per VM id. Many processes, because each process is throttled.
void use_up_vm_ids(Attacker& attacker) {
    // The mediator tracks 16,384 VMs. The measurement starts above that.
    constexpr std::uint32_t kDistinct = 17'000;
    constexpr std::uint32_t kOfOneProcess = 150;
    bool ready = false;
    for (std::uint32_t vm_id = kFirstOfMany;; vm_id += kOfOneProcess) {
        const Child process([&](const Channel& /*channel*/) {
            for (std::uint32_t i = 0; i < kOfOneProcess; ++i) {
                send_malformed_as(attacker, vm_id + i);
            }
        });
        if (const auto said = process.channel().receive(); !said->empty()) {
            throw std::runtime_error("a process of the attack has failed");
        }
        if (!ready && vm_id >= kFirstOfMany + kDistinct) {
            ready = true;
            attacker.ready();
        }
    }
}

// Without waiting for a place in the backlog, so that the backlog is always full: others compete
// for each place.
void connect_without_waiting(Attacker& attacker) {
    attacker.ready();
    for (;;) {
        if (try_connect(attacker.place.socket)) {
            attacker.count();
        }
    }
}

void connect_to_admin_socket(Attacker& attacker) {
    connect_to(attacker, attacker.place.admin_socket);
}

// Without waiting for a place in the backlog. The kernel of one host completes a connection within
// connect(2), which reports EINPROGRESS all the same. Closing with a reset keeps the local ports
// from running out.
void connect_to_metrics_port(Attacker& attacker) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(attacker.place.metrics_port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    constexpr linger kReset{.l_onoff = 1, .l_linger = 0};
    attacker.ready();
    for (;;) {
        const Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        if (!fd || ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &kReset, sizeof kReset) != 0) {
            throw std::system_error(errno, std::generic_category(), "socket");
        }
        if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ||
            errno == EINPROGRESS) {
            attacker.count();
        }
    }
}

void pass_hello_queues(Attacker& attacker, std::uint32_t queue_count) {
    Hellos hellos(attacker.place.socket, {.queue_count = queue_count});
    attacker.ready();
    for (;;) {
        attacker.count(hellos.step());
    }
}

void hello_without_end(Attacker& attacker) {
    pass_hello_queues(attacker, UINT32_MAX);
}

void hello_to_be_refused(Attacker& attacker) {
    constexpr std::uint32_t kMostThatAreRead = 2 * VGPU_QUEUES_MAX;
    pass_hello_queues(attacker, kMostThatAreRead);
}

constexpr std::array kAttacks{
    Attack{.name = "connect",
           .description = "connects and closes without pause",
           .run = connect_and_close},
    Attack{.name = "connect-hello",
           .description = "connects, completes a hello with 64 queues, closes; without pause",
           .run = hello_and_close},
    Attack{.name = "hello-many",
           .description = "connects, completes a hello with 64 queues, closes; under another VM id "
                          "each time",
           .run = hello_of_many},
    Attack{.name = "connect-flood",
           .description = "connects without waiting for the backlog and closes; a newcomer must be "
                          "served at the end",
           .run = connect_without_waiting,
           .newcomer = true},
    Attack{.name = "admin-connect",
           .description = "connects to the admin socket and closes without pause",
           .run = connect_to_admin_socket},
    Attack{.name = "metrics-connect",
           .description = "connects to the metrics port by TCP, without waiting for the backlog, "
                          "and closes without pause",
           .run = connect_to_metrics_port,
           .config = "[metrics]\nlisten = \"127.0.0.1:0\"\n"},
    Attack{.name = "hello-queues",
           .description =
               "4 connections that announce 2^32-1 queues and pass 2 descriptors for each; "
               "reconnects under another VM id",
           .run = hello_without_end},
    Attack{.name = "hello-refused",
           .description = "the same with 128 queues, which are all read and then refused",
           .run = hello_to_be_refused},
    Attack{.name = "vm-ids",
           .description = "a malformed request under each of 17,000 and more VM ids; a newcomer "
                          "must be served at the end",
           .run = use_up_vm_ids,
           .config = "[limits]\nquarantine_after_faults = 100\n",
           .newcomer = true},
};

}  // namespace

std::span<const Attack> connection_attacks() {
    return kAttacks;
}

}  // namespace vgpu::attack
