// SPDX-License-Identifier: MIT
//
// Starvation attacks: well-behaved VMs must be served by request and by queue while others keep the
// mediator busy or blocked. The tests assert progress, with time limits far above the normal
// response time.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <exception>
#include <functional>
#include <limits>
#include <new>
#include <system_error>
#include <thread>

#include "integration/test_mediator.h"
#include "support/lingering.h"
#include "support/mapped_page.h"
#include "support/memory_peer.h"

namespace vgpu::test {
namespace {

using Kind = RecordedEvent::Kind;
using SM = ring::SharedMemory;

constexpr std::uint32_t kAttacker = 66;

// A forked process, as limits of a process are by its id and this one has the victims' connections.
// Runs `body` until that returns or this object is destroyed. Both processes see the counter.
class OtherProcess {
  public:
    using Counter = std::atomic<std::uint64_t>;

    // Precondition: this process runs no other thread than the mediator's.
    explicit OtherProcess(const std::function<void(Counter&)>& body)
        : memory_(::mmap(nullptr, sizeof(Counter), PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
        if (memory_ == MAP_FAILED) {
            throw std::system_error(errno, std::generic_category(), "mmap");
        }
        counter_ = new (memory_) Counter(0);
        pid_ = ::fork();
        if (pid_ == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            try {
                body(*counter_);
            } catch (const std::exception&) {
                ::_exit(1);
            }
            ::_exit(0);
        }
    }
    OtherProcess(const OtherProcess&) = delete;
    OtherProcess& operator=(const OtherProcess&) = delete;
    ~OtherProcess() {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            ::waitpid(pid_, nullptr, 0);
        }
        ::munmap(memory_, sizeof(Counter));
    }

