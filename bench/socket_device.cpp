// SPDX-License-Identifier: MIT
#include "socket_device.h"

#include <fmt/core.h>

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

ResponseView SocketDevice::receive_response() {
    for (;;) {
        reader_.receive(fd_.get(), vm_id_);
        if (const auto response = reader_.next(vm_id_, request_id_)) {
            if (reader_.partial()) {
                throw std::runtime_error("the mediator sent more than the response");
            }
            last_exec_time_us_ = response->fixed.exec_time_us;
            return *response;
        }
    }
}

void SocketDevice::send_nop() {
    send_request(VGPU_OP_NOP, {});
}

void SocketDevice::receive_nop() {
    if (receive_response().fixed.result_count != 0) {
        throw std::runtime_error("the response to NOP contains results");
    }
}

void SocketDevice::send_add(std::uint32_t a, std::uint32_t b) {
    const std::array<std::uint32_t, 2> params{a, b};
    send_request(VGPU_OP_CUDA_KERNEL, params);
}

std::uint32_t SocketDevice::receive_add() {
    const auto [fixed, rest] = receive_response();
    std::uint32_t sum = 0;
    if (fixed.result_count != 1 || rest.size() < sizeof sum) {
        throw std::runtime_error(
            fmt::format("the response to an addition contains {} results", fixed.result_count));
    }
    std::memcpy(&sum, rest.data(), sizeof sum);
    return sum;
}

DeviceInfo SocketDevice::device_info() {
    send_request(VGPU_OP_GET_DEVICE_INFO, {});
    const auto [fixed, rest] = receive_response();
    constexpr std::size_t kResults = VGPU_INFO_RESULT_COUNT * sizeof(std::uint32_t);
    const std::uint64_t begin = fixed.data_offset;
    const std::uint64_t end = begin + fixed.data_length;
    if (fixed.result_count < VGPU_INFO_RESULT_COUNT || rest.size() < kResults ||
        begin < sizeof fixed + kResults || end > sizeof fixed + rest.size()) {
        throw std::runtime_error("the response to GET_DEVICE_INFO is inconsistent");
    }
    std::uint32_t backend = 0;
    std::memcpy(&backend, rest.data() + VGPU_INFO_BACKEND * sizeof backend, sizeof backend);
    const auto name = rest.subspan(begin - sizeof fixed, end - begin);
    return {.backend = backend == VGPU_BACKEND_CUDA ? "cuda" : "cpu",
            .name = std::string(reinterpret_cast<const char*>(name.data()), name.size())};
}

}  // namespace vgpu::bench
