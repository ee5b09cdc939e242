// SPDX-License-Identifier: MIT
//
// Fuzzer without libFuzzer: the device in a real QEMU, driven at random over the qtest protocol:
// BAR0, the MSI-X table, BAR2 and PCI configuration space, with a mediator that accepts, replies,
// closes and sends garbage. QEMU must answer every access; it must not exit, abort or hang.
//
//   fuzz-qtest [--seed N] [--seconds N] [--artifact-prefix PREFIX]
//
// Each machine has its own seed. A failing seed is printed and written to PREFIX<seed>; `--seed N`
// starts with it. If VGPU_FUZZ_TRACE is set, every access is printed.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/fd.h"
#include "qtest/machine.h"
#include "support/temp_dir.h"
#include "support/unix_socket.h"
#include "vgpu_protocol.h"

namespace vgpu::fuzz {
namespace {

using Clock = std::chrono::steady_clock;

constexpr unsigned kSlot = 4;
constexpr std::uint32_t kVmId = 7;
constexpr std::uint64_t kBar0 = 0xE0000000;
constexpr std::uint64_t kBar1 = 0xE0001000;
constexpr std::uint64_t kBar2 = 0x800000000;
constexpr std::uint64_t kShmSize = 0x100000;
constexpr unsigned kStepsPerMachine = 20000;

class Random {
  public:
    explicit Random(std::uint64_t seed) : engine_(seed) {}
    std::uint64_t below(std::uint64_t limit) { return engine_() % limit; }
    bool one_in(std::uint64_t count) { return below(count) == 0; }
    template <typename T, std::size_t N>
    T one_of(const std::array<T, N>& values) {
        return values[below(N)];
    }
    // Returns a number, often a boundary value.
    std::uint64_t value() {
        static constexpr std::array<std::uint64_t, 12> kOften{
            0, 1, 2, 3, 4, 8, 32, 1024, 1025, 0xFFFF, 0xFFFFFFFF, UINT64_MAX};
        return one_in(3) ? engine_() >> below(64) : one_of(kOften);
    }

  private:
    std::mt19937_64 engine_;
};

// The mediator's side. Never blocks.
class StandIn {
  public:
    StandIn(Random& random, const std::string& path)
        : random_(random), listener_(test::listen_unix(path, 8)) {
        static_cast<void>(::fcntl(listener_.get(), F_SETFL, O_NONBLOCK));
    }