    [[nodiscard]] std::uint64_t count() const { return *counter_; }
    // Waits until it has counted so far. Returns false on time-out.
    [[nodiscard]] bool wait_for(std::uint64_t count) const {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (*counter_ < count) {
            if (std::chrono::steady_clock::now() > deadline) {
                return false;
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        return true;
    }

  private:
    void* memory_;
    Counter* counter_ = nullptr;
    pid_t pid_ = -1;
};

struct Starvation : testing::Test {
    Settings settings;
    std::unique_ptr<TestMediator> mediator;
    std::unique_ptr<WirePeer> requests;  // VM 1
    std::unique_ptr<MemoryPeer> queue;   // VM 2
    std::atomic<bool> stop{false};
    std::vector<std::thread> attackers;

    void start() {
        mediator = std::make_unique<TestMediator>(settings, true);
        requests = std::make_unique<WirePeer>(mediator->connect(1));
        queue = std::make_unique<MemoryPeer>(MemoryPeer::Options{.queues = 1, .vm_id = 2});
        ASSERT_TRUE(queue->attach(mediator->path()));
        ASSERT_TRUE(queue->start());
    }
    ~Starvation() override {
        stop = true;
        for (std::thread& one : attackers) {
            one.join();
        }
    }
    // Repeats `step` on its own thread until the test ends.
    void attack(std::function<void()> step) {
        attackers.emplace_back([this, step = std::move(step)] {
            while (!stop) {
                step();
            }
        });
    }
    // Attaches an attacker with the maximum number of queues, all running.
    std::shared_ptr<MemoryPeer> many_queues() {
        auto peer = std::make_shared<MemoryPeer>(
            MemoryPeer::Options{.size = 16U << 20U, .queues = 64, .vm_id = kAttacker});
        EXPECT_TRUE(peer->attach(mediator->path()));
        for (std::uint32_t i = 0; i < 64; ++i) {
            EXPECT_TRUE(peer->start(i));
        }
        return peer;
    }
    // Continuously fills the rings of all queues with this command.
    void flood(std::uint32_t opcode) {
        attack([peer = many_queues(), opcode] {
            vgpu_record command{};
            command.opcode = opcode;
            for (std::uint32_t i = 0; i < 64; ++i) {
                while (peer->queue(i).push(command, {}, {}) == ring::Push::kDone) {
                }
                if (peer->queue(i).publish()) {
                    peer->ring(i);
                }
            }
        });
    }
    [[nodiscard]] std::string closed_connections() const {
        std::string text;
        for (const RecordedEvent& event : mediator->events.of(Kind::kClosed)) {
            text += "; VM " + std::to_string(event.vm_id) + ": " + event.text;
        }
        return text;
    }
    void expect_request_served(std::uint32_t number) {
        requests->send_request(number, make_add(number, 1));
        const auto answer = requests->receive();
        ASSERT_TRUE(answer) << "request " << number << " has no answer";
        EXPECT_EQ(answer->word(0), number + 1);
    }
    void expect_command_served(std::uint32_t number) {
        const auto index = queue->submit(queue->command(VGPU_OP_CUDA_KERNEL), {number, 2});
        ASSERT_TRUE(index && queue->wait(*index))
            << "command " << number << " has no reply" << closed_connections();
        EXPECT_EQ(queue->reply()->result(0), number + 2);
    }
    void expect_served() {
        for (std::uint32_t i = 0; i < 50; ++i) {
            ASSERT_NO_FATAL_FAILURE(expect_request_served(i));
            ASSERT_NO_FATAL_FAILURE(expect_command_served(i));
        }
    }
    // A VM whose device runs in a process that has not connected before.
    void expect_newcomer_served() const {
        const OtherProcess newcomer([this](OtherProcess::Counter& served) {
            WirePeer peer = mediator->connect(3);
            peer.send_request(1, make_add(5, 6));
            const auto answer = peer.receive();
            served += answer && answer->word(0) == 11U ? 1 : 0;
        });
        EXPECT_TRUE(newcomer.wait_for(1));
    }
    // Shutdown must also complete during the attack.
    void expect_end() {
        mediator->begin_shutdown();
        mediator->join();
    }
};

TEST_F(Starvation, ByUnknownOpcodes) {
    start();
    flood(0x0999);
    expect_served();
    expect_end();
}

TEST_F(Starvation, BySynchronize) {
    start();
    flood(VGPU_OP_SYNCHRONIZE);
    expect_served();
    expect_end();
}

TEST_F(Starvation, ByCommandsOverALimit) {
    settings.vms[kAttacker].limits.requests_per_second = 10;
    start();
    flood(VGPU_OP_CUDA_KERNEL);
    expect_served();
    expect_end();
}

TEST_F(Starvation, ByAVmInQuarantine) {
    start();
    flood(VGPU_OP_NOP);
    mediator->on_loop([](Mediator& served) { static_cast<void>(served.quarantine(kAttacker)); });
    ASSERT_TRUE(mediator->events.wait_for(Kind::kQuarantined, 1));
    expect_served();
    expect_end();
}

TEST_F(Starvation, ByQueuesThatResetThemselves) {
    start();
    attack([peer = many_queues(), number = std::uint32_t{2}]() mutable {
        ++number;
        for (std::uint32_t i = 0; i < 64; ++i) {
            SM::store_release(peer->control(i).reset_request, number);
            peer->ring(i);
        }
    });
    expect_served();
    expect_end();
}

TEST_F(Starvation, ByDeviceResets) {
    start();
    attack([peer = many_queues()] { static_cast<void>(peer->send_reset()); });
    expect_served();
}

// The rate of resets per process is limited, whatever VM ids it uses.
TEST_F(Starvation, ByDeviceResetsOfManyVms) {
    constexpr std::uint32_t kDevices = 20;
    constexpr std::uint32_t kQueues = 64;
    settings.max_connections_per_process = 64;
    start();
    const OtherProcess attacker([this](OtherProcess::Counter& resets) {
        std::vector<MemoryPeer> peers;
        for (std::uint32_t i = 0; i < kDevices; ++i) {
            peers.emplace_back(
                MemoryPeer::Options{.size = 8U << 20U, .queues = kQueues, .vm_id = kAttacker + i});
            if (!peers.back().attach(mediator->path()) || !peers.back().send_reset()) {
                return;
            }
        }
        for (;;) {
            for (MemoryPeer& peer : peers) {
                if (!peer.receive_reply(VGPU_MSG_SHM_RESET_DONE) || !peer.send_reset()) {
                    return;
                }
                ++resets;
            }
        }
    });
    ASSERT_TRUE(attacker.wait_for(1));
    const auto begin = std::chrono::steady_clock::now();
    const std::uint64_t before = attacker.count();
    expect_served();
    // Without a limit, these would take about 30 ms.
    constexpr std::uint64_t kResets = 400;
    ASSERT_TRUE(attacker.wait_for(before + kResets)) << closed_connections();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    // Each counts at least as half a rejection per queue. Besides the burst, a debt of the same
    // size is allowed.
    EXPECT_GE(took.count(), (kResets * kQueues / 2.0 - 2 * HoldBack::kProcess.refusals.burst) /
                                HoldBack::kProcess.refusals.per_second);
    expect_served();
    expect_end();
}

// The rate of rejections per VM is limited.
TEST_F(Starvation, NotAtTheProcessorsExpense) {
    start();
    const auto peer = std::make_shared<MemoryPeer>(MemoryPeer::Options{.vm_id = kAttacker});
    ASSERT_TRUE(peer->attach(mediator->path()));
    ASSERT_TRUE(peer->start());
    const auto begin = std::chrono::steady_clock::now();
    constexpr std::uint64_t kCommands = 2000;
    for (std::uint64_t done = 0; done < kCommands;) {
        vgpu_record command{};
        command.opcode = 0x0999;
        const auto index = peer->submit(command);
        ASSERT_TRUE(index && peer->wait(*index));
        done = *index;
    }
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    EXPECT_GE(took.count(),
              (kCommands - HoldBack::kVm.refusals.burst) / HoldBack::kVm.refusals.per_second * 0.9);
}

// Enough well-behaved VMs to keep the sockets busy: queues must get their turn in between. Counts
// the requests answered before the command completes.
TEST_F(Starvation, ByPoliteRequests) {
    start();
    std::atomic<std::uint64_t> command{0};   // submitted and not yet seen completed, or 0
    std::atomic<std::uint64_t> answered{0};  // requests answered since then
    std::vector<WirePeer> peers;
    for (std::uint32_t i = 0; i < 16; ++i) {
        peers.push_back(mediator->connect(100 + i));
        peers.back().send_request(1, make_add(1, 1));
    }
    attack([&, polite = std::make_shared<std::vector<WirePeer>>(std::move(peers))] {
        for (WirePeer& one : *polite) {
            if (!one.receive()) {
                continue;
            }
            one.send_request(1, make_add(1, 1));
            const std::uint64_t waiting = command;
            if (waiting != 0) {
                ++answered;
                if (SM::load_acquire(queue->control().completed) >= waiting) {
                    command = 0;
                    command.notify_one();
                }
            }
        }
    });
    std::vector<std::uint64_t> meanwhile;
    for (std::uint32_t i = 0; i < 200; ++i) {
        answered = 0;
        const auto index = queue->submit(queue->command(VGPU_OP_CUDA_KERNEL), {i, 2});
        ASSERT_TRUE(index);
        command = *index;
        command.wait(*index);
        meanwhile.push_back(answered);
    }
    std::sort(meanwhile.begin(), meanwhile.end());
    EXPECT_LE(meanwhile[meanwhile.size() * 9 / 10], 64U);
    expect_served();
}

TEST_F(Starvation, ByMalformedRequests) {
    start();
    const auto peer = std::make_shared<WirePeer>(mediator->connect(kAttacker));
    attack([peer] {
        for (int i = 0; i < 100; ++i) {
            peer->send_request(1, std::vector<std::uint8_t>(40, 0xFF));
        }
        for (int i = 0; i < 100; ++i) {
            static_cast<void>(peer->receive());
        }
    });
    expect_served();
}

// A HELLO that announces more queues than there may be: up to twice as many are read and rejected.
TEST_F(Starvation, ByHellosWithoutEnd) {
    start();
    MemoryPeer peer({.vm_id = kAttacker});
    const auto send_hello = [&](std::uint32_t queues) {
        peer.connect(mediator->path());
        vgpu_msg_hello hello = peer.hello();
        hello.queue_count = queues;
        peer.send_hello(hello, std::array{peer.memory()});
    };
    const auto send_queues = [&peer](std::uint32_t queues) {
        for (std::uint32_t i = 0; i < queues; ++i) {
            if (!peer.send_hello_queue(i, std::array{peer.doorbell(), peer.interrupt()})) {
                return;
            }
        }
    };
    for (const std::uint32_t queues : {65U, 128U}) {
        send_hello(queues);
        send_queues(queues);
        const auto reply = peer.receive_reply();
        ASSERT_TRUE(reply) << queues;
        EXPECT_EQ(reply->status, VGPU_HELLO_BAD_LAYOUT);
        peer.disconnect();
    }
    ASSERT_TRUE(mediator->events.wait_for(Kind::kClosed, 2));
    for (const std::uint32_t queues : {129U, std::numeric_limits<std::uint32_t>::max()}) {
        const std::size_t before = mediator->events.of(Kind::kClosed).size();
        send_hello(queues);
        EXPECT_TRUE(peer.wire().wait_closed()) << "without any HELLO_QUEUE";
        ASSERT_TRUE(mediator->events.wait_for(Kind::kClosed, before + 1));
        EXPECT_EQ(mediator->events.of(Kind::kClosed).back().reason,
                  CloseReason::kProtocolViolation);
    }
    const OtherProcess attacker([&](OtherProcess::Counter& connections) {
        constexpr std::uint32_t kEndless = std::numeric_limits<std::uint32_t>::max();
        for (;;) {
            send_hello(kEndless);
            send_queues(kEndless);
            ++connections;
        }
    });
    ASSERT_TRUE(attacker.wait_for(10));
    expect_served();
    EXPECT_TRUE(attacker.wait_for(attacker.count() + 1)) << "the attack continues";
    expect_end();
}

// After its burst, its connections are closed at once and without an event.
TEST_F(Starvation, ByAProcessThatConnectsWithoutPause) {
    settings.max_connections_per_process = 64;
    start();
    const auto burst = static_cast<std::uint64_t>(HoldBack::of_process(64).connections.burst +
                                                  HoldBack::of_process(64).connections.debt);
    const OtherProcess attacker([this](OtherProcess::Counter& connections) {
        for (;;) {
            WirePeer peer = WirePeer::connect(mediator->path());
            if (connections >= 2 * burst && !peer.wait_closed()) {
                return;
            }
            ++connections;
        }
    });
    ASSERT_TRUE(attacker.wait_for(8 * burst)) << "its connections are not closed";
    EXPECT_LT(mediator->events.of(Kind::kOpened).size(), 4 * burst);
    expect_newcomer_served();
    expect_served();
    EXPECT_TRUE(attacker.wait_for(attacker.count() + 1)) << "the attack continues";
    expect_end();
}

TEST_F(Starvation, ByConnections) {
    start();
    for (int thread = 0; thread < 2; ++thread) {
        attack([this] { WirePeer::connect(mediator->path()).close(); });
    }
    expect_served();
    // A new connection is served too.
    WirePeer late = mediator->connect(3);
    late.send_request(1, make_add(5, 6));
    const auto answer = late.receive();
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->word(0), 11U);
}

// Passes the descriptor in bytes that are never read, because earlier bytes break the connection.
// Returns false if that is closed already.
bool pass_unread(WirePeer& peer, int fd) {
    return peer.send_raw(std::vector<std::uint8_t>(4096, 0xFF)) &&
           send_with_descriptors(peer, peer.header(VGPU_MSG_PING, 1), {}, std::array{fd});
}

TEST_F(Starvation, ByDescriptorsWhoseCloseBlocks) {
    start();
    // As shared memory.
    std::vector<Lingering> sockets(4);
    std::vector<MemoryPeer> peers;
    for (std::uint32_t i = 0; i < 4; ++i) {
        peers.emplace_back(MemoryPeer::Options{.vm_id = kAttacker + i});
        peers.back().connect(mediator->path());
    }
    const std::array memory{sockets[0].fd()};
    ASSERT_TRUE(peers[0].send_hello(peers[0].hello(), memory));
    // As a doorbell.
    const std::array whole{peers[1].memory()};
    ASSERT_TRUE(peers[1].send_hello(peers[1].hello(), whole));
    const std::array pair{sockets[1].fd(), peers[1].interrupt()};
    ASSERT_TRUE(peers[1].send_hello_queue(0, pair));
    // With a message after the first.
    WirePeer& late = peers[2].wire();
    late.send_request(1, make_add(1, 1));
    ASSERT_TRUE(late.receive());
    const std::array one{sockets[2].fd()};
    ASSERT_TRUE(send_with_descriptors(late, late.header(VGPU_MSG_PING, 1), {}, one));
    const bool passed = pass_unread(peers[3].wire(), sockets[3].fd());
    for (std::size_t i = 0; i < sockets.size(); ++i) {
        sockets[i].close(i != 3 || passed);
    }
    peers.clear();
    expect_served();
    expect_end();
}

// More of one process than the mediator may have unclosed of all, each in a connection of its own.
TEST_F(Starvation, ByUnreadDescriptorsWhoseCloseBlocks) {
    settings.max_connections_per_process = 64;
    start();
    const OtherProcess attacker([this](OtherProcess::Counter& connections) {
        constexpr std::size_t kMostSockets = 300;
        std::vector<Lingering> sockets;
        for (;;) {
            WirePeer peer = WirePeer::connect(mediator->path());
            if (sockets.size() < kMostSockets) {
                Lingering& last = sockets.emplace_back();
                last.close(pass_unread(peer, last.fd()));
            } else {
                pass_unread(peer, STDIN_FILENO);
            }
            ++connections;
        }
    });
    ASSERT_TRUE(attacker.wait_for(5000));
    expect_newcomer_served();
    expect_served();
    EXPECT_TRUE(attacker.wait_for(attacker.count() + 1)) << "the attack continues";
    expect_end();
}

// A peer that punches holes into its shared memory makes every access to it block. The mediator
// detects this and closes its connection.
TEST_F(Starvation, ByHolesInSharedMemory) {
    start();
    const auto peer = std::make_shared<MemoryPeer>(
        MemoryPeer::Options{.size = 256U << 20U, .queues = 1, .vm_id = kAttacker});
    const auto punch = [peer] {
        const auto size = static_cast<off_t>(peer->layout().size);
        ::madvise(peer->base(), static_cast<std::size_t>(size), MADV_POPULATE_WRITE);
        const auto begin = std::chrono::steady_clock::now();
        ::fallocate(peer->memory(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, size);
        return std::chrono::steady_clock::now() - begin;
    };
    if (punch() < 2 * TouchWatch::kLate) {
        GTEST_SKIP()
            << "this machine punches 256 MiB in less than 10 ms: that keeps no loop waiting";
    }
    ASSERT_TRUE(peer->attach(mediator->path()));
    ASSERT_TRUE(peer->start());
    attack([punch] { punch(); });
    // The queue is polled continuously, because its ring never appears empty.
    attack([peer] {
        SM::store_release(peer->control().tail, SM::load_relaxed(peer->control().tail) + 56);
        SM::store_release(peer->control().reset_request,
                          SM::load_relaxed(peer->control().reset_ack) + 1);
        peer->ring();
    });
    ASSERT_TRUE(mediator->events.wait_for(Kind::kClosed, 1));
    EXPECT_EQ(mediator->events.of(Kind::kClosed)[0].reason, CloseReason::kMemoryBlocks);
    expect_served();
    MemoryPeer again(MemoryPeer::Options{.vm_id = kAttacker});
    const auto reply = again.attach(mediator->path());
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->status, VGPU_HELLO_NOT_ALLOWED);
    expect_served();
}

// The page is small, but it is mapped so often that punching it takes long, and the process does so
// without pause: an access could wait for any number of punches.
TEST_F(Starvation, ByHolesInAPageThatIsMappedOften) {
    const std::chrono::nanoseconds taken = [] {
        MemoryPeer peer({.size = 1U << 20U, .queues = 1});
        return MappedPage(peer.memory()).punch();
    }();
    if (taken < TouchWatch::kSlow) {
        GTEST_SKIP() << "this machine punches a page with " << MappedPage::kMappings
                     << " mappings in less than 2 ms";
    }
    start();
    const OtherProcess attacker([this](OtherProcess::Counter& punches) {
        MemoryPeer peer({.size = 1U << 20U, .queues = 1, .vm_id = kAttacker});
        peer.attach(mediator->path());
        // A reset makes the mediator write to the page. By another process: a sanitizer does not
        // allow threads after a fork.
        if (::fork() == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            while (peer.send_reset()) {
                peer.receive_reply(VGPU_MSG_SHM_RESET_DONE);
            }
            ::_exit(0);
        }
        const MappedPage page(peer.memory());
        for (;; ++punches) {
            page.punch();
        }
    });
    ASSERT_TRUE(mediator->events.wait_for(Kind::kClosed, 1));
    EXPECT_EQ(mediator->events.of(Kind::kClosed)[0].reason, CloseReason::kMemoryBlocks);
    EXPECT_TRUE(attacker.wait_for(attacker.count() + 1)) << "the attack continues";
    expect_served();
    MemoryPeer again(MemoryPeer::Options{.vm_id = kAttacker});
    const auto reply = again.attach(mediator->path());
    ASSERT_TRUE(reply);
    EXPECT_EQ(reply->status, VGPU_HELLO_NOT_ALLOWED);
    expect_end();
}

// Work not bounded by data: without columns, rows need no memory.
TEST_F(Starvation, ByAMatrixWithoutColumns) {
    start();
    WirePeer attacker = mediator->connect(kAttacker);
    attacker.send_request(1, make_request(VGPU_OP_MEMORY_ALLOC, std::array{4096U, 0U}));
    const auto allocated = attacker.receive();
    ASSERT_TRUE(allocated && allocated->word(0));
    const std::uint32_t handle = *allocated->word(0);
    attacker.send_request(1, make_request(VGPU_OP_MEMORY_ALLOC, std::array{4096U, 0U}));
    const auto other = attacker.receive();
    ASSERT_TRUE(other && other->word(0));
    constexpr std::uint32_t kRows = std::numeric_limits<std::uint32_t>::max();
    const std::array params{
        std::uint32_t{VGPU_TYPE_F32}, handle, *other->word(0), *other->word(0), kRows, 0U, 0U};
    // Without a bound, each would take seconds.
    constexpr std::uint32_t kMany = 16;
    for (std::uint32_t i = 0; i < kMany; ++i) {
        attacker.send_request(i, make_request(VGPU_OP_MATMUL, params));
    }
    for (std::uint32_t i = 0; i < kMany; ++i) {
        const auto answer = attacker.receive(std::chrono::seconds(20));
        ASSERT_TRUE(answer) << i;
        EXPECT_EQ(answer->response().status, VGPU_ERR_NONE);
    }
    expect_served();
}

// More VMs than table entries, each with faults: no two may share an entry.
TEST(StarvationOfIds, NewVmsHaveNoFaultsOfOthers) {
    Settings settings;
    settings.vm_default.limits.quarantine_after_faults = 3;
    settings.vms[7].limits.quarantine_after_faults = 3;
    EventSink events;
    const SteadyClock clock;
    VmTable table(settings, events, clock);
    table.quarantine(7);
    table.quarantine(9);
    const auto held = table.of(8);
    held->faults().quarantine();
    constexpr std::uint32_t kFirst = 1000;
    for (std::uint32_t id = kFirst; id < kFirst + 2 * VmTable::kMostVms; ++id) {
        for (int fault = 0; fault < 2; ++fault) {
            table.count_fault(id);
        }
        ASSERT_EQ(table.of(id)->faults().faults(), 2U) << id;
    }
    EXPECT_FALSE(table.of(5)->faults().quarantined());
    EXPECT_EQ(table.of(5)->faults().faults(), 0U);
    EXPECT_TRUE(table.of(7)->faults().quarantined()) << "the configuration names it";
    EXPECT_TRUE(table.of(8)->faults().quarantined()) << "it has a connection";
    EXPECT_TRUE(table.of(9)->faults().quarantined()) << "those with faults alone go first";
}

}  // namespace
}  // namespace vgpu::test
