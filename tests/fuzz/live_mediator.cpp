// SPDX-License-Identifier: MIT
#include "fuzz/live_mediator.h"

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <functional>
#include <future>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "executor/cpu/cpu_backend.h"
#include "fuzz/check.h"
#include "ipc/unix_listener.h"
#include "mediator/admin/api.h"
#include "mediator/admin/mediator_control.h"
#include "mediator/admin/metrics.h"
#include "mediator/admin/server.h"
#include "mediator/events/counters.h"
#include "mediator/events/events.h"
#include "mediator/loop/mediator.h"
#include "support/temp_dir.h"
#include "support/wire_peer.h"

namespace vgpu::fuzz {
namespace {

constexpr std::uint32_t kPoliteVm = 0xFFFF0001;

// Limits that keep inputs fast: they bound the cost of an operation, not the reachable code.
Settings make_settings() {
    Settings settings;
    settings.memory_per_vm = std::uint64_t{1} << 18U;
    settings.queues_memory_max = std::uint64_t{4} << 20U;
    settings.drain_timeout = std::chrono::milliseconds(50);
    VmSettings moved;
    moved.pool = 'B';
    moved.priority = VGPU_PRIORITY_LOW;
    moved.boost = true;
    settings.vms[LiveMediator::kMovedVm] = moved;
    VmSettings limited;
    limited.queue_depth = 2;
    limited.memory_bytes = 4096;
    limited.limits.requests_per_second = 1000;
    limited.limits.burst = 5;
    limited.limits.gpu_time = std::chrono::milliseconds(1);
    limited.limits.gpu_window = std::chrono::milliseconds(10);
    limited.limits.longest_execution = std::chrono::milliseconds(1);
    limited.limits.quarantine_after_faults = 3;
    settings.vms[LiveMediator::kLimitedVm] = limited;
    return settings;
}

std::vector<std::unique_ptr<Backend>> make_backends() {
    std::vector<std::unique_ptr<Backend>> backends;
    backends.push_back(std::make_unique<CpuBackend>());
    return backends;
}

}  // namespace

struct LiveMediator::Parts {
    explicit Parts(bool with_admin)
        : io(1),
          metrics({'A', 'B'}),
          fan_out({&counters, &stream, &metrics}),
          mediator(std::make_unique<Mediator>(io, settings, make_backends(), fan_out, clock)),
          control({.mediator = *mediator,
                   .counters = counters,
                   .events = fan_out,
                   .clock = clock,
                   .sockets = {path()},
                   .config_file = "",
                   .only_gpu = 0,
                   .reload = [] { return ReloadOutcome{}; },
                   .suppressed_lines = [] { return std::uint64_t{0}; }}),
          api(control, metrics) {
        mediator->add_listener(UnixListener::create(path()).value());
        if (with_admin) {
            // Disable the limits that would only be waited for.
            AdminServer::Options options;
            options.answer_time = options.answer_window;
            options.socket_accepts = {.per_second = 1e6, .burst = 1e6};
            server = std::make_unique<AdminServer>(io, api, stream, clock, options);
            check(server->listen(UnixListener::create(admin_path()).value()).has_value(),
                  "the admin API cannot listen");
        }
        thread = std::thread([this] {
            mediator->run();
            ended = true;
        });
        polite.emplace(test::WirePeer::connect(path()));
        polite->vm_id = kPoliteVm;
    }
    Parts(const Parts&) = delete;
    Parts& operator=(const Parts&) = delete;
    ~Parts() {
        boost::asio::post(io, [this] {
            mediator->begin_shutdown();
            mediator->begin_shutdown();
        });
        thread.join();
        server.reset();
    }

    [[nodiscard]] std::string path() const { return dir.file("s"); }
    [[nodiscard]] std::string admin_path() const { return dir.file("a"); }

    // Runs `what` on the control loop and returns its result; nullopt once the loop has ended.
    template <typename T>
    std::optional<T> on_loop(std::function<T()> what) {
        auto promise = std::make_shared<std::promise<T>>();
        auto result = promise->get_future();
        boost::asio::post(io, [promise, what = std::move(what)] { promise->set_value(what()); });
        const auto deadline = Clock::now() + kHang;
        while (result.wait_for(std::chrono::milliseconds(100)) != std::future_status::ready) {
            if (ended) {
                return std::nullopt;
            }
            check(Clock::now() < deadline, "the control loop hangs");
        }
        return result.get();
    }

    test::TempDir dir;
    const Settings settings = make_settings();
    SteadyClock clock;
    boost::asio::io_context io;
    Counters counters;
    EventStream stream;
    Metrics metrics;
    EventFanOut fan_out;
    std::unique_ptr<Mediator> mediator;
    MediatorControl control;
    AdminApi api;
    std::unique_ptr<AdminServer> server;
    std::atomic<bool> ended{false};  // run() has returned
    std::thread thread;
    std::optional<test::WirePeer> polite;
    std::uint32_t request_id = 0;
};

LiveMediator::LiveMediator(bool with_admin) : parts_(std::make_unique<Parts>(with_admin)) {
    check_alive();
}

LiveMediator::~LiveMediator() = default;

std::string LiveMediator::path() const {
    return parts_->path();
}

std::string LiveMediator::admin_path() const {
    return parts_->admin_path();
}

void LiveMediator::check_alive() {
    test::WirePeer& peer = *parts_->polite;
    const std::uint32_t id = ++parts_->request_id;
    peer.send_request(id, test::make_request(VGPU_OP_NOP));
    const auto answer = peer.receive(kHang);
    check(answer.has_value(), "a NOP of another VM was not answered");
    check(answer->header.msg_type == VGPU_MSG_RESPONSE && answer->header.request_id == id,
          "a NOP of another VM got the wrong answer");
    peer.send(peer.header(VGPU_MSG_PING, id));
    const auto pong = peer.receive(kHang);
    check(
        pong.has_value() && pong->header.msg_type == VGPU_MSG_PONG && pong->header.request_id == id,
        "a PING of another VM was not answered");
}

void LiveMediator::check_new_connection() const {
    test::WirePeer peer = test::WirePeer::connect(path());
    peer.vm_id = kPoliteVm + 1;
    peer.send(peer.header(VGPU_MSG_PING, 1));
    check(peer.receive(kHang).has_value(), "a new connection is not served");
}

void LiveMediator::check_all_returned(std::size_t descriptors_before) {
    const auto deadline = Clock::now() + kHang;
    for (;;) {
        // nullopt: stopping or stopped.
        const auto connections = parts_->on_loop<std::optional<std::size_t>>([this] {
            const Mediator& mediator = *parts_->mediator;
            const auto* const server = parts_->server.get();
            const std::size_t admin = server != nullptr ? server->connections() : 0;
            return mediator.stopping() ? std::optional<std::size_t>()
                                       : mediator.connections() - 1 + admin;
        });
        if (!connections || !*connections ||
            (**connections == 0 && open_descriptors() == descriptors_before)) {
            return;
        }
        if (Clock::now() > deadline) {
            violated(**connections == 0 ? "descriptors were not returned"
                                        : "closed connections are still held");
        }
    }
}

bool LiveMediator::stopping() {
    return parts_->on_loop<bool>([this] { return parts_->mediator->stopping(); }).value_or(true);
}

void LiveMediator::restore_settings() {
    static_cast<void>(parts_->on_loop<bool>([this] {
        parts_->mediator->apply(parts_->settings);
        for (const std::uint32_t vm_id : parts_->control.vm_ids()) {
            parts_->mediator->release(vm_id);
        }
        return true;
    }));
}

}  // namespace vgpu::fuzz