    void step() {
        if (!connection_) {
            connection_.reset(
                ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
            return;
        }
        switch (random_.below(12)) {
            case 0:
                if (random_.one_in(60)) {
                    connection_.reset();
                    events_.clear();
                }
                break;
            case 1:
                send(VGPU_MSG_PING, 0);
                break;
            case 2:
                send_rubbish();
                break;
            case 3:
            case 4:
                send_hello_reply(random_.one_in(4) ? VGPU_MSG_SHM_RESET_DONE
                                                   : VGPU_MSG_HELLO_REPLY);
                break;
            case 5:
            case 6:
                send(VGPU_MSG_RESPONSE, sizeof(vgpu_response) + random_.below(64));
                break;
            case 7:
                send(static_cast<std::uint32_t>(random_.one_in(2) ? VGPU_MSG_BUSY
                                                                  : VGPU_MSG_QUARANTINED),
                     0);
                break;
            case 8:
                if (!events_.empty()) {
                    static_cast<void>(::eventfd_write(events_[random_.below(events_.size())].get(),
                                                      1 + random_.below(2)));
                }
                break;
            default:
                receive();
                break;
        }
    }

  private:
    void receive() {
        std::array<std::byte, 4096> bytes{};
        iovec part{bytes.data(), bytes.size()};
        alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(4 * sizeof(int))> control{};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = control.data();
        message.msg_controllen = control.size();
        const ssize_t got = ::recvmsg(connection_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        if (got == 0) {
            connection_.reset();
        }
        for (cmsghdr* one = got > 0 ? CMSG_FIRSTHDR(&message) : nullptr; one != nullptr;
             one = CMSG_NXTHDR(&message, one)) {
            for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= one->cmsg_len;
                 at += sizeof(int)) {
                int number = -1;
                std::memcpy(&number, reinterpret_cast<std::byte*>(one) + at, sizeof number);
                Fd descriptor(number);
                // Doorbells and interrupts. Writing 8 bytes to a memory file is harmless.
                static_cast<void>(::fcntl(number, F_SETFL, O_NONBLOCK));
                if (events_.size() < 32) {
                    events_.push_back(std::move(descriptor));
                }
            }
        }
        if (got >= static_cast<ssize_t>(sizeof last_)) {
            std::memcpy(&last_, bytes.data(), sizeof last_);
        }
    }

    // Sends a message for the last request or another one.
    void send(std::uint32_t type, std::size_t length) {
        std::vector<std::uint8_t> payload(length);
        for (std::uint8_t& byte : payload) {
            byte = static_cast<std::uint8_t>(random_.one_in(4) ? random_.below(256) : 0);
        }
        send(type, payload);
    }
    void send(std::uint32_t type, std::span<const std::uint8_t> payload) {
        vgpu_msg_header header{};
        header.magic = VGPU_MSG_MAGIC;
        header.msg_type = type;
        header.vm_id = kVmId;
        header.request_id =
            random_.one_in(8) ? static_cast<std::uint32_t>(random_.value()) : last_.request_id;
        header.payload_len = static_cast<std::uint16_t>(payload.size());
        std::vector<std::uint8_t> bytes(sizeof header);
        std::memcpy(bytes.data(), &header, sizeof header);
        bytes.insert(bytes.end(), payload.begin(), payload.end());
        // Sometimes truncated, so that the following bytes are garbage.
        send_bytes(std::span(bytes).first(random_.one_in(50) ? random_.below(bytes.size() + 1)
                                                             : bytes.size()));
    }
    void send_hello_reply(std::uint32_t type) {
        vgpu_msg_hello_reply reply{};
        reply.status = random_.one_in(4) ? static_cast<std::uint32_t>(random_.below(9)) : 0;
        if (reply.status == 0) {
            reply.layout_version = VGPU_SHM_LAYOUT_VERSION;
            reply.features = VGPU_FEATURE_SHM | VGPU_FEATURE_QUEUES;
            reply.generation = 1 + random_.below(3);
        }
        std::array<std::uint8_t, sizeof reply> bytes{};
        std::memcpy(bytes.data(), &reply, sizeof reply);
        send(type, bytes);
    }
    void send_rubbish() {
        if (!random_.one_in(60)) {
            return;
        }
        std::vector<std::uint8_t> bytes(random_.below(200));
        for (std::uint8_t& byte : bytes) {
            byte = static_cast<std::uint8_t>(random_.below(256));
        }
        send_bytes(bytes);
    }
    void send_bytes(std::span<const std::uint8_t> bytes) {
        if (::send(connection_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT) <
                0 &&
            errno != EAGAIN) {
            connection_.reset();
        }
    }

    Random& random_;
    Fd listener_;
    Fd connection_;
    std::vector<Fd> events_;
    vgpu_msg_header last_{};
};

// One machine and its random sequence.
class Run {
  public:
    explicit Run(std::uint64_t seed) : random_(seed) {
        const std::string path = dir_.file("mediator");
        stand_in_ = std::make_unique<StandIn>(random_, path);
        std::string device = "vgpu-stub,id=vgpu,addr=4,vm_id=7,socket=" + path;
        static constexpr std::array<const char*, 5> kProperties{
            ",shm-size=0", ",shm-size=1M,queues=1", ",shm-size=1M,queues=4",
            ",shm-size=1M,queues=32", ",shm-size=1M,queues=4,timeout-ms=20"};
        device += random_.one_of(kProperties);
        machine_ = std::make_unique<test::Machine>(std::vector<std::string>{"-device", device},
                                                   random_.one_in(4) ? "pc" : "q35");
        map_bars();
    }

    // Throws std::runtime_error if QEMU does not respond.
    void step() {
        if (random_.one_in(3)) {
            stand_in_->step();
        }
        switch (random_.below(16)) {
            case 0:
                submit();
                break;
            case 1:
                configure();
                break;
            case 2:
            case 3:
                write(kBar1 + random_.below(0x1000), 1U << random_.below(4), message_word());
                break;
            case 4:
                read(kBar1 + random_.below(0x1000));
                break;
            case 5:
                write(kBar2 + random_.below(kShmSize), 1U << random_.below(4), random_.value());
                break;
            case 6:
                read(kBar2 + random_.below(kShmSize));
                break;
            case 7:
                if (random_.one_in(20)) {
                    machine_->clock_step(std::chrono::milliseconds(random_.below(100)));
                }
                break;
            case 8:
                if (random_.one_in(500)) {
                    trace("reset", 0, 0, 0);
                    static_cast<void>(machine_->qmp("system_reset"));
                    map_bars();
                }
                break;
            case 9:
            case 10:
            case 11:
                read(kBar0 + offset());
                break;
            default:
                write(kBar0 + offset(), random_.one_in(4) ? 1U << random_.below(4) : 4U,
                      random_.value());
                break;
        }
    }

