// SPDX-License-Identifier: MIT
//
// WirePeer: one end of the socket between device and mediator, for tests and benchmarks. Simulates
// the device (connect) or, with an existing descriptor, the mediator (adopt). It uses raw system
// calls on purpose: it must be able to send what no correct peer would.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "vgpu_protocol.h"

namespace vgpu::test {

struct WireMessage {
    vgpu_msg_header header{};
    std::vector<std::uint8_t> payload;

    // Returns the payload's fixed part; all zeros if the payload is shorter.
    [[nodiscard]] vgpu_response response() const;
    [[nodiscard]] vgpu_request request() const;
    // Returns the index-th result or parameter word; nullopt if the payload is too short.
    [[nodiscard]] std::optional<std::uint32_t> word(std::size_t index) const;
    // Returns the data part of a response as text.
    [[nodiscard]] std::string response_text() const;
};

// Encodes a request; header fields are derived from the arguments, data follows the params.
std::vector<std::uint8_t> make_request(std::uint32_t opcode,
                                       std::span<const std::uint32_t> params = {},
                                       std::span<const std::uint8_t> data = {},
                                       std::uint32_t flags = 0);
std::vector<std::uint8_t> make_add(std::uint32_t a, std::uint32_t b);

// Encodes a response.
std::vector<std::uint8_t> make_response(std::uint32_t status,
                                        std::span<const std::uint32_t> results = {},
                                        std::uint32_t exec_time_us = 0);

class WirePeer {
  public:
    // Connects to the Unix socket at `path`. Throws std::system_error on failure.
    static WirePeer connect(const std::string& path);
    // Takes ownership of a connected stream socket.
    static WirePeer adopt(Fd fd) { return WirePeer(std::move(fd)); }

    // Identity used in the headers.
    std::uint32_t vm_id = 1;
    char pool = 'A';
    std::uint8_t priority = VGPU_PRIORITY_MEDIUM;

    // Sends one REQUEST (header and payload in one write). Throws if the peer has disconnected.
    void send_request(std::uint32_t request_id, std::span<const std::uint8_t> payload);
    // Sends one message with this header (payload_len is taken from `payload`).
    void send(vgpu_msg_header header, std::span<const std::uint8_t> payload = {});
    // Sends raw bytes. Returns false if the peer has closed the connection.
    bool send_raw(std::span<const std::uint8_t> bytes);

    // Returns the next message; nullopt at end of file, on reset, or on time-out. Throws
    // std::runtime_error if it carries descriptors: a mediator treats those as a violation.
    std::optional<WireMessage> receive(std::chrono::milliseconds limit = std::chrono::seconds(10));
    // The same, but accepts descriptors and appends them to `descriptors`.
    std::optional<WireMessage> receive(std::vector<Fd>& descriptors,
                                       std::chrono::milliseconds limit = std::chrono::seconds(10));
    // Returns true once the peer has closed the connection; discards data received before that.
    bool wait_closed(std::chrono::milliseconds limit = std::chrono::seconds(10));

    [[nodiscard]] int fd() const { return fd_.get(); }
    void close() { fd_.reset(); }
    // Returns a header with this identity.
    [[nodiscard]] vgpu_msg_header header(std::uint32_t type, std::uint32_t request_id) const;

  private:
    explicit WirePeer(Fd fd) : fd_(std::move(fd)) {}

    Fd fd_;
};

// A listening Unix socket that simulates the mediator.
class WireListener {
  public:
    // Throws std::system_error if it cannot listen at `path`.
    explicit WireListener(const std::string& path);
    // Accepts the next connection; nullopt on time-out.
    std::optional<WirePeer> accept(std::chrono::milliseconds limit = std::chrono::seconds(10));

  private:
    Fd fd_;
    std::string path_;
};

}  // namespace vgpu::test
