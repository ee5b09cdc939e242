// SPDX-License-Identifier: MIT
#include "load_device.h"

#include <fmt/core.h>

#include <array>
#include <cstring>
#include <stdexcept>

#include "socket_io.h"
#include "support/unix_socket.h"

namespace vgpu::bench {

LoadDevice::LoadDevice(const std::string& path, std::uint32_t vm_id, std::uint8_t priority)
    : fd_(test::connect_unix(path)), vm_id_(vm_id), priority_(priority) {}

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
    reader_.receive(fd_.get(), vm_id_);
    while (const auto response = reader_.next(vm_id_, next_answered_)) {
        if (tags_.empty()) {
            throw std::runtime_error(fmt::format("VM {} got a response without a request", vm_id_));
        }
        Answer answer{.exec_time_us = response->fixed.exec_time_us, .tag = tags_.front()};
        if (response->fixed.result_count > 0 &&
            response->rest.size() >= sizeof answer.first_result) {
            std::memcpy(&answer.first_result, response->rest.data(), sizeof answer.first_result);
        }
        answers_.push_back(answer);
        tags_.pop_front();
        ++next_answered_;
    }
    return answers_;
}

LoadDevice::Answer LoadDevice::ask(std::uint32_t opcode, std::span<const std::uint32_t> params) {
    if (under_way() != 0) {
        throw std::runtime_error("ask() needs a device without requests in flight");
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