  private:
    void trace(const char* what, std::uint64_t at, unsigned size, std::uint64_t value) const {
        if (traces_) {
            static_cast<void>(std::fprintf(stderr, "%s 0x%llx %u 0x%llx\n", what,
                                           static_cast<unsigned long long>(at), size,
                                           static_cast<unsigned long long>(value)));
        }
    }
    void map_bars() {
        trace("map BARs", 0, 0, 0);
        machine_->config_write(kSlot, 0x10, 4, static_cast<std::uint32_t>(kBar0));
        machine_->config_write(kSlot, 0x14, 4, static_cast<std::uint32_t>(kBar1));
        machine_->config_write(kSlot, 0x18, 4, static_cast<std::uint32_t>(kBar2));
        machine_->config_write(kSlot, 0x1C, 4, static_cast<std::uint32_t>(kBar2 >> 32U));
        machine_->config_write(kSlot, 0x04, 2, 0x6);
    }
    std::uint64_t offset() {
        return random_.one_in(8)   ? random_.below(0x1000)
               : random_.one_in(4) ? 0x840 + 4 * random_.below(0x1F0)
                                   : 4 * random_.below(0x10);
    }
    void read(std::uint64_t address) {
        const unsigned size = 1U << random_.below(4);
        trace("read", address, size, 0);
        static_cast<void>(machine_->read(address, size));
    }
    void write(std::uint64_t address, unsigned size, std::uint64_t value) {
        trace("write", address, size, value);
        machine_->write(address, size, value);
    }
    // For MSI and MSI-X: an address in RAM, of an interrupt, or of the device itself.
    std::uint64_t message_word() {
        static constexpr std::array<std::uint64_t, 6> kOften{
            kBar0, kBar0 + VGPU_REG_IRQ_STATUS, kBar1, 0x100000, 0xFEE00000, 1};
        return random_.one_in(2) ? random_.one_of(kOften) : random_.value();
    }
    void submit() {
        vgpu_request request{};
        request.version = VGPU_PROTOCOL_VERSION;
        std::array<std::uint8_t, sizeof request> bytes{};
        std::memcpy(bytes.data(), &request, sizeof request);
        machine_->write_block(kBar0 + VGPU_REQUEST_BUF, bytes);
        write(kBar0 + VGPU_REG_REQUEST_LEN, 4, sizeof request);
        write(kBar0 + VGPU_REG_REQUEST_ID, 4, random_.below(4));
        write(kBar0 + VGPU_REG_IRQ_CTRL, 4, random_.below(8));
        write(kBar0 + VGPU_REG_DOORBELL, 4, 1);
    }
    void configure() {
        if (random_.one_in(3)) {
            map_bars();
            return;
        }
        const auto offset = static_cast<unsigned>(random_.below(0x100));
        const auto size = 1U << random_.below(3);
        const unsigned aligned = offset / size * size;
        // QEMU checks INTX_DISABLE only on writes to the lower byte of COMMAND. After a write to
        // the upper byte it miscounts the line and asserts at the next reset
        // (pci_default_write_config, pcibus_reset). This affects every device with an interrupt
        // pin.
        const bool is_upper_half_of_command = aligned == 5 && size == 1;
        if (random_.one_in(4) || is_upper_half_of_command) {
            static_cast<void>(machine_->config_read(kSlot, aligned, size));
        } else {
            const auto value = static_cast<std::uint32_t>(message_word());
            trace("config write", aligned, size, value);
            machine_->config_write(kSlot, aligned, size, value);
        }
    }

    const bool traces_ = std::getenv("VGPU_FUZZ_TRACE") != nullptr;
    Random random_;
    test::TempDir dir_;
    std::unique_ptr<StandIn> stand_in_;
    std::unique_ptr<test::Machine> machine_;
};

int fuzz(std::uint64_t seed, std::chrono::seconds time, const std::string& artifact_prefix) {
    if (const std::string reason = test::why_no_qemu(); !reason.empty()) {
        std::printf("SKIPPED: %s\n", reason.c_str());
        return 77;
    }
    const auto end = Clock::now() + time;
    unsigned long steps = 0;
    unsigned machines = 0;
    for (; Clock::now() < end; ++seed, ++machines) {
        try {
            Run run(seed);
            for (unsigned step = 0; step != kStepsPerMachine && Clock::now() < end; ++step) {
                run.step();
                ++steps;
            }
        } catch (const std::exception& error) {
            const std::string artifact = artifact_prefix + std::to_string(seed);
            std::ofstream(artifact) << seed << "\n" << error.what() << "\n";
            std::printf("finding with --seed %llu: %s\nTest unit written to %s\n",
                        static_cast<unsigned long long>(seed), error.what(), artifact.c_str());
            return 1;
        }
    }
    std::printf("%lu accesses, %u machines\n", steps, machines);
    return 0;
}

}  // namespace
}  // namespace vgpu::fuzz

int main(int argc, char** argv) {
    static_cast<void>(std::signal(SIGPIPE, SIG_IGN));
    std::uint64_t seed = std::random_device()();
    long seconds = 10;
    std::string artifact_prefix = "qtest-";
    for (int i = 1; i + 1 < argc; i += 2) {
        const std::string option = argv[i];
        if (option == "--seed") {
            seed = std::strtoull(argv[i + 1], nullptr, 10);
        } else if (option == "--seconds") {
            seconds = std::strtol(argv[i + 1], nullptr, 10);
        } else if (option == "--artifact-prefix") {
            artifact_prefix = argv[i + 1];
        } else {
            static_cast<void>(std::fprintf(stderr, "fuzz-qtest: unknown option %s\n", argv[i]));
            return 2;
        }
    }
    std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
    return vgpu::fuzz::fuzz(seed, std::chrono::seconds(seconds), artifact_prefix);
}
