// SPDX-License-Identifier: MIT
#include "socket_device.h"

#include <fmt/core.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "socket_io.h"
#include "support/unix_socket.h"

namespace vgpu::bench {

SocketDevice::SocketDevice(const std::string& path, std::uint32_t vm_id)
    : fd_(test::connect_unix(path)), vm_id_(vm_id) {}

void SocketDevice::send_request(std::uint32_t opcode, std::span<const std::uint32_t> params) {
    vgpu_msg_header header{};
    header.vm_id = vm_id_;
    header.request_id = ++request_id_;
    header.pool_id = 'A';
    header.priority = VGPU_PRIORITY_MEDIUM;
    if (!bench::send_request(fd_.get(), header, opcode, params)) {
        throw std::runtime_error("the mediator has closed the connection");
    }
}

std::span<const std::byte> SocketDevice::receive_response() {
    constexpr std::size_t kFixed = sizeof(vgpu_msg_header) + sizeof(vgpu_response);
    std::size_t have = 0;
    std::size_t want = kFixed;
    while (have < want) {
        const ssize_t n = ::recv(fd_.get(), buffer_.data() + have, buffer_.size() - have, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            throw std::runtime_error("the mediator has closed the connection");
        }
        have += static_cast<std::size_t>(n);
        if (have >= kFixed) {
            vgpu_msg_header header{};
            std::memcpy(&header, buffer_.data(), sizeof header);
            std::memcpy(&response_, buffer_.data() + sizeof header, sizeof response_);
            if (header.magic != VGPU_MSG_MAGIC || header.msg_type != VGPU_MSG_RESPONSE ||
                header.vm_id != vm_id_ || header.request_id != request_id_ ||
                header.payload_len < sizeof response_ ||
                header.payload_len > VGPU_MSG_MAX_PAYLOAD) {
                throw std::runtime_error(fmt::format(
                    "expected the response to request {} of VM {}, got message type {}, request "
                    "{}, VM {}, {} bytes",
                    request_id_, vm_id_, header.msg_type, header.request_id, header.vm_id,
                    header.payload_len));
            }
            want = sizeof header + header.payload_len;
        }
    }
    if (have > want) {
        throw std::runtime_error("the mediator sent more than the response");
    }
    if (response_.status != 0) {
        throw std::runtime_error(
            fmt::format("the mediator answered with error 0x{:02X}", response_.status));
    }
    last_exec_time_us_ = response_.exec_time_us;
    return std::span(buffer_).first(want).subspan(kFixed);
}

void SocketDevice::send_nop() {
    send_request(VGPU_OP_NOP, {});
}

void SocketDevice::receive_nop() {
    receive_response();
    if (response_.result_count != 0) {
        throw std::runtime_error("the answer to NOP holds results");
    }
}

void SocketDevice::send_add(std::uint32_t a, std::uint32_t b) {
    const std::array<std::uint32_t, 2> params{a, b};
    send_request(VGPU_OP_CUDA_KERNEL, params);
}

std::uint32_t SocketDevice::receive_add() {
    const auto rest = receive_response();
    std::uint32_t sum = 0;
    if (response_.result_count != 1 || rest.size() < sizeof sum) {
        throw std::runtime_error(
            fmt::format("the answer to an addition holds {} results", response_.result_count));
    }
    std::memcpy(&sum, rest.data(), sizeof sum);
    return sum;
}

DeviceInfo SocketDevice::device_info() {
    send_request(VGPU_OP_GET_DEVICE_INFO, {});
    const auto rest = receive_response();
    constexpr std::size_t kResults = VGPU_INFO_RESULT_COUNT * sizeof(std::uint32_t);
    const std::uint64_t begin = response_.data_offset;
    const std::uint64_t end = begin + response_.data_length;
    if (response_.result_count < VGPU_INFO_RESULT_COUNT || rest.size() < kResults ||
        begin < sizeof response_ + kResults || end > sizeof response_ + rest.size()) {
        throw std::runtime_error("the answer to GET_DEVICE_INFO does not fit together");
    }
    std::uint32_t backend = 0;
    std::memcpy(&backend, rest.data() + VGPU_INFO_BACKEND * sizeof backend, sizeof backend);
    const auto name = rest.subspan(begin - sizeof response_, end - begin);
    return {.backend = backend == VGPU_BACKEND_CUDA ? "cuda" : "cpu",
            .name = std::string(reinterpret_cast<const char*>(name.data()), name.size())};
}

}  // namespace vgpu::bench
