// SPDX-License-Identifier: MIT
//
// Guest side of the transports that vgpu is compared with. Each is used as efficiently as possible:
// descriptors stay open, a request and a response take one call each, and waiting may poll. Every
// response is checked.
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

// Client of the old file protocol, on any file system. request.txt holds "pool:priority:vm:a:b";
// the host writes a + b to response.txt. Reads and writes bypass this machine's page cache
// (O_DIRECT): on a network file system each is one call to the server and never returns a stale
// response.
class FileClient {
  public:
    // O_DIRECT, or not: for a file system that supports it for whole blocks only.
    enum class Cache : std::uint8_t { kAround, kThrough };

    // `directory` is the VM's own; missing files are created. Throws std::system_error.
    FileClient(const std::string& directory, std::uint32_t vm, Cache cache = Cache::kAround);

    // Clears the previous response. Not part of the round trip.
    void prepare();
    // Writes a request and polls for the response. Throws std::runtime_error if the response is
    // wrong or does not arrive for 60 s.
    void round_trip();

  private:
    struct FreeDeleter {
        void operator()(void* memory) const { std::free(memory); }  // NOLINT
    };
    Fd request_;
    Fd response_;
    std::unique_ptr<char, FreeDeleter> page_;  // aligned for O_DIRECT
    std::uint32_t vm_;
    std::uint32_t number_ = 0;
};

// Sends 64-byte requests, which the host echoes unchanged, over TCP or a virtio-serial port.
class EchoClient {
  public:
    enum class Wait : std::uint8_t { kSleep, kSpin };

    // Throw std::system_error, or std::runtime_error for an invalid address.
    static EchoClient connect_tcp(const std::string& address, std::uint16_t port, Wait wait);
    static EchoClient open_port(const std::string& device, Wait wait);

    // Throws std::runtime_error if the echo differs or does not arrive for 60 s.
    void round_trip();

  private:
    EchoClient(Fd fd, Wait wait) : fd_(std::move(fd)), wait_(wait) {}

    Fd fd_;
    Wait wait_;
    std::uint64_t number_ = 0;
};

}  // namespace vgpu::bench
