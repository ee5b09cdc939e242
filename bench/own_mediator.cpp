// SPDX-License-Identifier: MIT
#include "own_mediator.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <span>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <vector>

#include "socket_io.h"
#include "support/unix_socket.h"

namespace vgpu::bench {

OwnMediator::OwnMediator(const std::string& program, const std::string& backend,
                         const std::string& config)
    : socket_(dir_.file("m.sock")), admin_socket_(dir_.file("a.sock")) {
    const std::string file = dir_.file("mediator.toml");
    std::ofstream(file) << "# of a measurement\n[admin]\nsocket = \"" << admin_socket_ << "\"\n"
                        << config;
    process_.emplace(std::vector<std::string>{program, "--socket", socket_, "--backend", backend,
                                              "--config", file});
    // Creating a CUDA context can take some seconds.
    if (!process_->wait_for_output("ready", std::chrono::seconds(60))) {
        throw std::runtime_error("the mediator did not become ready; its output:\n" +
                                 process_->output());
    }
}

std::optional<double> OwnMediator::metric(const std::string& name) const {
    const Fd fd = test::connect_unix(admin_socket_);
    const std::string request =
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    if (!send_all(fd.get(), std::as_bytes(std::span(request)))) {
        throw std::system_error(errno, std::generic_category(), "asking for the metrics");
    }
    std::string answer;
    std::array<char, 65536> buffer{};
    ssize_t size = 0;
    while ((size = ::recv(fd.get(), buffer.data(), buffer.size(), 0)) > 0) {
        answer.append(buffer.data(), static_cast<std::size_t>(size));
    }
    return sum_of_metric(answer, name);
}

void OwnMediator::stop() {
    process_->signal(SIGTERM);
    if (process_->wait() != 0) {
        throw std::runtime_error("the mediator failed at exit; its output:\n" + process_->output());
    }
}

std::optional<double> sum_of_metric(const std::string& text, const std::string& name) {
    std::optional<double> sum;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        if (!line.starts_with(name) || line.size() == name.size()) {
            continue;
        }
        const char next = line[name.size()];
        // Labels may contain any character; the value follows the last space.
        const auto space = line.rfind(' ');
        if ((next == ' ' || next == '{') && space != std::string::npos) {
            sum = sum.value_or(0) + std::strtod(line.c_str() + space, nullptr);
        }
    }
    return sum;
}

}  // namespace vgpu::bench
