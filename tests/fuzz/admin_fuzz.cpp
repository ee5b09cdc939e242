// SPDX-License-Identifier: MIT
//
// Fuzzer: the admin API of a live mediator. An input is a script for two connections: raw bytes in
// pieces of any size, requests with valid paths and generated JSON, closing at any time. Afterwards
// another client must be served, and all connections must be closed.
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "base/fd.h"
#include "fuzz/check.h"
#include "fuzz/input.h"
#include "fuzz/live_mediator.h"
#include "support/unix_socket.h"

namespace vgpu::fuzz {
namespace {

using std::string_view;

constexpr std::array<string_view, 8> kMethods{"GET",  "PATCH",  "POST",    "PUT",
                                              "HEAD", "DELETE", "OPTIONS", "X"};
// % is replaced by a raw part.
constexpr std::array<string_view, 24> kTargets{"/v1/status",
                                               "/v1/gpus",
                                               "/v1/pools",
                                               "/v1/pools/A",
                                               "/v1/pools/%",
                                               "/v1/vms",
                                               "/v1/vms/1",
                                               "/v1/vms/2",
                                               "/v1/vms/3",
                                               "/v1/vms/%",
                                               "/v1/vms/3/quarantine",
                                               "/v1/vms/%/quarantine",
                                               "/v1/vms/3/release",
                                               "/v1/vms/%/release",
                                               "/v1/reload",
                                               "/v1/drain",
                                               "/metrics",
                                               "/v1/events",
                                               "/v1/events?vm=3",
                                               "/v1/events?vm=%",
                                               "/v1/events?kinds=vm_quarantined",
                                               "/v1/events?kinds=%&vm=3",
                                               "/v1/%",
                                               "%"};
constexpr std::array<string_view, 20> kWords{"pool",
                                             "priority",
                                             "weight",
                                             "boost",
                                             "queue_depth",
                                             "limits",
                                             "requests_per_second",
                                             "burst",
                                             "gpu_time_ms_per_window",
                                             "gpu_window_ms",
                                             "quarantine_after_faults",
                                             "longest_execution_ms",
                                             "memory_bytes",
                                             "policy",
                                             "aging_ms",
                                             "reason",
                                             "fair",
                                             "strict",
                                             "low",
                                             "A"};

class Script {
  public:
    Script(Input input, const LiveMediator& mediator) : input_(input), mediator_(mediator) {}

    void run() {
        constexpr int kMostSteps = 40;
        for (int step = 0; step < kMostSteps && !input_.empty(); ++step) {
            const std::uint8_t what = input_.byte();
            Fd& on = sockets_[what >> 7U];
            switch (what & 7U) {
                case 0:
                    on = test::connect_unix(mediator_.admin_path());
                    break;
                case 1:
                    on.reset();
                    break;
                case 2:
                    send(on, text(input_.byte()));
                    break;
                case 3:
                    receive(on);
                    break;
                default:
                    send_request(on, (what & 64U) != 0);
                    break;
            }
        }
    }

  private:
    string_view text(std::size_t most) {
        const auto block = input_.block(most);
        return {reinterpret_cast<const char*>(block.data()), block.size()};
    }

    void send(Fd& on, string_view bytes) {
        if (!on) {
            on = test::connect_unix(mediator_.admin_path());
        }
        static_cast<void>(
            ::send(on.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT));
    }

    static void receive(const Fd& on) {
        std::array<char, 4096> scrap{};
        while (on && ::recv(on.get(), scrap.data(), scrap.size(), MSG_DONTWAIT) > 0) {
        }
    }

