// SPDX-License-Identifier: MIT
//
// SocketDevice: a host process that speaks the socket protocol like a device, for measurements: one
// send and one receive per request, no allocation in between, and every response checked, so that a
// wrong response never counts as a fast one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/fd.h"
#include "response_reader.h"
#include "vgpu_protocol.h"

namespace vgpu::bench {

// The device behind a pool, as the mediator reports it.
struct DeviceInfo {
    std::string backend;  // "cpu" or "cuda"
    std::string name;
};

class SocketDevice {
  public:
    // Connects to the mediator at `path` as VM `vm_id`, pool A, medium priority. Throws
    // std::system_error on failure.
    SocketDevice(const std::string& path, std::uint32_t vm_id);

    // Borrowed.
    [[nodiscard]] int fd() const { return fd_.get(); }

    // The two halves of a round trip. All of these throw std::runtime_error, with an error message,
    // if the connection fails or the response is not the expected one.
    void send_nop();
    void receive_nop();
    void send_add(std::uint32_t a, std::uint32_t b);
    // Returns the sum; last_exec_time_us() returns the response's exec_time_us.
    std::uint32_t receive_add();

    [[nodiscard]] std::uint32_t last_exec_time_us() const { return last_exec_time_us_; }

    DeviceInfo device_info();

    // Size of a request and of its response in bytes, message header included.
    static constexpr std::size_t kNopRequestSize = sizeof(vgpu_msg_header) + sizeof(vgpu_request);
    static constexpr std::size_t kNopReplySize = sizeof(vgpu_msg_header) + sizeof(vgpu_response);
    static constexpr std::size_t kAddRequestSize = kNopRequestSize + 2 * sizeof(std::uint32_t);
    static constexpr std::size_t kAddReplySize = kNopReplySize + sizeof(std::uint32_t);

  private:
    void send_request(std::uint32_t opcode, std::span<const std::uint32_t> params);
    // The view is valid until the next call.
    ResponseView receive_response();

    Fd fd_;
    std::uint32_t vm_id_;
    std::uint32_t request_id_ = 0;
    std::uint32_t last_exec_time_us_ = 0;
    ResponseReader reader_;
};

}  // namespace vgpu::bench
