// SPDX-License-Identifier: MIT
//
// WirePeer: one end of the socket between device and mediator, played by a test or a benchmark.
// It can play the device (connect) or, with a descriptor from elsewhere, the mediator (adopt). It
// is built of raw system calls on purpose: it must be able to send what no correct peer would.
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

    // The payload's fixed part; all zeros if the payload is shorter than that.
    [[nodiscard]] vgpu_response response() const;
    [[nodiscard]] vgpu_request request() const;
    // The index-th result or parameter word; nothing if the payload does not hold it.
    [[nodiscard]] std::optional<std::uint32_t> word(std::size_t index) const;
    // The data part of a response as text.
    [[nodiscard]] std::string response_text() const;
};

// A request as bytes, header fields filled from the arguments, data after the params.
std::vector<std::uint8_t> make_request(std::uint32_t opcode,
                                       std::span<const std::uint32_t> params = {},
                                       std::span<const std::uint8_t> data = {},
                                       std::uint32_t flags = 0);
std::vector<std::uint8_t> make_add(std::uint32_t a, std::uint32_t b);

// A response as bytes.
std::vector<std::uint8_t> make_response(std::uint32_t status,
                                        std::span<const std::uint32_t> results = {},
                                        std::uint32_t exec_time_us = 0);

class WirePeer {
  public:
    // Connects to the Unix socket at `path`. Throws std::system_error if that fails.
    static WirePeer connect(const std::string& path);
    // Takes over a connected stream socket.
    static WirePeer adopt(Fd fd) { return WirePeer(std::move(fd)); }

    // Identity put into the headers made by send_request().
    std::uint32_t vm_id = 1;
    char pool = 'A';
    std::uint8_t priority = VGPU_PRIORITY_MEDIUM;

    // Sends one REQUEST (header and payload in one write). Throws if the peer is gone.
    void send_request(std::uint32_t request_id, std::span<const std::uint8_t> payload);
    // Sends one message with this header (payload_len is taken from `payload`).
    void send(vgpu_msg_header header, std::span<const std::uint8_t> payload = {});
    // Sends bytes as they are. False if the peer has closed.
    bool send_raw(std::span<const std::uint8_t> bytes);

    // The next message; nothing at end of file, on reset, or at the limit. Throws
    // std::runtime_error if descriptors come with it: a mediator takes that for a violation.
    std::optional<WireMessage> receive(std::chrono::milliseconds limit = std::chrono::seconds(10));
    // The same, with descriptors allowed: they are added to `descriptors`.
    std::optional<WireMessage> receive(std::vector<Fd>& descriptors,
                                       std::chrono::milliseconds limit = std::chrono::seconds(10));
    // True once the other side has closed (data before that is read and dropped).
    bool wait_closed(std::chrono::milliseconds limit = std::chrono::seconds(10));

    [[nodiscard]] int fd() const { return fd_.get(); }
    void close() { fd_.reset(); }
    // A header for this identity.
    [[nodiscard]] vgpu_msg_header header(std::uint32_t type, std::uint32_t request_id) const;

  private:
    explicit WirePeer(Fd fd) : fd_(std::move(fd)) {}

    Fd fd_;
};

// A listening Unix socket that plays the mediator's side.
class WireListener {
  public:
    // Throws std::system_error if it cannot listen at `path`.
    explicit WireListener(const std::string& path);
    // The next connection; nothing at the limit.
    std::optional<WirePeer> accept(std::chrono::milliseconds limit = std::chrono::seconds(10));

  private:
    Fd fd_;
    std::string path_;
};

}  // namespace vgpu::test
