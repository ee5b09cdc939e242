// SPDX-License-Identifier: MIT
#include "load_device.h"

#include <fmt/core.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "socket_io.h"
#include "support/unix_socket.h"

namespace vgpu::bench {

namespace {

constexpr std::size_t kBuffer = std::size_t{64} * 1024;

}  // namespace

LoadDevice::LoadDevice(const std::string& path, std::uint32_t vm_id, std::uint8_t priority)
    : fd_(test::connect_unix(path)), vm_id_(vm_id), priority_(priority), buffer_(kBuffer) {}

void LoadDevice::send(std::uint32_t opcode, std::span<const std::uint32_t> params,
                      std::uint64_t tag) {
    if (params.size() > kMostParams) {
        throw std::runtime_error("a request of the benchmark has too many parameters");
    }
    vgpu_msg_header header{};
    header.vm_id = vm_id_;
    header.request_id = next_id_++;
    header.pool_id = 'A';
    header.priority = priority_;
    if (!send_request(fd_.get(), header, opcode, params)) {
        throw std::runtime_error(
            fmt::format("the mediator has closed the connection of VM {}", vm_id_));
    }
    tags_.push_back(tag);
}

std::span<const LoadDevice::Answer> LoadDevice::receive() {
    answers_.clear();
    const ssize_t count = ::recv(fd_.get(), buffer_.data() + have_, buffer_.size() - have_, 0);
    if (count < 0 && errno == EINTR) {
        return answers_;
    }
    if (count <= 0) {
        throw std::runtime_error(
            fmt::format("the mediator has closed the connection of VM {}", vm_id_));
    }
    have_ += static_cast<std::size_t>(count);
    std::size_t at = 0;
    while (have_ - at >= sizeof(vgpu_msg_header)) {
        vgpu_msg_header header{};
        std::memcpy(&header, buffer_.data() + at, sizeof header);
        if (header.magic != VGPU_MSG_MAGIC || header.msg_type != VGPU_MSG_RESPONSE ||
            header.vm_id != vm_id_ || header.request_id != next_answered_ || tags_.empty() ||
            header.payload_len < sizeof(vgpu_response) ||
            header.payload_len > VGPU_MSG_MAX_PAYLOAD) {
            throw std::runtime_error(
                fmt::format("expected the response to request {} of VM {}, got message type {}, "
                            "request {}, VM {}, {} bytes",
                            next_answered_, vm_id_, header.msg_type, header.request_id,
                            header.vm_id, header.payload_len));
        }
        if (have_ - at < sizeof header + header.payload_len) {
            break;
        }
        vgpu_response response{};
        std::memcpy(&response, buffer_.data() + at + sizeof header, sizeof response);
        if (response.status != 0) {
            throw std::runtime_error(fmt::format("the mediator answered VM {} with error 0x{:02X}",
                                                 vm_id_, response.status));
        }
        Answer answer{.exec_time_us = response.exec_time_us, .tag = tags_.front()};
        if (response.result_count > 0 &&
            header.payload_len >= sizeof response + sizeof answer.first_result) {
            std::memcpy(&answer.first_result, buffer_.data() + at + sizeof header + sizeof response,
                        sizeof answer.first_result);
        }
        answers_.push_back(answer);
        tags_.pop_front();
        ++next_answered_;
        at += sizeof header + header.payload_len;
    }
    have_ -= at;
    std::memmove(buffer_.data(), buffer_.data() + at, have_);
    return answers_;
}

LoadDevice::Answer LoadDevice::ask(std::uint32_t opcode, std::span<const std::uint32_t> params) {
    if (under_way() != 0) {
        throw std::runtime_error("ask() is for a device without requests in flight");
    }
    send(opcode, params);
    for (;;) {
        const auto answers = receive();
        if (!answers.empty()) {
            return answers.front();
        }
    }
}

}  // namespace vgpu::bench
