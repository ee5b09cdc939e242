// SPDX-License-Identifier: MIT
//
// LoadDevice: a host process that speaks the socket protocol like a device and, unlike
// SocketDevice, may have many requests in flight. Checks every response; a wrong response or an
// error ends the measurement.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "response_reader.h"
#include "vgpu_protocol.h"

namespace vgpu::bench {

class LoadDevice {
  public:
    struct Answer {
        std::uint32_t exec_time_us = 0;
        std::uint32_t first_result = 0;  // 0 if there is none
        std::uint64_t tag = 0;           // as given to send()
    };

    // Connects to the mediator at `path`, pool A. Throws std::system_error on failure.
    LoadDevice(const std::string& path, std::uint32_t vm_id, std::uint8_t priority);

    // Borrowed; readable when a response may have arrived.
    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] std::size_t under_way() const { return tags_.size(); }

    // The functions below throw std::runtime_error, with an error message, if the mediator closes
    // the connection or sends a wrong response.
    void send(std::uint32_t opcode, std::span<const std::uint32_t> params = {},
              std::uint64_t tag = 0);
    // Reads once, blocking if no data is available, and returns the responses that this completed,
    // oldest first; possibly none. Valid until the next call. The mediator answers one VM's
    // requests of one priority level in order; another order is an error.
    std::span<const Answer> receive();
    // Sends one request and waits for its response. Precondition: under_way() is 0.
    Answer ask(std::uint32_t opcode, std::span<const std::uint32_t> params = {});

  private:
    Fd fd_;
    std::uint32_t vm_id_;
    std::uint8_t priority_;
    std::uint32_t next_id_ = 1;
    std::uint32_t next_answered_ = 1;
    std::deque<std::uint64_t> tags_;
    std::vector<Answer> answers_;
    ResponseReader reader_;
};

}  // namespace vgpu::bench
