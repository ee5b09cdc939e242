// SPDX-License-Identifier: MIT
//
// ResponseReader: receives the responses of one connection to the mediator, without allocation, and
// checks each, so that a wrong response never counts as a fast one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "ipc/message.h"
#include "vgpu_protocol.h"

namespace vgpu::bench {

struct ResponseView {
    vgpu_response fixed;
    std::span<const std::byte> rest;  // results and data; valid until the reader is used again
};

class ResponseReader {
  public:
    // Receives once; blocks if no data is available. Throws std::runtime_error if the mediator of
    // VM `vm_id` has closed the connection.
    void receive(int fd, std::uint32_t vm_id);
    // Returns the next complete response; nullopt if there is none yet. Throws std::runtime_error,
    // with an error message, if it is not the response to this request, or reports an error.
    std::optional<ResponseView> next(std::uint32_t vm_id, std::uint32_t request_id);
    // Whether bytes after the last response were received.
    [[nodiscard]] bool partial() const { return reader_.partial(); }

  private:
    MessageReader reader_;
};

}  // namespace vgpu::bench
