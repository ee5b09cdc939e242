// SPDX-License-Identifier: MIT
//
// The ways between guest and host that vgpu is compared with, as a program in the guest uses them.
// Each is used as well as can be done with it: descriptors stay open, a request and an answer are
// one call each, and whoever waits may look without pause. Every answer is checked.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "base/fd.h"

namespace vgpu::bench {

// The old file protocol, over whatever file system `directory` is on: request.txt holds
// "pool:priority:vm:a:b", the host writes a + b into response.txt. Both files are read and written
// around this machine's cache (O_DIRECT): on a network file system one call of the server each, and
// never an old answer.
class FileClient {
  public:
    // O_DIRECT, or not: for a file system that has none for anything but whole blocks.
    enum class Cache : std::uint8_t { kAround, kThrough };

    // `directory` is the VM's own; the files are made where they are missing. Throws
    // std::system_error.
    FileClient(const std::string& directory, std::uint32_t vm, Cache cache = Cache::kAround);

    // Clears the last answer. Not a part of the round trip.
    void prepare();
    // Asks and waits for the answer, looking again as soon as a look has been answered. Throws
    // std::runtime_error if it is wrong or does not come for 60 s.
    void round_trip();

  private:
    struct FreeDeleter {
        void operator()(void* memory) const { std::free(memory); }  // NOLINT
    };
    Fd request_;
    Fd response_;
    std::unique_ptr<char, FreeDeleter> page_;  // as direct input and output wants it
    std::uint32_t vm_;
    std::uint32_t number_ = 0;
};

// Requests of 64 bytes that come back as they are: over TCP, or a virtio-serial port.
class EchoClient {
  public:
    enum class Wait : std::uint8_t { kSleep, kSpin };

    // Throw std::system_error, or std::runtime_error for an address that is none.
    static EchoClient connect_tcp(const std::string& address, std::uint16_t port, Wait wait);
    static EchoClient open_port(const std::string& device, Wait wait);

    // Throws std::runtime_error if what comes back is something else, or nothing for 60 s.
    void round_trip();

  private:
    EchoClient(Fd fd, Wait wait) : fd_(std::move(fd)), wait_(wait) {}

    Fd fd_;
    Wait wait_;
    std::uint64_t number_ = 0;
};

}  // namespace vgpu::bench