    void send_request(Fd& on, bool in_pieces) {
        std::string request(input_.one_of(kMethods));
        request += ' ';
        std::string target(input_.one_of(kTargets));
        // Requires a new mediator, at a hundred times the cost of other inputs: keep it rare.
        if (target == "/v1/drain" && input_.byte() != 0xD0) {
            target = "/v1/status";
        }
        if (const auto at = target.find('%'); at != std::string::npos) {
            target.replace(at, 1, text(input_.below(16)));
        }
        request += target + " HTTP/1.1\r\nHost: vgpu\r\n";
        const std::uint8_t shape = input_.byte();
        std::string body;
        if ((shape & 1U) != 0) {
            add_json(body, 0);
        }
        if ((shape & 2U) != 0) {
            body += text(input_.byte());
        }
        if ((shape & 4U) == 0) {
            request += "Content-Type: application/json\r\n";
        }
        if ((shape & 8U) != 0) {
            request += text(input_.below(64));
            request += "\r\n";
        }
        if ((shape & 16U) != 0) {
            request += "Transfer-Encoding: chunked\r\n";
        } else if (!body.empty()) {
            request += "Content-Length: " +
                       std::to_string((shape & 32U) != 0 ? input_.value() : body.size()) + "\r\n";
        }
        request += "\r\n" + body;
        const std::size_t cut = in_pieces ? input_.value() % request.size() : 0;
        send(on, string_view(request).substr(0, cut));
        send(on, string_view(request).substr(cut));
    }

    void add_json(std::string& to, int depth) {
        constexpr int kDeepest = 6;
        const std::uint8_t what = input_.byte();
        switch (depth < kDeepest ? what & 15U : 8 + (what & 7U)) {
            case 0:
            case 1:
            case 2:
            case 3:
            case 4:
                to += '{';
                for (std::size_t left = what >> 5U; left != 0 && !input_.empty(); --left) {
                    add_string(to);
                    to += ':';
                    add_json(to, depth + 1);
                    to += left == 1 ? "" : ",";
                }
                to += '}';
                break;
            case 5:
                to += '[';
                for (std::size_t left = what >> 5U; left != 0 && !input_.empty(); --left) {
                    add_json(to, depth + 1);
                    to += left == 1 ? "" : ",";
                }
                to += ']';
                break;
            case 8:
                to += "true";
                break;
            case 9:
                to += "null";
                break;
            case 10:
                to += "-" + std::to_string(input_.value()) + ".5e" + std::to_string(input_.byte());
                break;
            case 11:
                to += text(input_.below(32));
                break;
            case 12:
            case 13:
                add_string(to);
                break;
            default:
                to += std::to_string(input_.value());
                break;
        }
    }
    void add_string(std::string& to) {
        const std::size_t word = input_.byte();
        to += '"';
        to += word < kWords.size() ? kWords[word] : text(word % 32);
        to += '"';
    }

    Input input_;
    const LiveMediator& mediator_;
    std::array<Fd, 2> sockets_;
};

// Returns whether another client is served, in which case all earlier connections have been
// accepted.
bool status_is_answered(LiveMediator& mediator) {
    const Fd socket = test::connect_unix(mediator.admin_path());
    constexpr string_view kRequest = "GET /v1/status HTTP/1.1\r\nHost: vgpu\r\n\r\n";
    std::array<char, 64> begin{};
    if (::send(socket.get(), kRequest.data(), kRequest.size(), MSG_NOSIGNAL) < 0) {
        return false;
    }
    const auto deadline = Clock::now() + kHang;
    while (!test::wait_readable(socket.get(), Clock::now() + std::chrono::milliseconds(10))) {
        if (mediator.stopping() || Clock::now() > deadline) {
            return false;
        }
    }
    const ssize_t got = ::recv(socket.get(), begin.data(), begin.size(), 0);
    return got > 0 &&
           string_view(begin.data(), static_cast<std::size_t>(got)).starts_with("HTTP/1.1 200 ");
}

}  // namespace
}  // namespace vgpu::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace vgpu::fuzz;
    static auto mediator = std::make_unique<LiveMediator>(true);
    const std::size_t before = open_descriptors();
    Script(Input(data, size), *mediator).run();
    const bool answered = status_is_answered(*mediator);
    mediator->check_all_returned(before);
    if (mediator->stopping()) {
        // The mediator is draining: the destructor waits for its end.
        mediator.reset();
        mediator = std::make_unique<LiveMediator>(true);
    } else {
        check(answered, "another client of the admin API was not answered rightly");
        mediator->check_alive();
    }
    mediator->check_all_returned(before);
    mediator->restore_settings();
    return 0;
}
