// SPDX-License-Identifier: MIT
//
// SocketDevice: a host process that speaks the socket protocol like a device, made for measuring:
// one send and one receive per request, no allocation in between, and every answer checked, so that
// a wrong answer can never count as a fast one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/fd.h"
#include "vgpu_protocol.h"

namespace vgpu::bench {

// What a mediator says about the device behind a pool.
struct DeviceInfo {
    std::string backend;  // "cpu" or "cuda"
    std::string name;
};

class SocketDevice {
  public:
    // Connects to the mediator at `path` as VM `vm_id`, pool A, medium priority. Throws
    // std::system_error if that fails.
    SocketDevice(const std::string& path, std::uint32_t vm_id);

    // Borrowed.
    [[nodiscard]] int fd() const { return fd_.get(); }

    // The two halves of a round trip. All of these throw std::runtime_error, with a sentence, if
    // the connection fails or the answer is not what was asked for.
    void send_nop();
    void receive_nop();
    void send_add(std::uint32_t a, std::uint32_t b);
    // Returns the sum; exec_time_us of the answer in last_exec_time_us().
    std::uint32_t receive_add();

    [[nodiscard]] std::uint32_t last_exec_time_us() const { return last_exec_time_us_; }

    DeviceInfo device_info();

    // Bytes of a request and of its answer, message header included.
    static constexpr std::size_t kNopRequestSize = sizeof(vgpu_msg_header) + sizeof(vgpu_request);
    static constexpr std::size_t kNopReplySize = sizeof(vgpu_msg_header) + sizeof(vgpu_response);
    static constexpr std::size_t kAddRequestSize = kNopRequestSize + 2 * sizeof(std::uint32_t);
    static constexpr std::size_t kAddReplySize = kNopReplySize + sizeof(std::uint32_t);

  private:
    void send_request(std::uint32_t opcode, std::span<const std::uint32_t> params);
    // The results and data of the answer; valid until the next call.
    std::span<const std::byte> receive_response();

    Fd fd_;
    std::uint32_t vm_id_;
    std::uint32_t request_id_ = 0;
    std::uint32_t last_exec_time_us_ = 0;
    vgpu_response response_{};
    std::array<std::byte, sizeof(vgpu_msg_header) + VGPU_MSG_MAX_PAYLOAD> buffer_{};
};

}  // namespace vgpu::bench
