// SPDX-License-Identifier: MIT
//
// Attacks by messages on long-lived connections: from one process on the socket, or from many
// guests.
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "attack.h"
#include "flood.h"
#include "load_fleet.h"
#include "support/http_peer.h"
#include "support/memory_peer.h"
#include "support/wire_peer.h"

namespace vgpu::attack {
namespace {

using test::WirePeer;

// Messages per block: one read by the mediator receives several hundred.
constexpr std::size_t kBlock = 300;

WirePeer connect(const Attacker& attacker, std::uint32_t vm_id = kAttackerVm) {
    WirePeer peer = WirePeer::connect(attacker.place.socket);
    peer.vm_id = vm_id;
    return peer;
}

void attach(const Attacker& attacker, test::MemoryPeer& peer) {
    const auto reply = peer.attach(attacker.place.socket);
    if (!reply || reply->status != VGPU_HELLO_TAKEN) {
        throw std::runtime_error("the mediator did not take the shared memory");
    }
}

// Returns well-formed messages with malformed requests (version 0).
std::vector<std::byte> malformed_requests(const Attacker& attacker) {
    constexpr vgpu_request kMalformed{};
    const WirePeer peer = connect(attacker);
    return repeat(peer.header(VGPU_MSG_REQUEST, 1), std::as_bytes(std::span(&kMalformed, 1)),
                  kBlock);
}

void be_sixteen(Attacker& attacker) {
    constexpr std::size_t kVms = 16;
    constexpr std::array<std::uint32_t, 2> kParams{1, 2};
    bench::Fleet fleet(attacker.place.socket, kVms, kFirstOfMany, VGPU_PRIORITY_MEDIUM);
    for (bench::LoadDevice& device : fleet.devices) {
        device.send(VGPU_OP_CUDA_KERNEL, kParams);
    }
    attacker.ready();
    for (;;) {
        for (const std::size_t index : fleet.poller.wait()) {
            bench::LoadDevice& device = fleet.devices[index];
            static_cast<void>(device.receive());
            if (device.under_way() == 0) {
                device.send(VGPU_OP_CUDA_KERNEL, kParams);
                attacker.count();
            }
        }
    }
}

// Reconnects when the mediator closes the connection.
[[noreturn]] void flood_forever(const Attacker& attacker, std::span<const std::byte> block,
                                bool reads) {
    attacker.ready();
    for (;;) {
        const WirePeer peer = connect(attacker);
        flood(peer.fd(), block, kBlock, reads, attacker);
    }
}

void send_malformed(Attacker& attacker) {
    flood_forever(attacker, malformed_requests(attacker), true);
}

// The mediator closes the connection at its limit of unsent bytes.
void read_nothing(Attacker& attacker) {
    flood_forever(attacker, malformed_requests(attacker), false);
}

// Opens as many connections of this process as the mediator accepts, each with its own VM id. All
// send `block` continuously and discard responses. Closed connections are reopened.
[[noreturn]] void flood_as_many(const Attacker& attacker,
                                std::vector<std::byte> (*make_block)(const WirePeer&)) {
    constexpr std::size_t kVms = 1000;
    struct Peer {
        WirePeer wire;
        std::vector<std::byte> block;
        std::size_t sent = 0;
    };
    const auto begin = [&](std::size_t index) {
        Peer peer{.wire = connect(attacker, kFirstOfMany + static_cast<std::uint32_t>(index)),
                  .block = {}};
        peer.block = make_block(peer.wire);
        return peer;
    };
    std::vector<Peer> peers;
    for (std::size_t i = 0; i < kVms; ++i) {
        peers.push_back(begin(i));
    }
    attacker.ready();
    std::array<std::byte, 65536> dropped{};
    for (;;) {
        for (std::size_t i = 0; i < kVms; ++i) {
            Peer& peer = peers[i];
            const auto left = std::span(peer.block).subspan(peer.sent);
            const ssize_t sent =
                ::send(peer.wire.fd(), left.data(), left.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
            const bool gone = sent < 0 && errno != EAGAIN && errno != EINTR;
            if (gone || ::recv(peer.wire.fd(), dropped.data(), dropped.size(), MSG_DONTWAIT) == 0) {
                peer = begin(i);
                continue;
            }
            peer.sent += static_cast<std::size_t>(std::max<ssize_t>(sent, 0));
            if (peer.sent == peer.block.size()) {
                peer.sent = 0;
                attacker.count(kBlock);
            }
        }
    }
}

void malformed_of_many(Attacker& attacker) {
    flood_as_many(attacker, [](const WirePeer& peer) {
        constexpr vgpu_request kMalformed{};
        return repeat(peer.header(VGPU_MSG_REQUEST, 1), std::as_bytes(std::span(&kMalformed, 1)),
                      kBlock);
    });
}

void pings_of_many(Attacker& attacker) {
    flood_as_many(attacker, [](const WirePeer& peer) {
        return repeat(peer.header(VGPU_MSG_PING, 1), {}, kBlock);
    });
}

void send_pings(Attacker& attacker) {
    const WirePeer peer = connect(attacker);
    flood_forever(attacker, repeat(peer.header(VGPU_MSG_PING, 1), {}, kBlock), true);
}

void reset_device(Attacker& attacker) {
    test::MemoryPeer peer(
        {.size = std::uint64_t{8} << 20, .queues = VGPU_QUEUES_MAX, .vm_id = kAttackerVm});
    attacker.ready();
    for (;;) {
        attach(attacker, peer);
        const auto block = repeat(peer.wire().header(VGPU_MSG_SHM_RESET, 0), {}, kBlock);
        flood(peer.wire().fd(), block, kBlock, true, attacker);
    }
}

// Each resets all of its queues as soon as the last reset is done.
void reset_many_devices(Attacker& attacker) {
    constexpr std::uint32_t kDevices = 60;  // a process may have 64 connections
    std::vector<test::MemoryPeer> peers;
    std::vector<pollfd> answered;
    for (std::uint32_t i = 0; i < kDevices; ++i) {
        test::MemoryPeer& peer = peers.emplace_back(test::MemoryPeer::Options{
            .size = std::uint64_t{8} << 20, .queues = VGPU_QUEUES_MAX, .vm_id = kFirstOfMany + i});
        attach(attacker, peer);
        answered.push_back({.fd = peer.wire().fd(), .events = POLLIN, .revents = 0});
    }
    const auto reset = [](test::MemoryPeer& peer) {
        // Request an interrupt from each queue.
        for (std::uint32_t i = 0; i < VGPU_QUEUES_MAX; ++i) {
            ring::SharedMemory::store_relaxed(peer.control(i).wake_at, UINT64_MAX);
        }
        if (!peer.send_reset()) {
            throw std::runtime_error("the mediator has closed a connection");
        }
    };
    std::ranges::for_each(peers, reset);
    attacker.ready();
    for (;;) {
        ::poll(answered.data(), answered.size(), -1);
        for (std::uint32_t i = 0; i < kDevices; ++i) {
            if (answered[i].revents == 0) {
                continue;
            }
            if (!peers[i].receive_reply(VGPU_MSG_SHM_RESET_DONE)) {
                throw std::runtime_error("the mediator has closed a connection");
            }
            attacker.count();
            reset(peers[i]);
        }
    }
}

// Peers that always have a partial message pending and continue byte by byte.
void send_slowly(Attacker& attacker) {
    constexpr std::size_t kPeers = 100;
    struct Slow {
        WirePeer peer;
        std::vector<std::byte> message;
        std::size_t sent = 0;
    };
    const auto begin = [&](std::uint32_t vm_id) {
        Slow slow{.peer = connect(attacker, vm_id), .message = {}};
        slow.message = repeat(slow.peer.header(VGPU_MSG_PONG, 1), {}, 1);
        slow.sent = slow.message.size() / 2;
        ::send(slow.peer.fd(), slow.message.data(), slow.sent, MSG_NOSIGNAL);
        return slow;
    };
    std::deque<Slow> peers;
    for (std::size_t i = 0; i < kPeers; ++i) {
        peers.push_back(begin(kFirstOfMany + static_cast<std::uint32_t>(i)));
    }
    attacker.ready();
    for (;;) {
        for (Slow& slow : peers) {
            const ssize_t sent = ::send(slow.peer.fd(), slow.message.data() + slow.sent, 1,
                                        MSG_DONTWAIT | MSG_NOSIGNAL);
            if (sent == 1) {
                slow.sent = (slow.sent + 1) % slow.message.size();
                attacker.count();
            } else if (errno != EAGAIN) {
                slow = begin(slow.peer.vm_id);
            }
        }
    }
}

void ask_for_metrics(Attacker& attacker) {
    constexpr std::size_t kClients = 4;
    std::vector<test::HttpPeer> clients;
    for (std::size_t i = 0; i < kClients; ++i) {
        clients.push_back(test::HttpPeer::connect(attacker.place.admin_socket));
    }
    attacker.ready();
    for (;;) {
        for (test::HttpPeer& client : clients) {
            client.ask("GET", "/metrics");
        }
        for (test::HttpPeer& client : clients) {
            if (const int status = client.receive().status; status != 200) {
                throw std::runtime_error("GET /metrics: HTTP status " + std::to_string(status));
            }
        }
        attacker.count(kClients);
    }
}

constexpr std::array kAttacks{
    Attack{.name = "polite-16",
           .description = "16 polite VMs, each with one addition by request in flight",
           .run = be_sixteen},
    Attack{.name = "malformed",
           .description = "malformed requests without pause, 300 with a write, answers are read",
           .run = send_malformed},
    Attack{.name = "pings",
           .description = "PINGs without pause, 300 with a write, answers are read",
           .run = send_pings},
    Attack{.name = "malformed-many",
           .description =
               "the same by one process under 1,000 VM ids, on as many connections as it "
               "gets",
           .run = malformed_of_many},
    Attack{.name = "pings-many", .description = "PINGs in the same way", .run = pings_of_many},
    Attack{.name = "reset-device",
           .description = "SHM_RESET messages without pause, by a device with 64 queues",
           .run = reset_device},
    Attack{.name = "resets-many",
           .description =
               "60 devices of one process with 64 queues each, reset again as soon as the "
               "last reset is done",
           .run = reset_many_devices},
    Attack{.name = "not-reading",
           .description = "malformed requests without pause, answers are not read; reconnects",
           .run = read_nothing},
    Attack{.name = "slow-message",
           .description = "100 peers, each within a message, that send single bytes",
           .run = send_slowly},
    Attack{.name = "admin",
           .description = "4 clients of the admin socket that ask for /metrics without pause",
           .run = ask_for_metrics},
};

}  // namespace

std::span<const Attack> message_attacks() {
    return kAttacks;
}

}  // namespace vgpu::attack
